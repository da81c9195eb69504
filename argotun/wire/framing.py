"""Where a message's body ends: the one follower that both roles use for requests and responses."""

from argotun.wire.body import ChunkedBody
from argotun.wire.head import CHUNKED, UNTIL_CLOSE


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

    def end(self) -> None:
        """Nothing more is followed."""
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
