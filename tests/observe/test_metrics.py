"""Metrics: names that dashboards rely on, bounded labels, and text that Prometheus can read."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import ClassVar

import gevent
import gevent.socket
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from argotun.observe import exposition
from argotun.observe.metrics import (
    BOUNDS,
    AgentMetrics,
    ClusterStats,
    Metrics,
    ServerMetrics,
    share_out,
)

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def families(metrics: Metrics) -> dict[str, Metric]:
    body, _ = metrics.exposition()
    return {family.name: family for family in parse(body.decode())}


def value(metrics: Metrics, sample: str, **labels: str) -> float | None:
    """The value of one sample, None where there is none with exactly these labels."""
    for family in families(metrics).values():
        for each in family.samples:
            if each.name == sample and each.labels == labels:
                return each.value
    return None


@pytest.fixture
def server() -> ServerMetrics:
    metrics = ServerMetrics()
    metrics.cluster("dev").observe(b"GET", 200, 0.02)
    return metrics


# Names and types that the Go system's dashboards and alerts use.
SERVER_NAMES = [
    ("proxy_requests", "counter", "proxy_requests_total", {"cluster", "method", "status"}),
    ("proxy_request_duration_seconds", "histogram", "proxy_request_duration_seconds_sum", {"cluster"}),
    ("tunnel_active_connections", "gauge", "tunnel_active_connections", {"cluster"}),
    ("agents_connected", "gauge", "agents_connected", set()),
    ("proxy_rate_limited", "counter", "proxy_rate_limited_total", set()),
]
AGENT_NAMES = [
    ("agent_connected", "gauge", "agent_connected", set()),
    ("agent_reconnects", "counter", "agent_reconnects_total", set()),
    ("agent_upstream_requests", "counter", "agent_upstream_requests_total", set()),
    ("agent_upstream_errors", "counter", "agent_upstream_errors_total", set()),
]


@pytest.mark.parametrize("up", [(True, False), (False, True)])
def test_two_links_to_one_address_are_one_series_that_is_the_living_ones(
    up: tuple[bool, bool], server: ServerMetrics
) -> None:
    """Of a replica that is not forgotten yet, and of the process that was started at its address."""
    server.links = [SimpleNamespace(address="10.0.0.7:8444", up=each, rtt=0.0, streams=0) for each in up]
    body, _ = server.exposition()
    found = [line for line in body.decode().splitlines() if line.startswith("argotun_peer_up{")]
    assert found == ['argotun_peer_up{peer="10.0.0.7:8444"} 1.0']


@pytest.mark.parametrize(("name", "kind", "sample", "labels"), SERVER_NAMES)
def test_server_keeps_the_known_names(
    server: ServerMetrics, name: str, kind: str, sample: str, labels: set[str]
) -> None:
    family = families(server)[name]
    assert family.type == kind
    assert [set(each.labels) for each in family.samples if each.name == sample] == [labels]


@pytest.mark.parametrize(("name", "kind", "sample", "labels"), AGENT_NAMES)
def test_agent_keeps_the_known_names(name: str, kind: str, sample: str, labels: set[str]) -> None:
    family = families(AgentMetrics())[name]
    assert family.type == kind
    assert [set(each.labels) for each in family.samples if each.name == sample] == [labels]


@pytest.mark.parametrize("metrics", [ServerMetrics(), AgentMetrics()], ids=["server", "agent"])
def test_every_other_name_has_our_prefix(metrics: Metrics) -> None:
    known = {name for name, *_ in SERVER_NAMES + AGENT_NAMES}
    strange = [
        name
        for name in families(metrics)
        if name not in known and not name.startswith(("argotun_", "process_", "python_"))
    ]
    assert strange == []


def test_process_metrics_are_there() -> None:
    assert {"process_resident_memory_bytes", "python_info", "python_gc_collections"} <= set(
        families(AgentMetrics())
    )


@pytest.mark.parametrize(
    ("attribute", "sample", "labels"),
    [
        ("active", "tunnel_active_connections", {}),
        ("sessions", "argotun_tunnel_sessions", {}),
        ("rtt", "argotun_tunnel_rtt_seconds", {}),
        ("stalls", "argotun_stream_stalls_total", {}),
        ("window_exhausted", "argotun_window_exhausted_total", {}),
        ("rate_limited", "argotun_rate_limited_total", {}),
        ("frames", "argotun_tunnel_frames_total", {}),
        ("cpu", "argotun_tunnel_cpu_seconds_total", {}),
        ("bytes_in", "argotun_payload_bytes_total", {"direction": "to_cluster"}),
        ("bytes_out", "argotun_payload_bytes_total", {"direction": "from_cluster"}),
    ],
)
def test_cluster_attribute_shows_under_its_name(attribute: str, sample: str, labels: dict[str, str]) -> None:
    metrics = ServerMetrics()
    setattr(metrics.cluster("dev"), attribute, 7)
    metrics.cluster("other")
    assert value(metrics, sample, cluster="dev", **labels) == 7


@pytest.mark.parametrize(
    ("attribute", "sample", "labels"),
    [
        ("connected", "agent_connected", {}),
        ("reconnects", "agent_reconnects_total", {}),
        ("upstream_requests", "agent_upstream_requests_total", {}),
        ("upstream_errors", "agent_upstream_errors_total", {}),
        ("active", "argotun_active_streams", {}),
        ("rtt", "argotun_tunnel_rtt_seconds", {}),
        ("stalls", "argotun_stream_stalls_total", {}),
        ("window_exhausted", "argotun_window_exhausted_total", {}),
        ("bytes_in", "argotun_payload_bytes_total", {"direction": "to_cluster"}),
        ("bytes_out", "argotun_payload_bytes_total", {"direction": "from_cluster"}),
    ],
)
def test_agent_attribute_shows_under_its_name(attribute: str, sample: str, labels: dict[str, str]) -> None:
    metrics = AgentMetrics()
    setattr(metrics, attribute, 7)
    assert value(metrics, sample, **labels) == 7


def test_no_round_trip_time_before_the_first_one() -> None:
    metrics = ServerMetrics()
    metrics.cluster("dev")
    assert families(metrics)["argotun_tunnel_rtt_seconds"].samples == []


def test_unknown_methods_share_one_series() -> None:
    metrics = ServerMetrics()
    for method in (b"BREW", b"get", b"", b"\xff\n", b"GET "):
        metrics.cluster("dev").observe(method, 200, 0.1)
    assert value(metrics, "proxy_requests_total", cluster="dev", method="OTHER", status="200") == 5


@pytest.mark.parametrize(
    ("status", "label"), [(200, "200"), (409, "409"), (299, "2xx"), (599, "5xx"), (0, "other"), (-1, "other")]
)
def test_unregistered_statuses_show_as_their_class(status: int, label: str) -> None:
    metrics = ServerMetrics()
    metrics.cluster("dev").observe(b"GET", status, 0.1)
    metrics.cluster("dev").observe(b"GET", status, 0.1)
    assert value(metrics, "proxy_requests_total", cluster="dev", method="GET", status=label) == 2


def test_work_by_the_clock_is_no_more_than_the_processor_that_there_was() -> None:
    """On a crowded machine a turn lasts longer than the work in it."""
    busy, idle, half = ClusterStats(), ClusterStats(), ClusterStats()
    busy.worked, half.worked = 1.0, 0.5
    share_out(0.3, [busy, idle, half])
    assert (busy.cpu, idle.cpu, half.cpu) == (pytest.approx(0.2), 0.0, pytest.approx(0.1))
    busy.worked = 0.1
    share_out(0.3, [busy, idle, half])
    assert busy.cpu == pytest.approx(0.3)
    share_out(0.3, [busy, idle, half])
    assert busy.cpu == pytest.approx(0.3)


def test_a_peer_cannot_make_series_without_end() -> None:
    stats = ClusterStats()
    for status in range(-100, 2000):
        for method in (b"GET", b"M%d" % status):
            stats.observe(method, status, 0.1)
    assert len(stats.requests) < 200


@given(st.lists(st.floats(min_value=0, max_value=1e6)))
def test_histogram_counts_each_duration_once_in_the_right_bucket(durations: list[float]) -> None:
    metrics = ServerMetrics()
    stats = metrics.cluster("dev")
    for seconds in durations:
        stats.observe(b"GET", 200, seconds)
    samples = [
        each
        for family in metrics.collect()
        if family.name == "proxy_request_duration_seconds"
        for each in family.samples
    ]
    buckets = {each.labels["le"]: each.value for each in samples if each.name.endswith("_bucket")}
    expected = {f"{bound:g}": sum(seconds <= bound for seconds in durations) for bound in BOUNDS}
    assert buckets == {**expected, "+Inf": len(durations)}
    assert [each.value for each in samples if each.name.endswith("_sum")] == [pytest.approx(sum(durations))]


def test_forget_removes_every_series_of_the_cluster(server: ServerMetrics) -> None:
    gone = server.cluster("gone")
    gone.observe(b"GET", 200, 0.1)
    gone.rtt = 0.1
    assert b'cluster="gone"' in server.exposition()[0]
    server.forget("gone")
    body, _ = server.exposition()
    assert b'cluster="gone"' not in body
    assert b'cluster="dev"' in body


def test_forget_of_an_unknown_cluster_is_harmless(server: ServerMetrics) -> None:
    server.forget("never")


def test_the_rate_limit_total_never_falls() -> None:
    metrics = ServerMetrics()
    metrics.cluster("gone").rate_limited = 3
    metrics.cluster("dev").rate_limited = 4
    metrics.forget("gone")
    assert value(metrics, "proxy_rate_limited_total") == 7


def test_connected_agents_are_the_sum_over_clusters() -> None:
    metrics = ServerMetrics()
    metrics.cluster("a").sessions = 2
    metrics.cluster("b").sessions = 1
    assert value(metrics, "agents_connected") == 3


def test_failures_count_from_zero_by_reason() -> None:
    metrics = ServerMetrics()
    metrics.auth_failures("origin")
    metrics.reload_errors("clusters")
    assert value(metrics, "argotun_auth_failures_total", reason="origin") == 1
    assert value(metrics, "argotun_auth_failures_total", reason="unknown_token") == 0
    assert value(metrics, "argotun_reload_errors_total", what="clusters") == 1
    assert value(metrics, "argotun_reload_errors_total", what="certificates") == 0


def test_certificates_show_their_end_and_their_failed_reloads() -> None:
    class Tls:
        errors = 2

        def expiry(self) -> dict[str, float]:
            return {"tls-cert": 1.8e9}

    metrics = AgentMetrics()
    metrics.watch_certificates(Tls())
    metrics.reload_errors("certificates")
    name = "argotun_certificate_expiry_timestamp_seconds"
    assert value(metrics, name, certificate="tls-cert") == 1.8e9
    assert value(metrics, "argotun_reload_errors_total", what="certificates") == 3


def test_dropped_access_lines_show() -> None:
    class Access:
        dropped = 5

    metrics = ServerMetrics()
    assert value(metrics, "argotun_access_log_dropped_lines_total") == 0
    metrics.access_log = Access()
    assert value(metrics, "argotun_access_log_dropped_lines_total") == 5


def test_build_info_names_the_mode() -> None:
    (sample,) = families(ServerMetrics())["argotun_build_info"].samples
    assert sample.labels["mode"] == "server"
    assert sample.value == 1


@pytest.fixture
def many() -> ServerMetrics:
    """More clusters than one slice holds."""
    metrics = ServerMetrics()
    for number in range(60):
        stats = metrics.cluster(f"cluster-{number}")
        for status in (200, 201, 404, 409, 503):
            for method in (b"GET", b"PATCH"):
                stats.observe(method, status, 0.1 * number)
        stats.rtt = 0.1
    assert len(metrics.cluster("cluster-0").requests) * 60 > exposition.SLICE
    return metrics


def ours(parsed: list[Metric]) -> list[Metric]:
    """Families whose values do not move between two scrapes."""
    return [family for family in parsed if not family.name.startswith(("process_", "python_"))]


def test_slices_add_up_to_what_the_library_writes(many: ServerMetrics) -> None:
    body, content_type = many.exposition()
    whole = generate_latest(many.registry)
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert ours(list(parse(body.decode()))) == ours(list(parse(whole.decode())))


def test_slices_add_up_in_openmetrics(many: ServerMetrics) -> None:
    body, content_type = many.exposition(OPENMETRICS)
    whole = generate_openmetrics(many.registry)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert ours(list(parse_openmetrics(body.decode()))) == ours(list(parse_openmetrics(whole.decode())))


def test_a_scrape_lets_other_greenlets_run() -> None:
    class Wide:
        def collect(self) -> Iterator[Metric]:
            family = GaugeMetricFamily("wide", "Ten slices", labels=("number",))
            for number in range(10 * exposition.SLICE):
                family.add_metric((str(number),), number)
            yield family

    turns = 0
    ours, theirs = gevent.socket.socketpair()
    theirs.sendall(b"always readable")

    def other() -> None:
        nonlocal turns
        while True:
            gevent.socket.wait_read(ours.fileno())
            turns += 1

    greenlet = gevent.spawn(other)
    try:
        exposition.render(Wide())
        assert turns >= 9
    finally:
        greenlet.kill()
        ours.close()
        theirs.close()


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_a_strange_cluster_name_does_not_break_the_text(accept: str) -> None:
    name = 'a"b\\c\nd é'
    metrics = ServerMetrics()
    metrics.cluster(name).sessions = 1
    body, _ = metrics.exposition(accept)
    parsed = (parse_openmetrics if accept else parse)(body.decode())
    found = [
        each.labels
        for family in parsed
        for each in family.samples
        if family.name == "argotun_tunnel_sessions"
    ]
    assert found == [{"cluster": name}]


@pytest.mark.parametrize("accept", ["*/*", "text/html;q=", "text/plain; version=x.y", ",;=,", "\xff"])
def test_a_strange_accept_header_gets_plain_text(accept: str) -> None:
    assert ServerMetrics().exposition(accept)[1].startswith("text/plain")


class Shared:
    """A registry of replicas as metrics see it."""

    up = True
    replicas = 3
    routes = 20
    beats = 7
    changes = 9
    errors: ClassVar[dict[str, int]] = {"write": 1, "read": 0, "resync": 2}


def test_a_registry_of_replicas_is_reported_where_there_is_one() -> None:
    metrics = ServerMetrics()
    assert families(metrics)["argotun_registry_up"].samples == []
    metrics.watch_registry(Shared())
    found = families(metrics)
    shown = {"registry_up": 1, "replicas": 3, "routes": 20, "registry_beats": 7, "registry_changes": 9}
    for name, value in shown.items():
        assert [sample.value for sample in found[f"argotun_{name}"].samples] == [value]
    errors = {each.labels["operation"]: each.value for each in found["argotun_registry_errors"].samples}
    assert errors == {"write": 1, "read": 0, "resync": 2}
