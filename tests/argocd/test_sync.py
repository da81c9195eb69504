"""What Argo CD does with a customer's cluster all day: sync, prune, heal, hooks, waves, custom resources."""

import time
from typing import Any

import pytest

from tests.argocd.harness import objects
from tests.argocd.harness.argocd import ArgoCD
from tests.argocd.harness.repository import Repository
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.waiting import until

CUSTOMER = "customer-a"


def data_of(cluster: Cluster, namespace: str, name: str) -> dict[str, str] | None:
    """A configmap's data as the customer's API has it, or None."""
    answer = cluster.admin.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
    return dict(answer.json()["data"]) if answer.status == 200 else None


def deploy(
    argocd: ArgoCD, repository: Repository, name: str, items: list[dict[str, Any]], *options: str, **more: Any
) -> str:
    """Commit the objects, and create the application; the revision."""
    repository.objects(f"{name}/all.json", *items)
    revision = repository.commit(f"Add {name}")
    argocd.create(objects.application(name, repository.source(name), CUSTOMER, *options, **more))
    return revision


@pytest.fixture
def guestbook(argocd: ArgoCD, repository: Repository, request: pytest.FixtureRequest) -> str:
    """A synced guestbook in a namespace that Argo CD made."""
    name = request.function.__name__.removeprefix("test_").replace("_", "-")[:40].strip("-")
    revision = deploy(argocd, repository, name, objects.guestbook())
    argocd.wait(name, revision=revision)
    return name


def test_a_first_sync_makes_namespace_and_objects(argocd: ArgoCD, customer: Cluster, guestbook: str) -> None:
    assert data_of(customer, guestbook, "guestbook-config") == {"greeting": "hello"}
    deployment = customer.admin.get(f"/apis/apps/v1/namespaces/{guestbook}/deployments/guestbook-ui").json()
    assert deployment["status"]["readyReplicas"] == 2
    resources = {(each["kind"], each["status"]) for each in argocd.get(guestbook)["status"]["resources"]}
    assert resources == {("ConfigMap", "Synced"), ("Service", "Synced"), ("Deployment", "Synced")}


def test_a_commit_changes_adds_and_prunes(
    argocd: ArgoCD, customer: Cluster, repository: Repository, guestbook: str
) -> None:
    items = [
        objects.configmap("guestbook-config", {"greeting": "good day"}),
        objects.configmap("guestbook-more", {"new": "yes"}),
        objects.deployment("guestbook-ui", replicas=3),
    ]
    repository.objects(f"{guestbook}/all.json", *items)
    revision = repository.commit("Change, add, remove")
    argocd.refresh(guestbook)
    argocd.wait(guestbook, revision=revision)
    assert data_of(customer, guestbook, "guestbook-config") == {"greeting": "good day"}
    assert data_of(customer, guestbook, "guestbook-more") == {"new": "yes"}
    service = customer.admin.get(f"/api/v1/namespaces/{guestbook}/services/guestbook-ui")
    assert service.status == 404


def test_drift_is_seen_by_the_watch_and_healed(customer: Cluster, guestbook: str, figures: list[str]) -> None:
    times = []
    for number in range(5):
        path = f"/api/v1/namespaces/{guestbook}/configmaps/guestbook-config"
        body = objects.configmap("guestbook-config", {"greeting": f"drift {number}"})
        started = time.monotonic()
        assert (
            customer.admin("PATCH", path, body, {"Content-Type": "application/merge-patch+json"}).status
            == 200
        )
        until(
            "the drift is healed",
            lambda: data_of(customer, guestbook, "guestbook-config") == {"greeting": "hello"},
            seconds=30,
        )
        times.append(time.monotonic() - started)
    figures.append(f"drift healed, seconds: {' '.join(f'{each:.2f}' for each in sorted(times))}")


def test_a_deleted_object_comes_back(customer: Cluster, guestbook: str) -> None:
    path = f"/apis/apps/v1/namespaces/{guestbook}/deployments/guestbook-ui"
    before = customer.admin.get(path).json()["metadata"]["uid"]
    assert customer.admin("DELETE", path).status == 200

    def is_back() -> bool:
        return customer.admin.get(path).json().get("metadata", {}).get("uid", before) != before

    until("the deployment is back", is_back)


def test_a_pod_that_changes_is_seen_in_the_resource_tree(
    argocd: ArgoCD, customer: Cluster, guestbook: str
) -> None:
    def pods() -> set[str]:
        tree = argocd.api.get(f"/api/v1/applications/{guestbook}/resource-tree").json()
        return {each["name"] for each in tree["nodes"] if each["kind"] == "Pod"}

    before = until("two pods are in the tree", lambda: names if len(names := pods()) == 2 else None)
    gone = min(before)
    assert customer.admin("DELETE", f"/api/v1/namespaces/{guestbook}/pods/{gone}").status == 200
    until("another pod is in its place", lambda: len(pods()) == 2 and gone not in pods())


def test_server_side_apply_and_diff(argocd: ArgoCD, customer: Cluster, repository: Repository) -> None:
    name = "server-side"
    item = objects.configmap("shared", {"ours": "1"})
    repository.objects(f"{name}/all.json", item)
    revision = repository.commit("Add server-side")
    application = objects.application(name, repository.source(name), CUSTOMER, "ServerSideApply=true")
    application["metadata"]["annotations"] = {"argocd.argoproj.io/compare-options": "ServerSideDiff=true"}
    argocd.create(application)
    argocd.wait(name, revision=revision)
    path = f"/api/v1/namespaces/{name}/configmaps/shared"
    managers = {each["manager"] for each in customer.admin.get(path).json()["metadata"]["managedFields"]}
    assert "argocd-controller" in managers
    # A field of somebody else's is no difference to a server-side diff.
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": {"theirs": "2"}}
    answer = customer.admin(
        "PATCH", f"{path}?fieldManager=somebody", body, {"Content-Type": "application/apply-patch+yaml"}
    )
    assert answer.status == 200, answer
    item["data"] = {"ours": "3"}
    repository.objects(f"{name}/all.json", item)
    argocd_revision = repository.commit("Change server-side")
    argocd.refresh(name)
    argocd.wait(name, revision=argocd_revision)
    assert data_of(customer, name, "shared") == {"ours": "3", "theirs": "2"}


def test_waves_and_hooks_run_in_order(argocd: ArgoCD, customer: Cluster, repository: Repository) -> None:
    name = "waves"
    wave = "argocd.argoproj.io/sync-wave"
    items = [
        objects.configmap("second", {}, annotations={wave: "2"}),
        objects.configmap("first", {}, annotations={wave: "-1"}),
        objects.job("before", **{"argocd.argoproj.io/hook": "PreSync"}),
        objects.job("after", **{"argocd.argoproj.io/hook": "PostSync"}),
    ]
    deploy(argocd, repository, name, items)

    def finish(job: str) -> None:
        """Play the container that ends: kwok's pods run for ever."""
        pods = f"/api/v1/namespaces/{name}/pods"

        def pod() -> str:
            found = customer.admin.get(f"{pods}?labelSelector=job-name%3D{job}").json()["items"]
            return next((p["metadata"]["name"] for p in found if p["status"]["phase"] == "Running"), "")

        path = f"{pods}/{until(f'the pod of job {job} runs', pod)}/status"
        ended = {"state": {"terminated": {"exitCode": 0}}, "name": objects.CONTAINER}
        status = {"phase": "Succeeded", "containerStatuses": [ended]}
        answer = customer.admin(
            "PATCH", path, {"status": status}, {"Content-Type": "application/merge-patch+json"}
        )
        assert answer.status == 200, answer

    until("the namespace is there", lambda: customer.admin.get(f"/api/v1/namespaces/{name}").status == 200)
    until(
        "the job is there",
        lambda: customer.admin.get(f"/apis/batch/v1/namespaces/{name}/jobs/before").status == 200,
    )
    assert data_of(customer, name, "first") is None
    finish("before")
    finish("after")
    argocd.wait(name)
    created = [
        customer.admin.get(f"/api/v1/namespaces/{name}/configmaps/{each}").json()["metadata"]
        for each in ("first", "second")
    ]
    first, second = (int(each["resourceVersion"]) for each in created)
    assert first < second


def test_a_custom_resource_follows_its_definition(
    argocd: ArgoCD, customer: Cluster, repository: Repository
) -> None:
    revision = deploy(argocd, repository, "widgets", objects.widgets(), "SkipDryRunOnMissingResource=true")
    argocd.wait("widgets", revision=revision)
    path = "/apis/example.com/v1/namespaces/widgets/widgets/first"
    body = {"spec": {"size": 5}}
    assert customer.admin("PATCH", path, body, {"Content-Type": "application/merge-patch+json"}).status == 200
    until("the widget is healed", lambda: customer.admin.get(path).json()["spec"]["size"] == 1)


def test_five_hundred_resources(argocd: ArgoCD, customer: Cluster, repository: Repository) -> None:
    deploy(argocd, repository, "many", objects.configmaps(500), "Validate=false")
    status = argocd.wait("many", seconds=120)
    assert len(status["resources"]) == 500
    found = customer.admin.get("/api/v1/namespaces/many/configmaps").json()["items"]
    assert len([each for each in found if each["metadata"]["name"].startswith("map-")]) == 500


def test_an_application_takes_its_objects_with_it(argocd: ArgoCD, customer: Cluster, guestbook: str) -> None:
    argocd.delete(guestbook)
    assert data_of(customer, guestbook, "guestbook-config") is None
    assert customer.admin.get(f"/apis/apps/v1/namespaces/{guestbook}/deployments/guestbook-ui").status == 404
    assert customer.admin.get(f"/api/v1/namespaces/{guestbook}").status == 200  # as with every cluster
