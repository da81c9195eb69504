"""What was last heard of each cluster's agents: when one was here, how it ended, who was refused, and why.

A refusal is kept by what whoever was refused could show, so that nobody displaces the words about an honest
agent by showing less:

    lastRefusal   the cluster's token, or a signature of its account
    lastClaim     a token that names the cluster's account and proves nothing
    lastAttempt   neither, as in a TLS handshake, but it came from where the cluster's last agent was

Of each there is the last one and a count. All other refusals are kept by address, the last STRANGERS of them.
Nothing of it outlives the process.
"""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Literal

from argotun.server.guesses import network_of
from argotun.transport.reply import printable

STRANGERS = 16
"""Addresses that showed nothing of a cluster's whose refusals are remembered."""

Kind = Literal["lastRefusal", "lastClaim", "lastAttempt"]
KINDS: tuple[Kind, ...] = ("lastRefusal", "lastClaim", "lastAttempt")

Status = dict[str, object]


class _Refusals:
    """The last of some refusals, and how many there were."""

    __slots__ = ("at", "count", "peer", "why")

    def __init__(self) -> None:
        self.count = 0
        self.at = 0.0
        self.peer = self.why = ""

    def add(self, peer: str, why: str, now: float) -> None:
        self.count += 1
        self.at, self.peer, self.why = now, peer, printable(why)

    def status(self, now: float) -> Status:
        return {
            "secondsAgo": round(now - self.at, 1),
            "peer": self.peer,
            "why": self.why,
            "count": self.count,
        }


class _Cluster:
    """What is known of one cluster; `seen` is None where no agent has been here."""

    __slots__ = ("end", "home", "refusals", "seen")

    def __init__(self) -> None:
        self.seen: float | None = None
        self.end = self.home = ""
        self.refusals: dict[Kind, _Refusals] = {}


class History:
    """What was last heard; addresses are IP addresses as text, times come from `clock` in seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._clusters: dict[str, _Cluster] = {}
        self._homes: dict[str, set[str]] = {}
        self._strangers: OrderedDict[str, _Refusals] = OrderedDict()

    def came(self, cluster_id: str, address: str) -> None:
        """An agent of the cluster is here."""
        cluster = self._clusters.setdefault(cluster_id, _Cluster())
        self._leave_home(cluster_id, cluster)
        cluster.seen, cluster.end, cluster.home = self._clock(), "", network_of(address)
        self._homes.setdefault(cluster.home, set()).add(cluster_id)

    def gone(self, cluster_id: str, why: str) -> None:
        """An agent of the cluster, which had come, is here no more."""
        cluster = self._clusters.get(cluster_id)
        if cluster is not None and cluster.seen is not None:
            cluster.seen, cluster.end = self._clock(), printable(why)

    def refused(self, address: str, why: str, cluster_id: str = "", *, proved: bool = False) -> None:
        """Somebody was turned away; `cluster_id` is one of the clusters file, "" where it named none.

        `proved` says that it has shown what only that cluster's agent should have.
        """
        kind: Kind = "lastRefusal" if proved else "lastClaim"
        if not cluster_id:
            # An address that several clusters share, as behind a load balancer, tells nothing of one of them.
            neighbours = self._homes.get(network_of(address), set())
            if len(neighbours) != 1:
                self._stranger(network_of(address)).add(address, why, self._clock())
                return
            (cluster_id,), kind = neighbours, "lastAttempt"
        cluster = self._clusters.setdefault(cluster_id, _Cluster())
        cluster.refusals.setdefault(kind, _Refusals()).add(address, why, self._clock())

    def forget(self, cluster_id: str) -> None:
        """The cluster is no longer configured."""
        cluster = self._clusters.pop(cluster_id, None)
        if cluster is not None:
            self._leave_home(cluster_id, cluster)

    def of(self, cluster_id: str, connected: bool) -> Status:
        """For `/status`: `lastSeenSeconds` is None where no agent was here since the server started."""
        now = self._clock()
        cluster = self._clusters.get(cluster_id) or _Cluster()
        seen = cluster.seen if not connected else now
        return {
            "lastSeenSeconds": None if seen is None else round(now - seen, 1),
            "lastEnd": cluster.end,
            **{
                kind: cluster.refusals[kind].status(now) if kind in cluster.refusals else None
                for kind in KINDS
            },
        }

    def strangers(self) -> list[Status]:
        """For `/status`: refusals of those who showed nothing of a cluster's, the last address first."""
        now = self._clock()
        return [refusals.status(now) for refusals in reversed(self._strangers.values())]

    def _stranger(self, network: str) -> _Refusals:
        found = self._strangers.pop(network, None) or _Refusals()
        self._strangers[network] = found
        while len(self._strangers) > STRANGERS:
            self._strangers.popitem(last=False)
        return found

    def _leave_home(self, cluster_id: str, cluster: _Cluster) -> None:
        others = self._homes.get(cluster.home)
        if others is not None:
            others.discard(cluster_id)
            if not others:
                del self._homes[cluster.home]
