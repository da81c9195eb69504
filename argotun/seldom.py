"""Lines that others can cause: a few of each kind, and then a count, so that no flood fills a log."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

import gevent

KINDS = 64
"""Kinds that are told apart at most; what comes beyond is one kind together, so that nobody fills memory."""

REST = "other"
"""The kind of what is beyond."""


@dataclass(slots=True)
class _Kind:
    until: float
    said: int = 0
    left_out: int = 0
    level: int = logging.INFO


class Seldom:
    """Writes to `log` at most `most` lines of a kind in `seconds`, then one that counts the rest.

    `kinds` are told apart at once.
    """

    def __init__(
        self, log: logging.Logger, most: int = 10, seconds: float = 10.0, kinds: int = KINDS
    ) -> None:
        self._log = log
        self._most_kinds = kinds
        self._most = most
        self._seconds = seconds
        self._kinds: dict[str, _Kind] = {}
        self._timers: set[gevent.Greenlet] = set()
        self._closed = False

    def say(
        self, level: int, kind: str, message: str, *values: object, extra: Mapping[str, Any] | None = None
    ) -> None:
        """Log `message % values` unless enough of its kind was said; `kind` must hold nothing secret."""
        now = monotonic()
        if kind not in self._kinds and len(self._kinds) >= self._most_kinds:
            self._forget(now)
            if len(self._kinds) >= self._most_kinds:
                kind = REST
        found = self._kinds.get(kind)
        if found is None or now >= found.until:
            if found is not None:
                self._sum_up(kind, found)
            found = self._kinds[kind] = _Kind(now + self._seconds)
        if found.said < self._most:
            found.said += 1
            self._log.log(level, message, *values, extra=extra)
            return
        if not found.left_out:
            found.level = level
            if not self._closed:
                timer = gevent.spawn_later(found.until - now, self._sum_up, kind, found)
                self._timers.add(timer)
                timer.rawlink(self._timers.discard)
        found.left_out += 1

    def close(self) -> None:
        """Count at once what was left out; no timer of it is left behind."""
        self._closed = True
        gevent.killall(list(self._timers), block=False)
        self._timers.clear()
        for kind, found in self._kinds.items():
            self._sum_up(kind, found)

    def _sum_up(self, kind: str, found: _Kind) -> None:
        if found.left_out:
            self._log.log(found.level, "%d more lines like this were left out: %s", found.left_out, kind)
            found.left_out = 0
            # The next one is news again, also if this timer was a moment early.
            found.until = 0.0

    def _forget(self, now: float) -> None:
        for kind in [kind for kind, found in self._kinds.items() if now >= found.until]:
            self._sum_up(kind, self._kinds.pop(kind))
