"""What one side of a tunnel has yet to say: control frames first, then the streams in turns.

Theory of operation
-------------------

A turn is one chunk of DATA, within the credit that the peer gave; a stream that has more goes to the back of
the line. There are three places where a stream can be, and `ready` says that it is in one of the first two:

    fresh ─┐                                   ┌─▶ has more: back of the line
           ├──▶ a turn: one chunk, or its end ─┤
    ready ─┘                                   └─▶ out of credit, or of the pool: WINDOW brings it back

A stream with nothing to say until now is *fresh* and leaves before the line (as sparse flows do in RFC 8290
§4.2), with a chunk or so while the line moves on by one turn of each. So streams with megabytes to send
delay a small answer by a chunk, however many they are, and one without credit by nothing; and no number of
small answers keeps the large ones waiting, because a stream that used up its chunk in this *round* lines up.

What a peer lets all streams together have beyond their shares is the *pool*. A stream that finds it empty is
*starved*, and comes back when some of it is free: those whose readers have proven to read first, since others
would fill the pool and keep it.

Senders that wait are let go when the turns are over, never in the middle: they may open streams, and DATA of
such a stream would go out in front of its CONNECT.
"""

from collections import OrderedDict, deque
from collections.abc import Callable

from argotun.wire.account import Account
from argotun.wire.frames import CHUNK, DATA, ERROR, KIB, MIB, Profile
from argotun.wire.pieces import Piece
from argotun.wire.streams import CLOSED, UNCONNECTED, Stream

BATCH = 128 * 1024
"""What one `collect` aims at, bytes: four chunks, so that a control frame never waits for more."""

MAX_BATCH = 512 * 1024
"""The most that `collect` hands out however much is asked for, bytes: well under the peer's `max_message`."""

LOW_WATER = 64 * 1024
"""A sender that waits goes on when no more than this is queued for its stream, bytes."""

MIN_TURN = 4 * KIB
"""Smallest amount to take from the peer's pool, bytes, unless it is all there is: crumbs cost too much."""

PROVEN = 1 * MIB
"""Returned credit, bytes, after which a stream counts as being read: more than kernels on the way hold."""

RETRIES = 8
"""Streams that wait for the pool and are tried again when some of it is free; the others come later."""

SAID = -1
"""`Stream.closing` once the frame that ends this direction has gone out; above 0 it is still due."""

Part = Piece
"""A piece of a message, not copied until the message is joined."""


class Outbox:
    """Frames and streams that wait to be collected.

    `early` says that DATA may leave before the peer answered CONNECT. `ended(stream, kind)` is
    called when a stream's END, CLOSE or ERROR is collected. `wake` is called when there is
    something to collect; it must not collect by itself.
    """

    __slots__ = (
        "_closed",
        "_coming",
        "_control",
        "_early",
        "_ended",
        "_fresh",
        "_half",
        "_kept",
        "_plenty",
        "_profile",
        "_ready",
        "_relieved",
        "_round",
        "_starved",
        "_theirs",
        "control_size",
        "exhausted",
        "wake",
    )

    def __init__(self, profile: Profile, *, early: bool, ended: Callable[[Stream, int], None]) -> None:
        self.wake: Callable[[], None] = _nothing
        self.control_size = 0
        self.exhausted = 0
        self._profile = profile
        self._early = early
        self._ended = ended
        self._closed = False
        self._control: list[bytes] = []
        self._fresh: deque[Stream] = deque()
        self._ready: deque[Stream] = deque()
        # How often all that stood in line have had a turn, and how many have yet to come.
        self._round = self._coming = 0
        self._relieved: list[Stream] = []
        self._theirs = Account()
        self._half = self._kept = self._plenty = 0
        # Those with a proven reader, and the others.
        self._starved: tuple[OrderedDict[int, Stream], OrderedDict[int, Stream]] = (
            OrderedDict(),
            OrderedDict(),
        )

    @property
    def waiting(self) -> bool:
        """Whether `collect` has something to hand out."""
        return bool(self._control or self._fresh or self._ready)

    def say(self, kind: int, stream_id: int, payload: bytes = b"") -> None:
        """Queue a control frame."""
        if self._closed:
            return
        frame = self._profile.pack(kind, stream_id, payload)
        self._control.append(frame)
        self.control_size += len(frame)
        self.wake()

    def line_up(self, stream: Stream, fresh: bool = False) -> None:
        """Put a stream in line when it has something that may be sent now; if that is `fresh`, in front."""
        if stream.ready or not (stream.queued or stream.closing > 0):
            return
        if stream.queued and stream.send_credit <= 0:
            return
        if stream.state in UNCONNECTED and not self._early:
            return
        stream.ready = True
        if fresh and (stream.round != self._round or stream.ahead < CHUNK):
            self._fresh.append(stream)
        else:
            self._ready.append(stream)
        self.wake()

    def share_out(self, pool: int, share: int) -> None:
        """The peer bounds what all streams together may have under way."""
        self._theirs = Account(pool, share)
        self._half = pool // 2
        self._kept = pool // 4
        self._plenty = pool - self._kept

    def credited(self, stream: Stream, credit: int, growth: int) -> None:
        """The peer gave back credit and widened the stream's window."""
        under_way = stream.granted - stream.send_credit
        stream.send_credit += credit + growth
        stream.returned += credit
        # A peer that knows of no pool does not tell the two apart.
        stream.granted = max(stream.granted + growth, stream.send_credit)
        self._feed(stream)
        if self._theirs.give_back(under_way, credit):
            self._retry()
        self.line_up(stream)

    def forget(self, stream: Stream) -> None:
        """The stream is over: what it had under way is the others' now."""
        self._feed(stream)
        under_way = stream.granted - stream.send_credit
        if self._theirs.give_back(under_way, under_way):
            self._retry()

    def close(self) -> None:
        """The tunnel is gone: nothing is said any more."""
        self._closed = True
        for starved in self._starved:
            starved.clear()
        self._fresh.clear()
        self._ready.clear()
        self._control.clear()
        self.control_size = 0

    def collect(self, limit: int = BATCH) -> list[list[Part]]:
        """The next messages, each as the parts to be joined; about `limit` bytes in all."""
        control, size = self._control, self.control_size
        fresh, ready = self._fresh, self._ready
        if not control and not fresh and not ready:
            return []
        messages: list[list[Part]] = []
        if control:
            self._control = []
            self.control_size = 0
            messages = _bundle(control, BATCH if self._profile.batch else 0)
        limit = min(limit, MAX_BATCH)
        while fresh and size < limit:
            stream = fresh.popleft()
            said = self._turn(stream, messages)
            size += said
            stream.ahead = stream.ahead + said if stream.round == self._round else said
            stream.round = self._round
        while ready and size < limit:
            size += self._turn(ready.popleft(), messages)
            self._coming -= 1
            if self._coming <= 0:
                self._round += 1
                self._coming = len(ready)
        if self._relieved:
            self._relieve()
        return messages

    def _turn(self, stream: Stream, messages: list[list[Part]]) -> int:
        """Give one stream its turn: at most a chunk of DATA, and its end where that is due; bytes of DATA."""
        stream.ready = False
        if stream.state == CLOSED:
            return 0
        said = 0
        if stream.queued:
            said = self._say_data(stream, messages)
            if not said:
                return 0
        if stream.closing > 0 and not stream.queued:
            self._say_end(stream, messages)
        if stream.waiter is not None and stream.queued <= (0 if stream.backlog.full else LOW_WATER):
            self._relieved.append(stream)
        return said

    def _say_data(self, stream: Stream, messages: list[list[Part]]) -> int:
        """A chunk at most, and the next turn where there is more; 0 while the peer's pool is empty."""
        profile = self._profile
        taken = min(stream.queued, stream.send_credit, CHUNK)
        theirs = self._theirs
        under_way = stream.granted - stream.send_credit
        beyond = under_way + taken - theirs.share
        if beyond > 0:
            if beyond + taken <= self._plenty - theirs.used:
                # `_from_pool` would give all of it; most that goes beyond a share comes here.
                theirs.used += beyond if beyond < taken else taken
            elif not (taken := self._from_pool(under_way, taken, stream.returned >= PROVEN)):
                starved = self._starved[stream.returned < PROVEN]
                self.exhausted += stream.id not in starved
                starved[stream.id] = stream
                return 0
        parts = self._message(messages)
        parts.append(profile.head(DATA, stream.id, taken))
        _cut(stream, taken, parts)
        if profile.credit:
            stream.send_credit -= taken
        if stream.on_sent is not None:
            stream.on_sent(taken)
        if stream.queued:
            if stream.send_credit > 0:
                stream.ready = True
                self._ready.append(stream)
            else:
                self.exhausted += 1
        return taken

    def _from_pool(self, under_way: int, wanted: int, proven: bool) -> int:
        """How much of `wanted` a stream may send that goes beyond its share; taken out of the pool.

        A stream may have as much of the pool as is left in it (Choudhury and Hahne, "Dynamic queue
        length thresholds", 1998): a few get all they can use, and many leave something to the next.
        A part is left to streams whose readers read: others would fill it, and keep it.
        """
        theirs = self._theirs
        sure = theirs.share - under_way
        free = theirs.pool - theirs.used - (0 if proven else self._kept)
        if sure < 0:
            # What it has beyond its share counts against it.
            free += sure
            sure = 0
        spare = free // 2
        rest = wanted - sure
        if spare < (rest if rest < MIN_TURN else MIN_TURN):
            return sure
        granted = spare if spare < rest else rest
        theirs.used += granted
        return sure + granted

    def _feed(self, stream: Stream) -> None:
        """It waits for the pool no more."""
        for starved in self._starved:
            if starved:
                starved.pop(stream.id, None)

    def _retry(self) -> None:
        """Some of the pool is free again: those that wait for it longest come into line."""
        for starved, kept in zip(self._starved, (0, self._kept), strict=True):
            free = self._theirs.free
            if starved and free > kept:
                for _ in range(len(starved) if free > self._half else min(RETRIES, len(starved))):
                    self.line_up(starved.popitem(last=False)[1])

    def _say_end(self, stream: Stream, messages: list[list[Part]]) -> None:
        kind = stream.closing
        words = stream.failure if kind == ERROR else b""
        self._message(messages).append(self._profile.pack(kind, stream.id, words))
        stream.closing = SAID
        self._ended(stream, kind)

    def _message(self, messages: list[list[Part]]) -> list[Part]:
        """Where the next frame goes: the batch, or a message of its own."""
        if not messages or not self._profile.batch:
            messages.append([])
        return messages[-1]

    def _relieve(self) -> None:
        """Let waiting senders go when the turns are over, for it may open streams.

        Data of a stream that was opened in the middle would go out in front of its CONNECT.
        """
        relieved, self._relieved = self._relieved, []
        for stream in relieved:
            stream.relieve()


def _bundle(control: list[bytes], limit: int) -> list[list[Part]]:
    """Messages of `limit` bytes or a little over, of one frame each where it is 0."""
    messages: list[list[Part]] = []
    room = 0
    for frame in control:
        if room <= 0:
            room = limit
            messages.append([])
        messages[-1].append(frame)
        room -= len(frame)
    return messages


def _cut(stream: Stream, size: int, parts: list[Part]) -> None:
    """Move `size` bytes from a stream's queue to `parts`, slicing only the last piece."""
    queue = stream.queue
    assert queue is not None
    stream.backlog.size -= size
    if size == stream.queued:
        stream.queued = 0
        stream.queue = None
        parts += queue
        return
    stream.queued -= size
    used = 0
    for piece in queue:
        if len(piece) > size:
            break
        parts.append(piece)
        size -= len(piece)
        used += 1
    if size:
        view = memoryview(queue[used])
        parts.append(view[:size])
        queue[used] = view[size:]
    del queue[:used]


def _nothing() -> None:
    """Nobody waits for output yet."""
