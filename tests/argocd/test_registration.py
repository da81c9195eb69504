"""Ways to register a cluster behind argotun: the chart's secrets, the API, with and without certificates."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.argocd.harness import objects, rendered
from tests.argocd.harness.argocd import SECRETS, ArgoCD
from tests.argocd.harness.hub import Hub
from tests.argocd.harness.repository import Repository
from tests.chart.helm import Helm
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.waiting import until


def sync_one(argocd: ArgoCD, repository: Repository, name: str, cluster: str) -> None:
    """Deploy a configmap to the cluster of that name, and clean up."""
    repository.objects(f"{name}/all.json", objects.configmap("one", {"a": "b"}))
    revision = repository.commit(f"Add {name}")
    argocd.create(objects.application(name, repository.source(name), cluster))
    argocd.wait(name, revision=revision)


def connected(argocd: ArgoCD, server: str, state: str = "Successful") -> dict[str, Any]:
    """What Argo CD says about a cluster once its connection is in that state."""

    def info() -> dict[str, Any] | None:
        info = argocd.connection(server)
        return info if info.get("state") == state else None

    return until(f"{server} is {state}", info, seconds=60, every=0.2) or {}


@pytest.fixture(scope="module")
def plain_hub(customer: Cluster, folder: Path) -> Iterator[Hub]:
    """Server and agent without TLS, as for a first try."""
    hub = Hub(folder / "plain-hub", {"plain": customer}, tls=False)
    try:
        hub.start()
        yield hub
    finally:
        hub.stop()


@pytest.fixture
def without(bare_argocd: ArgoCD) -> Iterator[list[str]]:
    """Secrets whose names are put here are deleted after the test."""
    names: list[str] = []
    yield names
    for name in names:
        bare_argocd.management.admin("DELETE", f"{SECRETS}/{name}")


def test_the_chart_registers_with_certificates(argocd: ArgoCD, hub: Hub, repository: Repository) -> None:
    sync_one(argocd, repository, "by-https", "customer-a")
    info = connected(argocd, hub.endpoint("customer-a").url)
    assert hub.endpoint("customer-a").url.startswith("https://")
    assert info["serverVersion"].startswith("v1.")
    assert int(info["cacheInfo"]["resourcesCount"]) > 10
    url = hub.endpoint("customer-a").url
    until(
        "its metric says so", lambda: argocd.metric("argocd_cluster_connection_status", url) == 1, seconds=90
    )
    assert "customer-a" in argocd.cli("cluster", "list")
    argocd.delete("by-https")


def test_the_chart_registers_over_plain_http(
    argocd: ArgoCD, plain_hub: Hub, helm: Helm, repository: Repository, without: list[str]
) -> None:
    secret = rendered.cluster_secret(helm, "plain", plain_hub.port, None)
    without.append(secret["metadata"]["name"])
    argocd.management.create(SECRETS, secret)
    sync_one(argocd, repository, "by-http", "plain")
    connected(argocd, plain_hub.endpoint("plain").url)
    argocd.delete("by-http")


def test_the_entry_of_the_seed_system_works_unchanged(
    argocd: ArgoCD, plain_hub: Hub, repository: Repository, without: list[str]
) -> None:
    """Its README's secret: over http, with insecure and without any token."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "seed", "labels": {"argocd.argoproj.io/secret-type": "cluster"}},
        "type": "Opaque",
        "stringData": {
            "name": "seed",
            "server": plain_hub.endpoint("plain").url,
            "config": '{"tlsClientConfig": {"insecure": true}}',
        },
    }
    without.append("seed")
    argocd.management.create(SECRETS, secret)
    sync_one(argocd, repository, "by-seed", "seed")
    argocd.delete("by-seed")


def test_the_api_registers_as_cluster_add_does(
    argocd: ArgoCD, plain_hub: Hub, repository: Repository
) -> None:
    server = plain_hub.endpoint("plain").url
    body = {
        "name": "added",
        "server": server,
        "config": {"bearerToken": "unused", "tlsClientConfig": {"insecure": True}},
    }
    answer = argocd.api("POST", "/api/v1/clusters", body)
    assert answer.status == 200, answer
    try:
        sync_one(argocd, repository, "by-api", "added")
        argocd.delete("by-api")
    finally:
        kind = {"Content-Type": "application/json"}
        assert argocd.api("DELETE", "/api/v1/clusters/added?id.type=name", headers=kind).status == 200


def test_without_its_certificate_argo_cd_is_kept_out_and_told_so(
    argocd: ArgoCD, hub: Hub, helm: Helm, customer: Cluster, repository: Repository, without: list[str]
) -> None:
    secret = rendered.cluster_secret(helm, "customer-a", hub.port, hub.tls)
    # Another URL for the same cluster: Argo CD keys what it knows by URL.
    server = hub.endpoint("customer-a").url.replace("127.0.0.1", "localhost")
    good = json.loads(base64.b64decode(secret["data"].pop("config")))
    bad = json.loads(json.dumps(good))
    del bad["tlsClientConfig"]["certData"], bad["tlsClientConfig"]["keyData"]
    secret["metadata"]["name"] = "uncertain"
    secret["data"] = {}
    secret["stringData"] = {"name": "uncertain", "server": server, "config": json.dumps(bad)}
    without.append("uncertain")
    argocd.management.create(SECRETS, secret)
    repository.objects("uncertain/all.json", objects.configmap("one", {"a": "b"}))
    revision = repository.commit("Add uncertain")
    argocd.create(objects.application("uncertain", repository.source("uncertain"), "uncertain"))
    info = connected(argocd, server, "Failed")
    assert "certificate" in info["connectionState"]["message"], info
    assert customer.admin.get("/api/v1/namespaces/uncertain").status == 404
    patch = {"stringData": {"config": json.dumps(good)}}
    kind = {"Content-Type": "application/merge-patch+json"}
    answer = argocd.management.admin("PATCH", f"{SECRETS}/uncertain", json.dumps(patch).encode(), kind)
    assert answer.status == 200, answer
    argocd.refresh("uncertain")
    argocd.wait("uncertain", revision=revision, seconds=90)
    argocd.delete("uncertain")
