"""What both ends of a tunnel have in common: whole binary messages over a connected socket."""

from collections.abc import Callable, Sequence
from typing import Protocol

from gevent.socket import socket

from argotun.errors import ConnectionLost
from argotun.transport.explain import explain
from argotun.transport.reader import Reader
from argotun.wire.websocket import BINARY, PONG, FrameReader, pack, pack_close

DEFAULT_MAX_MESSAGE = 1024 * 1024
"""Bytes of a message at most, until `max_message` is set to what the version in use allows."""

Part = bytes | bytearray | memoryview


class MessageSocket(Protocol):
    """A WebSocket after its handshake, as a tunnel uses it: one greenlet reads, one place writes.

    `sock` is the socket underneath, for the one place that writes what `pack` made; it stays the
    owner's to close. `subprotocol` is the one agreed upon, or None. `max_message` (bytes) may be set
    at any time. `send_control(frame)` is called with pong and close frames that are due; the owner
    sets it to its own way of writing, so that no two greenlets write to one socket.
    """

    sock: socket
    subprotocol: str | None
    max_message: int
    send_control: Callable[[bytes], object]

    def receive(self) -> bytes | None:
        """Wait for the next binary message; None once the peer closed in order.

        Raises ProtocolError when the peer broke the rules (then close with its `close_code`) and
        ConnectionLost when the connection ended without a close frame.
        """

    def pack(self, parts: Sequence[Part]) -> bytes:
        """Make one frame, ready for `sock`, of `parts` one after the other: a whole binary message."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Hand one close frame to `send_control`, unless one was sent; `sock` stays open."""


class FramedSocket:
    """The reading and packing of a MessageSocket; each end mixes it into its library's class.

    It replaces what the libraries read and write with, and nothing of their handshakes.
    """

    sock: socket
    subprotocol: str | None
    send_control: Callable[[bytes], object]
    _reader: FrameReader
    _recv: Callable[[], bytes]
    _close_sent: bool

    def _open(self, sock: socket, reader: FrameReader, subprotocol: str | None, early: bytes) -> None:
        """Begin with messages on `sock`; `early` came together with the handshake."""
        self.sock = sock
        self.subprotocol = subprotocol
        self.send_control = sock.sendall
        self._reader = reader
        self._recv = Reader(sock).recv
        self._close_sent = False
        if early:
            reader.feed(early)

    @property
    def max_message(self) -> int:
        """Bytes of a message at most; a longer one is refused when its first bytes announce it."""
        return self._reader.max_message

    @max_message.setter
    def max_message(self, size: int) -> None:
        self._reader.max_message = size

    def _key(self) -> bytes | None:
        """The masking key of the next frame, None at the end that must not mask."""
        raise NotImplementedError

    def receive(self) -> bytes | None:
        """Wait for the next binary message; None once the peer closed in order.

        Raises ProtocolError when the peer broke the rules (then close with its `close_code`) and
        ConnectionLost when the connection ended without a close frame.
        """
        reader = self._reader
        while True:
            message = reader.next_message()
            if message is not None:
                return message
            if reader.ping is not None:
                self._answer_ping()
            if reader.closed:
                # 1005 is the absence of a code, so the echo has none either.
                self.close(reader.close_code)
                return None
            try:
                data = self._recv()
            except OSError as error:
                raise ConnectionLost(f"the tunnel's connection was lost: {explain(error)}") from error
            if not data:
                where = "in the middle of a message" if reader.midway else "without a close frame"
                raise ConnectionLost(f"the tunnel's connection was closed {where}")
            reader.feed(data)

    def pack(self, parts: Sequence[Part]) -> bytes:
        """Make one frame, ready for `sock`, of `parts` one after the other: a whole binary message."""
        return pack(BINARY, parts, self._key())

    def send(self, message: Part) -> None:
        """Send one message and wait until the socket took it; only where nobody else writes."""
        try:
            self.sock.sendall(self.pack((message,)))
        except (OSError, ValueError) as error:
            raise ConnectionLost(f"the tunnel's connection was lost: {explain(error)}") from error

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Hand one close frame to `send_control`, unless one was sent; `sock` stays open.

        A reason over 123 bytes is cut; a code that must not be sent makes a frame without a code.
        """
        if not self._close_sent:
            self._close_sent = True
            self._control(pack_close(code, reason, self._key()))

    @property
    def closed_with(self) -> tuple[int, str]:
        """The code and reason of the peer's close frame; 1005 (no status) while there is none."""
        return self._reader.close_code, self._reader.close_reason

    def _answer_ping(self) -> None:
        payload, self._reader.ping = self._reader.ping or b"", None
        if not self._close_sent:
            self._control(pack(PONG, (payload,), self._key()))

    def _control(self, frame: bytes) -> None:
        try:
            self.send_control(frame)
        except (OSError, ValueError):
            # The next read says what became of the connection.
            pass
