"""Bodies: finding where one ends while its bytes pass through unchanged (RFC 9112 §6.3, §7.1).

A body of known length passes as a byte count. Of a chunked one only the unfinished size line or trailer is
held, within a limit. A line is refused as soon as a byte cannot belong to it, so that a bad one does not
reach the next hop piece by piece.
"""

import re

from argotun.errors import HeadError
from argotun.wire.fields import NOT_IN_TRAILERS, TOKEN, VALUE, names
from argotun.wire.head import CHUNKED, UNTIL_CLOSE

# Up to 2^60, so that no parser overflows 63 bits.
_SIZE = rb"[0-9A-Fa-f]{1,15}+"
# A signed chunk of S3 has an extension of 87 bytes; Kubernetes clients send none.
MAX_SIZE_LINE = 256
# Trailers carry a checksum or a status of a few lines.
MAX_TRAILERS = 8 * 1024

_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_EXTENSIONS = rb"(?:;" + TOKEN + rb"++(?:=(?:" + TOKEN + rb"++|" + _QUOTED + rb"))?)*"
_FIRST_SIZE = re.compile(rb"(" + _SIZE + rb")" + _EXTENSIONS + rb"\r\n")
# From the second on, the CRLF that ends the chunk before belongs to the match.
_NEXT_SIZE = re.compile(rb"\r\n(" + _SIZE + rb")" + _EXTENSIONS + rb"\r\n")
_TRAILER = re.compile(rb"(?:(" + TOKEN + rb"++):" + VALUE + rb"*+)?\r\n")

# What may still become a match of the three above. An extension's own grammar is left to its end: whatever it
# is, its line ends at the first CRLF for every parser.
_SIZE_BEGUN = rb"(?:" + _SIZE + rb"(?:;" + VALUE + rb"*+)?\r?)?"
_FIRST_SIZE_BEGUN = re.compile(_SIZE_BEGUN)
_NEXT_SIZE_BEGUN = re.compile(rb"(?:\r(?:\n" + _SIZE_BEGUN + rb")?)?")
_TRAILER_BEGUN = re.compile(rb"(?:" + TOKEN + rb"++(?::" + VALUE + rb"*+)?)?\r?")

_BARRED = names(NOT_IN_TRAILERS)

# The states: what comes next.
_FIRST, _DATA, _NEXT, _TRAILERS, _DONE = range(5)


FINAL_CHUNK = b"0\r\n\r\n"
"""The end of a chunked body without trailers."""


def chunk(data: bytes) -> bytes:
    """One chunk of these bytes; none of them would be the end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class ChunkedBody:
    """Follows one chunked body through however many pieces it comes in."""

    __slots__ = ("_begun", "_left", "_state", "_trailers")

    def __init__(self) -> None:
        self._state = _FIRST
        self._left = 0  # bytes of the present chunk that are still to come
        self._begun = b""  # the part of an unfinished line received so far
        self._trailers = 0  # bytes of trailers received so far

    @property
    def done(self) -> bool:
        """The last byte of the body has been seen."""
        return self._state == _DONE

    @property
    def at_boundary(self) -> bool:
        """The next byte begins a chunk, so that a last chunk in its place would complete the body."""
        if self._state == _NEXT:
            return self._begun == b"\r\n"
        return self._state == _FIRST and not self._begun

    def feed(self, data: bytes | bytearray | memoryview, start: int = 0) -> int:
        """Index in `data` just past what belongs to this body, which goes on from `start`.

        Before `done` that is `len(data)`. Raises HeadError (400) on framing that parsers read differently,
        sizes of 2^60 and more, lines over MAX_SIZE_LINE, trailers over MAX_TRAILERS or with a name that
        frames, routes or authenticates; the body is over then and the connection with it.
        """
        end = len(data)
        while start < end and self._state != _DONE:
            if self._state == _DATA:
                if self._left > end - start:
                    self._left -= end - start
                    return end
                start += self._left
                self._state = _NEXT
            elif self._state == _TRAILERS:
                start = self._trailer(data, start)
            else:
                start = self._size(data, start)
        return start

    def _size(self, data: bytes | bytearray | memoryview, start: int) -> int:
        pattern, begun = (
            (_FIRST_SIZE, _FIRST_SIZE_BEGUN) if self._state == _FIRST else (_NEXT_SIZE, _NEXT_SIZE_BEGUN)
        )
        match, past = self._line(pattern, begun, data, start, MAX_SIZE_LINE, "chunk size")
        if match is not None:
            self._left = int(match[1], 16)
            self._state = _DATA if self._left else _TRAILERS
        return past

    def _trailer(self, data: bytes | bytearray | memoryview, start: int) -> int:
        room = MAX_TRAILERS - self._trailers
        match, past = self._line(_TRAILER, _TRAILER_BEGUN, data, start, room, "trailer")
        if match is not None:
            self._trailers += match.end() - match.start()
            if match[1] is None:
                self._state = _DONE
            elif _BARRED.fullmatch(match[1]):
                raise HeadError("a trailer that belongs into the head")
        return past

    def _line(
        self,
        pattern: re.Pattern[bytes],
        begun: re.Pattern[bytes],
        data: bytes | bytearray | memoryview,
        start: int,
        limit: int,
        what: str,
    ) -> tuple[re.Match[bytes] | None, int]:
        """A line of at most `limit` bytes that may have begun earlier, or None; and the index past it."""
        held = len(self._begun)
        if held:
            line = self._begun + bytes(data[start : start + limit + 1 - held])
            match, base = pattern.match(line), start - held
            self._begun = b""
        else:
            line = b""
            match, base = pattern.match(data, start), 0
        if match is not None:
            if match.end() - match.start() > limit:
                raise HeadError(f"a {what} that is too long")
            return match, base + match.end()
        line = line or bytes(data[start : start + limit + 1])
        if begun.fullmatch(line) is None:
            raise HeadError(f"malformed {what}")
        if len(line) > limit:
            raise HeadError(f"a {what} that is too long")
        self._begun = line
        return None, len(data)


class Body:
    """Follows one body at a time; a body of known length passes as a count (RFC 9112 §6.3)."""

    __slots__ = ("_chunks", "_left", "open")

    def __init__(self) -> None:
        self.open = False
        self._left = 0
        self._chunks: ChunkedBody | None = None

    def begin(self, length: int) -> None:
        """A body of `length` bytes, CHUNKED or UNTIL_CLOSE comes next."""
        self._left = length
        self._chunks = ChunkedBody() if length == CHUNKED else None
        self.open = length != 0

    def take(self, data: bytes) -> int:
        """How many bytes at the front of `data` belong to the body; HeadError on bad chunks.

        `open` turns false when they complete it.
        """
        size = len(data)
        left = self._left
        if left > 0:
            if size < left:
                self._left = left - size
                return size
            self.open = False
            self._left = 0
            return left
        chunks = self._chunks
        if chunks is not None:
            used = chunks.feed(data)
            if chunks.done:
                self.open = False
                self._chunks = None
            return used
        return size if left == UNTIL_CLOSE else 0

    def stop(self) -> None:
        """Follow nothing any more."""
        self.open = False
        self._left = 0
        self._chunks = None

    @property
    def until_close(self) -> bool:
        """Whether the end of the connection is the end of the body."""
        return self.open and self._left == UNTIL_CLOSE

    @property
    def at_boundary(self) -> bool:
        """Whether a final chunk could follow here."""
        return self._chunks is not None and self._chunks.at_boundary
