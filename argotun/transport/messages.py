"""A WebSocket as a tunnel uses it, at both ends: whole binary messages over a connected socket."""

import os
from collections.abc import Callable, Sequence
from time import monotonic

import gevent
from gevent.socket import socket

from argotun.errors import ConnectionLost
from argotun.transport.explain import explain
from argotun.transport.reader import Reader
from argotun.turns import NEXT_TURN, STINT
from argotun.wire.trifles import Patience
from argotun.wire.websocket import OP_BINARY, OP_PONG, FrameReader, pack, pack_close

DEFAULT_MAX_MESSAGE = 1024 * 1024
"""Bytes of a message at most, until `max_message` is set to what the version in use allows."""

Part = bytes | bytearray | memoryview


class MessageSocket:
    """A WebSocket after its handshake, which a library did: one greenlet reads, one place writes.

    `sock` is the socket underneath, for the one place that writes what `pack` made; its owner closes it.
    `subprotocol` is the one agreed upon, or None. `early` is what came together with the handshake. `client`
    is True at the end that dialled, which masks its frames and takes no masked ones.

    `send_control(frame)` is called with pong and close frames that are due; the owner of a tunnel sets it to
    its own way of writing, so that no two greenlets write to one socket. `patience` is what is left for
    frames that carry nothing; `frames` counts those of the WebSocket's own. `read_at` is when bytes came
    last, `turn` when this turn of the event loop began for them, both in monotonic seconds; `busy` is for
    how many seconds turns have lasted until now.
    """

    def __init__(self, sock: socket, subprotocol: str | None, early: bytes, *, client: bool) -> None:
        self.sock = sock
        self.subprotocol = subprotocol
        self.send_control: Callable[[bytes], object] = sock.sendall
        self._masks = client
        self._reader = FrameReader(not client, DEFAULT_MAX_MESSAGE)
        self._source = Reader(sock)
        self._close_sent = False
        self.patience = Patience()
        self.frames = 0
        self.busy = 0.0
        self.read_at = self.turn = monotonic()
        if early:
            self._reader.feed(early)

    @property
    def max_message(self) -> int:
        """Bytes of a message at most; a longer one is refused as soon as its length is announced."""
        return self._reader.max_message

    @max_message.setter
    def max_message(self, size: int) -> None:
        self._reader.max_message = size

    def receive(self) -> bytes | None:
        """Wait for the next binary message; None once the peer has sent a close frame.

        Raises ProtocolError when the peer broke the rules (then close with its `close_code`) and
        ConnectionLost when the connection ended without a close frame.
        """
        reader, source = self._reader, self._source
        while True:
            message = reader.next_message()
            if message is not None:
                if reader.ping is not None:
                    # It came before the end of this message, and so does its answer.
                    self._answer_ping()
                return message
            if reader.ping is not None and not reader.ready:
                self._answer_ping()
            if reader.closed:
                # 1005 is the absence of a code, so the echo has none either.
                self.close(reader.close_code)
                return None
            if reader.trifles:
                self.frames += reader.trifles
                self.patience.spend(reader.trifles, monotonic())
                reader.trifles = 0
            now = monotonic()
            if now - self.turn > STINT:
                # A read may hold thousands of control frames and empty messages, which end nowhere else.
                now = self.rest(now)
            if reader.ready:
                continue
            try:
                data = source.recv()
            except OSError as error:
                raise ConnectionLost(f"the tunnel's connection was lost: {explain(error)}") from error
            self.read_at = monotonic()
            if source.waited:
                # Eight full reads may follow each other without a wait: they are one turn.
                source.waited = False
                self.busy += now - self.turn
                self.turn = self.read_at
            if not data:
                where = "in the middle of a message" if reader.midway else "without a close frame"
                raise ConnectionLost(f"the tunnel's connection was closed {where}")
            reader.feed(data)

    def rest(self, now: float) -> float:
        """Give others their turn, since this one has lasted long enough; when the next one begins."""
        self.busy += now - self.turn
        gevent.sleep(NEXT_TURN)
        self.turn = monotonic()
        return self.turn

    def pack(self, parts: Sequence[Part]) -> bytes:
        """Make one frame, ready for `sock`, of `parts` one after the other: a whole binary message."""
        return pack(OP_BINARY, parts, os.urandom(4) if self._masks else None)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Hand one close frame to `send_control`, unless one was sent; `sock` stays open.

        A reason over 123 bytes is cut; a code that must not be sent makes a frame without a code.
        """
        if not self._close_sent:
            self._close_sent = True
            self._control(pack_close(code, reason, os.urandom(4) if self._masks else None))

    def _answer_ping(self) -> None:
        payload, self._reader.ping = self._reader.ping or b"", None
        if not self._close_sent:
            self._control(pack(OP_PONG, (payload,), os.urandom(4) if self._masks else None))

    def _control(self, frame: bytes) -> None:
        try:
            self.send_control(frame)
        except (OSError, ValueError):
            # The next read says what became of the connection.
            pass
