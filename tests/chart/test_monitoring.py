"""Monitors, alerts and the dashboard ask for what argotun reports, and alerts fire when they should."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.helm import CHART, ROOT, Helm, Rendered
from tests.chart.values import AGENT, MATRIX, MODES, SERVER

ALERTS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text("utf-8"))
NAMES = [each["alert"] for each in ALERTS]
METRIC = re.compile(r"\b(?:argotun|proxy|tunnel|agents?)_[a-z_]+\b")
PROMETHEUS = {"monitoring": {"namespace": "monitoring"}}
RUNBOOK = "https://example.com/alerts.md"


def described() -> dict[str, set[str]]:
    """The labels of each metric that docs/operations.md describes."""
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z_]+)(?:\{([a-z,]+)\})?` \| (\w+) \|", text, re.M)
    found = {}
    for name, labels, kind in rows:
        found[name + ("_bucket" if kind == "histogram" else "")] = set(filter(None, labels.split(",")))
    return found


def refuse_unknown(expression: str) -> None:
    """Fail where an expression names a metric, or groups by a label, that argotun does not report."""
    metrics = described()
    named = METRIC.findall(expression)
    assert named, expression
    assert set(named) <= metrics.keys(), expression
    labels = {"le", "namespace", "job"}.union(*(metrics[name] for name in named))
    for group in re.findall(r"by \(([a-z, ]+)\)", expression):
        assert set(group.split(", ")) <= labels, expression
    for label in re.findall(r"[{,](\w+)(?:=|!)", expression):
        assert label in labels, expression


def rules(helm: Helm, mode: str, **more: Any) -> list[dict[str, Any]]:
    """The rules of a release in that mode."""
    values = MODES[mode] | {"prometheusRule": {"enabled": True, "runbookURL": RUNBOOK} | more}
    (group,) = helm.render(values).one("PrometheusRule")["spec"]["groups"]
    return group["rules"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_an_alert_asks_for_what_is_reported(alert: dict[str, Any]) -> None:
    refuse_unknown(alert["expr"])


@pytest.mark.parametrize("mode", MODES)
def test_only_the_alerts_of_the_mode_are_made(helm: Helm, mode: str) -> None:
    made = [each["alert"] for each in rules(helm, mode)]
    assert made == [each["alert"] for each in ALERTS if mode in each["modes"]]
    assert made


@pytest.mark.parametrize("mode", MODES)
def test_every_alert_says_what_to_do(helm: Helm, mode: str) -> None:
    heads = re.findall(r"^## (\w+)$", (ROOT / "docs" / "alerts.md").read_text("utf-8"), re.M)
    assert heads == NAMES
    for each in rules(helm, mode):
        assert each["annotations"]["runbook_url"] == f"{RUNBOOK}#{each['alert'].lower()}"
        assert each["annotations"]["summary"]
        assert each["annotations"]["description"]
        assert each["labels"]["severity"] in {"critical", "warning", "info"}


def test_every_value_reaches_the_alerts(helm: Helm) -> None:
    made = {each["alert"]: each for each in rules(helm, "server", errorRatio=0.25, certificateDays=3)}
    assert made["ArgotunErrorRatio"]["expr"].endswith("> 0.25")
    assert made["ArgotunCertificateExpiring"]["expr"].endswith("< 3 * 86400")
    assert not any("ERROR_RATIO" in each["expr"] or "_DAYS" in each["expr"] for each in made.values())
    labelled = rules(helm, "server", alertLabels={"team": "x"})
    assert all(each["labels"]["team"] == "x" for each in labelled)
    plain = rules(helm, "server", runbookURL="")
    assert not any("runbook_url" in each["annotations"] for each in plain)


# What happens, minute by minute, and whether the alert fires after three hours of it.
Series = dict[str, str]
FIRING: dict[str, tuple[Series, Series]] = {
    "ArgotunClusterWithoutAgent": (
        {'argotun_tunnel_sessions{cluster="a",pod="x"}': "0x180"},
        # A rolling update: the old pod has none any more, the new one has it.
        {
            'argotun_tunnel_sessions{cluster="a",pod="x"}': "0x180",
            'argotun_tunnel_sessions{cluster="a",pod="y"}': "1x180",
        },
    ),
    "ArgotunServerDown": ({"up": "0x180"}, {'argotun_build_info{mode="server"}': "1x180"}),
    "ArgotunErrorRatio": (
        {
            'proxy_requests_total{cluster="a",method="GET",status="200"}': "0+90x180",
            'proxy_requests_total{cluster="a",method="GET",status="503"}': "0+10x180",
        },
        {
            'proxy_requests_total{cluster="a",method="GET",status="404"}': "0+90x180",
            'proxy_requests_total{cluster="a",method="GET",status="503"}': "0+1x180",
            'proxy_requests_total{cluster="idle",method="GET",status="503"}': "7x180",
        },
    ),
    "ArgotunStreamsStalled": (
        {'argotun_stream_stalls_total{cluster="a"}': "0+120x180"},
        {'argotun_stream_stalls_total{cluster="a"}': "0+10x180"},
    ),
    "ArgotunAuthFailures": (
        {'argotun_auth_failures_total{reason="unknown_token"}': "0+1x180"},
        {'argotun_auth_failures_total{reason="unknown_token"}': "0x100 3x80"},
    ),
    "ArgotunTakeovers": (
        # An agent's rollout makes one.
        {'argotun_takeovers_total{cluster="a"}': "0x140 1x5 2x60"},
        {
            'argotun_takeovers_total{cluster="a"}': "0x140 1x60",
            'argotun_takeovers_total{cluster="b"}': "1x180",
        },
    ),
    "ArgotunRegistryDown": (
        {
            'argotun_registry_up{namespace="a",pod="x"}': "1x180",
            'argotun_registry_up{namespace="a",pod="y"}': "0x180",
        },
        {'argotun_registry_up{namespace="a",pod="x"}': "1x170 0x3 1x7"},
    ),
    "ArgotunReplicasDisagree": (
        {
            'argotun_replicas{namespace="a",pod="x"}': "3x180",
            'argotun_replicas{namespace="a",pod="y"}': "2x180",
        },
        # Two installations.
        {
            'argotun_replicas{namespace="a",job="argotun",pod="x"}': "3x180",
            # Another namespace, and another release in the same one.
            'argotun_replicas{namespace="b",job="argotun",pod="y"}': "2x180",
            'argotun_replicas{namespace="a",job="second",pod="z"}': "1x180",
        },
    ),
    "ArgotunPeerLinkDown": (
        {
            'argotun_peer_up{namespace="a",pod="x",peer="p:1"}': "0x180",
            'argotun_peer_up{namespace="a",pod="y",peer="p:1"}': "1x180",
        },
        # Dialled again, and a replica that has ended.
        {
            'argotun_peer_up{namespace="a",pod="x",peer="p:1"}': "1x170 0x1 1x9",
            'argotun_peer_up{namespace="a",pod="x",peer="p:2"}': "1x170 0x1 stale",
        },
    ),
    "ArgotunOneTunnelOnly": (
        {
            'argotun_tunnel_sessions{namespace="a",pod="x",cluster="c"}': "1x180",
            'argotun_tunnel_sessions{namespace="a",pod="y",cluster="c"}': "0x180",
            'argotun_replicas{namespace="a",pod="x"}': "2x180",
            'argotun_replicas{namespace="a",pod="y"}': "2x180",
        },
        {
            'argotun_tunnel_sessions{namespace="a",pod="x",cluster="c"}': "1x180",
            'argotun_tunnel_sessions{namespace="a",pod="y",cluster="c"}': "1x170 0x3 1x7",
            'argotun_replicas{namespace="a",pod="x"}': "2x180",
            # A server by itself has one of each.
            'argotun_tunnel_sessions{namespace="b",pod="z",cluster="d"}': "1x180",
        },
    ),
    "ArgotunMoreAgents": (
        {
            'argotun_tunnel_sessions{namespace="a",pod="x",cluster="c"}': "1x180",
            'argotun_tunnel_sessions{namespace="a",pod="y",cluster="c"}': "1x150 2x30",
        },
        {
            # One that was away, and an agent whose pod is replaced.
            'argotun_tunnel_sessions{namespace="a",pod="x",cluster="c"}': "1x150 0x20 1x10",
            'argotun_tunnel_sessions{namespace="a",pod="y",cluster="c"}': "1x172 2x3 1x5",
            # A cluster that is new.
            'argotun_tunnel_sessions{namespace="a",pod="y",cluster="d"}': "_x150 2x30",
        },
    ),
    "ArgotunAgentDisconnected": (
        # Another agent of another release is connected.
        {'agent_connected{namespace="a"}': "0x180", 'agent_connected{namespace="b"}': "1x180"},
        {
            'agent_connected{namespace="a",pod="x"}': "0x180",
            'agent_connected{namespace="a",pod="y"}': "1x180",
        },
    ),
    "ArgotunApiUnreachable": (
        {'argotun_api_reachable{namespace="a"}': "0x180", 'argotun_api_reachable{namespace="b"}': "1x180"},
        {'argotun_api_reachable{namespace="a"}': "1x100 0x3 1x77"},
    ),
    "ArgotunUpstreamErrors": (
        {"agent_upstream_errors_total": "0+12x180"},
        {"agent_upstream_errors_total": "0x100 5x80"},
    ),
    "ArgotunCertificateExpiring": (
        {'argotun_certificate_expiry_timestamp_seconds{certificate="server"}': f"{10 * 86400}x180"},
        {'argotun_certificate_expiry_timestamp_seconds{certificate="server"}': f"{30 * 86400}x180"},
    ),
    "ArgotunReloadErrors": (
        {'argotun_reload_errors_total{what="clusters"}': "0x170 1x10"},
        {'argotun_reload_errors_total{what="clusters"}': "1x180"},
    ),
}
AGENT_IS_GONE = {"up": "0x180"}


@pytest.fixture(scope="module")
def promtool() -> str:
    path = shutil.which("promtool")
    if not path:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    return path


def rule_files(helm: Helm, folder: Path) -> Iterator[Path]:
    """A rule file for each mode, as the Prometheus operator writes it."""
    for mode in MODES:
        path = folder / f"{mode}.yaml"
        path.write_text(yaml.safe_dump({"groups": [{"name": mode, "rules": rules(helm, mode)}]}))
        yield path


def test_prometheus_takes_the_rules(helm: Helm, promtool: str, tmp_path: Path) -> None:
    for path in rule_files(helm, tmp_path):
        command = [promtool, "check", "rules", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def case(name: str, series: Series, firing: bool) -> dict[str, Any]:
    """One of promtool's tests: how often an alert fires, after three hours of `series`."""
    return {
        "interval": "1m",
        "input_series": [{"series": series_name, "values": values} for series_name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}})',
                "eval_time": "175m",
                "exp_samples": [{"labels": "{}", "value": 1}] if firing else [],
            }
        ],
    }


def test_an_alert_fires_in_bad_times_only(helm: Helm, promtool: str, tmp_path: Path) -> None:
    assert list(FIRING) == NAMES
    cases = [case("ArgotunAgentDisconnected", AGENT_IS_GONE, True)]
    for name, (bad, good) in FIRING.items():
        cases += [case(name, bad, True), case(name, good, False)]
    files = [path.name for path in rule_files(helm, tmp_path)]
    tests = tmp_path / "tests.yaml"
    tests.write_text(yaml.safe_dump({"rule_files": files, "evaluation_interval": "1m", "tests": cases}))
    command = [promtool, "test", "rules", str(tests)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# Who scrapes.


def scraped(rendered: Rendered, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A monitor and its only endpoint."""
    monitor = rendered.one(kind)
    (endpoint,) = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
    return monitor, endpoint


@pytest.mark.parametrize("mode", MODES)
def test_a_pod_monitor_asks_a_port_that_is_there(helm: Helm, mode: str) -> None:
    rendered = helm.render(
        MATRIX[f"{mode}-monitored"] | {"serviceMonitor": {}, "podMonitor": {"enabled": True}}
    )
    _, endpoint = scraped(rendered, "PodMonitor")
    assert endpoint["port"] in {each["name"] for each in rendered.container["ports"]}
    assert endpoint["path"] == "/metrics"


def test_a_service_monitor_asks_a_service_that_is_there(helm: Helm) -> None:
    rendered = helm.render(MATRIX["server-monitored"])
    monitor, endpoint = scraped(rendered, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    services = [each for each in rendered.all("Service") if wanted <= each["metadata"]["labels"].items()]
    assert [each["metadata"]["name"] for each in services] == ["argotun-internal"]
    assert endpoint["port"] in {each["name"] for each in services[0]["spec"]["ports"]}


def test_labels_and_interval_of_a_monitor_are_kept(helm: Helm) -> None:
    settings = {"enabled": True, "labels": {"release": "prometheus"}, "interval": "15s"}
    for name, kind in (("podMonitor", "PodMonitor"), ("serviceMonitor", "ServiceMonitor")):
        monitor, endpoint = scraped(helm.render(SERVER | PROMETHEUS | {name: settings}), kind)
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        assert endpoint["interval"] == "15s"


@pytest.mark.parametrize("mode", MODES)
def test_a_pod_is_scraped_once(helm: Helm, mode: str) -> None:
    def annotations(values: dict[str, Any]) -> dict[str, str]:
        template = helm.render(MODES[mode] | values).one("Deployment")["spec"]["template"]
        return template["metadata"].get("annotations", {})  # type: ignore[no-any-return]

    assert annotations({}) == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "8081",
        "prometheus.io/path": "/metrics",
    }
    assert annotations({"healthPort": 9081})["prometheus.io/port"] == "9081"
    assert annotations(PROMETHEUS | {"podMonitor": {"enabled": True}}) == {}
    assert annotations({"monitoring": {"annotations": False}}) == {}


# The dashboard.


def panels(helm: Helm) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The dashboard that Grafana reads, and its panels."""
    (text,) = helm.render(MATRIX["server-monitored"]).one("ConfigMap", "argotun-dashboard")["data"].values()
    dashboard = json.loads(text)
    return dashboard, dashboard["panels"]


def test_a_panel_asks_for_what_is_reported(helm: Helm) -> None:
    _, found = panels(helm)
    expressions = [target["expr"] for panel in found for target in panel["targets"]]
    assert len(expressions) > 10
    for expression in expressions:
        refuse_unknown(expression)


def test_what_the_alerts_of_replicas_ask_for_is_shown(helm: Helm) -> None:
    """A panel says since when, and at which replica."""
    _, found = panels(helm)
    shown = METRIC.findall(" ".join(target["expr"] for panel in found for target in panel["targets"]))
    asked = [each["expr"] for each in ALERTS if re.search("Regist|Replicas|Peer", each["alert"])]
    assert len(asked) == 3
    assert set(METRIC.findall(" ".join(asked))) <= set(shown)


def test_a_panel_uses_variables_that_are_there(helm: Helm) -> None:
    dashboard, found = panels(helm)
    there = {each["name"] for each in dashboard["templating"]["list"]} | {"__rate_interval"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(found)))
    assert used <= there
    assert "cluster" in used


def test_no_panel_covers_another(helm: Helm) -> None:
    _, found = panels(helm)
    assert len({each["id"] for each in found}) == len(found)
    taken: set[tuple[int, int]] = set()
    for each in found:
        grid = each["gridPos"]
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, each["title"]
        taken |= cells


def test_grafana_finds_the_dashboard(helm: Helm) -> None:
    settings = {"enabled": True, "annotations": {"grafana_folder": "Tunnels"}}
    meta = helm.render(SERVER | {"dashboard": settings}).one("ConfigMap", "argotun-dashboard")["metadata"]
    assert meta["labels"]["grafana_dashboard"] == "1"
    assert meta["annotations"] == {"grafana_folder": "Tunnels"}
    assert not helm.render(SERVER).all("ConfigMap")
    assert not helm.render(AGENT).all("ConfigMap")


@pytest.mark.parametrize(
    ("name", "kind"), [("podMonitor", "PodMonitor"), ("serviceMonitor", "ServiceMonitor")]
)
def test_argotuns_label_cluster_wins_unless_told_otherwise(helm: Helm, name: str, kind: str) -> None:
    _, endpoint = scraped(helm.render(SERVER | PROMETHEUS | {name: {"enabled": True}}), kind)
    assert endpoint["honorLabels"] is True
    assert not {"relabelings", "metricRelabelings"} & endpoint.keys()
    rule = [{"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}]
    drop = [{"action": "labeldrop", "regex": "pod"}]
    told = {"enabled": True, "honorLabels": False, "relabelings": rule, "metricRelabelings": drop}
    _, endpoint = scraped(helm.render(SERVER | PROMETHEUS | {name: told}), kind)
    assert "honorLabels" not in endpoint
    assert (endpoint["relabelings"], endpoint["metricRelabelings"]) == (rule, drop)


@pytest.mark.parametrize("mode", MODES)
def test_the_dashboard_is_there_for_both_modes(helm: Helm, mode: str) -> None:
    rendered = helm.render(MODES[mode] | {"dashboard": {"enabled": True}})
    (text,) = rendered.one("ConfigMap", "argotun-dashboard")["data"].values()
    assert json.loads(text)["uid"] == "argotun"
