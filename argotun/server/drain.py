"""How the port for clients ends: five steps, none of which cuts what a later moment would let end well.

Theory of operation
-------------------

A client finds out that a server is going from whoever sends it there, a load balancer or kube-proxy, and they
find out later than the server does. So the order is that of what clients can still do about it:

    notice       they are served as ever, since they go on coming; longer while an agent has no other server,
                 whose cluster can be reached here only
    finish       requests in progress end, new ones too; connections between two requests are let go
    hear out     the port is closed; who had come by then is heard, because a client does not ask again by
                 itself on a connection that never carried anything
    watches      end between two events, which a client takes for an ordinary end
    last words   what is left is aborted, behind the bytes that were said to be on their way

The steps before the port is closed share the seconds of `--drain`. The others have a second each at most,
since they wait for clients only.
"""

from collections.abc import Callable
from time import monotonic

import gevent

from argotun.config.models import LAST_PART
from argotun.server.connection import Connection
from argotun.server.registry import Registry
from argotun.transport.places import Places

NOTICE = 5.0
"""Seconds at most, and a quarter of the drain, that new clients are served as before in any case: load
balancers and kube-proxy go on sending them for so long until they have all heard that this server is not
ready. A quarter of that once the last agent has found another server."""

ARRIVAL = 1.0
"""Seconds at most, once the port is closed, for those who had come: to shake hands, ask and be answered."""

WATCHES = 1.0
"""Seconds at most that watches in the middle of an event have to come to its end."""

LAST_WORDS = 1.0
"""Seconds that all clients together have to take the last bytes."""


class Drain:
    """The end of a port; `connections` are those that it has, and change while this goes on."""

    def __init__(self, connections: set[Connection], registry: Registry, places: Places) -> None:
        self._connections = connections
        self._registry = registry
        self._places = places

    def run(self, seconds: float, stop_accepting: Callable[[], None]) -> None:
        """All five steps, in at most so many seconds and three more."""
        deadline = monotonic() + seconds
        self._notice(seconds, deadline)
        self._finish(seconds, deadline)
        stop_accepting()
        self._hear_out(deadline)
        self._end_watches(min(WATCHES, seconds))
        self._last_words()

    def _notice(self, seconds: float, deadline: float) -> None:
        notice = min(NOTICE, seconds / 4)
        noticed = monotonic() + notice
        kept = deadline - seconds * LAST_PART
        while (sessions := self._registry.all()) and (now := monotonic()) < kept:
            if any(session.alone for session in sessions):
                noticed = max(noticed, now + notice / 4)
            elif now >= noticed:
                break
            gevent.sleep(0.05)

    def _finish(self, seconds: float, deadline: float) -> None:
        while self._busy() and monotonic() < deadline:
            gevent.sleep(min(0.1, seconds))

    def _hear_out(self, deadline: float) -> None:
        arrived = min(monotonic() + ARRIVAL, deadline)
        while (self._arriving() or self._busy()) and monotonic() < arrived:
            gevent.sleep(0.02)

    def _end_watches(self, seconds: float) -> None:
        ended = monotonic() + seconds
        while monotonic() < ended and [c for c in self._connections if c.watching and not c.end_watch()]:
            gevent.sleep(0.02)

    def _last_words(self) -> None:
        said = monotonic() + LAST_WORDS
        for connection in list(self._connections):
            connection.close(max(0.0, said - monotonic()))

    def _busy(self) -> bool:
        """Whether requests other than watches are in progress; connections behind their last are let go."""
        for connection in list(self._connections):
            if connection.idle and not connection.unspoken:
                connection.finish()
        return any(not (c.idle or c.answered or c.watching) for c in self._connections)

    def _arriving(self) -> bool:
        """Whether somebody shakes hands, or has not said yet what for."""
        return self._places.taken > len(self._connections) or any(c.unspoken for c in self._connections)
