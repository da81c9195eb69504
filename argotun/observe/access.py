"""The access log: one line per proxied request on stdout, formatted once, written in batches.

    2026-01-02T03:04:05.678Z INFO  access: request cluster=dev method=GET path=/api/v1/pods status=200
        bytes_in=0 bytes_out=1024 seconds=0.001234 stream=7 audit_id=4a6f… caller=argocd       (one line)

As JSON the same names are keys. The path comes without its query, which may hold secrets. `caller`
is who asked, where that is known, `via` the replica whose agent was asked, where it is another one. Where
argotun answered or aborted in the API's place, `error` says why.
"""

import json
import logging
import re
import time
from collections.abc import Callable
from typing import IO

from argotun.observe.lines import LAST_WORDS, LineWriter
from argotun.observe.logs import MAX_FIELD, fields, plain, quote, timestamp
from argotun.observe.metrics import METHODS
from argotun.observe.request import Request

DELAY = 0.2
"""Seconds that a line may wait for others."""

_log = logging.getLogger(__name__)
_METHODS = {method: method.decode("ascii") for method in METHODS}
# Visible ASCII but the two characters that a quoted string would have to escape.
_is_bare = re.compile(rb"[!#-\[\]-~]{1,%d}" % MAX_FIELD).fullmatch


class AccessLog:
    """Access lines to `stream`, a file with a descriptor; `fmt` is text or json.

    `request` is bound at construction to the formatter, or to nothing at all where `enabled` is false.
    Lines that a stalled reader does not take are dropped and counted in `dropped`.
    """

    def __init__(self, enabled: bool, fmt: str, stream: IO[str] | IO[bytes]) -> None:
        self._lines: LineWriter | None = None
        self.request: Callable[[Request], None] = _nothing
        if enabled:
            self._lines = LineWriter(stream.fileno(), DELAY, on_recovery=_report_dropped)
            self._write = self._lines.write
            self.request = self._json if fmt == "json" else self._text

    @property
    def dropped(self) -> int:
        """Lines that were not written."""
        return self._lines.dropped if self._lines else 0

    def close(self, timeout: float = LAST_WORDS) -> None:
        """Write what is pending, for at most `timeout` seconds."""
        if self._lines:
            self._lines.close(timeout)

    def _text(self, request: Request) -> None:
        method, audit_id = request.method, request.audit_id
        self._write(
            f"{timestamp(time.time())} INFO  access: request cluster={quote(request.cluster)}"
            f" method={_METHODS.get(method) or _quote(method)}"
            f" path={_quote(request.target.partition(b'?')[0])}"
            f" status={request.status} bytes_in={request.bytes_in} bytes_out={request.bytes_out}"
            f" seconds={request.seconds:.6f} stream={request.stream}"
            f" audit_id={_quote(audit_id) if audit_id else '-'}"
            f"{f' caller={quote(request.caller)}' if request.caller else ''}"
            f"{f' via={request.via}' if request.via else ''}"
            f"{f' error={quote(request.error)}' if request.error else ''}\n"
        )

    def _json(self, request: Request) -> None:
        caller = f', "caller": {json.dumps(plain(request.caller))}' if request.caller else ""
        caller += f', "via": "{request.via}"' if request.via else ""
        error = f', "error": {json.dumps(plain(request.error))}' if request.error else ""
        self._write(
            f'{{"ts": "{timestamp(time.time())}", "level": "info", "logger": "access",'
            f' "msg": "request", "cluster": {json.dumps(plain(request.cluster))},'
            f' "method": {_string(request.method)}, "path": {_string(request.target.partition(b"?")[0])},'
            f' "status": {request.status}, "bytes_in": {request.bytes_in},'
            f' "bytes_out": {request.bytes_out}, "seconds": {request.seconds:.6f},'
            f' "stream": {request.stream},'
            f' "audit_id": {_string(request.audit_id) if request.audit_id else "null"}{caller}{error}}}\n'
        )


def _nothing(_: Request) -> None:
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
