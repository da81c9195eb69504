"""What the chart renders for the ways that no gateway here can be asked about, and what it refuses."""

from typing import Any

import pytest

from tests.chart.helm import CHART, Helm, Refused
from tests.gateways import test_passthrough, test_termination
from tests.gateways.conftest import Render
from tests.gateways.model import Misfit, Site, envoy_config

HOST = "argotun.example.com"
ARGOCD = "argocd.example.com"
TLS = {"enabled": True, "certSecret": "server-tls", "clientCASecret": "client-ca"}
PASS: dict[str, Any] = {"mode": "server", "tls": TLS}
END: dict[str, Any] = {"mode": "server"}
ONLY = ["/connect", "/healthz"]


def exposed(kind: str, **more: Any) -> dict[str, Any]:
    return {"exposure": {"kind": kind, "host": HOST, **more}}


def argocd(**exposure: Any) -> dict[str, Any]:
    return {"argocdServer": {"exposure": {"host": ARGOCD, **exposure}}}


def ending(kind: str) -> dict[str, Any]:
    return END | exposed(kind, tlsMode="Terminate", tlsSecret="gateway-tls")


def notes(helm: Helm, values: dict[str, Any]) -> str:
    done = helm.run("install", "argotun", str(CHART), "--dry-run=client", values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("NOTES:")[2]


def test_traefik_passes_tls_through(render: Render) -> None:
    spec = render(PASS | exposed("traefik")).one("IngressRouteTCP")["spec"]
    assert spec["tls"] == {"passthrough": True}
    (route,) = spec["routes"]
    assert route["match"] == f"HostSNI(`{HOST}`)"
    assert route["services"] == [{"name": "argotun", "port": 8443}]


def test_traefik_routes_two_paths_only(render: Render) -> None:
    spec = render(ending("traefik")).one("IngressRoute")["spec"]
    assert spec["tls"] == {"secretName": "gateway-tls"}
    assert spec["routes"][0]["match"] == f"Host(`{HOST}`) && (Path(`/connect`) || Path(`/healthz`))"


def test_contour_passes_tls_through(render: Render) -> None:
    spec = render(PASS | exposed("contour")).one("HTTPProxy")["spec"]
    assert spec["virtualhost"] == {"fqdn": HOST, "tls": {"passthrough": True}}
    assert spec["tcpproxy"]["services"] == [{"name": "argotun", "port": 8443}]
    assert "routes" not in spec


def test_contour_routes_two_paths_and_websocket_only(render: Render) -> None:
    routes = render(ending("contour")).one("HTTPProxy")["spec"]["routes"]
    assert [each["conditions"] for each in routes] == [[{"exact": path}] for path in ONLY]
    assert [each["enableWebsockets"] for each in routes] == [True, False]


def test_openshift_is_given_no_path_where_it_sees_none(render: Render) -> None:
    (route,) = render(PASS | exposed("openshift")).all("Route")
    assert route["spec"]["tls"]["termination"] == "passthrough"
    assert "path" not in route["spec"]
    assert route["metadata"]["annotations"]["haproxy.router.openshift.io/timeout-tunnel"] == "1h"


def test_openshift_routes_two_paths_only(render: Render) -> None:
    routes = render(END | exposed("openshift", tlsMode="Terminate")).all("Route")
    assert [each["spec"]["path"] for each in routes] == ONLY
    assert {each["spec"]["tls"]["termination"] for each in routes} == {"edge"}


@pytest.mark.parametrize(
    ("controller", "annotation"),
    [
        ("nginx", "nginx.ingress.kubernetes.io/ssl-passthrough"),
        ("haproxy", "haproxy.org/ssl-passthrough"),
        ("haproxy-ingress", "haproxy-ingress.github.io/ssl-passthrough"),
    ],
)
def test_an_ingress_is_told_to_pass_tls_through(render: Render, controller: str, annotation: str) -> None:
    ingress = {"enabled": True, "host": HOST, "controller": controller, "annotations": {"own": "one"}}
    made = render(PASS | {"ingress": ingress}).one("Ingress")
    assert made["metadata"]["annotations"] == {annotation: "true", "own": "one"}


def test_an_ingress_that_passes_tls_through_has_no_path(render: Render) -> None:
    made = render(PASS | {"ingress": {"enabled": True, "host": HOST}}).one("Ingress")
    (path,) = made["spec"]["rules"][0]["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/", "Prefix")


@pytest.mark.parametrize("secret", ["ingress-tls", ""], ids=["own-certificate", "certificate-elsewhere"])
def test_an_ingress_that_ends_tls_routes_two_paths_only(render: Render, secret: str) -> None:
    made = render(END | {"ingress": {"enabled": True, "host": HOST, "tlsSecret": secret}}).one("Ingress")
    paths = made["spec"]["rules"][0]["http"]["paths"]
    assert [(each["path"], each["pathType"]) for each in paths] == [(path, "Exact") for path in ONLY]
    assert "annotations" not in made["metadata"]


@pytest.mark.parametrize(
    ("cloud", "annotation", "value"),
    [
        (
            "aws",
            "service.beta.kubernetes.io/aws-load-balancer-listener-attributes.TCP-443",
            "tcp.idle_timeout.seconds=3600",
        ),
        ("azure", "service.beta.kubernetes.io/azure-load-balancer-tcp-idle-timeout", "30"),
    ],
)
def test_a_load_balancer_does_not_keep_its_clouds_short_timeout(
    render: Render, cloud: str, annotation: str, value: str
) -> None:
    service = {"type": "LoadBalancer", "port": 443, "annotations": {"own": "one"}}
    made = render(PASS | {"service": service, "exposure": {"cloud": cloud}}).one("Service")
    assert made["metadata"]["annotations"][annotation] == value
    assert made["metadata"]["annotations"]["own"] == "one"
    internal = render(PASS | {"service": service, "exposure": {"cloud": cloud}}).one(
        "Service", "argotun-internal"
    )
    assert "annotations" not in internal["metadata"]


@pytest.mark.parametrize("values", [*test_passthrough.WAYS.values(), PASS | exposed("contour")])
def test_every_host_is_in_the_servers_certificate(render: Render, values: dict[str, Any]) -> None:
    values = {key: each for key, each in values.items() if key != "tls"}
    made = render(values | {"certManager": {"enabled": True}}).one("Certificate")
    assert HOST in made["spec"]["dnsNames"]


VERSIONS = ("v1alpha2", "v1alpha3", "v1")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_tlsroute_has_a_version_that_the_cluster_has(render: Render, version: str) -> None:
    served = VERSIONS[: VERSIONS.index(version) + 1]
    has = [f"--api-versions=gateway.networking.k8s.io/{each}/TLSRoute" for each in served]
    door = argocd(way="gateway-passthrough", gateway={"className": "any"})
    values = test_passthrough.WAYS["gateway-api"] | door
    for name in ("argotun", "argotun-argocd-server"):
        made = render(values, *has).one("TLSRoute", name)
        assert made["apiVersion"] == f"gateway.networking.k8s.io/{version}"


@pytest.mark.parametrize("values", test_termination.WAYS.values(), ids=test_termination.WAYS)
def test_notes_say_where_only_tokens_count(helm: Helm, values: dict[str, Any]) -> None:
    said = notes(helm, values)
    assert f"TLS ends before argotun on {HOST}: no client certificate arrives" in said
    assert f"wss://{HOST}/connect" in said


@pytest.mark.parametrize(
    ("values", "url"),
    [
        (exposed("istio"), f"wss://{HOST}/connect"),
        (exposed("istio", istio={"port": 8443}), f"wss://{HOST}:8443/connect"),
        (exposed("istio", istio={"port": 8443, "gateway": "a/b"}), f"wss://{HOST}/connect"),
        (
            {"gateway": {"create": True, "className": "any", "hostname": HOST, "port": 8443}},
            f"wss://{HOST}:8443/connect",
        ),
        (
            {"gateway": {"parentRefs": [{"name": "a"}], "hostnames": [HOST, "b.example.com"]}},
            f"wss://{HOST}/connect, wss://b.example.com/connect",
        ),
    ],
)
def test_notes_tell_agents_the_right_address(helm: Helm, values: dict[str, Any], url: str) -> None:
    assert f"\nAgents dial {url}\n" in notes(helm, PASS | values)


def test_notes_do_not_speak_of_termination_where_tls_passes_through(helm: Helm) -> None:
    for values in test_passthrough.WAYS.values():
        assert "TLS ends" not in notes(helm, values)


@pytest.mark.parametrize(
    ("class_name", "warned"), [("cilium", True), ("cilium-internal", True), ("istio", False)]
)
def test_notes_warn_of_ciliums_filter(helm: Helm, class_name: str, warned: bool) -> None:
    said = notes(helm, END | argocd(way="gateway-terminate", gateway={"className": class_name}))
    assert ("Cilium translates gRPC-web" in said) == warned
    assert "argocd login argocd.example.com --grpc-web" in said


def test_notes_warn_of_envoy_gateways_slashes(helm: Helm) -> None:
    way = {"way": "gateway-terminate", "gateway": {"className": "envoy-gateway"}}
    assert "Envoy Gateway takes %2F" in notes(helm, END | argocd(**way))
    assert "Envoy Gateway" not in notes(helm, END | argocd(**way, envoyGateway={"createPolicy": True}))
    assert "Envoy Gateway" not in notes(helm, PASS | argocd(**way | {"way": "gateway-passthrough"}))


MIXED = {
    "gateway": {
        "create": True,
        "className": "cilium",
        "hostname": HOST,
        "extraListeners": [
            {"name": "web", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "web"}]}}
        ],
    }
}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (PASS | {"exposure": {"kind": "istio"}}, "exposure.host: expected"),
        (END | exposed("istio"), "exposure.tlsMode: Passthrough leaves TLS to argotun"),
        (PASS | exposed("istio", tlsMode="Terminate"), "exposure.tlsMode: Terminate speaks plain HTTP"),
        (END | exposed("traefik", tlsMode="Terminate"), "exposure.tlsSecret: expected"),
        (PASS | {"exposure": {"cloud": "aws"}}, "service.type must be LoadBalancer"),
        (
            END | {"ingress": {"enabled": True, "host": HOST, "controller": "nginx"}},
            "ingress.controller: would pass TLS through",
        ),
        (PASS | MIXED, "where Cilium cannot also do Passthrough"),
        (END | argocd(way="istio-split", host=""), "argocdServer.exposure.host: expected"),
        (END | argocd(way="gateway-split"), "argocdServer.exposure.gateway: expected"),
        (
            END | argocd(way="gateway-passthrough", cilium={"createClass": True}),
            "argocdServer.exposure.cilium.createClass: turns off",
        ),
        (
            END | argocd(way="gateway-split", cilium={"createClass": True}, gateway={"className": "any"}),
            "expected only one of gateway.className and cilium.createClass",
        ),
        (
            END
            | argocd(way="gateway-split", envoyGateway={"createPolicy": True}, cilium={"createClass": True}),
            "envoyGateway.createPolicy: is for a Gateway made here",
        ),
        (
            {"mode": "agent", "serverURL": "wss://a/connect", "token": "t", **exposed("istio")},
            "exposure: belongs to mode server",
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused(render: Render, values: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        render(values)


def test_no_port_both_passes_tls_through_and_ends_it(render: Render) -> None:
    """Cilium refuses it; the chart does for its own listeners, and the model for all."""
    objects = render(PASS | {"gateway": {**MIXED["gateway"], "className": "any"}}).objects
    site = Site(pods={"argotun": 1}, ports={443: 1}, secrets={"web": ("certificate", "key")}, cilium=True)
    with pytest.raises(Misfit, match="port 443"):
        envoy_config(objects, site)
