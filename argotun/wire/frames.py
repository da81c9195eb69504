"""The frames of a tunnel, and the profiles that carry them: version 1, version 2, and links of replicas.

A frame of version 1 is one WebSocket message, `[type:1][stream:4][payload]`. Version 2 adds a
length, `[type:1][stream:4][length:4][payload]`, so that one message can hold a batch of frames.
All integers are big-endian. docs/protocol.md is the specification of both.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from struct import Struct

from argotun.errors import ProtocolError

CONNECT = 0x01
CONNECTED = 0x02
DATA = 0x03
ERROR = 0x04
CLOSE = 0x05
PING = 0x06
PONG = 0x07
WINDOW = 0x08
HELLO = 0x09
GOAWAY = 0x0A
END = 0x0B
LEAVE = 0x0C
ASK = 0x0D
HAVE = 0x0E

NAMES = {
    CONNECT: "CONNECT",
    CONNECTED: "CONNECTED",
    DATA: "DATA",
    ERROR: "ERROR",
    CLOSE: "CLOSE",
    PING: "PING",
    PONG: "PONG",
    WINDOW: "WINDOW",
    HELLO: "HELLO",
    GOAWAY: "GOAWAY",
    END: "END",
    LEAVE: "LEAVE",
    ASK: "ASK",
    HAVE: "HAVE",
}

TUNNEL_TYPES = frozenset({PING, PONG, HELLO, GOAWAY, ASK, HAVE})
"""Types that speak of the tunnel itself and travel on stream 0, where no other type may."""

SUBPROTOCOL = "argotun.v2"
"""The WebSocket subprotocol that agrees on version 2; no subprotocol means version 1."""

PEER_SUBPROTOCOL = "argotun.peer.v1"
"""The WebSocket subprotocol of a link between two replicas."""

KIB = 1024
MIB = 1024 * KIB

CHUNK = 32 * KIB
"""The most DATA of one stream in one turn: 32 KiB is two TLS records, 1.3 ms of a 200 Mbit/s link."""

INITIAL_WINDOW = 256 * KIB
"""Credit of a new stream, bytes (yamux has the same): fills 200 Mbit/s at 10 ms round trip."""

MAX_WINDOW = 8 * MIB
"""A stream's window never grows over this, bytes: fills 600 Mbit/s at 100 ms round trip."""

MAX_CREDIT = 0x7FFFFFFF
"""The most credit that a peer may add up to, bytes (RFC 9113 §6.9.1 has the same bound)."""

MAX_ERROR_TEXT = 1024
"""What is kept of the text of a peer's ERROR or GOAWAY, bytes: a sentence, not a memory leak."""

MAX_PING = 125
"""The longest PING payload that is echoed, bytes: the same as WebSocket's own."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What one version of the wire has: one multiplexer serves both.

    `types` are the frame types that the version knows; `max_message` bounds a WebSocket message
    in bytes; `credit` says that streams are flow-controlled; `batch` that a message may hold
    several frames; `early_data` that DATA may follow CONNECT at once.
    """

    version: int
    header: Struct
    types: frozenset[int]
    max_message: int
    credit: bool
    batch: bool
    early_data: bool

    def pack(self, kind: int, stream: int, payload: bytes = b"") -> bytes:
        """One whole frame."""
        return self.head(kind, stream, len(payload)) + payload

    def head(self, kind: int, stream: int, length: int) -> bytes:
        """The bytes before a payload of `length` bytes."""
        if self.batch:
            return self.header.pack(kind, stream, length)
        return self.header.pack(kind, stream)

    def split(self, message: bytes) -> Iterator[tuple[int, int, bytes]]:
        """The frames of one message as (type, stream, payload); ProtocolError on anything else."""
        if len(message) > self.max_message:
            raise ProtocolError(f"message of {len(message)} bytes is over {self.max_message}", 1009)
        header = self.header
        size = header.size
        at, end = 0, len(message)
        if end < size:
            raise ProtocolError("message too short for a frame")
        if not self.batch:
            kind, stream = header.unpack_from(message, 0)
            self._check(kind, stream)
            yield kind, stream, message[size:]
            return
        while at < end:
            if end - at < size:
                raise ProtocolError("message ends inside a frame's header")
            kind, stream, length = header.unpack_from(message, at)
            at += size
            if length > end - at:
                raise ProtocolError("message ends inside a frame's payload")
            if kind != DATA or not stream:
                self._check(kind, stream)
            yield kind, stream, message[at : at + length]
            at += length

    def _check(self, kind: int, stream: int) -> None:
        if kind not in self.types:
            raise ProtocolError(f"unknown frame type 0x{kind:02x}")
        if (kind in TUNNEL_TYPES) != (stream == 0):
            raise ProtocolError(f"{NAMES[kind]} on stream {stream}")


_V1_TYPES = frozenset({CONNECT, CONNECTED, DATA, ERROR, CLOSE, PING, PONG})

V1 = Profile(
    version=1,
    header=Struct(">BI"),
    types=_V1_TYPES,
    max_message=16 * MIB,
    credit=False,
    batch=False,
    early_data=False,
)
"""The seed system's protocol, byte for byte."""

V2 = Profile(
    version=2,
    header=Struct(">BII"),
    types=_V1_TYPES | {WINDOW, HELLO, GOAWAY, END},
    max_message=1 * MIB,
    credit=True,
    batch=True,
    early_data=True,
)
"""Agreed by the subprotocol `argotun.v2`."""

PEER = replace(V2, types=V2.types | {LEAVE, ASK, HAVE})
"""A link between two replicas: version 2, and three frames that no agent may send or is ever sent."""
