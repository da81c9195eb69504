"""Two channels become one: a stream of a link between replicas, and a stream of an agent's tunnel.

Theory of operation
-------------------

A request that came to another replica arrives here as a stream of a link. A stream of the agent's tunnel is
opened for it, and whatever either side says is said to the other one, in order and as it is; nothing is read.

    other replica ══ link ══▶ near ──▶ Passage ──▶ far ══ tunnel ══▶ agent
                  ◀══════════ near ◀── Passage ◀── far ◀════════════

| from the other replica | to the agent        | from the agent | to the other replica                    |
|------------------------|---------------------|----------------|-----------------------------------------|
| CONNECT                | CONNECT             | CONNECTED      | CONNECTED                               |
| DATA                   | DATA, early as well | DATA           | DATA                                    |
| END                    | END, behind DATA    | END, CLOSE     | END, CLOSE, behind DATA                 |
| CLOSE, ERROR           | CLOSE, at once      | ERROR          | ERROR and its words, behind DATA        |
| the link is lost       | CLOSE, at once      | tunnel lost    | ERROR `the agent's tunnel was lost: …`  |

Credit goes from end to end. Each half has a window of its own, and what was read from one half counts as
consumed once it is queued in the other one and little is queued there (HIGH_WATER, or nothing where the
tunnel as a whole has much). What is beyond that is owed, and paid as bytes leave. So a client that reads
nothing stops its agent after two windows and HIGH_WATER, and nobody else: what all streams together may hold
is bounded by the two tunnels' own pools.
"""

from collections.abc import Callable

from argotun.tunnel.channel import HIGH_WATER, Channel
from argotun.tunnel.tunnel import Tunnel
from argotun.wire.reasons import FAILED, LOST, NONE, REPLICAS, WORDS

Count = Callable[[int], None]
"""Takes note of so many bytes that were passed on."""


def splice(
    near: Channel, tunnel: Tunnel, target: str, up: Count, down: Count, refused: Callable[[], None]
) -> None:
    """Open a stream to `target` on the agent's `tunnel`, and make one of it and of `near`, the link's.

    `up` counts bytes towards the agent, `down` those from it; `refused` is called where the agent ends the
    stream without having reached its API. Raises ConnectionLost where the tunnel has ended already; nothing
    was said then.
    """
    back = _FromAgent(near, down)
    back.refused = refused
    back.source = far = Channel(tunnel, tunnel.mux.open(back, target))
    there = FromReplica(far, up)
    there.source = near
    there.tunnel = tunnel
    near.on_sent(back.left)
    far.on_sent(there.left)
    near.hand_over(there)


class _Half:
    """The sink of one channel, `source`, whose bytes go on to another, `target`."""

    __slots__ = ("_count", "_owed", "source", "target")

    source: Channel

    def __init__(self, target: Channel, count: Count) -> None:
        self.target = target
        self._count = count
        self._owed = 0

    def on_data(self, payload: bytes) -> None:
        """Send on; what it took of the window goes back now, or is owed."""
        target, size = self.target, len(payload)
        self._count(size)
        target.send(payload)
        if self._owed or target.queued > (0 if target.backlog.full else HIGH_WATER):
            self._owed += size
        else:
            self.source.consumed(size)

    def left(self, size: int) -> None:
        """Queued bytes have left: as much of what is owed goes back, and all of it with the last one."""
        paid = min(size, self._owed) if self.target.queued else self._owed
        if paid:
            self._owed -= paid
            self.source.consumed(paid)


class FromReplica(_Half):
    """What the other replica says, to an agent on `tunnel`."""

    __slots__ = ("tunnel",)

    tunnel: Tunnel

    def on_connected(self) -> None:
        """Only an agent says so."""

    def on_end(self) -> None:
        """Half-close; version 1 ends both directions at once."""
        if not self.target.finish():
            self.source.close()

    def on_over(self, reason: int, text: str) -> None:
        """Its client has left, or its patience is over."""
        self.target.abort()

    def on_lost(self, text: str) -> None:
        """The link is gone, and the client with it."""
        self.target.abort()


class _FromAgent(_Half):
    """What the agent says, to the other replica."""

    __slots__ = ("refused",)

    refused: Callable[[], None]

    def on_connected(self) -> None:
        """The API was reached."""
        self.target.connect()

    def on_end(self) -> None:
        """The API has said all."""
        self.target.finish()

    def on_over(self, reason: int, text: str) -> None:
        """The agent ended the stream; what it said before is heard before."""
        if not self.target.connected:
            self.refused()
        if reason == NONE:
            self.target.close()
        else:
            self.target.fail(text, FAILED if reason in REPLICAS else reason)

    def on_lost(self, text: str) -> None:
        """The agent's tunnel is gone."""
        self.target.fail(f"{WORDS[LOST]}: {text}", LOST)
