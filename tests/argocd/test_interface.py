"""What Argo CD's own API and command line do with a customer's cluster: logs, events, actions, terminal."""

import json
import time
from urllib.parse import urlencode

import gevent
import pytest
from websockets.sync.client import connect

from tests.argocd.harness import objects
from tests.argocd.harness.argocd import ArgoCD
from tests.argocd.harness.repository import Repository
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.waiting import until

NAME = "interface"


@pytest.fixture(scope="module")
def pod(argocd: ArgoCD, customer: Cluster, repository: Repository) -> str:
    """A pod of a synced application, with a folder and a log of three lines."""
    repository.objects(f"{NAME}/all.json", *objects.guestbook())
    revision = repository.commit(f"Add {NAME}")
    argocd.create(objects.application(NAME, repository.source(NAME), "customer-a"))
    argocd.wait(NAME, revision=revision)
    pods = customer.admin.get(f"/api/v1/namespaces/{NAME}/pods").json()["items"]
    for each in pods:
        name = each["metadata"]["name"]
        customer.folder_of(NAME, name).mkdir(parents=True)
        write_log(customer, name, "one", "two", "three")
    return str(pods[0]["metadata"]["name"])


def write_log(customer: Cluster, pod: str, *lines: str) -> None:
    """Add lines to a pod's log."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime())
    with customer.log_of(NAME, pod).open("a") as log:
        log.writelines(f"{stamp} stdout F {line}\n" for line in lines)


def logs_path(pod: str, **more: str) -> str:
    query = {"namespace": NAME, "podName": pod, "container": objects.CONTAINER, **more}
    return f"/api/v1/applications/{NAME}/logs?{urlencode(query)}"


def test_the_command_line_prints_logs(argocd: ArgoCD, pod: str) -> None:
    printed = argocd.cli("app", "logs", NAME, "--kind", "Deployment", "--name", "guestbook-ui")
    assert {"one", "two", "three"} <= set(printed.split())


def test_the_ui_follows_a_log(argocd: ArgoCD, customer: Cluster, pod: str) -> None:
    with argocd.api.connection() as conn:
        response = argocd.api.send(conn, "GET", logs_path(pod, follow="true", tailLines="1"))
        lines = iter(response)
        assert json.loads(next(lines))["result"]["content"] == "three"
        write_log(customer, pod, "four")
        assert json.loads(next(line for line in lines if line.strip()))["result"]["content"] == "four"


def test_resources_and_the_live_manifest(argocd: ArgoCD, pod: str) -> None:
    assert "guestbook-ui" in argocd.cli("app", "resources", NAME)
    query = {"namespace": NAME, "resourceName": pod, "version": "v1", "kind": "Pod", "group": ""}
    answer = argocd.api.get(f"/api/v1/applications/{NAME}/resource?{urlencode(query)}")
    assert json.loads(answer.json()["manifest"])["status"]["phase"] == "Running"


def test_an_action_restarts_a_deployment(argocd: ArgoCD, customer: Cluster, pod: str) -> None:
    path = f"/apis/apps/v1/namespaces/{NAME}/deployments/guestbook-ui"
    before = customer.admin.get(path).json()["metadata"]["generation"]
    argocd.cli(
        "app", "actions", "run", NAME, "restart", "--kind", "Deployment", "--resource-name", "guestbook-ui"
    )
    after = customer.admin.get(path).json()
    assert after["metadata"]["generation"] == before + 1
    assert "kubectl.kubernetes.io/restartedAt" in after["spec"]["template"]["metadata"]["annotations"]
    argocd.wait(NAME)


def test_a_difference_is_shown_and_synced_by_hand(
    argocd: ArgoCD, customer: Cluster, repository: Repository
) -> None:
    name = "by-hand"
    repository.objects(f"{name}/all.json", objects.configmap("one", {"a": "b"}))
    repository.commit(f"Add {name}")
    argocd.create(objects.application(name, repository.source(name), "customer-a", automated=False))
    argocd.wait(name, sync="OutOfSync", health="Missing", phase=None)
    argocd.cli("app", "sync", name)
    argocd.wait(name)
    path = f"/api/v1/namespaces/{name}/configmaps/one"
    body = objects.configmap("one", {"a": "changed"})
    assert customer.admin("PATCH", path, body, {"Content-Type": "application/merge-patch+json"}).status == 200
    argocd.wait(name, sync="OutOfSync")
    assert argocd.api.get(f"/api/v1/applications/{name}/managed-resources").json()["items"]
    argocd.cli("app", "sync", name)
    argocd.wait(name)
    assert customer.admin.get(path).json()["data"] == {"a": "b"}


def test_the_terminal_runs_a_shell_in_a_pod(argocd: ArgoCD, customer: Cluster) -> None:
    pods = f"/api/v1/namespaces/{NAME}/pods"

    def running() -> str:
        tree = argocd.api.get(f"/api/v1/applications/{NAME}/resource-tree").json()["nodes"]
        known = {each["name"] for each in tree if each["kind"] == "Pod"}
        found = customer.admin.get(pods).json()["items"]
        names = [
            each["metadata"]["name"]
            for each in found
            if each["status"]["phase"] == "Running" and "deletionTimestamp" not in each["metadata"]
        ]
        return next((name for name in names if name in known), "")

    pod = until("a pod of the application is known to Argo CD", running)
    folder = customer.folder_of(NAME, pod)
    folder.mkdir(parents=True, exist_ok=True)
    query = {
        "pod": pod,
        "container": objects.CONTAINER,
        "appName": NAME,
        "appNamespace": objects.ARGOCD,
        "projectName": "default",
        "namespace": NAME,
    }
    url = f"ws://127.0.0.1:{argocd.api.port}/terminal?{urlencode(query)}"
    with connect(url, additional_headers={"Cookie": f"argocd.token={argocd.api.token}"}, proxy=None) as ws:
        ws.send(json.dumps({"operation": "stdin", "data": "pwd > where; echo $((40 + 2))\r"}))
        printed = ""
        with gevent.Timeout(30):
            while "42" not in printed:
                printed += json.loads(ws.recv())["data"]
        ws.send(json.dumps({"operation": "stdin", "data": "exit\r"}))
    assert (folder / "where").read_text().strip() == str(folder)
