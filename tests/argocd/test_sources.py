"""Where an application's manifests may come from: Helm, Kustomize, an ApplicationSet over all clusters."""

import json

import pytest

from tests.argocd.harness import objects
from tests.argocd.harness.argocd import APPLICATION_SETS, ArgoCD
from tests.argocd.harness.hub import Hub
from tests.argocd.harness.repository import Repository
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.waiting import until

CHART = """apiVersion: v2
name: shop
version: 0.1.0
"""
TEMPLATE = """apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-shop"}
data:
  greeting: {{ .Values.greeting }}
  kubernetes: {{ .Capabilities.KubeVersion.Version | quote }}
  deployments: {{ .Capabilities.APIVersions.Has "apps/v1" | quote }}
"""
KUSTOMIZATION = """resources: [one.json]
namePrefix: k-
configMapGenerator: [{name: generated, literals: [a=b]}]
"""


def configmaps(cluster: Cluster, namespace: str) -> dict[str, dict[str, str]]:
    """The configmaps of a namespace and their data."""
    items = cluster.admin.get(f"/api/v1/namespaces/{namespace}/configmaps").json()["items"]
    return {each["metadata"]["name"]: each.get("data", {}) for each in items}


def test_a_helm_chart_knows_the_customers_version(
    argocd: ArgoCD, customer: Cluster, repository: Repository
) -> None:
    repository.write("shop/Chart.yaml", CHART)
    repository.write("shop/values.yaml", "greeting: hello\n")
    repository.write("shop/templates/map.yaml", TEMPLATE)
    repository.commit("Add a chart")
    source = repository.source("shop", helm={"parameters": [{"name": "greeting", "value": "good-day"}]})
    argocd.create(objects.application("shop", source, "customer-a"))
    argocd.wait("shop")
    data = configmaps(customer, "shop")["shop-shop"]
    version = customer.admin.get("/version").json()["gitVersion"]
    assert data == {"greeting": "good-day", "kubernetes": version, "deployments": "true"}


def test_a_kustomization(argocd: ArgoCD, customer: Cluster, repository: Repository) -> None:
    repository.write("kust/kustomization.yaml", KUSTOMIZATION)
    repository.write("kust/one.json", json.dumps(objects.configmap("one", {"c": "d"})))
    repository.commit("Add a kustomization")
    argocd.create(objects.application("kust", repository.source("kust"), "customer-a"))
    argocd.wait("kust")
    found = configmaps(customer, "kust")
    assert found["k-one"] == {"c": "d"}
    assert any(name.startswith("k-generated-") for name in found)


@pytest.mark.parametrize("form", ["name", "server"])
def test_a_destination_in_either_form(
    argocd: ArgoCD, hub: Hub, customer: Cluster, repository: Repository, form: str
) -> None:
    name = f"form-{form}"
    repository.objects("guestbook/all.json", *objects.guestbook())
    repository.write("guestbook/README", f"for the destination by {form}\n")
    revision = repository.commit("Add guestbook")
    application = objects.application(
        name, repository.source("guestbook", targetRevision="HEAD"), "customer-a"
    )
    if form == "server":
        del application["spec"]["destination"]["name"]
        application["spec"]["destination"]["server"] = hub.endpoint("customer-a").url
    argocd.create(application)
    argocd.wait(name, revision=revision)
    assert configmaps(customer, name)["guestbook-config"] == {"greeting": "hello"}


def test_an_application_set_deploys_to_every_customer(
    argocd: ArgoCD, clusters: dict[str, Cluster], repository: Repository
) -> None:
    names = ("customer-a", "customer-b")
    for name in names:
        repository.objects(f"envs/{name}/all.json", objects.configmap("platform", {"for": name}))
        clusters[name].create_namespace("platform")
    repository.commit("Add the customers' environments")
    selector = {
        "matchLabels": {"argocd.argoproj.io/secret-type": "cluster"},
        # Other tests register clusters of their own.
        "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}],
    }
    body = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "ApplicationSet",
        "metadata": {"name": "platform-apps", "namespace": objects.ARGOCD},
        "spec": {
            "generators": [{"clusters": {"selector": selector}}],
            "template": {
                "metadata": {"name": "platform-{{name}}"},
                "spec": {
                    "project": "default",
                    "source": repository.source("envs/{{name}}", targetRevision="HEAD"),
                    "destination": {"name": "{{name}}", "namespace": "platform"},
                    "syncPolicy": {"automated": {"prune": True, "selfHeal": True}},
                },
            },
        },
    }
    answer = argocd.management.admin("POST", APPLICATION_SETS, body)
    assert answer.status == 201, answer
    for name in names:
        until(f"there is an application for {name}", lambda name=name: argocd.get(f"platform-{name}"))
        argocd.wait(f"platform-{name}")
        assert configmaps(clusters[name], "platform")["platform"] == {"for": name}
