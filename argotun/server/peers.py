"""The port where the links of other replicas come in: streams for clusters whose agents are here.

A stream that came by a link is only ever given to a session of this replica, so a request takes one hop at
most. What it asks for is a cluster's id and never an address: whatever the registry may say, a request
reaches no other cluster's agent.
"""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent

from argotun.address import socket_name
from argotun.config import ServerConfig
from argotun.errors import ArgotunError, ConnectionLost, HeadError
from argotun.observe.logs import fields
from argotun.observe.metrics import ServerMetrics
from argotun.replicas.records import Route
from argotun.seldom import Seldom
from argotun.server.auth import Authenticator, Certificate, shown_by
from argotun.server.clusters import ClustersFile
from argotun.server.heads import answer, read_head
from argotun.server.links import FOREIGN, PATH, REPLICA, hello, tunnels
from argotun.server.placement import Placement
from argotun.server.registry import Session
from argotun.transport.accept import accept, offered
from argotun.transport.lookout import Lookout
from argotun.transport.names import Listed, names_of
from argotun.tunnel.channel import Channel
from argotun.tunnel.link import link
from argotun.tunnel.splice import FromReplica, splice
from argotun.tunnel.tunnel import Tunnel
from argotun.wire.frames import PEER_SUBPROTOCOL
from argotun.wire.hello import Hello
from argotun.wire.reasons import DRAINING, NOT_HERE
from argotun.wire.streams import Stream

log = logging.getLogger("argotun.server")

REMEMBERED = 5.0
"""Seconds that a replica which asked for a cluster is told of an agent that comes."""


class PeerPort:
    """Accepts links to the replica `me` of the installation `prefix`, and relays their streams.

    `ours(cluster)` is the route to the agents that are here, None where there are none.
    """

    def __init__(
        self,
        config: ServerConfig,
        me: str,
        prefix: str,
        *,
        placement: Placement,
        ours: Callable[[str], Route | None],
        clusters: ClustersFile,
        authenticator: Authenticator,
        metrics: ServerMetrics,
        lookout: Lookout,
    ) -> None:
        self._config = config
        self._tunnels = tunnels(config)
        self._me = me
        self._ours = hello(me, prefix)
        self._names = Listed((config.peer_name,))
        self._placement = placement
        self._route = ours
        self._clusters = clusters
        self._authenticator = authenticator
        self._metrics = metrics
        self._lookout = lookout
        self._seldom = Seldom(log)
        self._links: dict[Tunnel, Certificate] = {}
        self._asked: dict[str, dict[Tunnel, float]] = {}
        self._draining = False

    def serve(self, sock: Any, peer: Any) -> None:
        """Answer one connection; a replica's stays here until its link ends."""
        certificate = shown_by(sock)
        try:
            # A request that is not read would have the kernel reset the connection, and the answer be lost.
            head, rest = read_head(sock, self._config.head_timeout)
            if why := self._refusal(certificate):
                answer(sock, 403, why)
                self._say(peer, why)
            elif head.target != PATH.encode():
                answer(sock, 404, "not found")
            elif PEER_SUBPROTOCOL.encode() not in offered(head):
                answer(sock, 426, f"replicas speak {PEER_SUBPROTOCOL} here")
            elif head.values(REPLICA.lower().encode()) == [self._me.encode()]:
                answer(sock, 409, "this replica is the one that dials")
            else:
                self._run(accept(sock, head, rest, (PEER_SUBPROTOCOL,)), certificate)
        except HeadError as error:
            answer(sock, error.status, str(error))
        except ArgotunError as error:
            self._say(peer, str(error))
        except (OSError, gevent.Timeout):
            # Silent or gone before it said who it is.
            pass
        finally:
            sock.close()

    def _refusal(self, certificate: Certificate) -> str:
        """Why this certificate is no replica's, "" where it is one's."""
        if not self._names.find(names_of(certificate.content)):
            return "the certificate is not a replica's: it lacks the name of --peer-name"
        return "the certificate is revoked" if self._authenticator.revoked(certificate) else ""

    def _say(self, peer: Any, why: str) -> None:
        extra = fields(peer=socket_name(peer))
        self._seldom.say(logging.WARNING, why, "a replica's link was refused: %s", why, extra=extra)

    def _run(self, socket: Any, certificate: Certificate) -> None:
        tunnel = link(
            socket,
            self._tunnels,
            self._lookout,
            opener=False,
            ours=self._ours,
            on_hello=self._arrived,
        )
        tunnel.mux.accept = lambda stream, cluster: self._accept(tunnel, stream, cluster)
        tunnel.mux.on_ask = lambda cluster: self._asks(tunnel, cluster)
        self._links[tunnel] = certificate
        try:
            tunnel.run()
        finally:
            del self._links[tunnel]
            for cluster in [cluster for cluster, asked in self._asked.items() if tunnel in asked]:
                del self._asked[cluster][tunnel]
                if not self._asked[cluster]:
                    del self._asked[cluster]

    def _arrived(self, tunnel: Tunnel, theirs: Hello) -> None:
        if theirs.prefix != self._ours.prefix:
            tunnel.end(FOREIGN)
        elif self._draining:
            tunnel.mux.goaway(DRAINING)

    def _accept(self, link: Tunnel, stream: Stream, cluster: str) -> None:
        near = Channel(link, stream)
        session = self._placement.here(cluster) if cluster in self._clusters.clusters else None
        if session is None:
            near.abort(NOT_HERE)
            return
        stats = self._metrics.cluster(cluster)
        try:
            splice(near, session.tunnel, session.target, stats.relayed_up, stats.relayed_down, session.rest)
        except ConnectionLost:
            near.abort(NOT_HERE)
            return
        stats.relayed += 1

    def _asks(self, link: Tunnel, cluster: str) -> None:
        if cluster not in self._clusters.clusters:
            return
        if not self._tell(cluster, link):
            self._asked.setdefault(cluster, {})[link] = monotonic() + REMEMBERED

    def _tell(self, cluster: str, link: Tunnel) -> bool:
        """Say who is here; False where nobody is."""
        route = self._route(cluster)
        if route is not None:
            link.mux.have(cluster, route.since, route.flags)
        return route is not None

    # ── the server tells ───────────────────────────────────────────────────────────────────────

    def arrived(self, cluster: str) -> None:
        """An agent has come: those hear of it who have asked."""
        now = monotonic()
        for tunnel, until in self._asked.pop(cluster, {}).items():
            if now < until and not tunnel.ended.is_set():
                self._tell(cluster, tunnel)

    def leaves(self, session: Session) -> None:
        """An agent goes away: the other replicas are asked to end its streams at their next chance."""
        for tunnel in self._links:
            for stream in list(tunnel.mux.streams.values()):
                if isinstance(stream.sink, FromReplica) and stream.sink.tunnel is session.tunnel:
                    tunnel.mux.leave(stream)

    def drain(self) -> None:
        """Say that this replica goes away; what still comes is served."""
        self._draining = True
        for tunnel in self._links:
            tunnel.mux.goaway(DRAINING)

    @property
    def busy(self) -> bool:
        """Whether a link carries a stream."""
        return any(tunnel.mux.streams for tunnel in self._links)

    def end_revoked(self) -> None:
        """End the links of certificates that count no longer."""
        for tunnel, certificate in list(self._links.items()):
            if self._authenticator.revoked(certificate):
                tunnel.end("its certificate is revoked")

    def stop(self) -> None:
        """End every link."""
        self._seldom.close()
        for tunnel in list(self._links):
            tunnel.end("the server ends")
