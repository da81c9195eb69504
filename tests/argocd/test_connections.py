"""How many connections Argo CD opens to a cluster of single namespaces, and its own limit on them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.argocd.harness import objects, rendered
from tests.argocd.harness.argocd import SECRETS, ArgoCD
from tests.argocd.harness.hub import Hub
from tests.argocd.harness.repository import Repository
from tests.chart.helm import Helm
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.waiting import until

NAME = "narrow"
NAMESPACES = [f"{NAME}-{i:02}" for i in range(20)]
LIMIT = "ARGOCD_K8S_CLIENT_MAX_IDLE_CONNECTIONS"
USUAL = 500
"""What it is where nobody sets it; in spite of its name a limit of all connections to a cluster."""


@dataclass(frozen=True)
class Narrow:
    """A hub before a cluster of which Argo CD knows some namespaces, and has an application in one."""

    hub: Hub
    url: str

    def streams(self) -> int:
        return sum(int(str(each["streams"])) for each in self.hub.sessions(NAME))


@pytest.fixture
def narrow(
    argocd: ArgoCD, clusters: dict[str, Cluster], repository: Repository, helm: Helm, folder: Path
) -> Iterator[Narrow]:
    cluster = clusters["customer-b"]
    for namespace in NAMESPACES:
        cluster.create_namespace(namespace)
    hub = Hub(folder / "narrow-hub", {NAME: cluster})
    entry = {"namespaces": NAMESPACES, "clusterResources": False}
    secret = rendered.cluster_secret(helm, NAME, hub.port, hub.tls, **entry)
    repository.objects(f"{NAME}/all.json", objects.configmap("one", {"a": "b"}))
    repository.commit(f"Add {NAME}")
    application = objects.application(NAME, repository.source(NAME), NAME, namespace=NAMESPACES[0])
    application["spec"]["syncPolicy"]["syncOptions"] = []
    try:
        hub.start()
        argocd.management.create(SECRETS, secret)
        argocd.create(application)
        yield Narrow(hub, rendered.server_of(secret))
        argocd.delete(NAME)
        argocd.management.admin("DELETE", f"{SECRETS}/{secret['metadata']['name']}")
    finally:
        hub.stop()
        argocd.environment.pop(LIMIT, None)
        argocd.restart_controller()


def test_more_watches_than_argo_cds_connections_need_its_limit_raised(
    argocd: ArgoCD, narrow: Narrow, figures: list[str]
) -> None:
    """Each watch keeps a connection: what comes after the last one waits for ever, and no line says so."""
    until("Argo CD has used up its connections", lambda: USUAL <= narrow.streams() <= USUAL + 1, seconds=90)
    before = narrow.hub.requests(NAME)
    argocd.refresh(NAME)
    assert argocd.connection(narrow.url)["state"] != "Successful"
    assert not argocd.state(NAME)[0]
    assert narrow.hub.requests(NAME) == before
    argocd.environment[LIMIT] = "4096"
    argocd.restart_controller()
    argocd.wait(NAME, seconds=90)
    until("more watches than that are open", lambda: narrow.streams() > USUAL + 1, seconds=60)
    figures.append(f"watches of {len(NAMESPACES)} namespaces: {narrow.streams()}")
