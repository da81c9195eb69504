"""The internal port: which requests are let through to which cluster, and what else is answered."""

import itertools
import os
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent

from argotun.observe.access import AccessLog
from argotun.observe.metrics import ServerMetrics
from argotun.observe.probes import Probes
from argotun.server.client import ClientConnection
from argotun.server.clusters import ClustersFile
from argotun.server.exchange import IDLE, RETRY_AFTER, Exchange
from argotun.server.ratelimit import TokenBucket
from argotun.server.registry import Registry, Session
from argotun.wire.head import RequestHead
from argotun.wire.status import is_discovery

NOTICE = 5.0
"""Seconds at most, and a quarter of the drain, that new clients are served as before: load balancers and
kube-proxy go on sending them for so long until they have all heard that this server is not ready."""

LAST_WORDS = 1.0
"""Seconds that all clients together have to take the last bytes when a drain is over."""

DISCOVERY_GRACE = 1.0
"""Seconds at most that a discovery request waits for an agent. All eleven attempts of client-go have 32 s
together, with our Retry-After between them; then it says "deadline exceeded" in place of our words."""

SWEEP = 1.0
"""Seconds between two looks for connections that have waited too long."""

AT_ONCE = 250
"""Connections that are looked at in one turn of the event loop: about a millisecond's work."""

NEXT_TURN = 1e-6
"""Any timer, seconds: it comes behind the sockets, where sleep(0) would come before them."""


class InternalPort:
    """What all client connections share.

    Times are in seconds, `max_body` in bytes; 0 is no limit for it, `response_timeout` and
    `stall_timeout`.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        clusters: ClustersFile,
        metrics: ServerMetrics,
        access: AccessLog,
        probes: Probes,
        head_timeout: float = 10.0,
        body_timeout: float = 60.0,
        idle_timeout: float = 600.0,
        response_timeout: float = 0.0,
        stall_timeout: float = 0.0,
        reconnect_grace: float = 2.0,
        max_body: int = 0,
        rate_limit: float = 0.0,
    ) -> None:
        self.draining = False
        self.head_timeout = head_timeout
        self.body_timeout = body_timeout
        self.idle_timeout = idle_timeout
        self.response_timeout = response_timeout
        self.stall_timeout = stall_timeout
        self.max_body = max_body
        self.connections: set[ClientConnection] = set()
        self._reconnect_grace = reconnect_grace
        self._registry = registry
        self._clusters = clusters
        self._metrics = metrics
        self._access = access.request
        self._probes = probes
        self._bucket = TokenBucket(rate_limit, rate_limit) if rate_limit else None
        self._buckets: dict[str, tuple[float, TokenBucket]] = {}
        # Unique over restarts by the random part, and cheap: one counter, no system call.
        self._audit_prefix = os.urandom(8).hex().encode() + b"-"
        self._audit_count = itertools.count(1)
        self._sweeper: gevent.Greenlet | None = None

    def start(self) -> None:
        """Begin to look after the connections' time limits."""
        self._sweeper = gevent.spawn(self._sweep)

    def serve(self, sock: Any, peer: Any) -> None:
        """Serve one client connection in the calling greenlet until it ends."""
        connection = ClientConnection(self, sock)
        self.connections.add(connection)
        try:
            connection.serve()
        finally:
            self.connections.discard(connection)

    # ── asked by the connections ───────────────────────────────────────────────────────────────

    def admit(self, exchange: Exchange) -> Session | None:
        """The session for a request; None when the request was refused."""
        name = exchange.cluster
        cluster = self._clusters.clusters.get(name)
        if cluster is None:
            exchange.refuse(503, f"no cluster {name!r} is known here", RETRY_AFTER)
            return None
        stats = self._metrics.cluster(name)
        now = exchange.started
        if self._bucket is not None and not self._bucket.take(now):
            stats.rate_limited += 1
            exchange.refuse(429, "the server's rate limit is reached", RETRY_AFTER)
            return None
        if cluster.rate_limit is not None and not self._cluster_bucket(name, cluster.rate_limit).take(now):
            stats.rate_limited += 1
            exchange.refuse(429, f"the rate limit of cluster {name!r} is reached", RETRY_AFTER)
            return None
        held = exchange.session
        if held is not None and held.cluster == name and held.usable:
            return held
        session = self._registry.pick(name) or self._registry.wait(name, self._grace(exchange.target))
        if session is None:
            exchange.refuse(503, f"no agent of cluster {name!r} is connected", RETRY_AFTER)
        return session

    def _grace(self, target: bytes) -> float:
        """Seconds that a request waits for an agent to come back."""
        return min(self._reconnect_grace, DISCOVERY_GRACE) if is_discovery(target) else self._reconnect_grace

    def answer_locally(self, head: RequestHead, exchange: Exchange) -> None:
        """Probes, metrics and status; anything else is a mistake in the client's address."""
        answer = self._probes.answer(head.target.partition(b"?")[0])
        if answer is None or head.method not in (b"GET", b"HEAD"):
            exchange.refuse(400, "no such path here; clusters are at /tunnel/{cluster}/")
        else:
            exchange.respond(*answer)

    def new_audit_id(self) -> bytes:
        """An Audit-ID that no other request has."""
        return self._audit_prefix + b"%x" % next(self._audit_count)

    def record(self, exchange: Exchange, seconds: float) -> None:
        """Count a request that has ended, and write its access line."""
        name = exchange.cluster
        if not name:
            return
        if name in self._clusters.clusters:
            stats = self._metrics.cluster(name)
            stats.observe(exchange.method, exchange.status, seconds)
            stats.bytes_in += exchange.received - exchange.counted_in
            stats.bytes_out += exchange.sent - exchange.counted_out
            stats.stalls += exchange.stalls
            exchange.stalls = 0
        stream = exchange.stream
        self._access(
            name,
            exchange.method,
            exchange.target,
            exchange.status,
            exchange.received,
            exchange.sent,
            seconds,
            stream.id if stream is not None else 0,
            exchange.audit_id,
        )

    # ── asked by the server ────────────────────────────────────────────────────────────────────

    def drain(self, seconds: float, stop_accepting: Callable[[], None]) -> None:
        """Let the requests in progress finish, then end the watches in order and the rest at once.

        While agents are connected clients are served as before at first; see NOTICE.
        """
        self.draining = True
        deadline = monotonic() + seconds
        noticed = monotonic() + min(NOTICE, seconds / 4)
        while len(self._registry) and monotonic() < noticed:
            gevent.sleep(0.05)
        while monotonic() < deadline:
            busy = [c for c in self.connections if not (c.idle or c.answered or c.watching)]
            for connection in list(self.connections):
                if connection.idle:
                    connection.finish()
            if not busy:
                break
            gevent.sleep(min(0.1, seconds))
        stop_accepting()
        end_watches = monotonic() + min(1.0, seconds)
        while monotonic() < end_watches:
            left = [c for c in self.connections if c.watching and not c.exchange.end_watch()]
            if not left:
                break
            gevent.sleep(0.02)
        last_words = monotonic() + LAST_WORDS
        for connection in list(self.connections):
            connection.end(max(0.0, last_words - monotonic()))

    def stop(self) -> None:
        """End every connection at once, and look after none any more."""
        if self._sweeper is not None:
            self._sweeper.kill(block=False)
        for connection in list(self.connections):
            connection.end(0.0)

    def release(self, session: Session, seconds: float) -> None:
        """Free a session that takes no new requests: watches end in order, idle streams are given up.

        Returns when it carries nothing any more, or after so many seconds.
        """
        deadline = monotonic() + seconds
        while session.tunnel.mux.streams and monotonic() < deadline:
            for connection in list(self.connections):
                if connection.exchange.session is not session:
                    continue
                if connection.idle:
                    connection.exchange.detach()
                elif connection.watching:
                    connection.exchange.end_watch()
            gevent.sleep(0.05)

    def forget(self, cluster: str) -> None:
        """A cluster left the clusters file: keep nothing of it."""
        self._buckets.pop(cluster, None)
        self._metrics.forget(cluster)

    def _cluster_bucket(self, name: str, rate: float) -> TokenBucket:
        known = self._buckets.get(name)
        if known is None or known[0] != rate:
            known = self._buckets[name] = (rate, TokenBucket(rate, rate))
        return known[1]

    def _sweep(self) -> None:
        while True:
            gevent.sleep(SWEEP)
            self._look_at_each(monotonic())

    def _look_at_each(self, now: float) -> None:
        """One sweep, in a frame of its own: the one that sleeps between sweeps would keep a connection."""
        for done, connection in enumerate(list(self.connections), 1):
            if connection in self.connections:
                connection.sweep(now)
                if connection.exchange.state != IDLE:
                    self._count(connection.exchange)
            if not done % AT_ONCE:
                gevent.sleep(NEXT_TURN)

    def _count(self, exchange: Exchange) -> None:
        """Add what a request that still runs has carried; a watch may run for hours."""
        if exchange.cluster in self._clusters.clusters:
            stats = self._metrics.cluster(exchange.cluster)
            stats.bytes_in += exchange.received - exchange.counted_in
            stats.bytes_out += exchange.sent - exchange.counted_out
            exchange.counted_in, exchange.counted_out = exchange.received, exchange.sent
