"""A stream as a role holds it: what it may do with it, whichever version of the wire carries it.

Roles know no frames and no versions. Version 1 carries one request for each stream and has no half-close;
that is two answers here (`reusable`, and what `finish` returns) and nothing anywhere else.

Whoever feeds a stream waits in `wait` until it can take more. The multiplexer lets the waiter go on when that
is so and when the stream is over, however it ended, so that no other place has to remember it.
"""

from collections.abc import Callable
from functools import partial
from time import monotonic

from gevent.event import Event

from argotun.tunnel.tunnel import Tunnel
from argotun.wire.reasons import FAILED, NONE
from argotun.wire.streams import CLOSED, UNCONNECTED, Backlog, Sink, Stream

HIGH_WATER = 128 * 1024
"""A sender waits once this much is queued for its stream, bytes: one batch."""


class Channel:
    """One stream of a tunnel, with its number as `id`.

    `send(data)` queues bytes, and drops them once the stream is over. `single` says that it carries one
    request only.
    """

    __slots__ = ("_mux", "_stream", "id", "send", "single")

    def __init__(self, tunnel: Tunnel, stream: Stream, *, single: bool = False) -> None:
        """`single` also where it is another tunnel behind this one that knows no more than version 1."""
        mux = tunnel.mux
        self._mux = mux
        self._stream = stream
        self.id = stream.id
        self.single = single or tunnel.version == 1
        self.send: Callable[[bytes], None] = partial(mux.send, stream)

    @property
    def backlog(self) -> Backlog:
        """What all streams of the tunnel have queued."""
        return self._stream.backlog

    @property
    def queued(self) -> int:
        """Bytes that wait for credit or for their turn."""
        return self._stream.queued

    @property
    def waiting(self) -> bool:
        """Whether a greenlet waits in `wait`."""
        return self._stream.waiter is not None

    @property
    def connected(self) -> bool:
        """Whether the agent has said that it reached its API."""
        return self._stream.state not in UNCONNECTED

    @property
    def reusable(self) -> bool:
        """Whether another request may follow on it."""
        stream = self._stream
        return not (self.single or stream.closing or stream.state == CLOSED)

    def wait(self) -> None:
        """Return when little is queued, or the stream is over.

        Where all streams together have much queued, little is nothing: each has one piece at most.
        """
        stream = self._stream
        if stream.queued > (0 if stream.backlog.full else HIGH_WATER):
            room = Event()
            stream.waiter = room.set
            room.wait()

    def consumed(self, size: int) -> None:
        """Give back the credit of `size` bytes that were read."""
        self._mux.consumed(self._stream, size, monotonic())

    def connect(self) -> None:
        """Tell the server that the API was reached."""
        self._mux.connected(self._stream)

    def finish(self) -> bool:
        """Half-close behind what is queued; False where that ends the other direction too."""
        self._mux.end(self._stream)
        return not self.single

    def close(self) -> None:
        """End both directions behind what is queued."""
        self._mux.close(self._stream)

    def fail(self, text: str, reason: int = FAILED) -> None:
        """End both directions by an ERROR behind what is queued: what was said is heard first."""
        self._mux.fail(self._stream, text, reason)

    def abort(self, reason: int = NONE, text: str = "") -> None:
        """End both directions at once; what is queued is dropped."""
        self._mux.reset(self._stream, reason, text)

    def hand_over(self, sink: Sink) -> None:
        """What arrives from now on is for `sink`."""
        self._stream.sink = sink

    def on_sent(self, told: Callable[[int], None] | None) -> None:
        """Call `told(bytes)` as queued bytes leave; it must not wait. Two channels are spliced with it."""
        self._stream.on_sent = told
