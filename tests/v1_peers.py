"""An agent and a server that speak version 1 as the seed system's Go programs do, frame by frame.

They stand in for the Go binaries, which cannot be had here: `[type:1][stream:4 big-endian][payload]`,
one frame for each binary WebSocket message, no subprotocol, the token as a bearer. The numbers are
written down here once more on purpose: a mistake in argotun's own table would be seen.
"""

from struct import pack, unpack_from
from typing import NamedTuple

from tests.raw_websocket import Listening, RawWebSocket, dial
from tests.rig import Rig

CONNECT, CONNECTED, DATA, ERROR, CLOSE, PING, PONG = range(1, 8)
NAMES = ("", "CONNECT", "CONNECTED", "DATA", "ERROR", "CLOSE", "PING", "PONG")


class Frame(NamedTuple):
    kind: int
    stream: int
    payload: bytes

    def __repr__(self) -> str:
        return f"{NAMES[self.kind]}({self.stream}, {self.payload!r})"


class V1:
    """Version 1 over a WebSocket; answers PINGs as the Go programs do, unless `silent`."""

    def __init__(self, ws: RawWebSocket) -> None:
        self.ws = ws
        self.silent = False
        self.pings: list[bytes] = []

    def send(self, kind: int, stream: int, payload: bytes = b"") -> None:
        """One frame in one message."""
        self.ws.send(pack(">BI", kind, stream) + payload)

    def raw(self) -> Frame | None:
        """The next frame whatever it is; None when the other side closed in order."""
        message = self.ws.receive()
        if message is None:
            return None
        assert len(message) >= 5, f"a message of {len(message)} bytes is no frame"
        kind, stream = unpack_from(">BI", message)
        assert 1 <= kind <= 7, f"a frame of type {kind}, which version 1 does not know"
        return Frame(kind, stream, message[5:])

    def receive(self) -> Frame | None:
        """The next frame that is no PING; PINGs are answered, PONGs dropped."""
        while (frame := self.raw()) is not None:
            if frame.kind == PING:
                self.pings.append(frame.payload)
                if not self.silent:
                    self.send(PONG, 0, frame.payload)
            elif frame.kind != PONG:
                return frame
        return None

    def expect(self, kind: int, stream: int | None = None) -> Frame:
        """The next frame, which must be of this type."""
        frame = self.receive()
        assert frame is not None, f"closed, with {self.ws.closed_with}, instead of {NAMES[kind]}"
        assert frame.kind == kind, f"{frame} instead of {NAMES[kind]}"
        assert stream is None or frame.stream == stream
        return frame

    def pong(self) -> bytes:
        """The payload of the next PONG; other frames before it are dropped."""
        while (frame := self.raw()) is not None:
            if frame.kind == PONG:
                return frame.payload
            if frame.kind == PING:
                self.send(PONG, 0, frame.payload)
        raise AssertionError("closed without a PONG")

    def until(self, mark: bytes, stream: int) -> bytes:
        """The DATA of a stream up to and with the mark."""
        data = b""
        while mark not in data:
            data += self.expect(DATA, stream).payload
        return data


class V1Agent(V1):
    """The agent's side: dials a server's public port."""

    def __init__(self, rig: Rig, token: str | None = None) -> None:
        ws = dial(rig.server.public_address, b"Authorization: Bearer %b\r\n" % (token or rig.TOKEN).encode())
        rig.keep(ws.peer)
        assert b"sec-websocket-protocol" not in ws.head.lower()
        super().__init__(ws)


class V1Server(V1):
    """The server's side: the next agent that dials; it ignores the subprotocol that is offered."""

    def __init__(self, listening: Listening) -> None:
        super().__init__(listening.accept())
        self._last = 0

    def connect(self, target: str) -> int:
        """CONNECT on a new stream; its number."""
        self._last += 1
        self.send(CONNECT, self._last, target.encode())
        return self._last

    def ask(self, target: str, request: bytes) -> int:
        """Open a stream, wait for CONNECTED, send the request."""
        stream = self.connect(target)
        self.expect(CONNECTED, stream)
        self.send(DATA, stream, request)
        return stream

    def answer(self, stream: int) -> bytes:
        """All DATA of a stream until its CLOSE."""
        data = b""
        while (frame := self.receive()) is not None:
            assert frame.stream == stream
            if frame.kind == CLOSE:
                return data
            assert frame.kind == DATA, f"{frame} in an answer"
            data += frame.payload
        raise AssertionError("closed in the middle of an answer")
