"""One direction of HTTP/1.1 on its way through: heads are cut off, bodies followed, raw bytes passed on.

A proxy must know where each message ends: only that tells when a connection may carry the next one, and
whether an answer was whole. `Relay` is the one follower of it. Requests and answers, on the server and on
the agent, are four of them, and each is in one of four states:

    IDLE ──begin──▶ HEAD ──a head with a body──▶ BODY ──its last byte──▶ IDLE
                     │ ├────a head without one────────────────────────▶ IDLE
                     │ └────101─▶ RAW ──stop─▶ IDLE
                     └─ an interim answer leaves it in HEAD

Bytes go in, and what goes on comes out: nothing here knows a socket, and nothing here calls back. In HEAD
`head` cuts one head off; its owner judges that and says with `follow` or `switch` what comes behind it. In
BODY and RAW `take` does the rest. What belongs to the message after this one stays with the caller.
"""

from argotun.wire import refusals
from argotun.wire.body import Body, chunk
from argotun.wire.head import MAX_HEAD, find_head_end

IDLE, HEAD, BODY, RAW = range(4)


class Relay:
    """Follows one direction of one connection, a message at a time; `state` says what the next bytes are."""

    __slots__ = ("_partial", "body", "chunking", "state")

    def __init__(self) -> None:
        self.state = IDLE
        self.chunking = False
        self.body = Body()
        self._partial = bytearray()

    def begin(self) -> None:
        """A head comes next."""
        self.state = HEAD
        self.chunking = False

    @property
    def held(self) -> int:
        """Bytes of an unfinished head that are kept here."""
        return len(self._partial)

    def head(self, data: bytes, start: int = 0) -> tuple[bytes | None, int]:
        """The head at `start` in `data`, None while it has no end, and the index past what was taken of it.

        Only in HEAD. Raises HeadError as `find_head_end` does.
        """
        partial = self._partial
        if not partial:
            # The common case without a call.
            found = data.find(b"\r\n\r\n", start, start + MAX_HEAD)
            if found >= 0:
                end = found + 4
                return data[start:end], end
            rest = data[start:] if start else data
            refusals.check_partial(rest, 0)
            partial += rest
            return None, len(data)
        # In place, so that a head that comes byte by byte is not copied for each of them.
        before = len(partial)
        partial += data[start:] if start else data
        end = find_head_end(partial, before)
        if end < 0:
            return None, len(data)
        head = bytes(partial[:end])
        partial.clear()
        return head, start + end - before

    def follow(self, length: int, chunking: bool = False) -> None:
        """Behind the head comes a body of `length` bytes (0: none), CHUNKED or UNTIL_CLOSE.

        With `chunking` a body until the connection's end goes on in chunks.
        """
        self.chunking = chunking
        if length:
            self.body.begin(length)
            self.state = BODY
        else:
            self.state = IDLE

    def switch(self) -> None:
        """Behind the head come raw bytes: both sides have agreed on another protocol."""
        self.state = RAW

    def take(self, data: bytes) -> tuple[bytes, int]:
        """What goes on for the front of `data`, and how long that front is; 0 in IDLE and HEAD.

        Raises HeadError on chunks that parsers could read differently.
        """
        if self.state == BODY:
            body = self.body
            used = body.take(data)
            if not body.open:
                self.state = IDLE
            if used != len(data):
                data = data[:used]
            # An empty chunk would be the last one.
            return chunk(data) if self.chunking and data else data, used
        if self.state == RAW:
            return data, len(data)
        return b"", 0

    def stop(self) -> None:
        """Follow nothing any more; what was held is dropped."""
        self.state = IDLE
        self._partial.clear()
        self.body.stop()
