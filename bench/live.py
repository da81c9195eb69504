"""Small requests beside something larger: what a live tunnel notices of it."""

import time
from collections import Counter
from dataclasses import dataclass
from itertools import count

import gevent

from bench import echo
from bench.rolling import Connection

EVERY = 0.02  # seconds between two requests


@dataclass
class Latency:
    """Of requests, seconds; `failed` counts those that did not get a 200 that is their own."""

    count: int
    p50: float
    p99: float
    slowest: float
    failed: dict[str, int]

    def __str__(self) -> str:
        return (
            f"{self.count} requests, p50 {self.p50 * 1000:.1f} ms, p99 {self.p99 * 1000:.1f} ms, "
            f"slowest {self.slowest * 1000:.0f} ms, failed: {self.failed or 'none'}"
        )


class Requests:
    """One request after the other to one cluster, each timed from when it was due.

    `account` is what the agent of the cluster shows its API.
    """

    def __init__(self, address: tuple[str, int], name: str, account: str) -> None:
        self._address = address
        self._name = name
        self._account = account
        self._numbers = count(1)
        self._taken: list[tuple[float, float, str]] = []
        self._connection: Connection | None = None
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Ask no more."""
        self._greenlet.kill()
        self._hang_up()

    def since(self, began: float) -> Latency:
        """What those that were due since then took."""
        taken = [(seconds, failure) for due, seconds, failure in self._taken if due >= began]
        seconds = sorted(each for each, _ in taken) or [0.0]
        return Latency(
            count=len(taken),
            p50=seconds[len(seconds) // 2],
            p99=seconds[min(len(seconds) - 1, len(seconds) * 99 // 100)],
            slowest=seconds[-1],
            failed=dict(Counter(failure for _, failure in taken if failure)),
        )

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            gevent.sleep(max(0.0, due - time.monotonic()))
            try:
                self._connection = self._connection or Connection(self._address)
                failure = self._ask(self._connection)
            except (OSError, EOFError) as error:
                failure = type(error).__name__
                self._hang_up()
            now = time.monotonic()
            self._taken.append((due, now - due, failure))
            # After a long wait the next one is due at once, but those that were missed are not made up for.
            due = max(due + EVERY, now)

    def _ask(self, connection: Connection) -> str:
        """Ask for what nobody else does: what was wrong with the answer."""
        target = f"/api?n={next(self._numbers)}"
        request = f"GET /tunnel/{self._name}{target} HTTP/1.1\r\nHost: argotun\r\n\r\n"
        status, _, body = connection.ask(request.encode())
        if status != 200:
            return str(status)
        return "" if body == echo.said(self._account, "GET", target) else "another's answer"

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
