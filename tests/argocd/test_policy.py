"""What a customer's policy does to Argo CD: what goes on, what stops, with which words, what then helps."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.argocd.harness import objects, program
from tests.argocd.harness.argocd import APPLICATIONS, PROJECTS, ArgoCD
from tests.argocd.harness.hub import Hub
from tests.argocd.harness.repository import Repository
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.objects import service_account
from tests.e2e.harness.waiting import until

CUSTOMER = "customer-b"
MERGE = {"Content-Type": "application/merge-patch+json"}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hidden"}, "stringData": {"a": "b"}}
NO_SECRETS = "presets: no-secrets"
BY_NAME = """
presets: no-secrets
default: allow
rules:
- name: of-the-team
  allow:
    verbs: [get, create, patch, delete]
    resources: [secrets]
    namespaces: [{namespace}]
"""
DEPLOYER = """
presets: no-shell
default: allow
rules:
- name: deployer
  allow:
    verbs: [impersonate]
    resources: [serviceaccounts]
    namespaces: [acting]
"""

Say = Callable[[str, str], None]
Configure = Callable[..., None]


@pytest.fixture(scope="module")
def asked(hub: Hub, folder: Path) -> Iterator[Say]:
    """An agent with a policy file, for all tests here."""
    file = folder / "policy.yaml"
    file.write_text("presets: full\n")
    hub.stop_agent(CUSTOMER)
    hub.start_agent(CUSTOMER, "--policy", str(file))
    hub.wait(CUSTOMER)

    def say(text: str, rule: str) -> None:
        fresh = folder / "policy.new"
        fresh.write_text(text)
        fresh.replace(file)
        until(f"the policy with {rule} is in force", lambda: rule in hub.refusals(CUSTOMER))

    yield say
    hub.stop_agent(CUSTOMER)
    hub.start_agent(CUSTOMER)
    hub.wait(CUSTOMER)


@pytest.fixture
def policy(asked: Say, hub: Hub, configure: Configure) -> Iterator[Say]:
    """Puts a policy in force, which has that rule; none is after the test, when a new cache is filled."""
    yield asked
    asked("default: allow\nrules: [{name: nothing, deny: {callers: [nobody]}}]", "nothing")
    until(
        "the last policy is gone",
        lambda: set(hub.refusals(CUSTOMER)) == {"nothing", "default", "not-canonical"},
    )


@pytest.fixture
def configure(argocd: ArgoCD) -> Iterator[Configure]:
    """Changes argocd-cm for a test; after it a controller with the usual settings fills its cache anew."""
    changed: dict[str, str] = {}

    def change(settings: dict[str, str]) -> None:
        changed.update(settings)
        argocd.configure(settings)

    yield change
    if changed:
        argocd.configure(dict.fromkeys(changed, ""))
        argocd.restart_controller()


def eager(application: dict[str, Any]) -> dict[str, Any]:
    """The application, whose failed syncs are tried again each second."""
    application["spec"]["syncPolicy"]["retry"] = {"limit": -1, "backoff": {"duration": "1s", "factor": 1}}
    return application


def deploy(argocd: ArgoCD, repository: Repository, name: str, *items: dict[str, Any]) -> None:
    """Have an application synced."""
    repository.objects(f"{name}/all.json", *items)
    revision = repository.commit(f"Add {name}")
    argocd.create(eager(objects.application(name, repository.source(name), CUSTOMER)))
    argocd.wait(name, revision=revision)


def refresh(argocd: ArgoCD, name: str) -> None:
    """Have the application compared anew; a controller that has just started fills its cache for that."""
    argocd.refresh(name, "hard")
    until(f"{name} is refreshed", lambda: "annotations" not in argocd.get(name)["metadata"], seconds=60)


def shows(argocd: ArgoCD, name: str, *words: str, seconds: float = 60) -> None:
    """Return when an application's status has all of these words."""

    def seen() -> bool:
        status = str(argocd.get(name).get("status"))
        return all(word in status for word in words)

    until(f"application {name} shows {words}", seen, seconds)


def cluster(argocd: ArgoCD, hub: Hub, state: str) -> dict[str, Any]:
    """What Argo CD says about the cluster once it is in that state; it says so every ten seconds."""

    def info() -> dict[str, Any] | None:
        info = argocd.connection(hub.endpoint(CUSTOMER).url)
        return info if info.get("state") == state else None

    return until(f"the cluster is {state}", info, seconds=60, every=0.2) or {}


def pod_of(cluster: Cluster, namespace: str) -> str:
    """The name of a pod."""
    return str(
        cluster.admin.get(f"/api/v1/namespaces/{namespace}/pods").json()["items"][0]["metadata"]["name"]
    )


@pytest.fixture(scope="module")
def customer(clusters: dict[str, Cluster]) -> Cluster:
    """The customer whose agent has the policy, asked directly."""
    return clusters[CUSTOMER]


@pytest.fixture(scope="module")
def guestbook(argocd: ArgoCD, repository: Repository, asked: Say) -> str:
    """A synced guestbook, from before the policies."""
    deploy(argocd, repository, "policed", *objects.guestbook())
    return "policed"


# ── no-shell ───────────────────────────────────────────────────────────────────────────────────


def test_with_no_shell_argo_cd_deploys_and_prints_logs(
    argocd: ArgoCD, hub: Hub, repository: Repository, customer: Cluster, policy: Say
) -> None:
    policy("presets: no-shell", "no-shell/shells")
    name = "no-shell"
    deploy(argocd, repository, name, *objects.guestbook())
    pod = pod_of(customer, name)
    customer.folder_of(name, pod).mkdir(parents=True)
    customer.log_of(name, pod).write_text("2026-01-01T00:00:00.000000000Z stdout F spoken\n")
    path = f"/api/v1/applications/{name}/logs"
    query = {"namespace": name, "podName": pod, "container": objects.CONTAINER}
    assert b"spoken" in argocd.api.get(f"{path}?{urlencode(query)}").body
    assert set(hub.refusals(CUSTOMER).values()) == {0}


def test_with_no_shell_the_terminal_closes_without_a_word(
    argocd: ArgoCD, hub: Hub, customer: Cluster, guestbook: str, policy: Say
) -> None:
    policy("presets: no-shell", "no-shell/shells")
    query = {
        "pod": pod_of(customer, guestbook),
        "container": objects.CONTAINER,
        "appName": guestbook,
        "appNamespace": objects.ARGOCD,
        "projectName": "default",
        "namespace": guestbook,
    }
    url = f"ws://127.0.0.1:{argocd.api.port}/terminal?{urlencode(query)}"
    cookie = {"Cookie": f"argocd.token={argocd.api.token}"}
    with connect(url, additional_headers=cookie, proxy=None) as ws, pytest.raises(ConnectionClosed):
        ws.recv(timeout=30)
    # Four shells, each over WebSocket and over SPDY.
    until("they are counted", lambda: hub.refusals(CUSTOMER)["no-shell/shells"] == 8)


def test_no_shell_stops_a_projects_account_until_a_rule_allows_it(
    argocd: ArgoCD, customer: Cluster, repository: Repository, policy: Say, configure: Configure
) -> None:
    configure({"application.sync.impersonation.enabled": "true"})
    policy("presets: no-shell", "no-shell/impersonation")
    name, account = "acting", "deployer"
    customer.create_namespace(name)
    customer.create(f"/api/v1/namespaces/{name}/serviceaccounts", service_account(account))
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": account},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": name}],
    }
    customer.create(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{name}/rolebindings", binding)
    project = objects.project(name)
    project["spec"]["destinationServiceAccounts"] = [
        {"server": "*", "namespace": name, "defaultServiceAccount": account}
    ]
    argocd.management.create(PROJECTS, project)
    repository.objects(f"{name}/all.json", objects.configmap("one", {"a": "b"}))
    repository.commit(f"Add {name}")
    application = objects.application(name, repository.source(name), CUSTOMER)
    application["spec"]["project"] = name
    application["spec"]["syncPolicy"]["syncOptions"] = []
    argocd.create(eager(application))
    shows(argocd, name, "forbids impersonate serviceaccounts deployer", "no-shell/impersonation")
    policy(DEPLOYER, "deployer")
    argocd.wait(name, seconds=90)


# ── read-only ──────────────────────────────────────────────────────────────────────────────────


def test_with_read_only_drift_is_shown_and_left_alone(
    argocd: ArgoCD, hub: Hub, customer: Cluster, guestbook: str, policy: Say
) -> None:
    policy("presets: read-only", "read-only/writes")
    refresh(argocd, guestbook)
    path = f"/api/v1/namespaces/{guestbook}/configmaps/guestbook-config"
    drift = objects.configmap("guestbook-config", {"greeting": "drift"})
    assert customer.admin("PATCH", path, drift, MERGE).status == 200
    shows(argocd, guestbook, "OutOfSync", "forbids patch configmaps guestbook-config", "read-only/writes")
    argocd.wait(guestbook, sync="OutOfSync", phase=None)
    until("the command line prints it", lambda: "read-only/writes" in argocd.cli("app", "get", guestbook))
    cluster(argocd, hub, "Successful")
    for command in (
        ("app", "actions", "run", guestbook, "restart", "--kind", "Deployment"),
        ("app", "delete-resource", guestbook, "--kind", "ConfigMap", "--resource-name", "guestbook-config"),
    ):
        with pytest.raises(AssertionError, match=r"PermissionDenied.*read-only/writes"):
            argocd.cli(*command)
    assert customer.admin.get(path).json()["data"] == {"greeting": "drift"}
    policy("presets: no-secrets", "no-secrets/secrets")
    argocd.wait(guestbook, seconds=120)
    assert customer.admin.get(path).json()["data"] == {"greeting": "hello"}


def test_with_read_only_a_diff_on_the_server_is_unknown(
    argocd: ArgoCD, repository: Repository, guestbook: str, policy: Say
) -> None:
    """A dry run is a PATCH as any other."""
    policy("presets: read-only", "read-only/writes")
    name = "dry-run"
    application = objects.application(
        name, repository.source(guestbook), CUSTOMER, namespace=guestbook, automated=False
    )
    annotations = {"argocd.argoproj.io/compare-options": "ServerSideDiff=true"}
    application["metadata"] |= {"annotations": annotations, "finalizers": []}
    argocd.create(application)
    shows(argocd, name, "Unknown", "ComparisonError", "server side apply in dryrun mode", "read-only/writes")
    argocd.delete(name)


def test_with_read_only_what_the_server_applies_can_be_compared_without_it(
    argocd: ArgoCD, repository: Repository, guestbook: str, policy: Say
) -> None:
    """From Argo CD 3.6 on such an application is compared by a dry run too, unless it says otherwise."""
    policy("presets: read-only", "read-only/writes")
    name = "applied-by-the-server"
    application = objects.application(
        name,
        repository.source(guestbook),
        CUSTOMER,
        "ServerSideApply=true",
        namespace=guestbook,
        automated=False,
    )
    application["metadata"]["finalizers"] = []
    argocd.create(application)
    if program.minor() >= 6:
        shows(
            argocd, name, "Unknown", "ComparisonError", "server side apply in dryrun mode", "read-only/writes"
        )
        annotations = {"argocd.argoproj.io/compare-options": "ServerSideDiff=false"}
        argocd.patch(name, {"metadata": {"annotations": annotations}})
        argocd.refresh(name)
    until(f"{name} is compared", lambda: argocd.state(name)[0] in ("Synced", "OutOfSync"))
    argocd.delete(name)


def test_with_read_only_a_deletion_waits_and_says_why(
    argocd: ArgoCD, customer: Cluster, repository: Repository, policy: Say
) -> None:
    name = "kept"
    deploy(argocd, repository, name, objects.configmap("one", {"a": "b"}))
    policy("presets: read-only", "read-only/writes")
    assert argocd.management.admin("DELETE", f"{APPLICATIONS}/{name}").status == 200
    shows(argocd, name, "DeletionError", "forbids delete configmaps one", "read-only/writes")
    path = f"/api/v1/namespaces/{name}/configmaps/one"
    assert customer.admin.get(path).status == 200
    policy(NO_SECRETS, "no-secrets/secrets")
    # Argo CD tries again when something touches the application, and not before.
    argocd.refresh(name)
    argocd.delete(name)
    assert customer.admin.get(path).status == 404


# ── no-secrets ─────────────────────────────────────────────────────────────────────────────────


def test_with_no_secrets_the_cluster_fails_when_its_cache_is_filled(
    argocd: ArgoCD, hub: Hub, guestbook: str, policy: Say, configure: Configure
) -> None:
    refresh(argocd, guestbook)
    policy(NO_SECRETS, "no-secrets/secrets")
    refresh(argocd, guestbook)
    argocd.wait(guestbook)
    cluster(argocd, hub, "Successful")
    for setting in ("", "strict"):
        configure({"resource.respectRBAC": setting})
        argocd.restart_controller()
        argocd.refresh(guestbook, "hard")
        shows(argocd, guestbook, "Unknown", "ComparisonError", "forbids list secrets", "no-secrets/secrets")
    failed = cluster(argocd, hub, "Failed")
    assert "failed to load initial state of resource Secret" in failed["connectionState"]["message"]
    assert "no-secrets/secrets" in argocd.cli("cluster", "list")


def test_with_rbac_respected_only_applications_of_secrets_stop(
    argocd: ArgoCD, repository: Repository, guestbook: str, policy: Say, configure: Configure
) -> None:
    name = "closed"
    deploy(argocd, repository, name, objects.configmap("one", {"a": "b"}), SECRET)
    policy(NO_SECRETS, "no-secrets/secrets")
    configure({"resource.respectRBAC": "normal"})
    argocd.restart_controller()
    for each in (guestbook, name):
        argocd.refresh(each, "hard")
    shows(argocd, name, "Unknown", "forbids get secrets hidden", "no-secrets/secrets")
    argocd.wait(guestbook)


def test_an_excluded_kind_is_left_out_at_once(
    argocd: ArgoCD, hub: Hub, repository: Repository, guestbook: str, policy: Say, configure: Configure
) -> None:
    name = "left-out"
    policy(NO_SECRETS, "no-secrets/secrets")
    argocd.restart_controller()
    argocd.refresh(guestbook, "hard")
    shows(argocd, guestbook, "forbids list secrets")
    url = hub.endpoint(CUSTOMER).url
    exclusion = f"[{{apiGroups: [''], kinds: [Secret], clusters: ['{url}']}}]"
    configure({"resource.exclusions": exclusion})

    def compared() -> bool:
        argocd.refresh(guestbook, "hard")
        return argocd.state(guestbook)[0] == "Synced"

    # Argo CD goes from cluster to cluster with it, and waits for each whose cache it fills; what it compares
    # meanwhile stays Unknown until somebody asks again.
    until("the exclusion is in force", compared, 90, every=1)
    argocd.wait(guestbook)
    deploy(argocd, repository, name, objects.configmap("one", {"a": "b"}), SECRET)
    shows(argocd, name, "ExcludedResourceWarning")


def test_secrets_by_name_are_deployed_but_not_taken_away(
    argocd: ArgoCD, customer: Cluster, repository: Repository, policy: Say, configure: Configure
) -> None:
    name = "by-name"
    policy(BY_NAME.format(namespace=name), "of-the-team")
    configure({"resource.respectRBAC": "normal"})
    argocd.restart_controller()
    deploy(argocd, repository, name, objects.configmap("one", {"a": "b"}), SECRET)
    path = f"/api/v1/namespaces/{name}/secrets/hidden"
    assert customer.admin.get(path).json()["data"] == {"a": "Yg=="}
    argocd.delete(name)
    assert customer.admin.get(f"/api/v1/namespaces/{name}/configmaps/one").status == 404
    assert customer.admin.get(path).status == 200
