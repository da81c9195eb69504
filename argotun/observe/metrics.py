"""Metrics for Prometheus: plain counters on the hot path, turned into families at the scrape.

A request pays for a few additions on an object with slots. Everything that costs more (label
look-ups, strings, families) happens once per scrape, in `collect`. No label value comes from a
path or from an unauthenticated peer, and every label has a bounded set of values.
"""

import platform
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Literal, NamedTuple, Protocol, get_args

import gevent
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from argotun import __version__
from argotun.observe.exposition import render
from argotun.observe.request import Request
from argotun.turns import NEXT_TURN

AuthFailure = Literal[
    "no_token", "unknown_token", "service_account", "certificate", "revoked", "origin", "handshake", "version"
]
"""Why the public port turned an agent away; `handshake` is a TLS handshake that failed, `service_account` a
token that names a cluster's account and proves nothing, `version` an old one of the tunnel's protocol."""

Reloaded = Literal["clusters", "callers", "certificates", "token", "jwks", "revoked", "policy"]
"""Files that are read again while the process runs: token and policy by the agent, certificates by both, the
others by the server."""

Repeated = Literal["not_here", "lost", "refused"]
"""Why a request was asked again: the other replica had no agent, the tunnel or link was lost, or the agent
could not reach its API or was full."""

METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE"))
"""Methods that have their own label value (RFC 9110 §9.3, RFC 5789); all others are OTHER."""

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the latency buckets, seconds; Prometheus' usual ones and watches' ones above."""

_STATUSES = frozenset(int(status) for status in HTTPStatus)
_BOUND_LABELS = (*(f"{bound:g}" for bound in BOUNDS), "+Inf")


@dataclass(slots=True, eq=False)
class TunnelStats:
    """The counters of tunnels, on either side: plain numbers that their owner adds to.

    `bytes_in` goes towards the Kubernetes API and `bytes_out` comes from it: payload bytes of
    streams. `active` is the number of open streams, `rtt` the smoothed round trip in seconds (0 until there
    is one), `stalls` how often a stream had to wait because the peer's socket was full, and
    `window_exhausted` how often a sender used up its credit.
    """

    active: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    rtt: float = 0.0
    stalls: int = 0
    window_exhausted: int = 0

    def carry(self, request: Request) -> None:
        """Add what a request has carried since it was last counted."""
        self.bytes_in += request.bytes_in - request.counted_in
        self.bytes_out += request.bytes_out - request.counted_out
        request.counted_in, request.counted_out = request.bytes_in, request.bytes_out


@dataclass(slots=True, eq=False)
class ClusterStats(TunnelStats):
    """The server's counters of one cluster.

    `frames` came by its tunnels and took `cpu` seconds of a processor; `worked` is by the clock what is not
    in those yet. `sessions` is the number of tunnels that are up, `rate_limited` the number of its requests
    that its own limit or the server's refused, `takeovers` how often an agent came in place of a living one,
    from another address. `hops` counts requests that left by a link, `repeated` by why those that were asked
    again, `relayed` streams that came by one, `relayed_in` and `relayed_out` their bytes to and from the
    agent.
    """

    frames: int = 0
    cpu: float = 0.0
    worked: float = 0.0
    sessions: int = 0
    rate_limited: int = 0
    takeovers: int = 0
    hops: int = 0
    repeated: dict[Repeated, int] = field(default_factory=lambda: dict.fromkeys(get_args(Repeated), 0))
    relayed: int = 0
    relayed_in: int = 0
    relayed_out: int = 0
    requests: dict[tuple[bytes, int], int] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * len(_BOUND_LABELS))
    seconds: float = 0.0

    def relayed_up(self, size: int) -> None:
        """Count bytes that another replica sent to an agent here."""
        self.relayed_in += size

    def relayed_down(self, size: int) -> None:
        """Count bytes that an agent here sent to another replica."""
        self.relayed_out += size

    def observe(self, method: bytes, status: int, seconds: float) -> None:
        """Count one answered request and the seconds it took."""
        key = (method, status)
        requests = self.requests
        if key in requests:
            requests[key] += 1
        else:
            key = (method if method in METHODS else b"OTHER", _bounded(status))
            requests[key] = requests.get(key, 0) + 1
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


def share_out(cpu: float, stats: Sequence[ClusterStats]) -> None:
    """Of `cpu` seconds that the process had, give each cluster what the work on its frames took.

    Work is measured by the clock, turn by turn, which costs a request nothing. On a crowded machine the clock
    goes on while others run, so that all work together is no more than what there was.
    """
    worked = sum(each.worked for each in stats)
    part = min(1.0, cpu / worked) if worked else 0.0
    for each in stats:
        each.cpu += each.worked * part
        each.worked = 0.0


@dataclass(slots=True, eq=False)
class CallerStats:
    """The server's counters of one caller: requests, those of them that were refused, open connections."""

    connections: int = 0
    refused: int = 0
    requests: int = 0


STRANGERS = "none"
"""The label of all together who are no caller, and of everybody at a port that asks for no names."""


def _bounded(status: int) -> int:
    """A registered status as it is, any other as its class (1 to 5), nonsense as 0."""
    if status in _STATUSES:
        return status
    return status // 100 if 100 <= status < 600 else 0


def _status_label(status: int) -> str:
    if status >= 100:
        return str(status)
    return f"{status}xx" if status else "other"


class Certificates(Protocol):
    """The part of a TLS configuration that metrics read at a scrape."""

    @property
    def errors(self) -> int:
        """How often the files changed and could not be used."""

    def expiry(self) -> Mapping[str, float]:
        """Unix times at which certificates end, by a fixed name of each."""


class AccessLines(Protocol):
    """The part of an access log that metrics read at a scrape."""

    @property
    def dropped(self) -> int:
        """Lines that were not written because the output stalled."""


class Places(Protocol):
    """The part of a port's places that metrics read at a scrape."""

    taken: int
    dropped: int
    refused: int


class ReplicaRegistry(Protocol):
    """The part of the registry of replicas that metrics read at a scrape, beside what _REGISTRY_ROWS name."""

    @property
    def errors(self) -> Mapping[str, int]:
        """Failures by what was tried, from a fixed set of names."""


class PeerLink(Protocol):
    """The part of a link to another replica that metrics read at a scrape, beside what _PEER_ROWS name."""

    address: str

    @property
    def up(self) -> bool:
        """Whether the other replica is there."""


_Family = type[CounterMetricFamily] | type[GaugeMetricFamily]
_Labels = tuple[str, ...]


class _Row(NamedTuple):
    kind: _Family
    name: str
    attribute: str
    help: str


_COUNTER, _GAUGE = CounterMetricFamily, GaugeMetricFamily
_TUNNEL_ROWS = (
    _Row(
        _COUNTER,
        "argotun_stream_stalls",
        "stalls",
        "Times that a stream waited because its peer's socket was full",
    ),
    _Row(
        _COUNTER,
        "argotun_window_exhausted",
        "window_exhausted",
        "Times that a stream's sender used up its credit",
    ),
)
_CLUSTER_ROWS = (
    _Row(_GAUGE, "tunnel_active_connections", "active", "Active tunnel connections"),
    _Row(_GAUGE, "argotun_tunnel_sessions", "sessions", "Tunnels that are up"),
    _Row(
        _COUNTER, "argotun_rate_limited", "rate_limited", "Requests to the cluster that a rate limit refused"
    ),
    _Row(
        _COUNTER,
        "argotun_takeovers",
        "takeovers",
        "Agents that came in place of a connected one, from another address",
    ),
    _Row(_COUNTER, "argotun_tunnel_frames", "frames", "Frames that came by the cluster's tunnels"),
    _Row(
        _COUNTER,
        "argotun_tunnel_cpu_seconds",
        "cpu",
        "Seconds of a processor that what came by the cluster's tunnels took",
    ),
    _Row(_COUNTER, "argotun_hops", "hops", "Requests that left by a link to another replica"),
    _Row(_COUNTER, "argotun_relayed_streams", "relayed", "Streams that came by a link"),
    *_TUNNEL_ROWS,
)
_AGENT_ROWS = (
    _Row(_GAUGE, "agent_connected", "connected", "1 if a tunnel is up, 0 if not"),
    _Row(_GAUGE, "argotun_tunnels", "tunnels", "Tunnels that are up"),
    _Row(
        _GAUGE,
        "argotun_api_reachable",
        "api_reachable",
        "1 if the Kubernetes API answered when it was last asked, 0 if not",
    ),
    _Row(_COUNTER, "agent_reconnects", "reconnects", "Reconnection attempts"),
    _Row(
        _COUNTER, "agent_upstream_requests", "upstream_requests", "Requests forwarded to the Kubernetes API"
    ),
    _Row(
        _COUNTER,
        "agent_upstream_errors",
        "upstream_errors",
        "Requests that the Kubernetes API could not be asked",
    ),
    _Row(_GAUGE, "argotun_active_streams", "active", "Open streams of all tunnels"),
    _Row(
        _GAUGE,
        "argotun_policy_outdated",
        "policy_outdated",
        "1 if the policy file cannot be used and the one read before is in force",
    ),
    *_TUNNEL_ROWS,
)


_CALLER_ROWS = (
    _Row(_COUNTER, "argotun_caller_requests", "requests", "Requests by who asked"),
    _Row(_COUNTER, "argotun_caller_refused", "refused", "Requests that who asked may not make"),
    _Row(
        _GAUGE,
        "argotun_caller_connections",
        "connections",
        "Open connections to the internal port by whose they are",
    ),
)

_PEER_ROWS = (
    _Row(_GAUGE, "argotun_peer_up", "up", "1 while the link to a replica is up"),
    _Row(_GAUGE, "argotun_peer_rtt_seconds", "rtt", "Round trip of a link"),
    _Row(_GAUGE, "argotun_peer_streams", "streams", "Streams that were opened on a link"),
)

_REGISTRY_ROWS = (
    _Row(_GAUGE, "argotun_registry_up", "up", "1 while what this replica writes comes back by the feed"),
    _Row(_GAUGE, "argotun_replicas", "replicas", "Live replicas that this one knows, itself too"),
    _Row(_GAUGE, "argotun_routes", "routes", "Clusters that other replicas hold"),
    _Row(_COUNTER, "argotun_registry_beats", "beats", "Beats that were written to the registry"),
    _Row(_COUNTER, "argotun_registry_changes", "changes", "Routes that were written to the registry"),
)


class Metrics(Collector):
    """The metrics of both roles, and the registry that a scrape reads.

    Without a given registry, its own holds Python's process, platform and garbage collector metrics too.
    """

    mode = ""
    reloads: tuple[Reloaded, ...] = ("certificates",)

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        if registry is None:
            registry = CollectorRegistry()
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
            GCCollector(registry=registry)
        self.registry = registry
        self.access_log: AccessLines | None = None
        self._certificates: list[Certificates] = []
        self._reload_errors: dict[str, int] = dict.fromkeys(self.reloads, 0)
        registry.register(self)

    def watch_certificates(self, source: Certificates) -> None:
        """Report a TLS configuration's expiry times and failed reloads."""
        self._certificates.append(source)

    def certificates(self, now: float) -> dict[str, dict[str, object]]:
        """For `/status`: when each certificate ends; `now` is Unix time."""
        return {
            name: {
                "ends": datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "secondsLeft": round(end - now),
            }
            for source in self._certificates
            for name, end in source.expiry().items()
        }

    def reload_errors(self, what: Reloaded) -> None:
        """Count a file that changed and could not be used; the last good one stays in use."""
        self._reload_errors[what] += 1

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics as text and its content type; `accept` is the scraper's Accept header.

        Switches greenlets, so it must not run in the hub.
        """
        return render(self.registry, accept)

    def collect(self) -> Iterator[Metric]:
        """Yield the families that both roles have."""
        running = {(__version__, platform.python_version(), self.mode): 1}
        labels = ("version", "python", "mode")
        yield _family(_GAUGE, "argotun_build_info", "What is running; always 1", labels, running)
        yield _family(
            _GAUGE,
            "argotun_certificate_expiry_timestamp_seconds",
            "Unix time at which a certificate ends",
            ("certificate",),
            {name: end for source in self._certificates for name, end in source.expiry().items()},
        )
        broken = {**self._reload_errors}
        broken["certificates"] += sum(source.errors for source in self._certificates)
        told = "Changed files that could not be used"
        yield _family(_COUNTER, "argotun_reload_errors", told, ("what",), broken)
        yield CounterMetricFamily(
            "argotun_access_log_dropped_lines",
            "Access lines that were not written because the output stalled",
            self.access_log.dropped if self.access_log else 0,
        )


class ServerMetrics(Metrics):
    """The server's metrics; clusters come and go by `cluster` and `forget`."""

    mode = "server"
    reloads = ("clusters", "callers", "certificates", "jwks", "revoked")

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._rate_limited_by_forgotten = 0
        self._clusters: dict[str, ClusterStats] = {}
        self._callers: dict[str, CallerStats] = {}
        self._ports: dict[str, Places] = {}
        self._registries: list[ReplicaRegistry] = []
        self.links: Iterable[PeerLink] = ()
        self.same_replica = 0
        """Agents that were led to a replica that they were connected to already."""
        self.agents_asked = 0
        """Agents that were asked to move to another replica."""
        self._auth_failures: dict[str, int] = dict.fromkeys(get_args(AuthFailure), 0)
        super().__init__(registry)

    def cluster(self, cluster_id: str) -> ClusterStats:
        """The cluster's counters, made at the first call; keep them. Only for configured ids."""
        stats = self._clusters.get(cluster_id)
        if stats is None:
            stats = self._clusters[cluster_id] = ClusterStats()
        return stats

    def forget(self, cluster_id: str) -> None:
        """Remove all series of a cluster that is no longer configured."""
        stats = self._clusters.pop(cluster_id, None)
        if stats is not None:
            self._rate_limited_by_forgotten += stats.rate_limited  # a counter never falls

    def caller(self, name: str) -> CallerStats:
        """A caller's counters, made at the first call; "" is for all who are none. Only for listed names."""
        stats = self._callers.get(name)
        if stats is None:
            stats = self._callers[name] = CallerStats()
        return stats

    def keep_callers(self, names: Iterable[str]) -> None:
        """Remove all series of callers that are not listed any more."""
        kept = {"", *names}
        self._callers = {name: stats for name, stats in self._callers.items() if name in kept}
        for name in kept:
            self.caller(name)

    def caller_status(self) -> dict[str, dict[str, int]]:
        """Connections, requests and refusals of each caller, for a person."""
        return {
            name or STRANGERS: {
                "connections": stats.connections,
                "requests": stats.requests,
                "refused": stats.refused,
            }
            for name, stats in self._callers.items()
        }

    def watch_port(self, name: str, places: Places) -> None:
        """Report how full a port is, and whom it sends away."""
        self._ports[name] = places

    def watch_registry(self, registry: ReplicaRegistry) -> None:
        """Report how the registry of replicas does, where there is one."""
        self._registries = [registry]

    def auth_failures(self, reason: AuthFailure) -> None:
        """Count an agent that was turned away."""
        self._auth_failures[reason] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield all families of the server."""
        yield from super().collect()
        clusters = list(self._clusters.items())
        yield from _requests(clusters)
        yield from _rows(_CLUSTER_ROWS, [((name,), stats) for name, stats in clusters], ("cluster",))
        yield from _links([((name,), stats) for name, stats in clusters], ("cluster",))
        yield from self._peers(clusters)
        callers = [((name or STRANGERS,), stats) for name, stats in self._callers.items()]
        yield from _rows(_CALLER_ROWS, callers, ("caller",))
        yield GaugeMetricFamily(
            "agents_connected", "Connected agents", sum(stats.sessions for _, stats in clusters)
        )
        yield CounterMetricFamily(
            "proxy_rate_limited",
            "Requests that a rate limit refused",
            self._rate_limited_by_forgotten + sum(stats.rate_limited for _, stats in clusters),
        )
        turned_away = "Agents that were turned away"
        yield _family(_COUNTER, "argotun_auth_failures", turned_away, ("reason",), self._auth_failures)
        yield CounterMetricFamily(
            "argotun_agents_same_replica",
            "Agents that looked for another replica and were led to this one again",
            self.same_replica,
        )
        yield CounterMetricFamily(
            "argotun_agents_asked_to_move",
            "Agents that were asked to move to a replica with fewer",
            self.agents_asked,
        )
        yield from self._places()
        yield from _rows(_REGISTRY_ROWS, [((), registry) for registry in self._registries], ())
        failures = {name: n for registry in self._registries for name, n in registry.errors.items()}
        told = "Failures at the registry of replicas"
        yield _family(_COUNTER, "argotun_registry_errors", told, ("operation",), failures)

    def _peers(self, clusters: list[tuple[str, ClusterStats]]) -> Iterator[Metric]:
        yield _family(
            _COUNTER,
            "argotun_requests_repeated",
            "Requests that were asked again of another agent",
            ("cluster", "reason"),
            {(name, why): count for name, stats in clusters for why, count in stats.repeated.items()},
        )
        yield _by_direction(
            "argotun_relayed_bytes",
            "Bytes of streams that came by a link",
            ("cluster",),
            [((name,), stats.relayed_in, stats.relayed_out) for name, stats in clusters],
        )
        # A process may have been started at the address of one that is not forgotten yet.
        links = {(link.address,): link for link in sorted(self.links, key=lambda link: link.up)}
        yield from _rows(_PEER_ROWS, list(links.items()), ("peer",))

    def _places(self) -> Iterator[Metric]:
        taken = {name: places.taken for name, places in self._ports.items()}
        yield _family(_GAUGE, "argotun_connections", "Connections of a port", ("port",), taken)
        sent = {(name, "refused"): places.refused for name, places in self._ports.items()}
        sent |= {(name, "dropped"): places.dropped for name, places in self._ports.items()}
        told = "Connections that a full port refused, or dropped before they had shown who they are"
        yield _family(_COUNTER, "argotun_connections_sent_away", told, ("port", "reason"), sent)


class AgentMetrics(Metrics, TunnelStats):
    """The agent's metrics: plain attributes; `policy_rules` are the only labels."""

    mode = "agent"
    reloads = ("certificates", "token", "policy")

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        TunnelStats.__init__(self)
        self.connected = 0
        self.tunnels = 0
        self.api_reachable = 0
        self.reconnects = 0
        self.upstream_requests = 0
        self.upstream_errors = 0
        self.policy_outdated = 0
        self._policy_refusals: dict[str, int] = {}
        Metrics.__init__(self, registry)

    def policy_rules(self, names: Iterable[str]) -> None:
        """These rules are in force from now on; the series of others go."""
        self._policy_refusals = {name: self._policy_refusals.get(name, 0) for name in names}

    @property
    def refusals(self) -> dict[str, int]:
        """Requests that rules in force have refused, by rule; one that has refused none is left out."""
        return {rule: count for rule, count in self._policy_refusals.items() if count}

    def policy_refused(self, rule: str) -> None:
        """Count a request that a rule in force refused."""
        self._policy_refusals[rule] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield all families of the agent."""
        yield from super().collect()
        told = "Requests that the customer's policy refused"
        yield _family(_COUNTER, "argotun_policy_refusals", told, ("rule",), self._policy_refusals)
        yield from _rows(_AGENT_ROWS, [((), self)], ())
        yield from _links([((), self)], ())


def _requests(clusters: Iterable[tuple[str, ClusterStats]]) -> Iterator[Metric]:
    """Requests and their durations, by cluster."""
    total = CounterMetricFamily("proxy_requests", "Proxied requests", labels=("cluster", "method", "status"))
    duration = HistogramMetricFamily("proxy_request_duration_seconds", "Request latency", labels=("cluster",))
    for done, (name, stats) in enumerate(clusters, 1):
        for (method, status), count in stats.requests.items():
            total.add_metric((name, method.decode("ascii"), _status_label(status)), count)
        seen = 0
        cumulative = []
        for label, count in zip(_BOUND_LABELS, stats.buckets, strict=True):
            seen += count
            cumulative.append((label, seen))
        duration.add_metric((name,), cumulative, stats.seconds)
        if done % 50 == 0:
            gevent.sleep(NEXT_TURN)  # between two clusters, so that each one's numbers fit together
    yield total
    yield duration


def _family(kind: _Family, name: str, told: str, labels: _Labels, samples: Mapping[Any, float]) -> Metric:
    """One family, with a number for each value of its label, or for each tuple of them."""
    family = kind(name, told, labels=labels)
    for values, number in samples.items():
        family.add_metric((values,) if isinstance(values, str) else values, number)
    return family


def _by_direction(
    name: str, told: str, labels: _Labels, counts: Iterable[tuple[_Labels, int, int]]
) -> Metric:
    """One family of bytes to the clusters and from them."""
    both = {
        (*values, way): count
        for values, to, back in counts
        for way, count in (("to_cluster", to), ("from_cluster", back))
    }
    return _family(_COUNTER, name, told, (*labels, "direction"), both)


def _rows(
    rows: Iterable[_Row], owners: Sequence[tuple[_Labels, object]], labels: _Labels
) -> Iterator[Metric]:
    """One family per row of a table, one sample per owner."""
    for kind, name, attribute, told in rows:
        samples = {values: getattr(owner, attribute) for values, owner in owners}
        yield _family(kind, name, told, labels, samples)


def _links(owners: Sequence[tuple[_Labels, TunnelStats]], labels: _Labels) -> Iterator[Metric]:
    """Bytes by direction and round-trip time of each tunnel."""
    counts = [(values, owner.bytes_in, owner.bytes_out) for values, owner in owners]
    yield _by_direction("argotun_payload_bytes", "Payload bytes of streams", labels, counts)
    trips = {values: owner.rtt for values, owner in owners if owner.rtt}
    told = "Smoothed round trip of a tunnel"
    yield _family(_GAUGE, "argotun_tunnel_rtt_seconds", told, labels, trips)
