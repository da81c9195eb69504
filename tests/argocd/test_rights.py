"""In whose name a sync reaches the customer's API: the agent's account, or one that a project names."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.argocd.harness import objects, rendered
from tests.argocd.harness.argocd import PROJECTS, ArgoCD
from tests.argocd.harness.repository import Repository
from tests.chart.helm import NAMESPACE
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.objects import service_account

DEPLOYER = "deployer"
AGENT = f"system:serviceaccount:{NAMESPACE}:{rendered.ACCOUNT}"


@pytest.fixture
def impersonating(argocd: ArgoCD) -> Iterator[None]:
    """Argo CD with impersonation switched on."""

    argocd.configure({"application.sync.impersonation.enabled": "true"})
    yield
    argocd.configure({"application.sync.impersonation.enabled": "false"})


def creation(customer: Cluster, namespace: str) -> dict[str, Any]:
    """Who wrote the configmap of a namespace, as the customer's audit log has it."""
    return customer.audited(
        f"the write in {namespace}",
        lambda line: (
            line["verb"] in ("create", "patch")
            and line.get("objectRef", {}).get("namespace") == namespace
            and line["objectRef"].get("name") == "one"
        ),
    )


def test_a_sync_is_the_agents_account(argocd: ArgoCD, customer: Cluster, repository: Repository) -> None:
    repository.objects("rights/all.json", objects.configmap("one", {"a": "b"}))
    repository.commit("Add rights")
    argocd.create(objects.application("rights", repository.source("rights"), "customer-a"))
    argocd.wait("rights")
    line = creation(customer, "rights")
    assert line["user"]["username"] == AGENT
    assert "impersonatedUser" not in line
    assert line["userAgent"].startswith("argocd")


def test_a_sync_is_the_account_that_the_project_names(
    argocd: ArgoCD, customer: Cluster, repository: Repository, impersonating: None
) -> None:
    name = "impersonated"
    customer.create_namespace(name)
    customer.create(f"/api/v1/namespaces/{name}/serviceaccounts", service_account(DEPLOYER))
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": DEPLOYER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": DEPLOYER, "namespace": name}],
    }
    customer.create(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{name}/rolebindings", binding)
    project = objects.project(name)
    project["spec"]["destinationServiceAccounts"] = [
        {"server": "*", "namespace": name, "defaultServiceAccount": DEPLOYER}
    ]
    argocd.management.create(PROJECTS, project)
    repository.objects(f"{name}/all.json", objects.configmap("one", {"a": "b"}))
    repository.commit(f"Add {name}")
    application = objects.application(name, repository.source(name), "customer-a")
    application["spec"]["project"] = name
    application["spec"]["syncPolicy"]["syncOptions"] = []
    argocd.create(application)
    argocd.wait(name)
    line = creation(customer, name)
    assert line["user"]["username"] == AGENT
    assert line["impersonatedUser"]["username"] == f"system:serviceaccount:{name}:{DEPLOYER}"
