"""This replica among the others: what it says of its agents, the links to the others, the port for theirs.

There is one only with `--registry`. The registry's word wakes requests that wait and makes links; it ends
nothing that runs, except that of two agents of which only one may be there the newer one stays. Even then the
replica that is said to have the newer one is asked on its link first: who can write to the registry must not
be able to throw agents out.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from time import monotonic

import gevent

from argotun.config import ServerConfig
from argotun.errors import ConfigError
from argotun.observe.logs import fields
from argotun.observe.metrics import ServerMetrics
from argotun.replicas.directory import Directory
from argotun.replicas.records import CALLERS, EXCLUSIVE, LEAVING, SINGLE, Claim, Route
from argotun.replicas.shared import SharedRegistry, new_id
from argotun.server import addresses
from argotun.server.auth import Authenticator
from argotun.server.balance import Balance
from argotun.server.clients import ClientPort
from argotun.server.clusters import ClustersFile
from argotun.server.links import PEER_FILES, Link, Links, peer_tls
from argotun.server.peers import PeerPort
from argotun.server.placement import Placement
from argotun.server.registry import Registry, Session
from argotun.server.seeds import Seeds
from argotun.transport import paths
from argotun.transport.listen import Listener
from argotun.transport.lookout import Lookout
from argotun.transport.places import Places
from argotun.transport.tls import ClientTls, ServerTls

log = logging.getLogger("argotun.server")

MAX_PEERS = 1024
"""Connections of other replicas: one for each, and some that are being made."""

LOOK = 1.0
"""Seconds between two looks at whether an agent of ours has to give way."""

BELIEVED = 5.0
"""Seconds in which a replica that was asked for a newer agent may say that it has it."""

HEARD = 0.5
"""Seconds in which others have heard that an agent drains: its tunnel to another replica is no way out."""

JOINED = 10.0
"""Seconds after which a replica takes requests whatever it knows of the others: the registry may be away."""


class OwnClaims(Mapping[str, Claim]):
    """The clusters whose agents are here and take requests, as others are to know of them: a live view."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __getitem__(self, cluster: str) -> Claim:
        sessions = [session for session in self._registry.of(cluster) if session.usable]
        if not sessions:
            raise KeyError(cluster)
        flags = EXCLUSIVE if any(session.exclusive for session in sessions) else 0
        flags |= LEAVING if all(session.lingering for session in sessions) else 0
        flags |= SINGLE if any(session.single for session in sessions) else 0
        flags |= CALLERS if all(session.callers for session in sessions) else 0
        streams = sum(len(session.tunnel.mux.streams) for session in sessions)
        return Claim(max(session.since for session in sessions), len(sessions), flags, streams)

    def __iter__(self) -> Iterator[str]:
        return iter({session.cluster for session in self._registry.all() if session.usable})

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Membership:
    """Joins the other replicas at `start`. `replace(session)` is called for a session that is to give way.

    `me` and `directory` are for tests, which say themselves who the others are; then there is no registry.
    Raises ConfigError when a file of the options cannot be used.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        registry: Registry,
        placement: Placement,
        clusters: ClustersFile,
        clients: ClientPort,
        authenticator: Authenticator,
        metrics: ServerMetrics,
        tls: ServerTls | None,
        lookout: Lookout,
        replace: Callable[[Session], None],
        me: str = "",
        directory: Directory | None = None,
    ) -> None:
        self.me = me or new_id()
        self._config = config
        self._registry = registry
        self._placement = placement
        self._clusters = clusters
        self._clients = clients
        self._metrics = metrics
        self._replace = replace
        self.shared: SharedRegistry | None = None
        self._table: Directory | None = None
        self._seeds: Seeds | None = None
        self._balance: Balance | None = None
        if directory is None:
            directory = self._table = Directory(self.me, self._moved, self._met)
            self._balance = Balance(registry, self._table)
        self.directory = directory
        self._claims = OwnClaims(registry)
        # Who was asked for which cluster's newer agent, and until when an answer counts.
        self._disputes: dict[tuple[str, str], float] = {}
        self._greenlets: list[gevent.Greenlet] = []
        self._since, self._leaving = monotonic(), False
        dialling, accepting = self._tls(tls)
        metrics.watch_certificates(dialling)
        self.links = placement.elsewhere = Links(
            config,
            self.me,
            config.registry_prefix,
            directory,
            dialling,
            lookout=lookout,
            revoked=authenticator.revoked,
            up=placement.all_changed,
            leaving=self._link_leaves,
            had=self._had,
        )
        metrics.links = self.links
        self.peers = PeerPort(
            config,
            self.me,
            config.registry_prefix,
            placement=placement,
            ours=self._ours,
            clusters=clusters,
            authenticator=authenticator,
            metrics=metrics,
            lookout=lookout,
        )
        self._listener = Listener(
            config.peer_addr,
            self.peers.serve,
            accepting,
            handshake_timeout=config.handshake_timeout,
            hello_timeout=config.hello_timeout,
            places=Places(MAX_PEERS, MAX_PEERS),
            path=addresses.own_path(config, self.me),
        )

    def _tls(self, public: ServerTls | None) -> tuple[ClientTls, ServerTls]:
        config = self._config
        assert config.peer_cert is not None
        assert config.peer_key is not None
        dialling = peer_tls(config, "peer-")
        accepting = ServerTls(
            config.peer_cert, config.peer_key, config.peer_ca, ca_option=PEER_FILES[0], prefix="peer-"
        )
        theirs = public.context().get_ca_certs(binary_form=True) if public is not None else []
        if set(theirs) & set(dialling.context().get_ca_certs(binary_form=True)):
            # It names agents after their clusters, and a cluster may have any name.
            raise ConfigError(
                PEER_FILES[0],
                config.peer_ca,
                "a CA for replicas only, and this one is in --tls-client-ca too",
            )
        return dialling, accepting

    @property
    def address(self) -> tuple[str, int]:
        """Where other replicas dial."""
        return self._listener.address

    def start(self) -> None:
        """Listen, and let the others know. ConfigError or TransportError when that is not possible."""
        if self._config.peer_sockets is not None:
            paths.prepare(self._config.peer_sockets)
        self._listener.start()
        if self._config.registry is not None and self._table is not None:
            address = addresses.own_address(self._config, self.me, self.address[1])
            self.shared = SharedRegistry(self._config, self._table, address, self._claims)
            self._metrics.watch_registry(self.shared)
            self.shared.start()
            self._greenlets = [gevent.spawn(self._look)]
            log.info("replica listens", extra=fields(replica=self.me, peers=address))
            if self._config.peer_seeds is not None:
                self._seeds = Seeds(self._config.peer_seeds, self.links, self._table)
                self._seeds.start()
        self.links.sync()

    def drain(self) -> None:
        """Others use this replica last from now on; what still comes is served."""
        self._leaving = True
        if self.shared is not None:
            self.shared.leaving()
        self.peers.drain()

    @property
    def busy(self) -> bool:
        """Whether another replica has something in progress here."""
        return self.peers.busy

    def stop(self) -> None:
        """Say goodbye, and end every link."""
        gevent.killall(self._greenlets, block=False)
        if self._seeds is not None:
            self._seeds.stop()
        self._listener.stop_accepting()
        if self.shared is not None:
            self.shared.stop()
        self.peers.stop()
        self.links.stop()

    # ── the server tells ───────────────────────────────────────────────────────────────────────

    def changed(self, cluster: str) -> None:
        """The sessions of a cluster are others now."""
        if self.shared is not None:
            self.shared.changed(cluster)

    def arrived(self, cluster: str) -> None:
        """An agent has come: replicas that have asked hear of it."""
        self.peers.arrived(cluster)

    def leaves(self, session: Session) -> None:
        """An agent drains: its streams from other replicas end at their next chance, and no new ones come."""
        self.changed(session.cluster)
        self.peers.leaves(session)

    def lingers(self, session: Session) -> None:
        """An agent drains that is the only one here: it goes where another replica has one that stays."""
        gevent.spawn_later(HEARD, self._settle, session)

    def end_revoked(self) -> None:
        """End the links of certificates that count no longer."""
        self.links.end_revoked()
        self.peers.end_revoked()

    # ── the others ─────────────────────────────────────────────────────────────────────────────

    def _moved(self, cluster: str) -> None:
        """Agents of a cluster are elsewhere now."""
        self._placement.changed(cluster)
        for session in self._registry.of(cluster):
            self._settle(session)
        self._dispute(cluster)

    def _settle(self, session: Session) -> None:
        """Let an agent that drains go, if it is known that another replica has one that does not."""
        if session.lingering and self.directory.follows(monotonic()) and self._placement.replaceable(session):
            session.settled.set()

    def _met(self) -> None:
        """Replicas have come or gone."""
        self.links.sync()
        if self._seeds is not None:
            self._seeds.changed()

    def _ours(self, cluster: str) -> Route | None:
        """What this replica says on a link of its own agents of a cluster."""
        claim = self._claims.get(cluster)
        if claim is None:
            return None
        mine = self.shared.mine(cluster) if self.shared is not None else None
        return Route(mine.since if mine is not None else 0, *claim[1:])

    def _had(self, cluster: str, replica: str, since: int, flags: int) -> None:
        """A replica says on its link which agents of a cluster it has; what the registry says counts less."""
        route = Route(since, 1, flags)
        asked = self._disputes.pop((cluster, replica), 0.0)
        now = monotonic()
        if now < asked:
            self._give_way(cluster, replica, route)
        if now >= asked or not self.directory.follows(now):
            self.directory.have(cluster, replica, route, now)

    def _link_leaves(self, link: Link) -> None:
        """A replica drains, or an agent behind it does: streams are given up, for as long as that takes."""
        if not link.freeing:
            link.freeing = True
            gevent.spawn(self._free, link)

    def _free(self, link: Link) -> None:
        try:
            self._clients.drain_link(link)
        finally:
            link.freeing = False

    # ── one agent only ─────────────────────────────────────────────────────────────────────────

    def _look(self) -> None:
        """What no change calls for: of two agents of which one may be there, both are announced now."""
        while True:
            gevent.sleep(LOOK)
            self._clients.share(1 + sum(link.up for link in self.links))
            now = monotonic()
            self._disputes = {key: until for key, until in self._disputes.items() if now < until}
            for cluster in self._claims:
                self._dispute(cluster)
            if self._balance is not None and not self._leaving:
                self._metrics.agents_asked += self._balance.look(now)

    def _dispute(self, cluster: str) -> None:
        """Ask the replicas that are said to have a newer agent which may not stand beside ours."""
        for replica, route in self.directory.routes(cluster):
            key = cluster, replica
            if (
                key not in self._disputes
                and self._older(cluster, replica, route)
                and self.links.ask_one(replica, cluster)
            ):
                self._disputes[key] = monotonic() + BELIEVED

    def _older(self, cluster: str, replica: str, route: Route) -> list[Session]:
        """The sessions of this replica that give way to another one's agent."""
        ours = self.shared.mine(cluster) if self.shared is not None else None
        if ours is None or (route.since, replica) < (ours.since, self.me):
            return []
        exclusive = bool(route.flags & EXCLUSIVE)
        return [each for each in self._registry.of(cluster) if each.usable and (exclusive or each.exclusive)]

    def _give_way(self, cluster: str, replica: str, route: Route) -> None:
        older = self._older(cluster, replica, route)
        for session in older:
            session.replaced = True
            log.info(
                "a newer agent is at another replica",
                extra=fields(cluster=cluster, peer=session.peer, replica=replica),
            )
        self.changed(cluster)
        for session in older:
            self._replace(session)

    # ── what an operator sees ──────────────────────────────────────────────────────────────────

    @property
    def count(self) -> int:
        """Replicas that take agents, this one too."""
        return 1 + sum(not replica.leaving for replica in self.directory.replicas.values())

    @property
    def joined(self) -> bool:
        """Whether this replica knows the others, as far as they can be known."""
        known = self._table is None or self._table.heard is not None
        return (known and all(link.tried for link in self.links)) or monotonic() - self._since > JOINED

    def status(self) -> dict[str, object]:
        """For a person: who this is, the registry, and each link."""
        return {
            "replica": self.me,
            "registry": self.shared.status() if self.shared is not None else {},
            "links": self.links.status(),
        }

    def elsewhere(self) -> dict[str, list[str]]:
        """The clusters whose agents other replicas have, and which ones do."""
        return {
            cluster: [replica for replica, _ in routes]
            for cluster in self._clusters.clusters
            if (routes := self.directory.routes(cluster))
        }
