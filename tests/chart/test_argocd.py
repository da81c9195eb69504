"""Argo CD's cluster secrets, and the clusters file that they go with."""

import base64
import json
from typing import Any

import pytest

from argotun.server.clusters import parse_clusters
from tests.chart.helm import NAMESPACE, Helm, Rendered
from tests.chart.values import ARGOCD, CLUSTERS, MATRIX, SERVER, TLS


def decoded(secret: dict[str, Any]) -> dict[str, str]:
    """What stands in a Secret."""
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def cluster_secrets(rendered: Rendered) -> dict[str, dict[str, Any]]:
    """The Secrets that Argo CD takes for clusters, by their names."""
    label = "argocd.argoproj.io/secret-type"
    found = [each for each in rendered.all("Secret") if each["metadata"]["labels"].get(label) == "cluster"]
    return {each["metadata"]["name"]: each for each in found}


def config(rendered: Rendered, name: str) -> dict[str, Any]:
    """Argo CD's connection settings in that cluster secret."""
    return json.loads(decoded(cluster_secrets(rendered)[name])["config"])  # type: ignore[no-any-return]


def test_every_cluster_is_found_by_argo_cd(helm: Helm) -> None:
    rendered = helm.render(MATRIX["server-mtls"], name="eu")
    secrets = cluster_secrets(rendered)
    assert sorted(secrets) == ["eu-argotun-cluster-customer-a", "eu-argotun-cluster-customer-b"]
    for id, secret in zip(("customer-a", "customer-b"), secrets.values(), strict=True):
        data = decoded(secret)
        assert secret["metadata"]["namespace"] == "argocd"
        assert data["name"] == id
        assert data["server"] == f"https://eu-argotun-internal.{NAMESPACE}.svc:8080/tunnel/{id}"


def test_a_cluster_secret_names_a_service_that_is_there(helm: Helm) -> None:
    for values in (
        MATRIX["server-mtls"],
        MATRIX["server-plain"] | {"fullnameOverride": "own", "internalPort": 9080},
    ):
        rendered = helm.render(values, name="eu")
        server = decoded(next(iter(cluster_secrets(rendered).values())))["server"]
        (service,) = [
            each
            for each in rendered.all("Service")
            for port in each["spec"]["ports"]
            if port["name"] == "internal"
        ]
        port = next(each["port"] for each in service["spec"]["ports"] if each["name"] == "internal")
        meta = service["metadata"]
        assert server.split("/")[2] == f"{meta['name']}.{meta['namespace']}.svc:{port}"


@pytest.mark.parametrize(
    "name", ["server-mtls", "server-plain", "server-internal-plain", "server-existing-secret"]
)
def test_argo_cd_does_not_send_its_own_token(helm: Helm, name: str) -> None:
    for secret in cluster_secrets(helm.render(MATRIX[name])).values():
        assert json.loads(decoded(secret)["config"])["bearerToken"] == "unused"


def test_argo_cd_shows_a_certificate_to_a_server_that_asks(helm: Helm) -> None:
    tls = config(helm.render(MATRIX["server-mtls"]), "argotun-cluster-customer-a")["tlsClientConfig"]
    assert tls == {
        "insecure": False,
        "caData": ARGOCD["caData"],
        "certData": ARGOCD["clientCertData"],
        "keyData": ARGOCD["clientKeyData"],
    }
    server_only = {
        "tls": TLS | {"clientCASecret": ""},
        "argocd": {"enabled": True, "caData": ARGOCD["caData"]},
    }
    tls = config(helm.render(SERVER | {"clusters": CLUSTERS} | server_only), "argotun-cluster-customer-a")
    assert tls["tlsClientConfig"] == {"insecure": False, "caData": ARGOCD["caData"]}


@pytest.mark.parametrize("name", ["server-plain", "server-internal-plain"])
def test_argo_cd_speaks_plain_http_to_a_plain_port(helm: Helm, name: str) -> None:
    rendered = helm.render(MATRIX[name])
    secret = cluster_secrets(rendered)["argotun-cluster-customer-a"]
    assert decoded(secret)["server"].startswith("http://")
    assert config(rendered, "argotun-cluster-customer-a")["tlsClientConfig"] == {"insecure": True}


def test_every_setting_of_a_cluster_is_kept(helm: Helm) -> None:
    settings = {
        "name": "Customer A",
        "labels": {"tier": "gold"},
        "annotations": {"contact": "a@example.com"},
        "namespaces": ["one", "two"],
        "clusterResources": False,
        "project": "customers",
        "shard": 0,
    }
    entry = {"id": "customer_a.EU", "token": "x" * 16, "argocd": settings}
    (secret,) = cluster_secrets(
        helm.render(SERVER | {"clusters": [entry], "argocd": {"enabled": True}})
    ).values()
    data = decoded(secret)
    assert secret["metadata"]["labels"]["tier"] == "gold"
    assert secret["metadata"]["annotations"] == {"contact": "a@example.com"}
    assert data["server"].endswith("/tunnel/customer_a.EU")
    assert (data["name"], data["namespaces"], data["clusterResources"], data["project"], data["shard"]) == (
        "Customer A",
        "one,two",
        "false",
        "customers",
        "0",
    )


def test_an_entry_can_be_left_out_of_argo_cd(helm: Helm) -> None:
    entries = [*CLUSTERS, {"id": "hidden", "token": "x" * 16, "argocd": {"enabled": False}}]
    rendered = helm.render(SERVER | {"clusters": entries, "argocd": {"enabled": True}})
    assert len(cluster_secrets(rendered)) == len(CLUSTERS)
    assert not cluster_secrets(helm.render(SERVER | {"clusters": entries}))


def test_no_two_clusters_share_a_secret(helm: Helm) -> None:
    ids = ["a.b", "a-b", "a_b", "A-b", "x" * 128, "x" * 127 + "y"]
    entries = [{"id": id, "token": f"token-of-number-{index}"} for index, id in enumerate(ids)]
    secrets = cluster_secrets(helm.render(SERVER | {"clusters": entries, "argocd": {"enabled": True}}))
    assert len(secrets) == len(ids)


@pytest.mark.parametrize("name", [name for name in MATRIX if name.startswith("server")])
def test_the_server_can_read_its_clusters(helm: Helm, name: str) -> None:
    rendered = helm.render(MATRIX[name])
    found = [each for each in rendered.all("Secret") if "clusters.json" in each["data"]]
    assert len(found) == ("existingClustersSecret" not in MATRIX[name])
    for secret in found:
        clusters = parse_clusters(decoded(secret)["clusters.json"])
        assert sorted(clusters) == [each["id"] for each in MATRIX[name].get("clusters", [])]


def test_every_key_of_a_cluster_reaches_the_server(helm: Helm) -> None:
    entry = {
        "id": "a",
        "tokenSha256": ["a" * 64],
        "targetAddr": "api:6443",
        "certNames": ["agent.a"],
        "rateLimit": 0.5,
    }
    rendered = helm.render(SERVER | {"clusters": [entry | {"argocd": {"name": "A"}}]})
    assert json.loads(decoded(rendered.one("Secret", "argotun-clusters"))["clusters.json"]) == [entry]
