"""What an HTTP proxy answers to CONNECT: a way is open or there is a sentence, without the password."""

import time

from argotun.config.network import parse_proxy
from argotun.errors import HandshakeError
from argotun.transport.proxy import tunnel
from argotun.transport.reply import MAX_REPLY, MAX_SAID
from tests.fuzz.cuts import cuts
from tests.fuzz.steps import Steps

PROXY = parse_proxy("http://user:hunter2hunter2@proxy.example:3128")
LONGEST = 2 * MAX_SAID + 300
"""Characters of a sentence: the reason and the words of the other side, and ours around them."""


class Wire:
    """A socket whose other side has said all that it will ever say."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.sent = b""
        self.closed = False

    def settimeout(self, seconds: float | None) -> None:
        assert seconds is None or seconds > 0

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def recv(self, size: int) -> bytes:
        return self.pieces.pop(0)[:size] if self.pieces else b""

    def close(self) -> None:
        self.closed = True


def check(data: bytes) -> None:
    """One answer, whichever way it arrives."""
    with Steps(len(data)):
        whole = asked([data])
    for pieces in cuts(data):
        cut = asked(pieces)
        # What comes behind a head is an error when it comes with it; nobody has looked when it comes later.
        assert cut == whole or "bytes of its own" in whole[1] + cut[1], pieces


def seeds() -> list[bytes]:
    """What proxies say."""
    return [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nVia: x\r\n\r\nSSH-2.0-x\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="a, Digest", '
        b"NTLM\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 40\r\n\r\n"
        + b'{"kind":"Status","message":"no\\u202e"}   ',
        b"HTTP/1.1 502 user:hunter2hunter2 dXNlcjpodW50ZXIyaHVudGVyMg==\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: y\n\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"HTTP/1.1 503 \x1b[31m\r\nContent-Length: 99999999999\r\n\r\n<html>",
    ]


def asked(pieces: list[bytes]) -> tuple[int | None, str]:
    """The status of the refusal, and what kind of refusal it was; (0, "") for a way."""
    wire = Wire(list(pieces))
    try:
        assert tunnel(wire, PROXY, "argotun.example", 443, time.monotonic() + 5) is wire  # type: ignore[arg-type]
    except HandshakeError as error:
        text = str(error)
        assert wire.closed
        assert text.isprintable()
        assert len(text) <= LONGEST, len(text)
        assert "hunter2" not in text
        assert "dXNlcjpodW50ZXIy" not in text
        # The words beside the status depend on how much of them had come.
        return error.status, "bytes of its own" if "bytes of its own" in text else "refused"
    assert not wire.closed
    assert len(b"".join(pieces)) > 0
    assert MAX_REPLY > 0
    return 0, ""
