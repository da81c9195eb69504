"""Connections to the API that no stream has any more: kept for a while, for the next stream's first request.

Theory of operation
-------------------

A client that makes a connection for each request would have the agent shake hands with the API for each,
which costs it ten times what the request does. So the connection of a stream that is over is kept, but only
where no doubt is left about whose answer comes next on it:

    left by    streams whose requests were all GETs without a body, so that no two programs can have read
               differently where one of them ended, and whose last answer was complete by its own marks, with
               nothing behind it: no part of a TLS record either, which the socket does not show any more
    taken by   a request for which its stream has no connection, if it can be sent again: the API may close
               this one in the same moment, and then the request goes out once more, on a new one; given back
               where the request is refused here, since the next one may be another
    closed     when the API has said anything on it or ended it, when SECONDS have passed, when there are too
               many (then the one that has been here longest goes), and all of them when any connection to
               the API was lost: a machine that is gone has them all, and says nothing on any

Who asks is no property of such a connection: kube-apiserver looks at the credential of each request. What a
connection was made with is: one that was made before the CA or a certificate changed is not used.
"""

from collections import deque
from time import monotonic
from typing import Any

import gevent

from argotun.transport.reader import untouched

SECONDS = 30.0
"""How long one is kept. kube-apiserver ends idle ones after 90 s, load balancers often after 60 s."""


class IdleConnections:
    """At most `most` of them, 0 for none. A greenlet closes those whose time is over, while there are any."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle: deque[tuple[float, Any]] = deque()
        self._sweeper: gevent.Greenlet | None = None

    def __len__(self) -> int:
        return len(self._idle)

    def keep(self, sock: Any) -> None:
        """Have a connection on which nothing is under way; it is closed where it cannot be kept."""
        if not self._most:
            sock.close()
            return
        if len(self._idle) >= self._most:
            self._idle.popleft()[1].close()
        self._idle.append((monotonic() + SECONDS, sock))
        if self._sweeper is None:
            self._sweeper = gevent.spawn(self._sweep)

    def take(self) -> Any:
        """The connection that came last, None where there is none that can be used."""
        while self._idle:
            _, sock = self._idle.pop()
            if untouched(sock):
                return sock
            sock.close()
        return None

    def clear(self) -> None:
        """Close all of them."""
        while self._idle:
            self._idle.pop()[1].close()

    def close(self) -> None:
        """Keep none any more."""
        self._most = 0
        if self._sweeper is not None:
            self._sweeper.kill(block=False)
        self.clear()

    def _sweep(self) -> None:
        while self._idle:
            gevent.sleep(max(0.0, self._idle[0][0] - monotonic()))
            while self._idle and self._idle[0][0] <= monotonic():
                self._idle.popleft()[1].close()
        self._sweeper = None
