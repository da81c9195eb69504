"""What a server says of itself to a person and to probes: whether it is ready, and who is connected."""

from time import monotonic, time
from typing import TYPE_CHECKING, Protocol

import argotun
from argotun.observe.metrics import ServerMetrics
from argotun.observe.probes import Probes
from argotun.observe.rates import Rates
from argotun.server.clients import ClientPort
from argotun.server.clusters import ClustersFile
from argotun.server.history import History
from argotun.server.registry import Registry, Session
from argotun.wire.hello import Hello

if TYPE_CHECKING:
    from argotun.server.membership import Membership


class StatusParts(Protocol):
    """The parts of a server that have something to say."""

    draining: bool
    clusters: ClustersFile
    registry: Registry
    clients: ClientPort
    history: History
    metrics: ServerMetrics
    rates: Rates
    membership: "Membership | None"


class Status:
    """What `server` answers at the moment that it is asked."""

    def __init__(self, server: StatusParts) -> None:
        self._server = server
        self._since = monotonic()

    def probes(self, discreet: bool = False) -> Probes:
        """The answers of a port; `discreet` where whoever reaches it shows nothing of who they are."""
        status = self.summary if discreet else self.whole
        return Probes(self.ready, self._server.metrics, status, self.unready_reason, self.joined)

    def ready(self) -> bool:
        """Whether it can do its work: an agent is here, or another replica can be reached."""
        server = self._server
        linked = server.membership is not None and server.membership.links.reachable
        return not server.draining and (len(server.registry) > 0 or linked)

    def joined(self) -> bool:
        """Whether the other replicas are known."""
        return self._server.membership is None or self._server.membership.joined

    def unready_reason(self) -> str:
        """Why it is not ready."""
        return "draining" if self._server.draining else "no agent is connected"

    def summary(self) -> dict[str, object]:
        """The whole without what is said of each cluster and caller: for whoever shows nothing of himself."""
        server = self._server
        return {
            **self._own(),
            "clusters": len(server.clusters.clusters),
            "connected": sum(bool(server.registry.of(name)) for name in server.clusters.clusters),
            "agents": len(server.registry),
        }

    def whole(self) -> dict[str, object]:
        """Everything, in values that JSON has."""
        server, now = self._server, monotonic()
        clusters = {
            name: [_agent(session, now) for session in server.registry.of(name)]
            for name in server.clusters.clusters
        }
        elsewhere = {"elsewhere": server.membership.elsewhere()} if server.membership is not None else {}
        return {
            **self._own(),
            "clusters": clusters,
            "history": {name: server.history.of(name, bool(agents)) for name, agents in clusters.items()},
            "traffic": {name: self._traffic(name) for name in clusters},
            "strangers": server.history.strangers(),
            "callers": server.metrics.caller_status(),
            **elsewhere,
        }

    def _own(self) -> dict[str, object]:
        """What is said of no cluster and no caller."""
        server = self._server
        return {
            "mode": "server",
            "version": argotun.__version__,
            "uptimeSeconds": round(monotonic() - self._since, 1),
            "draining": server.draining,
            "connections": len(server.clients.connections),
            "certificates": server.metrics.certificates(time()),
            **(server.membership.status() if server.membership is not None else {}),
        }

    def _traffic(self, cluster: str) -> dict[str, object]:
        """What one cluster's requests carry, and how often an agent took over from a living one."""
        to, back = self._server.rates.of(cluster)
        return {
            "toClusterBytesPerSecond": round(to),
            "fromClusterBytesPerSecond": round(back),
            "takeovers": self._server.metrics.cluster(cluster).takeovers,
        }


def _agent(session: Session, now: float) -> dict[str, object]:
    """One tunnel of an agent."""
    return {
        "peer": session.peer,
        "release": session.release,
        "version": session.tunnel.version,
        "target": session.target or (session.tunnel.mux.theirs or Hello()).target,
        "streams": len(session.tunnel.mux.streams),
        "rttSeconds": round(session.tunnel.rtt, 6),
        "connectedSeconds": round(now - session.since, 1),
        "draining": session.lingering or not session.usable,
        "certificateSeconds": None if session.ends is None else round(session.ends - time()),
    }
