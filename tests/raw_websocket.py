"""One end of a WebSocket written byte by byte, so that a test can keep every rule of it or break any.

Nothing here is shared with argotun's own framing: what both would get wrong alike would not be seen.
"""

import base64
import hashlib
import os
from itertools import cycle
from typing import Any, Self

import gevent
from gevent import socket

from tests.rig import PATIENCE, Peer

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BINARY, TEXT, CLOSE, PING, PONG = 0x2, 0x1, 0x8, 0x9, 0xA


class Refused(Exception):
    """The server did not answer the upgrade with 101."""

    def __init__(self, status: int, head: bytes, body: bytes) -> None:
        super().__init__(f"{status}: {body!r}")
        self.status = status
        self.head = head
        self.body = body


class RawWebSocket:
    """Frames over a connected socket; `client` says which end this is, and so who masks.

    `head` is the other side's part of the handshake.
    """

    def __init__(self, peer: Peer, client: bool, head: bytes) -> None:
        self.peer = peer
        self.client = client
        self.head = head
        self.closed_with: tuple[int, str] | None = None

    def send(
        self, payload: bytes, opcode: int = BINARY, *, mask: bool | None = None, first: int | None = None
    ) -> None:
        """One frame; `mask` and `first` (the whole first byte) are for breaking the rules."""
        self.peer.send(self.frame(payload, opcode, mask=mask, first=first))

    def frame(
        self,
        payload: bytes,
        opcode: int = BINARY,
        *,
        mask: bool | None = None,
        first: int | None = None,
        length: int | None = None,
    ) -> bytes:
        """The bytes of one frame; `length` is what it announces in place of the truth."""
        masked = self.client if mask is None else mask
        size = len(payload) if length is None else length
        bit = 0x80 if masked else 0
        if size < 126:
            head = bytes((bit | size,))
        elif size < 0x10000:
            head = bytes((bit | 126,)) + size.to_bytes(2, "big")
        else:
            head = bytes((bit | 127,)) + size.to_bytes(8, "big")
        if masked:
            key = os.urandom(4)
            head += key
            if len(payload) > 1000:
                payload = _xor(payload, key)
            else:
                payload = bytes(byte ^ other for byte, other in zip(payload, cycle(key), strict=False))
        return bytes((0x80 | opcode if first is None else first,)) + head + payload

    def receive(self) -> bytes | None:
        """The next message, None once the other side has closed in order; EOFError when it just ended."""
        while True:
            first, second = self.peer.read(2)
            size = second & 0x7F
            if size == 126:
                size = int.from_bytes(self.peer.read(2), "big")
            elif size == 127:
                size = int.from_bytes(self.peer.read(8), "big")
            assert bool(second & 0x80) is not self.client, "the wrong side masks"
            key = self.peer.read(4) if second & 0x80 else b""
            payload = self.peer.read(size)
            if key:
                payload = _xor(payload, key)
            opcode = first & 0x0F
            if opcode == CLOSE:
                self.closed_with = (
                    int.from_bytes(payload[:2], "big") if payload else 1005,
                    payload[2:].decode(),
                )
                return None
            if opcode == PING:
                self.send(payload, PONG)
            elif opcode == BINARY:
                assert first == 0x80 | BINARY, f"a first byte of {first:#x}"
                return payload

    def close_code(self) -> int:
        """Read until the other side closes; the code that it gives, 1006 when it gives none."""
        try:
            while self.receive() is not None:
                pass
        except (EOFError, OSError):
            return 1006
        assert self.closed_with is not None
        return self.closed_with[0]

    def close(self) -> None:
        """Close the socket without a word."""
        self.peer.close()

    def abort(self) -> None:
        """Reset the connection."""
        self.peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.peer.close()


def dial(
    address: tuple[str, int],
    fields: bytes = b"",
    *,
    path: bytes = b"/connect",
    context: Any = None,
    method: bytes = b"GET",
    version: bytes = b"13",
) -> RawWebSocket:
    """Connect and upgrade; Refused when the answer is not 101. `fields` are whole field lines."""
    sock = socket.create_connection(address)
    try:
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname=address[0])
        return _upgrade(Peer(sock), fields, path, method, version)
    except BaseException:
        sock.close()
        raise


def _upgrade(peer: Peer, fields: bytes, path: bytes, method: bytes, version: bytes) -> RawWebSocket:
    key = base64.b64encode(os.urandom(16))
    peer.send(
        b"%b %b HTTP/1.1\r\nHost: argotun\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: %b\r\nSec-WebSocket-Version: %b\r\n%b\r\n" % (method, path, key, version, fields)
    )
    head = peer.head()
    status = int(head.split(b" ", 2)[1])
    if status != 101:
        raise Refused(status, head, peer.rest())
    expected = base64.b64encode(hashlib.sha1(key + GUID).digest())
    assert b"sec-websocket-accept: " + expected.lower() in head.lower()
    return RawWebSocket(peer, True, head)


class Listening:
    """A listening socket on loopback whose connections the test accepts one by one."""

    def __init__(self) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._sock.getsockname()
        self._accepted: list[Peer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()
        for peer in self._accepted:
            peer.close()

    def peer(self, seconds: float = PATIENCE) -> Peer:
        """The next connection."""
        with gevent.Timeout(seconds, AssertionError("nobody connected")):
            sock, _ = self._sock.accept()
        peer = Peer(sock)
        self._accepted.append(peer)
        return peer

    def accept(self, fields: bytes = b"", seconds: float = PATIENCE) -> RawWebSocket:
        """The next connection, upgraded; `fields` are added to the answer."""
        peer, head = self.asked(seconds)
        peer.send(upgraded(head, fields))
        return RawWebSocket(peer, False, head)

    def asked(self, seconds: float = PATIENCE) -> tuple[Peer, bytes]:
        """The next connection, and the head of its request."""
        peer = self.peer(seconds)
        return peer, peer.head()


def upgraded(head: bytes, fields: bytes = b"") -> bytes:
    """The answer to a request for an upgrade."""
    key = next(
        line.partition(b":")[2].strip()
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key:")
    )
    accepted = base64.b64encode(hashlib.sha1(key + GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (accepted, fields)
    )


def _xor(payload: bytes, key: bytes) -> bytes:
    """Mask or unmask at a bearable speed for megabytes."""
    size = len(payload)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")
