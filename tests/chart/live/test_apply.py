"""Every object that the chart can render is taken by a real API server, with the CRDs of other projects."""

import json
from typing import Any

import pytest

from tests.chart.helm import NAMESPACE, Helm
from tests.chart.values import MATRIX, SERVER, TLS
from tests.e2e.harness.cluster import Cluster

NAMESPACES = (NAMESPACE, "argocd", "monitoring", "istio-system", "one", "two")
HOST = "tunnel.example.com"
WITHOUT_CRD = {"Route"}
"""Kinds whose project publishes no CRD: OpenShift's Route is built in there."""

WAYS: dict[str, dict[str, Any]] = {
    **{
        f"server-{kind}": SERVER | {"tls": TLS, "exposure": {"kind": kind, "host": HOST}}
        for kind in ("istio", "traefik", "contour")
    },
    **{
        f"server-{kind}-ends-tls": SERVER
        | {"exposure": {"kind": kind, "host": HOST, "tlsMode": "Terminate", "tlsSecret": "gateway-tls"}}
        for kind in ("istio", "traefik", "contour")
    },
    "server-argocd-cilium": SERVER
    | {
        "argocdServer": {
            "exposure": {
                "way": "gateway-split",
                "host": "argocd.example.com",
                "cilium": {"createClass": True},
            }
        }
    },
    **{
        f"server-argocd-{way}": SERVER
        | {
            "argocdServer": {
                "exposure": {
                    "way": way,
                    "host": "argocd.example.com",
                    "gateway": {"className": "any"} if way.startswith("gateway") else {},
                    "certificate": {"issuer": "letsencrypt"},
                }
            }
        }
        for way in (
            *("gateway-passthrough", "gateway-terminate", "gateway-split"),
            *("istio-passthrough", "istio-terminate", "istio-split"),
        )
    },
}
SETS = MATRIX | WAYS
each_set = pytest.mark.parametrize("values", SETS.values(), ids=SETS)


@pytest.fixture(scope="module")
def cluster(informed: Cluster) -> Cluster:
    """A cluster that knows all kinds, with the namespaces that the values name."""
    for name in NAMESPACES:
        informed.create_namespace(name)
    return informed


@each_set
def test_every_object_is_taken_by_the_api(helm: Helm, cluster: Cluster, values: dict[str, Any]) -> None:
    """Tried with --dry-run=server first, then made for good, then taken away again."""
    objects = [each for each in helm.render(values).objects if each["kind"] not in WITHOUT_CRD]
    manifest = {"apiVersion": "v1", "kind": "List", "items": objects}
    text = json.dumps(manifest).encode()
    apply = ("apply", "--server-side", "--validate=strict", "-o", "name", "-f", "-")
    # An API server takes no pod whose account is not there.
    accounts = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}}
        for name in {each["spec"]["serviceAccountName"] for each in objects if each["kind"] == "Pod"}
    ]
    cluster.kubectl.run(*apply, stdin={"apiVersion": "v1", "kind": "List", "items": accounts})
    tried = cluster.kubectl.text(*apply, "--dry-run=server", stdin=text)
    assert len(tried.splitlines()) == len(objects)
    assert cluster.kubectl.text(*apply, stdin=text) == tried
    cluster.kubectl.run("delete", "--wait=false", "-f", "-", stdin=text)


def test_an_unknown_field_is_refused_by_the_api(cluster: Cluster, helm: Helm) -> None:
    deployment = helm.render(SERVER).one("Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    apply = ("apply", "--server-side", "--validate=strict", "--dry-run=server", "-f", "-")
    done = cluster.kubectl.run(*apply, stdin=deployment, code=1)
    assert b"imagePullPolice" in done.stderr
