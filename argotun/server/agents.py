"""The port for agents: they are let in here, and nothing else is."""

import logging
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Protocol

import gevent

import argotun
from argotun.address import host_port, socket_name
from argotun.config import ServerConfig
from argotun.config.clusters import MOST_AGENTS, Cluster
from argotun.config.models import KUBERNETES
from argotun.errors import ArgotunError, HeadError
from argotun.observe.logs import fields
from argotun.observe.metrics import ClusterStats, ServerMetrics
from argotun.seldom import Seldom
from argotun.server.auth import Authenticator, Certificate, Denied, Proof, shown_by
from argotun.server.guesses import Guesses
from argotun.server.heads import answer, read_head
from argotun.server.history import History
from argotun.server.placement import Placement
from argotun.server.registry import Registry, Session
from argotun.server.routes import AGENTS
from argotun.transport import MessageSocket
from argotun.transport.accept import accept, offered
from argotun.transport.lookout import Lookout
from argotun.transport.places import Dropped, Places
from argotun.tunnel.link import link
from argotun.tunnel.tunnel import Tunnel
from argotun.wire.fields import elements
from argotun.wire.frames import SUBPROTOCOL
from argotun.wire.head import RequestHead
from argotun.wire.hello import CONNECTED_TO, MOST_CONNECTED, Hello
from argotun.wire.trifles import Patience

log = logging.getLogger("argotun.server")

DEFAULT_TARGET = host_port(*KUBERNETES)
"""What CONNECT names in version 1 when the clusters file does not say (the seed's default)."""

MAX_TUNNELS = MOST_AGENTS
"""Of one cluster. One more may be there that has not said HELLO, as that of a check does not."""

REFUSED_CLUSTERS = 4096
"""Clusters that have lines of their own when their agents are refused, as when a CA has ended for all."""

CHECKED = (b"/healthz", b"/")
"""Where anybody hears 200; load balancers that are told no path ask for the second (GKE, ALB)."""

THERE = "the agent has a tunnel to this replica: another one is asked for"
"""What an agent hears whose load balancer has led it to where it is already."""

OLD = f"agents must speak {SUBPROTOCOL} here: version 1 is let in with --min-wire-version 1 only"
"""What an agent of version 1 is told."""


class Replicas(Protocol):
    """This server among others."""

    me: str

    @property
    def count(self) -> int:
        """How many take agents, this one too."""


class AgentPort:
    """Checks and accepts agents; a session lives in the greenlet that accepted it.

    `leaving` is called with a session whose agent says GOAWAY, and why; `places` are the port's, and
    `lookout` looks whether the agents' machines are there. `came` is called with
    the cluster of an agent that has come. `history` is told who comes, goes and is refused. `replicas` is
    None where this server is one by itself.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        registry: Registry,
        placement: Placement,
        authenticator: Authenticator,
        metrics: ServerMetrics,
        leaving: Callable[[Session, int], None],
        came: Callable[[str], None],
        places: Places,
        lookout: Lookout,
        history: History,
    ) -> None:
        self.draining = False
        self.replicas: Replicas | None = None
        self._places = places
        self._lookout = lookout
        self._seldom = Seldom(log)
        self._of_clusters = Seldom(log, most=2, kinds=REFUSED_CLUSTERS)
        self._config = config
        self._authenticator = authenticator
        self._guesses = Guesses()
        self._registry = registry
        self._placement = placement
        self._metrics = metrics
        self._leaving = leaving
        self._came = came
        self._history = history
        self._tunnels: dict[str, list[Tunnel]] = {}
        self._patience: dict[str, Patience] = {}

    def stop(self) -> None:
        """No agent is let in any more."""
        self.draining = True
        self._seldom.close()
        self._of_clusters.close()

    def forget(self, cluster_id: str) -> None:
        """The cluster is no longer configured."""
        self._patience.pop(cluster_id, None)
        self._history.forget(cluster_id)

    def serve(self, sock: Any, peer: Any) -> None:
        """Answer one connection; an agent's stays here until its tunnel ends."""
        try:
            head, rest = read_head(sock, self._config.head_timeout)
            self._route(sock, peer, head, rest)
        except HeadError as error:
            answer(sock, error.status, str(error))
        except ArgotunError as error:
            self._seldom.say(
                logging.INFO,
                str(error),
                "an agent's connection was refused: %s",
                error,
                extra=fields(peer=socket_name(peer)),
            )
        except Dropped:
            raise
        except (OSError, gevent.Timeout):
            # Silent or gone before it said who it is.
            pass
        finally:
            sock.close()

    def _route(self, sock: Any, peer: Any, head: RequestHead, rest: bytes) -> None:
        path = head.target.partition(b"?")[0]
        no_body = head.method == b"HEAD"
        if path not in (AGENTS, *CHECKED):
            answer(sock, 404, "not found", no_body)
        elif head.method != b"GET" and not (no_body and path in CHECKED):
            answer(sock, 405, "only GET is served here", no_body)
        elif head.length:
            answer(sock, 400, "a body is not read here", no_body)
        elif path in CHECKED:
            answer(sock, 200, "ok", no_body)
        elif self.draining:
            answer(sock, 503, "the server is draining")
        else:
            self._connect(sock, peer, head, rest)

    def _connect(self, sock: Any, peer: Any, head: RequestHead, rest: bytes) -> None:
        certificate = shown_by(sock)
        try:
            cluster, proof = self._authenticator.authenticate(_field(head, b"authorization"), certificate)
            if _field(head, b"origin") is not None:
                raise Denied(403, "origin", "browsers are not served here")
            if (
                self._config.min_wire_version > 1
                and head.upgrade
                and SUBPROTOCOL.encode() not in offered(head)
            ):
                raise Denied(426, "version", OLD, cluster=cluster.id)
        except Denied as denied:
            self._refuse(sock, peer, denied)
            return
        if self._is_here(head, cluster):
            # No refusal of who it is, so no wrong attempt: it will be right at another replica.
            self._metrics.same_replica += 1
            answer(sock, 409, THERE)
            return
        socket = accept(sock, head, rest, (SUBPROTOCOL,))
        place = self._places.of(peer)
        if place is not None:
            place.prove()
        self._run(socket, cluster, peer, proof, certificate)

    def _is_here(self, head: RequestHead, cluster: Cluster) -> bool:
        """Whether an agent wants a tunnel to another replica than this one.

        One that has not heard yet that its tunnel to this one is over is let in.
        """
        if self.replicas is None:
            return False
        there = elements(b",".join(head.values(CONNECTED_TO.lower().encode())))[:MOST_CONNECTED]
        return self.replicas.me.encode() in there and any(
            session.usable for session in self._registry.of(cluster.id)
        )

    def _refuse(self, sock: Any, peer: Any, denied: Denied) -> None:
        """Answer an agent that is not let in; later and later where many wrong ones come from its address."""
        self._metrics.auth_failures(denied.reason)
        host = peer[0] if isinstance(peer, tuple) else ""
        self._history.refused(host, str(denied), denied.cluster, proved=denied.proved)
        wait, told = self._guesses.refused(host, monotonic())
        if told:
            more = "; more from this address are answered late, and logged at debug" if wait else ""
            named = {"cluster": denied.cluster} if denied.cluster else {}
            seldom = self._of_clusters if denied.cluster else self._seldom
            seldom.say(
                logging.WARNING,
                f"{denied.reason}, cluster {denied.cluster}" if denied.cluster else denied.reason,
                "an agent was refused: %s%s",
                denied,
                more,
                extra=fields(peer=socket_name(peer), **named),
            )
        else:
            log.debug("an agent was refused: %s", denied, extra=fields(peer=socket_name(peer)))
        if wait < 0:
            answer(sock, 429, "too many refusals")
            return
        if wait:
            self._guesses.hold(host, 1)
            try:
                gevent.sleep(wait)
            finally:
                self._guesses.hold(host, -1)
        answer(sock, denied.status, denied.said)

    def admitted(self, session: Session) -> bool:
        """Whether this agent would be let in now; its target is not looked at."""
        return self._authenticator.admits(session.cluster, session.proof, session.certificate)

    def _run(
        self,
        socket: MessageSocket,
        cluster: Cluster,
        peer: Any,
        proof: Proof,
        certificate: Certificate,
    ) -> None:
        """Keep one agent's tunnel until it ends; where a cluster has too many, its oldest gives way."""
        tunnels = self._tunnels.setdefault(cluster.id, [])
        # One that was ended leaves the list in a later turn, and many may arrive in this one.
        living = [each for each in tunnels if not each.ended.is_set()]
        if len(living) >= MAX_TUNNELS:
            # One that has not said HELLO serves nobody yet, and may never do so: none that serves gives way.
            _end_oldest(each for each in living if each.mux.theirs is None)
        # Whoever was ended for a flood has no new store of trifles with another tunnel.
        socket.patience = self._patience.setdefault(cluster.id, socket.patience)
        named = cluster.target_addr or ""
        session: Session | None = None

        def arrived(tunnel: Tunnel, theirs: Hello) -> None:
            nonlocal session
            serving = [each for each in tunnels if each.mux.theirs is not None and not each.ended.is_set()]
            if len(serving) > MAX_TUNNELS:
                _end_oldest(serving)
            session = Session(
                cluster.id,
                tunnel,
                peer=socket_name(peer),
                named=named,
                target=named or (DEFAULT_TARGET if tunnel.version == 1 else ""),
                proof=proof,
                certificate=certificate,
                agents=cluster.agents,
            )
            self._arrived(session, theirs)

        def leaving(tunnel: Tunnel, reason: int, text: str) -> None:
            if session is not None:
                self._leaving(session, reason)

        tunnel = link(
            socket,
            self._config,
            self._lookout,
            opener=True,
            ours=self._hello(cluster),
            on_hello=arrived,
            on_goaway=leaving,
        )
        tunnels.append(tunnel)
        stats = self._metrics.cluster(cluster.id)
        try:
            reason = tunnel.run()
        finally:
            tunnels.remove(tunnel)
            if not tunnels and self._tunnels.get(cluster.id) is tunnels:
                del self._tunnels[cluster.id]
            was_here = session is not None and session in self._registry.of(cluster.id)
            if session is not None:
                self._registry.remove(session)
            tally(tunnel, stats)
        if was_here:
            self._history.gone(cluster.id, reason)
        log.info("agent gone: %s", reason, extra=fields(cluster=cluster.id, peer=socket_name(peer)))

    def _hello(self, cluster: Cluster) -> Hello:
        """What this server says of itself; of others only where a second tunnel would not end the first."""
        among = self.replicas if cluster.agents > 1 else None
        return Hello(
            release=argotun.__version__,
            target=cluster.target_addr or "",
            cluster=cluster.id,
            callers=True,
            lingers=True,
            replica=among.me if among is not None else "",
            replicas=among.count if among is not None else 0,
        )

    def _arrived(self, session: Session, theirs: Hello) -> None:
        """The agent has said who it is; it may have taken its time, and things may have changed."""
        if self.draining or not self.admitted(session):
            session.tunnel.end("the server is draining" if self.draining else "the agent is no longer let in")
            return
        if self._is_one_too_many(session):
            why = "the cluster has as many agents as it may (`agents` in the clusters file)"
            self._history.refused(session.host, why, session.cluster, proved=True)
            session.tunnel.end(why)
            return
        if session.named and theirs.target and session.named != theirs.target:
            log.warning(
                "cluster %s: the clusters file names target %s but the agent serves %s only: "
                "its requests will be refused",
                session.cluster,
                session.named,
                theirs.target,
            )
        log.info(
            "agent connected",
            extra=fields(cluster=session.cluster, peer=session.peer, version=session.tunnel.version),
        )
        self._notice_takeover(session)
        self._history.came(session.cluster, session.host.strip("[]"))
        self._placement.arrived(session)
        self._came(session.cluster)

    def _is_one_too_many(self, session: Session) -> bool:
        """Whether other agents have all the room that the cluster's entry gives."""
        others = {each.instance for each in self._registry.of(session.cluster) if each.usable}
        return not session.exclusive and session.instance not in others and len(others) >= session.agents

    def _notice_takeover(self, session: Session) -> None:
        """Say so where an agent comes in place of one that is alive, from somewhere else.

        It may be a pod on another node that takes over from its predecessor, or somebody who has stolen the
        cluster's credentials. An agent that drains, or that comes back itself, is no takeover.
        """
        old = self._placement.here(session.cluster)
        if old is None or old.lingering or old.host == session.host:
            return
        if session.instance and session.instance == old.instance:
            return
        self._metrics.cluster(session.cluster).takeovers += 1
        log.warning(
            "an agent took over from another one that is still connected",
            extra=fields(cluster=session.cluster, peer=session.peer, before=old.peer),
        )


def _end_oldest(tunnels: Iterable[Tunnel]) -> None:
    """End the first of some tunnels, if there is any, for want of room."""
    for oldest in tunnels:
        oldest.end(f"the cluster has more than {MAX_TUNNELS} tunnels")
        return


def tally(tunnel: Tunnel, stats: ClusterStats) -> None:
    """Add what a tunnel has counted since the last time to its cluster's numbers."""
    frames, seconds = tunnel.take_work()
    stats.frames += frames
    stats.worked += seconds
    stats.window_exhausted += tunnel.take_exhausted()


def _field(head: RequestHead, name: bytes) -> bytes | None:
    """The value of a field that may be there once; a repeated one counts as unusable, b""."""
    values = head.values(name)
    return None if not values else values[0] if len(values) == 1 else b""
