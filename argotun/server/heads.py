"""Ports that take upgrades and nothing else: one request head is read, and a short answer given."""

from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import gevent

from argotun.wire.head import RequestHead, find_head_end, parse_request
from argotun.wire.outcomes import RETRY_AFTER

READ = 16 * 1024

ANSWER_FIELDS = {
    401: "WWW-Authenticate: Bearer\r\n",
    405: "Allow: GET\r\n",
    429: "Retry-After: 10\r\n",
    426: "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    503: f"Retry-After: {RETRY_AFTER}\r\n",
}
"""What must stand beside a status (RFC 9110 §15.5.2, §15.5.6, §15.5.22)."""


def read_head(sock: Any, timeout: float) -> tuple[RequestHead, bytes]:
    """The head of a request and what was read behind it, within so many seconds.

    Raises HeadError, gevent.Timeout, and OSError where the other side has left.
    """
    data = b""
    with gevent.Timeout(timeout):
        seen = 0
        while (end := find_head_end(data, seen)) < 0:
            seen = len(data)
            more = sock.recv(READ)
            if not more:
                raise ConnectionResetError
            data += more
    return parse_request(data[:end]), data[end:]


def answer(sock: Any, code: int, text: str, no_body: bool = False) -> None:
    """One short answer in plain text, and the end of the connection."""
    body = f"{text}\n".encode()
    reason = HTTPStatus(code).phrase
    try:
        sock.sendall(
            f"HTTP/1.1 {code} {reason}\r\nDate: {formatdate(usegmt=True)}\r\n"
            "Content-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\n{ANSWER_FIELDS.get(code, '')}Connection: close\r\n\r\n".encode()
            + (b"" if no_body else body)
        )
    except OSError:
        # The peer has left; there is nobody to tell.
        pass
