"""A stream's life as one table, and the plain state that the multiplexer keeps of it.

A stream is opened by the server's CONNECT and carries bytes both ways. Each direction ends by
itself (END), both together by CLOSE or ERROR from either side:

    OPENING ──CONNECTED──▶ OPEN ──END sent──▶ LOCAL_ENDED ──END received──▶ CLOSED
                             └───END received──▶ REMOTE_ENDED ──END sent──▶ CLOSED

The side that opens may send DATA and END while it is still OPENING (version 2), so the same life
exists with "not yet connected" in front. What the table does not list is a violation.

Theory of operation
-------------------

The table speaks of frames: what has arrived from the peer, and what has gone out to it. A role speaks of
wishes: it may ask for an END while megabytes are queued, and the END goes out behind them. So there is a
second, smaller machine on this side only, `Stream.closing`:

    0 ──a role asks──▶ END, CLOSE or ERROR is due ──the queue is empty──▶ SAID

With anything but 0 no more bytes are taken, so whether DATA may be sent is a question to `closing` and not to
the table; the table moves when the frame leaves (SEND_END, SEND_OVER). CLOSE and ERROR outrank an END that is
due; nothing outranks them. A reset asks nobody: it drops the queue and moves the table at once.

A stream that is CLOSED is forgotten by its multiplexer. Frames that were on their way to it are dropped,
since its peer could not know; frames for a stream that never was are a violation.
"""

from collections.abc import Callable
from typing import Protocol

from argotun.wire.pieces import Piece

OPENING, OPEN, LOCAL_ENDED, REMOTE_ENDED, OPENING_LOCAL, OPENING_REMOTE, CLOSED = range(7)

STATES = ("OPENING", "OPEN", "LOCAL_ENDED", "REMOTE_ENDED", "OPENING_LOCAL", "OPENING_REMOTE", "CLOSED")

# What can happen to a stream: a frame arrives from the peer, or this side sends one.
(
    GOT_CONNECTED,
    GOT_DATA,
    GOT_END,
    GOT_WINDOW,
    GOT_OVER,
    SEND_CONNECTED,
    SEND_END,
    SEND_OVER,
) = range(8)

EVENTS = (
    "GOT_CONNECTED",
    "GOT_DATA",
    "GOT_END",
    "GOT_WINDOW",
    "GOT_OVER",
    "SEND_CONNECTED",
    "SEND_END",
    "SEND_OVER",
)

UNCONNECTED = frozenset({OPENING, OPENING_LOCAL, OPENING_REMOTE})
"""The agent has not answered CONNECT yet."""

REMOTE_DONE = frozenset({REMOTE_ENDED, OPENING_REMOTE})
"""The peer has said END: it sends no more."""

ILLEGAL = -1

_OPENER = {
    OPENING: {
        GOT_CONNECTED: OPEN,
        GOT_WINDOW: OPENING,
        GOT_OVER: CLOSED,
        SEND_END: OPENING_LOCAL,
        SEND_OVER: CLOSED,
    },
    OPENING_LOCAL: {
        GOT_CONNECTED: LOCAL_ENDED,
        GOT_WINDOW: OPENING_LOCAL,
        GOT_OVER: CLOSED,
        SEND_OVER: CLOSED,
    },
}

_ACCEPTOR = {
    OPENING: {
        GOT_DATA: OPENING,
        GOT_END: OPENING_REMOTE,
        GOT_WINDOW: OPENING,
        GOT_OVER: CLOSED,
        SEND_CONNECTED: OPEN,
        SEND_OVER: CLOSED,
    },
    OPENING_REMOTE: {
        GOT_WINDOW: OPENING_REMOTE,
        GOT_OVER: CLOSED,
        SEND_CONNECTED: REMOTE_ENDED,
        SEND_OVER: CLOSED,
    },
}

_CONNECTED = {
    OPEN: {
        GOT_DATA: OPEN,
        GOT_END: REMOTE_ENDED,
        GOT_WINDOW: OPEN,
        GOT_OVER: CLOSED,
        SEND_END: LOCAL_ENDED,
        SEND_OVER: CLOSED,
    },
    LOCAL_ENDED: {
        GOT_DATA: LOCAL_ENDED,
        GOT_END: CLOSED,
        # Credit for bytes that were sent before the END may still be on its way.
        GOT_WINDOW: LOCAL_ENDED,
        GOT_OVER: CLOSED,
        SEND_OVER: CLOSED,
    },
    REMOTE_ENDED: {
        GOT_WINDOW: REMOTE_ENDED,
        GOT_OVER: CLOSED,
        SEND_END: CLOSED,
        SEND_OVER: CLOSED,
    },
}

Table = tuple[tuple[int, ...], ...]


def _table(*parts: dict[int, dict[int, int]]) -> Table:
    merged = {state: moves for part in parts for state, moves in part.items()}
    return tuple(
        tuple(merged.get(state, {}).get(event, ILLEGAL) for event in range(len(EVENTS)))
        for state in range(len(STATES))
    )


OPENER = _table(_OPENER, _CONNECTED)
"""`OPENER[state][event]`: the next state on the side that sent CONNECT, or ILLEGAL."""

ACCEPTOR = _table(_ACCEPTOR, _CONNECTED)
"""`ACCEPTOR[state][event]`: the next state on the side that received CONNECT, or ILLEGAL."""


class Sink(Protocol):
    """Hears what happens to a stream.

    The tunnel's reader calls all but `on_lost`, which whoever ends the tunnel calls. None may wait, since the
    other streams would wait with it. Of an end that this side asked for a sink hears nothing.
    """

    def on_connected(self) -> None:
        """The agent reached its API: what was sent may be delivered from now on."""

    def on_data(self, payload: bytes) -> None:
        """Bytes arrived; their credit goes back by `Multiplexer.consumed`."""

    def on_end(self) -> None:
        """The peer sends no more; this direction lives on."""

    def on_over(self, reason: int, text: str) -> None:
        """The peer ended the stream: by CLOSE (the reason is NONE), or by ERROR with its reason and words."""

    def on_lost(self, text: str) -> None:
        """The tunnel ended under the stream."""


class Backlog:
    """What all streams of one tunnel have queued, `size`, and how much is enough, `limit`; bytes."""

    __slots__ = ("limit", "size")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0

    @property
    def full(self) -> bool:
        """Whether no stream should queue more than one piece."""
        return self.size > self.limit


class Stream:
    """The state of one stream; changed by the multiplexer, but for `sink`, `waiter` and `on_sent`.

    `send_credit` and `receive_credit` are bytes that may still travel each way; `granted` is what
    the peer's window is in all and `window` what this side's is. `consumed` was read since the last
    WINDOW; `passed_on` is what was given back since `updated`, less what had to wait for its reader
    then. `returned` is what the peer gave back so far.
    `queued` bytes in `queue` wait for credit or for a turn and count in the tunnel's `backlog` too.
    `ahead` bytes left before those that stood in line, in the `round` that they were in.
    `closing` is the type of the frame that ends this direction behind the queue (0 = none); `failure`
    is the payload of its ERROR.

    `waiter` is called once, and forgotten, when little is queued or the stream is over, whichever side ended
    it; `on_sent(bytes)` whenever DATA leaves the queue. Both are called where bytes are collected, which may
    be the event loop itself: neither may wait, and `on_sent` may not open streams.
    """

    __slots__ = (
        "ahead",
        "backlog",
        "closing",
        "consumed",
        "failure",
        "granted",
        "id",
        "on_sent",
        "passed_on",
        "queue",
        "queued",
        "ready",
        "receive_credit",
        "returned",
        "round",
        "send_credit",
        "sink",
        "state",
        "updated",
        "waiter",
        "window",
    )

    def __init__(self, stream_id: int, send_credit: int, window: int, sink: Sink, backlog: Backlog) -> None:
        self.id = stream_id
        self.state = OPENING
        self.sink = sink
        self.backlog = backlog
        self.granted = send_credit
        self.send_credit = send_credit
        self.receive_credit = window
        self.window = window
        self.consumed = 0
        self.returned = 0
        self.passed_on = 0
        self.updated = 0.0
        self.queue: list[Piece] | None = None
        self.queued = 0
        self.ready = False
        self.ahead = 0
        self.round = 0
        self.waiter: Callable[[], None] | None = None
        self.on_sent: Callable[[int], None] | None = None
        self.closing = 0
        self.failure = b""

    def relieve(self) -> None:
        """Let a sender that waits go on."""
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter()

    def drop_queue(self) -> None:
        """What is queued is not sent any more."""
        self.backlog.size -= self.queued
        self.queue = None
        self.queued = 0

    def __repr__(self) -> str:
        return f"<stream {self.id} {STATES[self.state]} queued={self.queued}>"


class Discard:
    """The sink of a stream that nobody listens to any more."""

    def on_connected(self) -> None:
        """Nobody cares."""

    def on_data(self, payload: bytes) -> None:
        """Nobody cares."""

    def on_end(self) -> None:
        """Nobody cares."""

    def on_over(self, reason: int, text: str) -> None:
        """Nobody cares."""

    def on_lost(self, text: str) -> None:
        """Nobody cares."""


DISCARD = Discard()
"""One is enough: it keeps nothing."""
