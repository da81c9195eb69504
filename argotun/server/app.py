"""The server role put together: two ports, a registry, the clusters file, and a graceful end."""

import logging
import os
import sys
from time import monotonic, thread_time
from typing import TYPE_CHECKING

import gevent

from argotun import descriptors, process
from argotun.address import host_port
from argotun.config import ServerConfig
from argotun.errors import HandshakeError
from argotun.observe import tracing
from argotun.observe.access import AccessLog
from argotun.observe.logs import fields
from argotun.observe.metrics import ServerMetrics, share_out
from argotun.observe.probes import HealthServer
from argotun.observe.rates import Rates
from argotun.replicas.directory import Directory
from argotun.server.accounts import Accounts
from argotun.server.agents import AgentPort, tally
from argotun.server.auth import Authenticator
from argotun.server.callers import Callers
from argotun.server.clients import ClientPort
from argotun.server.clusters import ClustersFile
from argotun.server.history import History
from argotun.server.partings import Partings
from argotun.server.placement import Placement
from argotun.server.registry import Registry
from argotun.server.revoked import RevokedFile
from argotun.server.status import Status
from argotun.transport.listen import Listener
from argotun.transport.lookout import Lookout
from argotun.transport.places import Peer, Places
from argotun.transport.tls import LenientTls, ServerTls
from argotun.wire.reasons import DRAINING

if TYPE_CHECKING:
    from argotun.server.membership import Membership

log = logging.getLogger("argotun.server")

REFRESH = 1.0
"""Seconds between two looks at clusters, keys and revocations; a change is in force within two seconds."""


class Server:
    """Everything that `--mode server` runs; `start` returns once all ports are bound."""

    def __init__(self, config: ServerConfig, me: str = "", directory: Directory | None = None) -> None:
        """`me` and `directory` are for tests: the id of this replica, and what it knows of the others."""
        self.config = config
        self.clusters = ClustersFile(config.clusters)
        self.metrics = ServerMetrics()
        self.access = AccessLog(config.access_log, config.log_format, sys.stdout)
        self.metrics.access_log = self.access
        self.tracing = tracing.start("argotun-server", os.environ)
        self.registry = Registry(self.changed)
        partings = Partings(self)
        self.placement = Placement(self.registry, partings.replace)
        status = Status(self)
        self.probes = status.probes()
        tls = None
        if config.tls_cert and config.tls_key:
            tls = ServerTls(config.tls_cert, config.tls_key, config.tls_client_ca)
            self.metrics.watch_certificates(tls)
        self.callers = Callers(
            config.callers,
            config.internal_client_names,
            self.clusters,
            self.metrics.caller,
            asked=bool(config.internal_client_ca or config.tls_client_ca),
            bound=config.tls_client_ca is not None,
            limit=config.max_connections_per_caller,
            on_error=lambda: self.metrics.reload_errors("callers"),
        )
        internal_tls = self._internal_tls(tls)
        self._followed = [each for each in (tls, internal_tls) if each is not None]
        public, internal = descriptors.divide(
            descriptors.allowed(), config.public_connections, config.internal_connections
        )
        self._few = (public, internal) != (config.public_connections, config.internal_connections)
        public_places = Places(public, config.public_connections_per_address)
        internal_places = Places(internal, config.internal_connections_per_address)
        self.metrics.watch_port("public", public_places)
        self.metrics.watch_port("internal", internal_places)
        self._accounts = Accounts(config.jwks_ca, lambda: self.metrics.reload_errors("jwks"))
        self._revoked = RevokedFile(config.revoked, lambda: self.metrics.reload_errors("revoked"))
        authenticator = Authenticator(
            self.clusters, self._accounts, self._revoked, asked=config.tls_client_ca is not None
        )
        self._lookout = Lookout(config.ack_timeout)
        self.history = History()
        self.rates = Rates()
        self.clients = ClientPort(
            config,
            registry=self.registry,
            placement=self.placement,
            clusters=self.clusters,
            callers=self.callers,
            metrics=self.metrics,
            access=self.access,
            tracing=self.tracing,
            probes=self.probes,
            places=internal_places,
            lookout=self._lookout,
            revoked=authenticator.revoked,
        )
        self.agents = AgentPort(
            config,
            registry=self.registry,
            placement=self.placement,
            authenticator=authenticator,
            metrics=self.metrics,
            leaving=partings.agent_leaves,
            came=self._agent_came,
            places=public_places,
            lookout=self._lookout,
            history=self.history,
        )
        public_tls = LenientTls(tls, authenticator.needs_certificates) if tls else None
        self._public_listener = Listener(
            config.addr,
            self.agents.serve,
            public_tls,
            handshake_timeout=config.handshake_timeout,
            hello_timeout=config.hello_timeout,
            places=public_places,
            trusted=config.trusted_proxies,
            reuse_port=config.reuse_port,
            on_refused=self._handshake_failed,
        )
        self._internal_listener = Listener(
            config.internal_addr,
            self.clients.serve,
            internal_tls,
            handshake_timeout=config.handshake_timeout,
            hello_timeout=config.hello_timeout,
            places=internal_places,
            reuse_port=config.reuse_port,
        )
        self.membership: Membership | None = None
        if config.registry is not None or directory is not None:
            # Only here: a server by itself has no use for any of it, nor for redis-py's 6 MiB.
            from argotun.server import membership  # noqa: PLC0415  see above

            self.membership = membership.Membership(
                config,
                registry=self.registry,
                placement=self.placement,
                clusters=self.clusters,
                clients=self.clients,
                authenticator=authenticator,
                metrics=self.metrics,
                tls=tls,
                lookout=self._lookout,
                replace=partings.replace,
                me=me,
                directory=directory,
            )
            self.agents.replicas = self.membership
        discreet = status.probes(discreet=True)
        self._health = HealthServer(*config.health_addr, discreet) if config.health_addr else None
        self._greenlets: list[gevent.Greenlet] = []
        self.draining = False

    def _internal_tls(self, tls: ServerTls | None) -> ServerTls | LenientTls | None:
        """TLS of the internal port: the public one's, unless its callers are told apart in another way."""
        config = self.config
        if tls is None or config.internal_plain or not (config.internal_client_ca or config.callers):
            return None if config.internal_plain else tls
        assert config.tls_cert is not None
        assert config.tls_key is not None
        option = "--internal-client-ca" if config.internal_client_ca else "--tls-client-ca"
        made = ServerTls(
            config.tls_cert,
            config.tls_key,
            config.internal_client_ca or config.tls_client_ca,
            ca_option=option,
            prefix="internal-",
            beside=tls,
        )
        self.metrics.watch_certificates(made)
        return LenientTls(made, lambda: not self.callers.takes_tokens)

    @property
    def public_address(self) -> tuple[str, int]:
        """Where agents dial."""
        return self._public_listener.address

    @property
    def internal_address(self) -> tuple[str, int]:
        """Where Argo CD asks."""
        return self._internal_listener.address

    def start(self) -> None:
        """Read the clusters and bind the ports. ConfigError when either is not possible."""
        self.clusters.load()
        self.callers.load()
        self.metrics.keep_callers(self.callers.names)
        self._revoked.load()
        self._accounts.use(self.clusters.clusters)
        self._public_listener.start()
        self._internal_listener.start()
        if self._health is not None:
            self._health.start()
        self.clients.start()
        self._lookout.start()
        if self.membership is not None:
            # When agents and clients find their ports: others may send requests at once.
            self.membership.start()
        self._greenlets = [gevent.spawn(self._follow), gevent.spawn(self._measure)]
        for cluster in self.clusters.clusters:
            self.metrics.cluster(cluster)
        if not self.clusters.clusters:
            log.warning("there is no cluster in --clusters: no agent is let in until there is one")
        if self._few:
            log.warning(
                "this process may have %d descriptors: the public port takes %d connections, the internal %d",
                descriptors.allowed(),
                self._public_listener.places.limit,
                self._internal_listener.places.limit,
            )
        ports = {"public": self.public_address, "internal": self.internal_address}
        if self._health is not None:
            ports["health"] = self._health.address
        where = {name: host_port(*address) for name, address in ports.items()}
        log.info("server listens", extra=fields(**where, clusters=len(self.clusters.clusters)))

    def told(self) -> None:
        """It is to end: no agent is let in any more."""
        self.agents.draining = True

    def drain(self) -> None:
        """Shut down gracefully: agents are told to dial elsewhere, requests finish, watches are ended."""
        if self.draining:
            return
        self.draining = self.agents.draining = True
        log.info("draining", extra=fields(seconds=self.config.drain))
        # At once: an agent that is sent away must not come back to this server.
        self._public_listener.stop_accepting()
        if self.membership is not None:
            self.membership.drain()
        for session in self.registry.all():
            session.asked = False
            session.tunnel.mux.goaway(DRAINING, "the server is draining")
        until = monotonic() + self.config.drain
        self.clients.drain(self.config.drain, self._stop_accepting)
        while self.membership is not None and self.membership.busy and monotonic() < until:
            gevent.sleep(0.05)
        self.stop()

    def stop(self) -> None:
        """End at once."""
        self.draining = True
        self.agents.stop()
        self._stop_accepting()
        gevent.killall(self._greenlets, block=False)
        self._accounts.close()
        self._lookout.stop()
        self.clients.ending = True
        if self.membership is not None:
            self.membership.stop()
        for session in self.registry.all():
            session.tunnel.end("the server ends")
        self.clients.stop()
        if self._health is not None:
            self._health.stop()
        if self.tracing is not None:
            self.tracing.close()
        self.access.close()

    def _stop_accepting(self) -> None:
        self._public_listener.stop_accepting()
        self._internal_listener.stop_accepting()

    def _handshake_failed(self, peer: Peer, error: HandshakeError) -> None:
        self.metrics.auth_failures("handshake")
        self.history.refused(peer[0], str(error))

    # ── the sessions ───────────────────────────────────────────────────────────────────────────

    def _agent_came(self, cluster: str) -> None:
        if self.membership is not None:
            self.membership.arrived(cluster)

    def changed(self, cluster: str) -> None:
        """The sessions of a cluster are others now, or no longer what they were."""
        if cluster in self.clusters.clusters:
            self.metrics.cluster(cluster).sessions = len(self.registry.of(cluster))
        if self.membership is not None:
            self.membership.changed(cluster)

    def _follow(self) -> None:
        """Look at the files that say who may come in, and end what they no longer allow."""
        while True:
            gevent.sleep(REFRESH)
            self._follow_clusters()
            if self.callers.refresh():
                self.metrics.keep_callers(self.callers.names)
                self.clients.recheck()
            for name in self._accounts.look():
                self._disconnect_stale(name)
            if self._revoked.refresh():
                for name in self.clusters.clusters:
                    self._disconnect_stale(name)
                self.clients.end_revoked()
                if self.membership is not None:
                    self.membership.end_revoked()

    def _follow_clusters(self) -> None:
        errors = self.clusters.errors
        change = self.clusters.refresh()
        if self.clusters.errors > errors:
            self.metrics.reload_errors("clusters")
        if change is None:
            return
        self._accounts.use(self.clusters.clusters)
        log.info(
            "clusters file re-read",
            extra=fields(
                added=sorted(change.added), removed=sorted(change.removed), changed=sorted(change.changed)
            ),
        )
        for name in change.removed:
            self._disconnect(name, "the cluster was removed")
            self.clients.forget(name)
            self.agents.forget(name)
        for name in change.changed:
            self._disconnect_stale(name)
        for name in change.added:
            self.metrics.cluster(name)

    def _disconnect(self, cluster: str, reason: str) -> None:
        for session in self.registry.of(cluster):
            session.tunnel.end(reason)

    def _disconnect_stale(self, name: str) -> None:
        """End the sessions that would no longer be let in, or would be targeted elsewhere."""
        target = self.clusters.clusters[name].target_addr or ""
        for session in self.registry.of(name):
            if not self.agents.admitted(session):
                session.tunnel.end("the agent is no longer let in")
            elif target != session.named:
                session.tunnel.end("the cluster's target has changed")

    def _measure(self) -> None:
        """Keep the gauges of live tunnels no older than a second, and look at the certificates as often."""
        before = thread_time()
        while True:
            gevent.sleep(1.0)
            for tls in self._followed:
                # A set that is broken is reported now, and not at the next handshake.
                tls.context()
            for name in self.clusters.clusters:
                stats = self.metrics.cluster(name)
                sessions = self.registry.of(name)
                stats.active = sum(len(s.tunnel.mux.streams) for s in sessions)
                stats.rtt = sessions[-1].tunnel.rtt if sessions else 0.0
                for session in sessions:
                    tally(session.tunnel, stats)
            now = thread_time()
            all_stats = {name: self.metrics.cluster(name) for name in self.clusters.clusters}
            share_out(now - before, list(all_stats.values()))
            before = now
            counts = {name: (stats.bytes_in, stats.bytes_out) for name, stats in all_stats.items()}
            self.rates.measure(counts, monotonic())


def run(config: ServerConfig) -> int:
    """Serve until SIGTERM or SIGINT, then drain; the process's exit code."""
    descriptors.tell(log)
    return process.run(Server(config), log)
