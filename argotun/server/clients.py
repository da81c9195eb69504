"""The port for clients: which requests are let through to which cluster, and what else is answered."""

import itertools
import logging
import os
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent

from argotun.address import socket_name
from argotun.config import ServerConfig
from argotun.observe.access import AccessLog
from argotun.observe.logs import fields
from argotun.observe.metrics import Repeated, ServerMetrics
from argotun.observe.probes import Probes
from argotun.observe.request import Request
from argotun.observe.tracing import Tracing, ending
from argotun.seldom import Seldom
from argotun.server.auth import Certificate, shown_by
from argotun.server.callers import Access, Callers
from argotun.server.clusters import ClustersFile
from argotun.server.connection import FLUSH, Connection, Situation
from argotun.server.drain import Drain
from argotun.server.links import Link
from argotun.server.placement import Placement
from argotun.server.ratelimit import TokenBucket
from argotun.server.registry import Registry, Session, Way
from argotun.server.routes import AGENTS, LASTING, OF_AN_API, WATCH
from argotun.transport.lookout import Lookout
from argotun.transport.places import Places
from argotun.turns import NEXT_TURN
from argotun.wire.head import RequestHead
from argotun.wire.outcomes import Action, Cause, Refusal
from argotun.wire.status import is_hurried

log = logging.getLogger("argotun.server")

OPEN = (b"/healthz", b"/readyz", b"/joined")
"""What everybody may ask who reaches the port."""

DISCOVERY_GRACE = 1.0
"""Seconds at most that a discovery request waits for an agent. All eleven attempts of client-go have 32 s
together, with our Retry-After between them; then it says "deadline exceeded" in place of our words."""

SWEEP = 1.0
"""Seconds between two looks for connections that have waited too long."""

IDLE_PART = 16
"""Such a part of a crowded tunnel's streams is given up at once where it is idle: to look for them takes a
millisecond."""

AT_ONCE = 250
"""Connections that are looked at in one turn of the event loop: about a millisecond's work."""

LINGER = 5.0
"""Seconds that a client has to close after the last answer; until then what it sends is discarded."""


REPEATED: dict[Action, Repeated] = {
    Action.ELSEWHERE: "refused",
    Action.AGAIN: "not_here",
    Action.AGAIN_IF_SAFE: "lost",
}
"""Why a request is asked again, as the metric says it."""

REST = 200
"""How many times as long as a look at all connections is the pause behind it: half a percent of a core."""


class ClientPort:
    """What all client connections share."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        registry: Registry,
        placement: Placement,
        clusters: ClustersFile,
        callers: Callers,
        metrics: ServerMetrics,
        access: AccessLog,
        tracing: Tracing | None,
        probes: Probes,
        places: Places,
        lookout: Lookout,
        revoked: Callable[[Certificate], bool] = lambda certificate: False,
    ) -> None:
        self.draining = False
        # Nothing is asked again of an agent: all tunnels end.
        self.ending = False
        self.max_body = config.max_body
        self.stall_timeout = config.stall_timeout
        self.limits = {
            Situation.BUSY: 0.0,
            Situation.UNUSED: config.idle_timeout,
            Situation.UNSPOKEN: config.head_timeout,
            Situation.IN_HEAD: config.head_timeout,
            Situation.IN_BODY: config.body_timeout,
            Situation.ASKED: config.response_timeout,
            Situation.PUSHING: config.stall_timeout,
            Situation.HALF: FLUSH,
            Situation.LEAVING: LINGER,
        }
        self.connections: set[Connection] = set()
        self._certificates: dict[Connection, Certificate] = {}
        self._revoked = revoked
        self._reconnect_grace = config.reconnect_grace
        self._registry = registry
        self._placement = placement
        self._clusters = clusters
        self._callers = callers
        self._metrics = metrics
        self.tracing = tracing
        self._report = ending(tracing, access.request)
        self._probes = probes
        self._places = places
        self._lookout = lookout
        self._seldom = Seldom(log, most=1, seconds=60.0)
        self._refused = Seldom(log, most=1, seconds=1.0)
        self._rate = config.rate_limit
        self._replicas = 0
        self._bucket: TokenBucket | None = None
        self._buckets: dict[str, tuple[float, TokenBucket]] = {}
        self.share(1)
        # Unique over restarts by the random part, and cheap: one counter, no system call.
        self._audit_prefix = os.urandom(8).hex().encode() + b"-"
        self._audit_count = itertools.count(1)
        self._sweeper: gevent.Greenlet | None = None

    def start(self) -> None:
        """Begin to look after the connections' time limits."""
        self._sweeper = gevent.spawn(self._sweep)

    def serve(self, sock: Any, peer: Any) -> None:
        """Serve one client connection in the calling greenlet until it ends."""
        certificate = shown_by(sock)
        if self._revoked(certificate):
            why = "a client was refused: its certificate is revoked"
            log.warning(why, extra=fields(peer=socket_name(peer)))
            sock.close()
            return
        visitor = self._callers.visitor(certificate, secure=hasattr(sock, "getpeercert"))
        connection = Connection(self, sock, visitor, self._places.of(peer))
        self.connections.add(connection)
        self._lookout.keep(sock, connection.unheard, connection.written)
        if certificate.fingerprint:
            self._certificates[connection] = certificate
        try:
            connection.serve()
        finally:
            self.connections.discard(connection)
            self._lookout.drop(sock)
            self._certificates.pop(connection, None)

    # ── asked by the connections ───────────────────────────────────────────────────────────────

    def refuse(self, request: Request, head: RequestHead, access: Access, own: bool) -> str:
        """Why whoever asks may not; "" where it may. `own` is a request for something of the server's."""
        name = request.cluster
        if not own:
            why = access.refuses(head, request.target, self._clusters.clusters.get(name), name)
        elif head.target.partition(b"?")[0] in OPEN:
            return ""
        else:
            why = access.refusal
            if not why and access.caller is not None and not access.caller.everywhere:
                why = f"caller {access.name!r} may not see what concerns every cluster"
        if why:
            access.stats.refused += 1
            self._tell(request, why)
        return why

    def _tell(self, request: Request, why: str) -> None:
        """A line about a refusal, of which whoever asks decides how many there would be."""
        path = request.target.partition(b"?")[0]
        extra = fields(caller=request.caller, cluster=request.cluster, path=path)
        self._refused.say(logging.WARNING, "refused", "a request was refused: %s", why, extra=extra)

    def admit(self, request: Request, held: Way | None) -> Way | Refusal:
        """The way for a request, `held` if that will do; or why there is none. May wait for an agent."""
        name = request.cluster
        cluster = self._clusters.clusters.get(name)
        if cluster is None:
            return Refusal(Cause.UNKNOWN_CLUSTER, f"no cluster {name!r} is known here")
        now = request.began
        # The cluster's own first: what it refuses takes nothing from the others.
        if cluster.rate_limit is not None and not self._cluster_bucket(name, cluster.rate_limit).take(now):
            self._metrics.cluster(name).rate_limited += 1
            return Refusal(Cause.RATE_LIMIT, f"the rate limit of cluster {name!r} is reached")
        if self._bucket is not None and not self._bucket.take(now):
            self._metrics.cluster(name).rate_limited += 1
            return Refusal(Cause.RATE_LIMIT, "the server's rate limit is reached")
        session = held or self._placement.pick(name)
        if session is None:
            session = self._wait(name, request.target)
        if session is None:
            return Refusal(Cause.NO_AGENT, f"no agent of cluster {name!r} is connected")
        if len(session.tunnel.mux.streams) >= session.ample:
            return self._crowded(session, request)
        return session

    def another(self, request: Request, but: Way, action: Action) -> Way | None:
        """A way for a request that got nowhere on `but`; an agent has time to come unless ELSEWHERE."""
        name = request.cluster
        if name not in self._clusters.clusters:
            return None
        if action == Action.ELSEWHERE:
            return self._placement.pick(name, but)
        return self._wait(name, request.target, but)

    def _wait(self, cluster: str, target: bytes, but: Way | None = None) -> Way | None:
        """The way for a request, for which an agent has time to come."""
        way = self._placement.wait(cluster, self._grace(cluster, target), but)
        if cluster not in self._clusters.clusters:
            # It left the file meanwhile: of this wait, too, nothing stays.
            self._placement.forget(cluster)
        return way

    def repeats(self, request: Request, action: Action) -> None:
        """Count a request that is asked again."""
        if request.cluster in self._clusters.clusters:
            self._metrics.cluster(request.cluster).repeated[REPEATED[action]] += 1

    def _crowded(self, session: Way, request: Request) -> Way | Refusal:
        """Only the last tenth of the agent's streams is free, and it is for requests that do not last.

        Streams that idle connections keep are given up first, those that have been idle longest.
        """
        streams = session.tunnel.mux.streams
        if request.began - session.looked > SWEEP:
            session.looked = request.began
            idle = [c for c in self.connections if c.exchange.session is session and c.idle]
            idle.sort(key=lambda connection: connection.exchange.request.ended)
            for connection in idle[: max(1, len(streams) // IDLE_PART)]:
                connection.exchange.release()
            if len(idle) > 1:
                session.looked = 0.0
        lasting = len(streams) >= session.ample and LASTING.search(request.target)
        if lasting or len(streams) >= session.most:
            self._seldom.say(
                logging.WARNING,
                session.cluster,
                "requests are refused: the agent is at its limit of streams (--max-conns), or near it",
                extra=fields(cluster=session.cluster, streams=len(streams), limit=session.most),
            )
        if lasting:
            words = (
                "the agent is near its limit of streams: what is left is kept for requests that do not last"
            )
            return Refusal(Cause.RATE_LIMIT, words)
        return session

    def lasting_refused(self) -> Refusal:
        """What watches, logs and the like hear on a connection that took one of the last places."""
        self._seldom.say(
            logging.WARNING,
            # No cluster has such an id.
            "/places",
            "watches are refused: nearly all places are taken (--internal-connections, …-per-address)",
            extra=fields(
                connections=len(self.connections), limit=self._places.limit, share=self._places.share
            ),
        )
        words = "the server has few places left: they are kept for requests that do not last"
        return Refusal(Cause.RATE_LIMIT, words)

    def _grace(self, cluster: str, target: bytes) -> float:
        """Seconds that a request waits for an agent to come back."""
        if self._placement.gone(cluster) and not WATCH.search(target):
            return 0.0
        return min(self._reconnect_grace, DISCOVERY_GRACE) if is_hurried(target) else self._reconnect_grace

    def local(self, head: RequestHead) -> tuple[int, bytes, bytes] | Refusal:
        """Probes, metrics and status; anything else is a mistake in the client's address."""
        accept = b",".join(head.values(b"accept")).decode("latin-1")
        path, _, query = head.target.partition(b"?")
        answer = self._probes.answer(path, accept, query.decode("latin-1"))
        if answer is None or head.method not in (b"GET", b"HEAD"):
            words = "no such path here; clusters are at /tunnel/{cluster}/"
            if path == AGENTS:
                words = "agents are let in at the server's public port (--addr), and this is the internal one"
            elif OF_AN_API.match(head.target):
                words += ": the URL has lost its path, as with kubectl proxy without --append-server-path"
            return Refusal(Cause.REQUEST_INVALID, words, 400)
        return answer

    def new_audit_id(self) -> bytes:
        """An Audit-ID that no other request has."""
        return self._audit_prefix + b"%x" % next(self._audit_count)

    def record(self, request: Request) -> None:
        """Count a request that has ended, and write its access line."""
        name = request.cluster
        if not name:
            return
        if name in self._clusters.clusters:
            stats = self._metrics.cluster(name)
            stats.observe(request.method, request.status, request.ended - request.began)
            stats.stalls += request.stalls
            stats.hops += bool(request.via)
            stats.carry(request)
        self._report(request)

    # ── asked by the server ────────────────────────────────────────────────────────────────────

    def drain(self, seconds: float, stop_accepting: Callable[[], None]) -> None:
        """Let what is in progress end as well as it can, in `seconds` or little more; see drain.py."""
        self.draining = True
        Drain(self.connections, self._registry, self._places).run(seconds, stop_accepting)

    def stop(self) -> None:
        """End every connection at once, and look after none any more."""
        if self._sweeper is not None:
            self._sweeper.kill(block=False)
        for connection in list(self.connections):
            connection.close(0.0)
        self._seldom.close()
        self._refused.close()

    def drain_session(self, session: Session, seconds: float) -> None:
        """Free a session that takes no new requests: watches end gracefully, idle streams are given up.

        Returns when it carries nothing any more, or after so many seconds.
        """
        deadline = monotonic() + seconds
        while session.tunnel.mux.streams and (began := monotonic()) < deadline:
            for connection in list(self.connections):
                if connection.exchange.session is session:
                    _part(connection)
            _pause(began)

    def drain_link(self, link: Link) -> None:
        """Free a link whose replica goes away for as long as it lives, and streams whose agents do.

        What has no other way is left alone until there is one.
        """
        tunnel = link.tunnel
        while tunnel is not None and not tunnel.ended.is_set() and (link.leaving or link.going):
            began = monotonic()
            link.going.intersection_update(tunnel.mux.streams)
            for connection in list(self.connections):
                exchange = connection.exchange
                way, channel = exchange.session, exchange.channel
                if way is None or channel is None or way.tunnel is not tunnel:
                    continue
                if channel.id not in link.going and not self._placement.replaceable(way):
                    continue
                _part(connection)
            _pause(began)

    def recheck(self) -> None:
        """Who may call has changed: end what is in progress for those who may not any more.

        A connection without a request hears of it with its next one.
        """
        for connection in list(self.connections):
            exchange = connection.exchange
            if exchange.idle or not exchange.request.cluster:
                continue
            before, name = connection.visitor.used, exchange.request.cluster
            access = connection.visitor.now()
            why = access.forbids(self._clusters.clusters.get(name), name)
            if not why and access.rights != before.rights:
                why = f"what caller {access.name!r} may do has changed"
            if why:
                log.warning("a request was ended: %s", why, extra=fields(caller=access.name, cluster=name))
                connection.forbid(why)

    def end_revoked(self) -> None:
        """End the connections of certificates that count no longer, and what runs on them."""
        for connection, certificate in list(self._certificates.items()):
            if self._revoked(certificate):
                connection.close(0.0)

    def forget(self, cluster: str) -> None:
        """A cluster left the clusters file: keep nothing of it."""
        self._placement.forget(cluster)
        self._buckets.pop(cluster, None)
        self._metrics.forget(cluster)

    def share(self, replicas: int) -> None:
        """So many replicas have the clients: each has its part of every limit, at least one request."""
        if replicas != self._replicas:
            self._replicas = replicas
            rate = self._rate / replicas
            self._bucket = TokenBucket(rate, rate) if rate else None

    def _cluster_bucket(self, name: str, rate: float) -> TokenBucket:
        rate /= self._replicas
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
                request = connection.exchange.request
                if not connection.exchange.idle and request.cluster in self._clusters.clusters:
                    # A watch may run for hours.
                    self._metrics.cluster(request.cluster).carry(request)
            if not done % AT_ONCE:
                gevent.sleep(NEXT_TURN)


def _part(connection: Connection) -> None:
    """Give up the stream that an idle connection keeps; a watch ends well."""
    if connection.idle:
        connection.exchange.release()
    elif connection.watching:
        connection.end_watch()


def _pause(began: float) -> None:
    """Wait between two looks at all connections, of which the last one `began` then (monotonic seconds)."""
    # A cluster may have fifteen sessions go at once, and a server ten thousand connections.
    gevent.sleep(max(0.05, REST * (monotonic() - began)))
