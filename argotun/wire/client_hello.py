"""How much of a TLS ClientHello has arrived: asked before OpenSSL, which takes memory for the first byte."""

import re

from argotun.errors import ProtocolError

HEADER = 5
"""Bytes in front of a record: its type, its version, its size (RFC 8446 §5.1)."""

MOST = 16 * 1024
"""The longest ClientHello, bytes; with the largest keys that are in use it has 4 KiB."""

RECORDS = 16
"""Records that a ClientHello may be spread over; usually it is one."""


_REQUEST = re.compile(rb"[A-Z]{3,10} ")

_WORDS = "this port speaks TLS: https:// (wss:// for an agent), not http://\n"
PLAIN_HTTP = (
    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    f"Content-Length: {len(_WORDS)}\r\nConnection: close\r\n\r\n{_WORDS}"
).encode()
"""The answer to plain HTTP on a port with TLS: an alert would tell such a client nothing."""


def speaks_http(seen: bytes) -> bool:
    """Whether this begins an HTTP request in place of a ClientHello."""
    return _REQUEST.match(seen) is not None


def missing(seen: bytes) -> int:
    """How many bytes, at least, the ClientHello that `seen` begins with still lacks.

    0 when all of it is there, and when this is none: then OpenSSL has the words for it. Raises ProtocolError
    when it is too long, or cut into too many pieces.
    """
    at = 0
    message = b""
    for _ in range(RECORDS):
        if seen[at : at + 1] not in (b"", b"\x16"):
            return 0
        if len(seen) < at + HEADER:
            return at + HEADER - len(seen)
        end = at + HEADER + int.from_bytes(seen[at + 3 : at + 5])
        message += seen[at + HEADER : end]
        if message[:1] not in (b"", b"\x01") or end == at + HEADER:
            return 0
        size = 4 + int.from_bytes(message[1:4]) if len(message) >= 4 else 4
        if size > MOST or end > 2 * MOST:
            raise ProtocolError(f"a ClientHello of more than {MOST} bytes")
        if len(seen) < end:
            return end - len(seen)
        if len(message) >= size:
            return 0
        at = end
    raise ProtocolError(f"a ClientHello in more than {RECORDS} records")
