"""The NetworkPolicies: who reaches a pod and whom it reaches, evaluated as a network plugin does."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.helm import Helm, Rendered
from tests.chart.values import AGENT, MATRIX, SERVER

EVERYBODY = {"ipBlock": {"cidr": "0.0.0.0/0"}}


def namespace(name: str) -> dict[str, Any]:
    """The peer that is a whole namespace."""
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def peers(rendered: Rendered, direction: str, port: int, protocol: str = "TCP") -> list[dict[str, Any]]:
    """Who may use `port`; a rule without peers lets everybody."""
    side = {"ingress": "from", "egress": "to"}[direction]
    found = []
    for rule in rendered.one("NetworkPolicy")["spec"].get(direction) or []:
        if not rule.get("ports") or {"port": port, "protocol": protocol} in rule["ports"]:
            found += rule.get(side) or [EVERYBODY]
    return found


def test_no_pod_is_open_by_default(helm: Helm) -> None:
    for values in (SERVER, AGENT):
        assert helm.render(values).one("NetworkPolicy")["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not helm.render(SERVER | {"networkPolicy": {"enabled": False}}).all("NetworkPolicy")


def test_only_argo_cd_reaches_the_internal_port(helm: Helm) -> None:
    assert peers(helm.render(SERVER), "ingress", 8080) == [namespace("argocd")]
    other = SERVER | {"argocd": {"namespace": "gitops"}, "internalPort": 9080}
    assert peers(helm.render(other), "ingress", 9080) == [namespace("gitops")]
    assert peers(helm.render(other), "ingress", 8080) == []
    more = peers(helm.render(MATRIX["server-closed"]), "ingress", 8080)
    assert more == [namespace("argocd"), {"podSelector": {}}]


def test_agents_reach_the_public_port(helm: Helm) -> None:
    assert peers(helm.render(SERVER), "ingress", 8443) == [EVERYBODY]
    assert peers(helm.render(MATRIX["server-closed"]), "ingress", 8443) == [
        {"ipBlock": {"cidr": "192.0.2.0/24"}}
    ]


@pytest.mark.parametrize("mode", ["server", "agent"])
def test_only_prometheus_reaches_the_health_port(helm: Helm, mode: str) -> None:
    assert peers(helm.render(MATRIX[mode]), "ingress", 8081) == []
    assert peers(helm.render(MATRIX[f"{mode}-monitored"]), "ingress", 8081) == [namespace("monitoring")]


def test_an_agent_takes_no_connections(helm: Helm) -> None:
    assert helm.render(AGENT).one("NetworkPolicy")["spec"]["ingress"] == []


@pytest.mark.parametrize("mode", ["server", "agent"])
def test_what_the_page_says_of_traces_leads_to_the_collector(helm: Helm, mode: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    [text] = re.findall(r"```yaml\n(extraEnv:\n.*?)```", page.partition("## Traces")[2], re.S)
    rendered = helm.render(MATRIX[mode] | yaml.safe_load(text))
    assert namespace("monitoring") in peers(rendered, "egress", 4318)
    assert peers(rendered, "egress", 53, "UDP")
    [container] = rendered.one("Deployment")["spec"]["template"]["spec"]["containers"]
    endpoint = {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector.monitoring:4318"}
    assert endpoint in container["env"]


def test_a_server_dials_nobody(helm: Helm) -> None:
    assert helm.render(SERVER).one("NetworkPolicy")["spec"]["egress"] == []
    more = helm.render(MATRIX["server-closed"])
    assert peers(more, "egress", 53, "UDP") == [EVERYBODY]
    assert peers(more, "egress", 443) == []


@pytest.mark.parametrize(
    ("values", "port"),
    [
        ({}, 443),
        ({"serverURL": "wss://argotun.example.com:8443/connect"}, 8443),
        ({"serverURL": "wss://[2001:db8::1]:9443"}, 9443),
        ({"serverURL": "ws://argotun:8443/connect", "allowInsecureServer": True}, 8443),
        ({"serverURL": "ws://argotun/connect", "allowInsecureServer": True}, 80),
        ({"proxy": "http://proxy.example.com:3128"}, 3128),
        ({"proxy": "http://proxy.example.com"}, 80),
        ({"proxy": "https://proxy.example.com"}, 443),
    ],
)
def test_an_agent_reaches_its_server(helm: Helm, values: dict[str, Any], port: int) -> None:
    only = {"networkPolicy": {"apiServerCIDRs": ["198.51.100.0/24"]}}
    assert EVERYBODY in peers(helm.render(AGENT | values | only), "egress", port)


@pytest.mark.parametrize(
    ("values", "port"),
    [
        ({}, 443),
        ({}, 6443),
        ({"networkPolicy": {"apiServerPorts": [7443]}}, 7443),
        ({"targetAddr": "api.example.com:8443"}, 8443),
    ],
)
def test_an_agent_reaches_its_api(helm: Helm, values: dict[str, Any], port: int) -> None:
    policy = values.get("networkPolicy", {}) | {"proxyServerCIDR": "192.0.2.1/32"}
    assert EVERYBODY in peers(helm.render(AGENT | values | {"networkPolicy": policy}), "egress", port)


def test_an_agent_can_resolve_names(helm: Helm) -> None:
    other = helm.render(AGENT | {"networkPolicy": {"dnsPorts": [1053]}})
    for protocol in ("UDP", "TCP"):
        # OpenShift's DNS pods listen on 5353, and policies count after DNAT.
        for port in (53, 5353):
            assert peers(helm.render(AGENT), "egress", port, protocol) == [EVERYBODY]
        assert peers(other, "egress", 1053, protocol) == [EVERYBODY]
    assert peers(other, "egress", 53, "UDP") == []


FROM_SECRET = {"valueFrom": {"secretKeyRef": {"name": "proxy", "key": "url"}}}


@pytest.mark.parametrize(
    ("values", "ports"),
    [
        ({"configSecret": "more"}, {443, 3128, 8080}),
        ({"configSecret": "more", "networkPolicy": {"proxyPorts": [9400]}}, {443, 9400}),
        ({"configSecret": "more", "proxy": "http://proxy:3333"}, {3333}),
        ({"extraEnv": [{"name": "HTTPS_PROXY", "value": "http://u:p@proxy:3333/"}]}, {443, 3333}),
        ({"extraEnv": [{"name": "https_proxy", "value": "proxy:3333"}]}, {443, 3333}),
        ({"extraEnv": [{"name": "ARGOTUN_PROXY", **FROM_SECRET}]}, {443, 3128, 8080}),
        ({"extraEnv": [{"name": "NO_PROXY", "value": "example.com:3333"}]}, {443}),
    ],
)
def test_an_agent_reaches_a_proxy_that_its_environment_or_a_secret_names(
    helm: Helm, values: dict[str, Any], ports: set[int]
) -> None:
    policy = {"apiServerCIDRs": ["198.51.100.0/24"], "proxyServerCIDR": "192.0.2.1/32"}
    rendered = helm.render(AGENT | values | {"networkPolicy": policy | values.get("networkPolicy", {})})
    hop = {"ipBlock": {"cidr": "192.0.2.1/32"}}
    (rule,) = [r for r in rendered.one("NetworkPolicy")["spec"]["egress"] if r.get("to") == [hop]]
    assert {each["port"] for each in rule["ports"]} == ports


def test_an_agent_reaches_only_what_it_needs(helm: Helm) -> None:
    rendered = helm.render(MATRIX["agent-proxy"])
    assert peers(rendered, "egress", 3128) == [{"ipBlock": {"cidr": "192.0.2.1/32"}}]
    for port in (443, 6443):
        assert peers(rendered, "egress", port) == [{"ipBlock": {"cidr": "198.51.100.0/24"}}]
    assert peers(rendered, "egress", 22) == []


def test_a_rule_of_ones_own_is_kept(helm: Helm) -> None:
    rule = {"to": [namespace("egress")], "ports": [{"protocol": "TCP", "port": 3128}]}
    rendered = helm.render(AGENT | {"networkPolicy": {"extraEgress": [rule]}})
    assert rendered.one("NetworkPolicy")["spec"]["egress"][-1] == rule
