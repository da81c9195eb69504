"""The access log: one line per proxied request on stdout, formatted once, written in batches.

    2026-01-02T03:04:05.678Z INFO  access: request cluster=dev method=GET path=/api/v1/pods status=200
        bytes_in=0 bytes_out=1024 seconds=0.001234 stream=7 audit_id=4a6f…       (one line)

As JSON the same names are keys. The path comes without its query, which may hold secrets.
"""

import json
import logging
import re
import time
from typing import IO, Protocol

from argotun.observe.lines import LineWriter
from argotun.observe.logs import MAX_FIELD, fields, plain, quote, timestamp
from argotun.observe.metrics import METHODS

DELAY = 0.2
"""Seconds that a line may wait for others."""

_log = logging.getLogger(__name__)
_METHODS = {method: method.decode("ascii") for method in METHODS}
# Visible ASCII but the two characters that a quoted string would have to escape.
_is_bare = re.compile(rb"[!#-\[\]-~]{1,%d}" % MAX_FIELD).fullmatch


class LogRequest(Protocol):
    """The signature of `AccessLog.request`."""

    def __call__(
        self,
        cluster: str,
        method: bytes,
        path: bytes,
        status: int,
        bytes_in: int,
        bytes_out: int,
        seconds: float,
        stream_id: int,
        audit_id: bytes | None,
    ) -> None:
        """Log one answered request; `path` may carry a query, which is cut off.

        `bytes_in` and `bytes_out` are what went towards the cluster and what came from it, heads included.
        """


class AccessLog:
    """Access lines to `stream`, a file with a descriptor; `fmt` is text or json.

    `request` is bound at construction to the formatter, or to nothing at all where `enabled` is false.
    Lines that a stalled reader does not take are dropped and counted in `dropped`.
    """

    def __init__(self, enabled: bool, fmt: str, stream: IO[str] | IO[bytes]) -> None:
        self._lines: LineWriter | None = None
        self.request: LogRequest = _nothing
        if enabled:
            self._lines = LineWriter(stream.fileno(), DELAY, on_recovery=_report_dropped)
            self._write = self._lines.write
            self.request = self._json if fmt == "json" else self._text

    @property
    def dropped(self) -> int:
        """Lines that were not written."""
        return self._lines.dropped if self._lines else 0

    def close(self, timeout: float = 2.0) -> None:
        """Write what is pending, for at most `timeout` seconds."""
        if self._lines:
            self._lines.close(timeout)

    def _text(
        self,
        cluster: str,
        method: bytes,
        path: bytes,
        status: int,
        bytes_in: int,
        bytes_out: int,
        seconds: float,
        stream_id: int,
        audit_id: bytes | None,
    ) -> None:
        verb = _METHODS.get(method) or _quote(method)
        audit = _quote(audit_id) if audit_id else "-"
        self._write(
            f"{timestamp(time.time())} INFO  access: request cluster={quote(cluster)} method={verb}"
            f" path={_quote(path.partition(b'?')[0])} status={status} bytes_in={bytes_in}"
            f" bytes_out={bytes_out} seconds={seconds:.6f} stream={stream_id} audit_id={audit}\n"
        )

    def _json(
        self,
        cluster: str,
        method: bytes,
        path: bytes,
        status: int,
        bytes_in: int,
        bytes_out: int,
        seconds: float,
        stream_id: int,
        audit_id: bytes | None,
    ) -> None:
        audit = _string(audit_id) if audit_id else "null"
        self._write(
            f'{{"ts": "{timestamp(time.time())}", "level": "info", "logger": "access",'
            f' "msg": "request", "cluster": {json.dumps(plain(cluster))}, "method": {_string(method)},'
            f' "path": {_string(path.partition(b"?")[0])}, "status": {status}, "bytes_in": {bytes_in},'
            f' "bytes_out": {bytes_out}, "seconds": {seconds:.6f}, "stream": {stream_id},'
            f' "audit_id": {audit}}}\n'
        )


def _nothing(*_: object, **__: object) -> None:
    """Stand in for a log that is switched off."""


def _report_dropped(count: int) -> None:
    _log.warning("access log stalled, lines were dropped", extra=fields(lines=count))


def _quote(value: bytes) -> str:
    """`value` as it is where that is one plain word, else as a JSON string."""
    if _is_bare(value):
        return value.decode("ascii")
    return _string(value)


def _string(value: bytes) -> str:
    """`value` as a JSON string of bounded length; bytes that are not ASCII are read as latin-1."""
    if _is_bare(value):
        return f'"{value.decode("ascii")}"'
    return json.dumps(plain(value))
