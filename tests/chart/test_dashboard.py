"""Every query of the dashboard, asked of a real Prometheus that scrapes a real server and a real agent."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests
import yaml
from gevent import subprocess

from argotun.observe.metrics import ServerMetrics
from argotun.observe.probes import HealthServer, Probes
from bench.ports import free_port
from tests.chart.helm import CHART
from tests.rig import PATIENCE, Api, Rig, answers_its_own, until

DASHBOARD = json.loads((CHART / "files" / "dashboard.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
WELL = 'sum by (cluster) (argotun_tunnel_sessions{cluster=~"$cluster"}) == 0'
"""The one query that has no answer while all is well."""

SCRAPE = "4s"
"""Between two scrapes, and for one: on a busy machine one that is late makes all its series stale."""

LONG = 3 * PATIENCE
"""Seconds; a query whose target was just not scraped has no answer for one or two scrapes."""

POLICY = "presets: [no-secrets]\n"


class Registry:
    """A registry of replicas that says what one says."""

    up, replicas, routes, beats, changes = True, 2, 1, 10, 3
    errors: ClassVar = {"write": 0, "read": 1, "resync": 0}


class Link:
    """A link to another replica."""

    address, up, rtt, streams = "10.0.0.8:8444", True, 0.0004, 3


class Prometheus:
    """One that scrapes these addresses every SCRAPE, with a label `cluster` of its own on every target."""

    def __init__(self, folder: Path, *addresses: tuple[str, int], honor_labels: bool) -> None:
        program = shutil.which("prometheus")
        if program is None:
            pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
        targets = [f"{host}:{port}" for host, port in addresses]
        labels = {"cluster": "where-prometheus-is", "namespace": "argotun"}
        scrape = {
            "job_name": "argotun",
            "honor_labels": honor_labels,
            "static_configs": [{"targets": targets, "labels": labels}],
        }
        config = {"global": {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE}, "scrape_configs": [scrape]}
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            return requests.get(f"{self.url}/-/ready", timeout=5).ok
        except requests.RequestException:
            return False

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The samples of an instant query."""
        said = requests.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=LONG).json()
        assert said["status"] == "success", said
        result: list[dict[str, Any]] = said["data"]["result"]
        return result

    def clusters(self, query: str) -> set[str | None]:
        """The values of the label `cluster` in the answer."""
        return {each["metric"].get("cluster") for each in self.ask(query)}


def filled(query: str) -> str:
    """A query as Grafana sends it, with all clusters chosen."""
    return query.replace("$cluster", ".*").replace("$__rate_interval", "5m")


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[str, int]]]:
    """The health ports of a server, an agent, and of what a server among replicas reports beside."""
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(POLICY)
    health = {"health_addr": ("127.0.0.1", 0)}
    others = ServerMetrics()
    others.watch_registry(Registry())
    others.links = [Link()]
    replica = HealthServer("127.0.0.1", 0, Probes(lambda: True, others, dict))
    replica.start()
    with Rig(Api(answers_its_own), server=health, agent={**health, "policy": str(policy)}) as rig:
        rig.write_clusters([{"id": "c1", "token": Rig.TOKEN}, {"id": "c2", "token": "token-of-agent-c2"}])
        until(lambda: "c2" in rig.server.clusters.clusters, "the clusters")
        for path, status in (("c1/api", 200), ("c1/api/v1/secrets", 403), ("c2/api/v1/pods", 503)):
            assert rig.get(f"/tunnel/{path}").status == status
        assert rig.server._health is not None
        assert rig.agent.health is not None
        yield [rig.server._health.address, rig.agent.health.address, replica.address]
    replica.stop()


@pytest.fixture(scope="module")
def prometheus(
    addresses: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), *addresses, honor_labels=True)
    until(prometheus.ready, "Prometheus", LONG)
    yield prometheus
    prometheus.stop()


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_has_an_answer(prometheus: Prometheus, query: str) -> None:
    # A rate needs two scrapes.
    until(lambda: prometheus.ask(filled(query)), "an answer", LONG, explain=lambda: query)


def test_only_the_lost_cluster_is_named(prometheus: Prometheus) -> None:
    assert WELL in [target["expr"] for panel in PANELS for target in panel["targets"]]
    until(lambda: prometheus.clusters(filled(WELL)) == {"c2"}, "the lost cluster", LONG)


def test_a_targets_own_cluster_is_no_customers(prometheus: Prometheus) -> None:
    until(lambda: prometheus.clusters("argotun_tunnel_sessions") == {"c1", "c2"}, "the clusters", LONG)
    # Where argotun says nothing of it the target's label stands.
    until(lambda: prometheus.clusters("argotun_build_info") == {"where-prometheus-is"}, "the other", LONG)


def test_without_honor_labels_the_dashboard_would_see_one_cluster(
    addresses: list[tuple[str, int]], tmp_path: Path
) -> None:
    """Why both monitors set it."""
    other = Prometheus(tmp_path, *addresses, honor_labels=False)
    try:
        until(other.ready, "Prometheus", LONG)
        sessions = "argotun_tunnel_sessions"
        until(lambda: other.clusters(sessions) == {"where-prometheus-is"}, "the one cluster", LONG)
    finally:
        other.stop()


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_is_described_and_drawn_as_what_it_asks_for(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        # A table of a range would show times in place of names.
        assert (target.get("format") == "table") is (panel["type"] == "table")
        assert bool(target.get("instant")) is (panel["type"] in ("table", "stat"))


@pytest.mark.parametrize(
    "metric",
    [
        *(
            "agent_connected",
            "argotun_api_reachable",
            "argotun_policy_refusals_total",
            "argotun_takeovers_total",
        ),
        *("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"),
        *("argotun_certificate_expiry_timestamp_seconds", "argotun_replicas", "argotun_peer_up"),
    ],
)
def test_it_shows_what_an_operator_looks_for(metric: str) -> None:
    assert any(metric in target["expr"] for panel in PANELS for target in panel["targets"])
