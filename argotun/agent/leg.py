"""The API's leg of a stream: the connection on which its requests go on, one after the other.

Theory of operation
-------------------

A stream lives longer than a connection to the API, which either side may end between two requests, and its
first bytes come before there is one. So a leg is in one of four states:

| state    | `upstream` | the greenlet         | is left                                                   |
|----------|------------|----------------------|-----------------------------------------------------------|
| none     | None       | none                 | by `hold`, to dialling: bytes for the API have come       |
| dialling | None       | takes over, or dials | to up, with what was held given on                        |
|          |            |                      | to none: `Owner.unreachable` is told                      |
| up       | there      | reads from it        | by `release`, to none                                     |
|          |            |                      | at its end, to dialling where `Owner.lost` wants it again |
| closed   | None       | none                 | no more; by `close`, from any of the others               |

It begins in *dialling*: a CONNECT is followed by a request.

Bytes for the API are written by whoever has them, which is the tunnel's reader, to `upstream.outlet`; while
there is none they are held. Bytes of the API are read by the leg's greenlet, and handed to `Owner.take` where
they are. A greenlet that comes back from a wait looks whether `upstream` is still the one that it reads from:
where it is not, the leg was released meanwhile, and may have another greenlet by now. So releasing asks
nobody, and never waits. Of an upgraded connection the greenlet may end before `upstream` does: the API has
ended its half, and the client's goes on.

A connection that another stream has left (idle.py) is taken over where what is held begins with a request
that may be sent twice; if that request is refused here, it is given back. For the same reason `replay` is
kept: a request that a kept connection may not have delivered goes out once more on a new one, from here,
without the stream.
"""

import logging
from typing import Any, Protocol

import gevent

from argotun.agent.api import KubernetesApi
from argotun.agent.upstream import Upstream
from argotun.errors import TransportError
from argotun.tunnel.channel import Channel
from argotun.wire.outcomes import Cause
from argotun.wire.reasons import FAILED

log = logging.getLogger("argotun.agent")

FLUSH = 60.0
"""Seconds that the last bytes of an upgraded connection have to reach the API."""


class Owner(Protocol):
    """What a leg asks of its stream. None of it waits."""

    def repeatable(self, held: bytes) -> bool:
        """Whether what was held begins with a request that may be sent twice."""

    def feed(self, data: bytes) -> None:
        """Take in bytes that were held."""

    def take(self, data: bytes) -> None:
        """Pass on what the API says; HeadError where that is not to be trusted."""

    def unreachable(self, reason: str) -> None:
        """There is no connection, and none is being made."""

    def lost(self, cause: Cause, words: str) -> bool:
        """The connection has ended; whether `replay` is to be sent on a new one."""

    def unwritable(self, reason: str) -> None:
        """The API takes no more. Its reader hears why, unless it only stopped to read, or had ended."""

    def written(self) -> object:
        """What the API's socket has taken, as a mark for the lookout."""

    def close(self) -> None:
        """Nothing of the stream is used any more."""


class Leg:
    """The connections of the stream `owner`; `upstream` is the one that there is, None while there is none.

    `replay` is the request that may have to be sent once more, b"" for none.
    """

    __slots__ = ("_api", "_channel", "_greenlet", "_held", "_owner", "closed", "replay", "upstream")

    def __init__(self, api: KubernetesApi, channel: Channel, owner: Owner) -> None:
        self._api = api
        self._channel = channel
        self._owner = owner
        self._held: list[bytes] = []
        self.upstream: Upstream | None = None
        self.replay = b""
        self.closed = False
        # A bare greenlet: it is two thirds of an idle stream's own memory.
        self._greenlet: Any = gevent.spawn_raw(self._run)

    @property
    def holds(self) -> bool:
        """Whether bytes wait for a connection."""
        return bool(self._held)

    # ── the stream says ────────────────────────────────────────────────────────────────────────

    def hold(self, data: bytes) -> None:
        """Keep bytes until there is a connection, which is being made from now on."""
        self._held.append(data)
        if self._greenlet is None:
            self._greenlet = gevent.spawn_raw(self._run)

    def feed_held(self) -> None:
        """Give back to the stream what was held."""
        held, self._held = self._held, []
        feed = self._owner.feed
        for data in held:
            feed(data)

    def release(self) -> None:
        """Give up the connection: the next request makes another."""
        self._hang_up()
        self.replay = b""
        self._greenlet = None

    def finish(self) -> bool:
        """Half-close behind what is queued, and hear no more; False where the stream is to be closed now.

        Else it is closed once that has left. It is not waited for where too many connections are already.
        """
        upstream, api = self.upstream, self._api
        if upstream is None:
            return False
        upstream.finish(deaf=True)
        if not upstream.outlet.pending or len(api.flushing) >= api.most_flushing:
            return False
        api.flushing.add(upstream)
        gevent.spawn(self._flush, upstream)
        return True

    def close(self) -> None:
        """Be of no more use; the connection is left to the next stream where that can have it."""
        self.closed = True
        running = self._greenlet
        if running is gevent.getcurrent():
            running = None
        left = self._leave_behind() if running is not None else None
        self.release()
        self._held = []
        if running is not None:
            gevent.kill(running)
        if left is not None:
            # Behind the kill: the greenlet that reads from it has let go of it by then.
            gevent.get_hub().loop.run_callback(self._api.idle.keep, left)
        # Cuts the cycle of the two.
        del self._owner

    # ── its greenlet ───────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        """Make a connection and read from it, and once more where the stream wants that."""
        try:
            again = not self.closed and self._connect() and self._read()
            while again:
                # A kept connection was found dead under a request that may be sent once more.
                again = self._connect_again()
        except Exception:
            log.exception("a fault in argotun ends this stream")
            self._channel.abort(FAILED, "internal error")
            self._end()

    def _connect(self) -> bool:
        """Connect and give on what was held; False when that was not possible, or needs no connection."""
        taken = self._take_over()
        if not (taken or self._dial()):
            return False
        self._channel.connect()
        self.feed_held()
        left = self._leave_behind() if taken else None
        if left is None:
            return True
        # What it was taken for was refused here, and what comes next may not be sent twice.
        self._greenlet = None
        self._api.idle.keep(left)
        return False

    def _connect_again(self) -> bool:
        """Connect and send the request once more; True when a later one needs that, too."""
        replay, self.replay = self.replay, b""
        if not self._dial() or self.upstream is None:
            return False
        self.upstream.owing = True
        self.upstream.plain = replay.startswith(b"GET ")
        self.upstream.outlet.relay(replay, 0)
        return self._read()

    def _take_over(self) -> bool:
        """Go on with a connection that another stream has left, where what was held may be asked again."""
        if (
            self._channel.single
            or not len(self._api.idle)
            or not self._owner.repeatable(b"".join(self._held))
        ):
            return False
        sock = self._api.take_idle()
        if sock is None:
            return False
        self._use(sock).served = True
        return True

    def _dial(self) -> bool:
        try:
            sock = self._api.dial()
        except TransportError as error:
            self._greenlet = None
            if not self.closed:
                self._owner.unreachable(str(error))
            return False
        if self.closed:
            # It closed as the dial was done, and the kill is still pending: nothing else closes this.
            sock.close()
            return False
        self._use(sock)
        return True

    def _use(self, sock: Any) -> Upstream:
        api, owner = self._api, self._owner
        upstream = self.upstream = Upstream(
            sock, self._channel, owner.unwritable, api.stall_timeout, api.lookout, owner.written
        )
        return upstream

    def _read(self) -> bool:
        """Read answers until the connection ends; True when the request is to be sent again."""
        upstream = self.upstream
        if upstream is None:
            return False
        ended = upstream.read(self._owner.take, self._channel.wait)
        if ended is None or self.upstream is not upstream:
            # Given up here; a new connection, if any, has a reader of its own.
            return False
        if ended[0] == Cause.API_LOST:
            self._api.idle.clear()
        again = self._owner.lost(*ended)
        if again:
            self._hang_up()
        return again

    def _hang_up(self) -> None:
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.close()

    def _leave_behind(self) -> Any:
        """The connection's socket for the next stream, None where it is not to be used again."""
        upstream = self.upstream
        if upstream is None or not upstream.quiet:
            return None
        self.upstream = None
        return upstream.release()

    def _flush(self, upstream: Upstream) -> None:
        upstream.flush(FLUSH)
        self._api.flushing.discard(upstream)
        self._end()

    def _end(self) -> None:
        """Have the stream close, unless it has."""
        if not self.closed:
            self._owner.close()
