"""WebSocket framing (RFC 6455 §5), shared by both ends of a tunnel: bytes in, messages out.

A tunnel speaks binary messages only, without extensions. Every rule below is checked as soon as the
bytes that break it are there; a frame's announced size is judged before any of its payload is kept.

| what the peer did                                          | close code |
|------------------------------------------------------------|------------|
| reserved bit, unknown opcode, masking the wrong way round,  | 1002       |
| broken fragmentation, bad control frame, bad close code     |            |
| text message                                               | 1003       |
| close reason that is not UTF-8                             | 1007       |
| message longer than the limit                              | 1009       |
"""

from collections.abc import Sequence

from websockets.version import version

from argotun.errors import LibraryError, ProtocolError
from argotun.wire.trifles import TRIFLE

# No part of the library's documented API, so it is tried out once, as transport/_private.py, which this layer
# may not import, does for all other libraries.
try:
    from websockets.frames import apply_mask  # type: ignore[attr-defined]

    _masks = apply_mask(memoryview(b"abcde"), bytearray(b"    ")) == b"ABCDE"
except (ImportError, TypeError):
    _masks = False
if not _masks:
    raise LibraryError("websockets", version, "frames.apply_mask, which masks any buffer")

OP_BINARY, OP_CLOSE, OP_PING, OP_PONG = 0x2, 0x8, 0x9, 0xA

STEP = 256
"""Control frames and small fragments that are worked through before others get a chance of their turn."""

LONGEST_CONTROL = 125
"""Bytes of payload in a control frame at most, RFC 6455 §5.5."""

NO_STATUS = 1005
"""What a close frame without a code counts as; never sent (RFC 6455 §7.4.1)."""

_FIN = 0x80
_RESERVED = 0x70
_MASKED = 0x80
_TEXT = 0x1

# The first byte of every frame that is allowed here.
_WHOLE = _FIN | OP_BINARY
_FIRST_PART = OP_BINARY
_NEXT_PART = 0x00
_LAST_PART = _FIN
_CONTROL = {_FIN | OP_CLOSE: OP_CLOSE, _FIN | OP_PING: OP_PING, _FIN | OP_PONG: OP_PONG}
_DATA = frozenset({_WHOLE, _FIRST_PART, _NEXT_PART, _LAST_PART})

# Below this a copy of the masked bytes is cheaper than a memoryview of them.
_VIEW_FROM = 2048


class FrameReader:
    """Cuts a byte stream into messages and notes what control frames ask.

    `require_mask` is True on the server (a client must mask every frame) and False on the client (a
    server must not mask any), RFC 6455 §5.1. `max_message` (bytes, may be changed at any time)
    bounds a message, the sum of its fragments included. Feed what was read, then take messages with
    `next_message()` until it gives None.

    `ping` is the payload of the last ping that is not answered yet; whoever answers sets it to None
    (answering only the last is allowed, RFC 6455 §5.5.3, and keeps a flood of pings cheap). Once the
    peer's close frame was read, `closed` is True and `close_code` says why; what follows it is ignored.
    `trifles` counts control frames and small fragments, for their reader to set back; after STEP of them
    `next_message` pauses with None while it is still `ready`.
    """

    __slots__ = (
        "_buffer",
        "_error",
        "_length_xor",
        "_mask_size",
        "_need",
        "_parts",
        "_position",
        "close_code",
        "closed",
        "max_message",
        "ping",
        "trifles",
    )

    def __init__(self, require_mask: bool, max_message: int) -> None:
        self.max_message = max_message
        self.ping: bytes | None = None
        self.trifles = 0
        self.closed = False
        self.close_code = NO_STATUS
        # Bytes when a read began with a frame, a bytearray when a frame goes over several reads:
        # collecting those in a list would let a peer that sends two bytes at a time cost us forty.
        self._buffer: bytes | bytearray = b""
        self._position = 0
        # How many bytes from the position are needed before another look is worth it.
        self._need = 2
        self._parts: bytearray | None = None
        self._error: ProtocolError | None = None
        self._mask_size = 4 if require_mask else 0
        # Takes the expected mask bit out of the second byte; what is over 127 then had the wrong one.
        self._length_xor = _MASKED if require_mask else 0

    @property
    def ready(self) -> bool:
        """Whether another look is worth it before more bytes come: `next_message` gave None for a pause."""
        return not self.closed and len(self._buffer) - self._position >= self._need

    @property
    def midway(self) -> bool:
        """Whether a frame or a fragmented message has begun and not ended."""
        return self._position < len(self._buffer) or self._parts is not None

    def feed(self, data: bytes) -> None:
        """Add what was read from the peer."""
        position, buffer = self._position, self._buffer
        if position == len(buffer):
            self._buffer = data
        elif isinstance(buffer, bytearray):
            del buffer[:position]
            buffer += data
        else:
            rest = bytearray(memoryview(buffer)[position:])
            rest += data
            self._buffer = rest
        self._position = 0

    def next_message(self) -> bytes | None:
        """Give the next whole binary message, or None when more bytes are needed or the peer closed.

        Raises ProtocolError when the peer broke the rules, and again at each later call.
        """
        if self._error is not None:
            raise self._error
        if self.closed:
            return None
        try:
            return self._next_message()
        except ProtocolError as error:
            self._error = error
            self._buffer, self._position, self._parts = b"", 0, None
            raise

    def _next_message(self) -> bytes | None:
        while True:
            buffer = self._buffer
            position = self._position
            have = len(buffer) - position
            if have < self._need:
                return None
            first = buffer[position]
            length = buffer[position + 1] ^ self._length_xor
            if first != _WHOLE or length > 127 or self._parts is not None:
                self._check_start(first, length)

            start = position + 2
            if length > 125:
                start += 2 if length == 126 else 8
                if position + have < start:
                    self._need = start - position
                    return None
                shortest = 126 if length == 126 else 0x10000
                length = int.from_bytes(buffer[position + 2 : start], "big")
                if length < shortest:
                    raise ProtocolError("a frame's length was not written in the shortest form")
            if length > self.max_message or self._parts is not None:
                self._check_size(first, length)
            start += self._mask_size
            end = start + length
            if position + have < end:
                self._need = end - position
                return None

            payload = self._payload(buffer, start, end)
            self._need = 2
            if position + have == end:
                self._buffer, self._position = b"", 0
            else:
                self._position = end
            if first == _WHOLE:
                return payload
            message = self._take(first, payload)
            if message is not None or self.closed:
                return message
            if first in _CONTROL or len(payload) < TRIFLE:
                self.trifles += 1
                if not self.trifles % STEP:
                    return None

    def _payload(self, buffer: bytes | bytearray, start: int, end: int) -> bytes:
        if self._mask_size:
            key = buffer[start - 4 : start]
            if end - start < _VIEW_FROM:
                return apply_mask(buffer[start:end], key)
            return apply_mask(memoryview(buffer)[start:end], key)
        if isinstance(buffer, bytes):
            return buffer[start:end]
        return bytes(memoryview(buffer)[start:end])

    def _check_start(self, first: int, length: int) -> None:
        """Judge a frame's first two bytes; `length` is the second one without the expected mask bit."""
        if first & _RESERVED:
            raise ProtocolError("a frame had a reserved bit set, but no extension was agreed")
        if length > 127:
            raise ProtocolError(
                "a client sent a frame that was not masked"
                if self._mask_size
                else "a server sent a masked frame"
            )
        opcode = first & 0x0F
        if opcode == _TEXT:
            raise ProtocolError("a text message was sent; only binary messages are understood", 1003)
        if first in _CONTROL:
            if length > LONGEST_CONTROL:
                raise ProtocolError("a control frame was longer than 125 bytes")
        elif first not in _DATA:
            if opcode in (OP_CLOSE, OP_PING, OP_PONG):
                raise ProtocolError("a control frame was fragmented")
            raise ProtocolError(f"a frame had the unknown opcode {opcode:#x}")
        elif opcode == OP_BINARY and self._parts is not None:
            raise ProtocolError("a new message began inside a fragmented one")
        elif opcode == 0 and self._parts is None:
            raise ProtocolError("a message was continued that had not begun")

    def _check_size(self, first: int, length: int) -> None:
        """Judge the announced length of a frame before any of its payload is waited for."""
        if first in _CONTROL:
            return
        size = length + (len(self._parts) if self._parts is not None else 0)
        if size > self.max_message:
            raise ProtocolError(f"a message of {size} bytes is over the limit of {self.max_message}", 1009)

    def _take(self, first: int, payload: bytes) -> bytes | None:
        """Deal with a frame that is not a whole message; the message that it completed, if any."""
        if first == _FIRST_PART:
            self._parts = bytearray(payload)
        elif first in (_NEXT_PART, _LAST_PART):
            assert self._parts is not None
            self._parts += payload
            if first == _LAST_PART:
                message, self._parts = bytes(self._parts), None
                return message
        elif _CONTROL[first] == OP_CLOSE:
            self._take_close(payload)
        elif _CONTROL[first] == OP_PING:
            self.ping = payload
        return None

    def _take_close(self, payload: bytes) -> None:
        if payload:
            code = int.from_bytes(payload[:2], "big")
            if len(payload) == 1 or not _sendable(code):
                raise ProtocolError("a close frame had no valid code")
            try:
                payload[2:].decode()
            except UnicodeDecodeError:
                raise ProtocolError("a close frame's reason was not UTF-8", 1007) from None
            self.close_code = code
        self.closed = True
        self._buffer, self._position, self._parts = b"", 0, None


def pack(opcode: int, parts: Sequence[bytes | bytearray | memoryview], key: bytes | None = None) -> bytes:
    """Make one whole frame of `parts`, one after the other.

    `key` (4 unpredictable bytes, RFC 6455 §5.3) masks it, as a client must; None is a server's frame.
    Control frames must not be over LONGEST_CONTROL bytes.
    """
    length = sum(map(len, parts))
    first = _FIN | opcode
    masked = _MASKED if key is not None else 0
    if length < 126:
        head = bytes((first, masked | length))
    elif length < 0x10000:
        head = bytes((first, masked | 126, length >> 8, length & 0xFF))
    else:
        head = bytes((first, masked | 127)) + length.to_bytes(8, "big")
    if key is None:
        return b"".join((head, *parts))
    # Masking twice is no masking: with the head masked beforehand, one pass over head and payload
    # leaves the one in clear and the other masked, and the payload is copied twice, not three times.
    # The key is turned where the head's length (2, 4 or 10, and 4 for the key) is not a multiple of it.
    turned = key if len(head) == 4 else key[2:] + key[:2]
    return apply_mask(b"".join((apply_mask(head + key, turned), *parts)), turned)


def pack_close(code: int, reason: str = "", key: bytes | None = None) -> bytes:
    """Make a close frame; a code that must not be sent (RFC 6455 §7.4) makes one without a code."""
    if not _sendable(code):
        return pack(OP_CLOSE, (), key)
    text = reason.encode("utf-8", "replace")[: LONGEST_CONTROL - 2]
    # A character that the cut has split would make the whole frame invalid.
    text = text.decode("utf-8", "ignore").encode()
    return pack(OP_CLOSE, (code.to_bytes(2, "big"), text), key)


def _sendable(code: int) -> bool:
    """Whether a close frame may carry this code: RFC 6455 §7.4 and the IANA registry."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
