"""Agents with mutual TLS through a gateway that passes TLS through by the name that they ask for."""

from typing import Any

import pytest

from tests.chart.helm import Helm
from tests.gateways.argocd import ArgoServer
from tests.gateways.conftest import Render
from tests.gateways.door import HOST as ARGOCD
from tests.gateways.door import insecure, objects_and_values, service
from tests.gateways.envoy import PATIENCE
from tests.gateways.stage import HOST, Stage
from tests.rig import until

TLS = {"enabled": True, "certSecret": "server-tls", "clientCASecret": "client-ca"}
SERVER: dict[str, Any] = {"mode": "server", "tls": TLS}

WAYS: dict[str, dict[str, Any]] = {
    "gateway-api": SERVER | {"gateway": {"create": True, "className": "cilium", "hostname": HOST}},
    "istio": SERVER | {"exposure": {"kind": "istio", "host": HOST}},
}
each_way = pytest.mark.parametrize("values", WAYS.values(), ids=WAYS)


@each_way
def test_the_agents_certificate_arrives(render: Render, values: dict[str, Any]) -> None:
    with Stage(render(values).objects, cluster={"certNames": ["agent.example"]}) as stage:
        stage.start_agent()
        assert stage.get().body == b"ok"
        assert ("DNS", "agent.example") in (stage.session.certificate.content or {})["subjectAltName"]


@each_way
def test_another_clusters_certificate_is_not_good_enough(render: Render, values: dict[str, Any]) -> None:
    with Stage(render(values).objects, cluster={"certNames": ["other.example"]}) as stage:
        agent = stage.make_agent()
        agent.start()
        until(lambda: stage.refusals("certificate"), "the refusal", PATIENCE)
        assert not agent.connected.is_set()


@each_way
@pytest.mark.parametrize("name", ["other.example.com", "sub.argotun.example.com", "example.com", None])
def test_a_wrong_name_is_not_passed_on(render: Render, values: dict[str, Any], name: str | None) -> None:
    with Stage(render(values).objects) as stage:
        with pytest.raises((OSError, EOFError)):
            stage.tls(name).read(1)
        until(lambda: stage.envoy.count("no_filter_chain_match") == 1, "Envoy's own refusal", PATIENCE)
        assert stage.envoy.count("downstream_cx_total") >= 1
        assert not stage.envoy.count("upstream_cx_total")


@each_way
def test_nothing_but_connect_is_reached(render: Render, values: dict[str, Any]) -> None:
    with Stage(render(values).objects) as stage:
        for path, status in {
            "/healthz": 200,
            "/metrics": 404,
            "/status": 404,
            "/readyz": 404,
            "/tunnel/c1/api": 404,
            "/connect/": 404,
            "/connect/../tunnel/c1/api": 404,
            "/": 200,
        }.items():
            peer = stage.tls(HOST)
            peer.send(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            assert peer.response().status == status, path


GATEWAY = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "shared", "namespace": "gateways"},
    "spec": {
        "gatewayClassName": "any",
        "listeners": [
            {
                "name": "argotun",
                "port": 443,
                "protocol": "TLS",
                "hostname": HOST,
                "tls": {"mode": "Passthrough"},
            },
        ],
    },
}
ISTIO = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "shared", "namespace": "gateways"},
    "spec": {
        "servers": [
            {
                "hosts": [HOST],
                "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
                "tls": {"mode": "PASSTHROUGH"},
            }
        ]
    },
}


@pytest.mark.parametrize(
    ("gateway", "values"),
    [
        (
            GATEWAY,
            {"gateway": {"hostname": HOST, "parentRefs": [{"name": "shared", "namespace": "gateways"}]}},
        ),
        (ISTIO, {"exposure": {"kind": "istio", "host": HOST, "istio": {"gateway": "gateways/shared"}}}),
    ],
    ids=WAYS,
)
def test_another_gateway_in_the_cluster_has_a_route(
    render: Render, gateway: dict[str, Any], values: dict[str, Any]
) -> None:
    rendered = render(SERVER | values)
    assert not rendered.all("Gateway")
    with Stage([gateway, *rendered.objects]) as stage:
        stage.start_agent()
        assert stage.get().status == 200


@pytest.mark.parametrize("way", ["istio-passthrough", "istio-split"])
def test_argotun_and_argocd_server_share_a_port(helm: Helm, render: Render, way: str) -> None:
    """Istio's pods have one port 443 for all; which host is asked for says whose TLS it is."""
    _, values = objects_and_values(helm, {"way": way})
    both = WAYS["istio"] | {"argocdServer": {"exposure": {"way": way, "host": ARGOCD}}}
    stage = Stage([*render(both).objects, service(values)])
    certificate = stage.secrets["argocd-certificate"] = stage.issue("argocd", ARGOCD)
    with ArgoServer(insecure(values), certificate) as argocd:
        stage.pods["argocd-server"] = argocd.port
        with stage:
            stage.start_agent()
            assert stage.get().status == 200
            page = stage.tls(ARGOCD)
            page.send(f"GET / HTTP/1.1\r\nHost: {ARGOCD}\r\n\r\n".encode())
            assert b"Argo CD" in page.response().body
