"""A scripted agent and a scripted server of version 2, which keep its rules only where a test wants it.

`[type:1][stream:4][length:4][payload]`, several frames for each binary message.
"""

import json
from struct import pack, unpack_from
from typing import NamedTuple

from tests.raw_websocket import Listening, RawWebSocket, dial
from tests.rig import Rig

CONNECT, CONNECTED, DATA, ERROR, CLOSE, PING, PONG, WINDOW, HELLO, GOAWAY, END = range(1, 12)
NAMES = (
    "",
    "CONNECT",
    "CONNECTED",
    "DATA",
    "ERROR",
    "CLOSE",
    "PING",
    "PONG",
    "WINDOW",
    "HELLO",
    "GOAWAY",
    "END",
)
SUBPROTOCOL = b"Sec-WebSocket-Protocol: argotun.v2\r\n"


class Frame(NamedTuple):
    kind: int
    stream: int
    payload: bytes

    def __repr__(self) -> str:
        return f"{NAMES[self.kind]}({self.stream}, {self.payload[:100]!r})"


def frame(kind: int, stream: int = 0, payload: bytes = b"") -> bytes:
    """The bytes of one frame."""
    return pack(">BII", kind, stream, len(payload)) + payload


def hello(**said: object) -> bytes:
    """A HELLO with these keys."""
    return frame(HELLO, 0, json.dumps({"version": 2, **said}).encode())


class V2:
    """Version 2 over a WebSocket; answers PINGs unless `silent`."""

    def __init__(self, ws: RawWebSocket) -> None:
        self.ws = ws
        self.silent = False
        self._frames: list[Frame] = []

    def send(self, kind: int, stream: int = 0, payload: bytes = b"") -> None:
        """One frame in one message."""
        self.ws.send(frame(kind, stream, payload))

    def raw(self) -> Frame | None:
        """The next frame whatever it is; None when the other side closed in order."""
        while not self._frames:
            message = self.ws.receive()
            if message is None:
                return None
            at = 0
            while at < len(message):
                kind, stream, size = unpack_from(">BII", message, at)
                at += 9
                assert at + size <= len(message), "a frame goes over the end of its message"
                self._frames.append(Frame(kind, stream, message[at : at + size]))
                at += size
        return self._frames.pop(0)

    def receive(self) -> Frame | None:
        """The next frame that is no PING, PONG or WINDOW; PINGs are answered."""
        while (got := self.raw()) is not None:
            if got.kind == PING:
                if not self.silent:
                    self.send(PONG, 0, got.payload)
            elif got.kind not in (PONG, WINDOW):
                return got
        return None

    def expect(self, kind: int, stream: int | None = None) -> Frame:
        """The next frame, which must be of this type."""
        got = self.receive()
        assert got is not None, f"closed, with {self.ws.closed_with}, instead of {NAMES[kind]}"
        assert got.kind == kind, f"{got} instead of {NAMES[kind]}"
        assert stream is None or got.stream == stream
        return got

    def pong(self, payload: bytes = b"probe") -> None:
        """Show that the other side lives and has taken all that was sent before."""
        self.send(PING, 0, payload)
        while (got := self.raw()) is not None:
            if got.kind == PONG and got.payload == payload:
                return
            if got.kind == PING:
                self.send(PONG, 0, got.payload)
        raise AssertionError(f"closed with {self.ws.closed_with} instead of a PONG")

    def until(self, mark: bytes, stream: int) -> bytes:
        """The DATA of a stream up to and with the mark."""
        data = b""
        while mark not in data:
            data += self.expect(DATA, stream).payload
        return data


class V2Agent(V2):
    """The agent's side: dials a server's public port, and says HELLO unless told not to."""

    def __init__(
        self,
        rig: Rig,
        token: str | None = None,
        *,
        greet: bool = True,
        context: object = None,
        **said: object,
    ) -> None:
        super().__init__(
            dial(
                rig.server.public_address,
                SUBPROTOCOL + b"Authorization: Bearer %b\r\n" % (token or rig.TOKEN).encode(),
                context=context,
            )
        )
        rig.keep(self.ws.peer)
        assert b"argotun.v2" in self.ws.head
        if greet:
            self.ws.send(hello(**{"target": "api.example:443", **said}))
            self.said = json.loads(self.expect(HELLO, 0).payload)
            self.pong()


class V2Server(V2):
    """The server's side: the next agent that dials, greeted unless told not to."""

    def __init__(self, listening: Listening, *, greet: bool = True, **said: object) -> None:
        super().__init__(listening.accept(SUBPROTOCOL))
        self._last = 0
        if greet:
            self.ws.send(hello(**{"window": 1 << 20, "cluster": "c1", **said}))
            self.said = json.loads(self.expect(HELLO, 0).payload)

    def connect(self, target: str = "") -> int:
        """CONNECT on a new stream; its number."""
        self._last += 1
        self.send(CONNECT, self._last, target.encode())
        return self._last
