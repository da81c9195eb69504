"""What Argo CD may do in a customer's cluster: the rules, evaluated as kube-apiserver does."""

from typing import Any

import pytest

from tests.chart.helm import Helm, Rendered
from tests.chart.values import AGENT, MATRIX, SERVER

Rule = dict[str, list[str]]
TOKEN = {"kind": "ServiceAccount", "name": "argotun", "namespace": "tunnels"}


def rules(rendered: Rendered) -> list[Rule]:
    """The rules of the only role."""
    (role,) = rendered.all("ClusterRole") or rendered.all("Role")
    return role["rules"]  # type: ignore[no-any-return]


def names(entries: list[str], value: str) -> bool:
    """Whether a list of a rule has `value`, or everything."""
    return "*" in entries or value in entries


def allowed(found: list[Rule], verb: str, group: str, resource: str) -> bool:
    """RBAC's answer; `resource` may have a subresource, which only its own name or `*` allow."""
    return any(
        names(each["verbs"], verb)
        and names(each.get("apiGroups", []), group)
        and names(each.get("resources", []), resource)
        for each in found
    )


READS = [
    ("get", "", "pods"),
    ("get", "", "pods/log"),
    ("list", "", "secrets"),
    ("watch", "apps", "deployments"),
    ("get", "apps", "deployments"),
    ("get", "apiextensions.k8s.io", "customresourcedefinitions"),
    ("list", "example.com", "widgets"),
    ("watch", "example.com", "widgets"),
]
WRITES = [
    ("create", "", "configmaps"),
    ("patch", "apps", "deployments"),
    ("update", "apps", "deployments/scale"),
    ("delete", "example.com", "widgets"),
    ("deletecollection", "", "pods"),
    ("create", "", "serviceaccounts/token"),
    ("impersonate", "", "users"),
    ("escalate", "rbac.authorization.k8s.io", "roles"),
]
# By WebSocket these are opened with GET, which RBAC calls `get`.
OPENED_BY_GET = [
    ("get", "", "pods/exec"),
    ("get", "", "pods/attach"),
    ("get", "", "pods/portforward"),
    ("get", "", "pods/proxy"),
    ("get", "", "services/proxy"),
    ("get", "", "nodes/proxy"),
    ("get", "subresources.kubevirt.io", "virtualmachineinstances/console"),
]


def test_full_forbids_nothing(helm: Helm) -> None:
    found = rules(helm.render(AGENT))
    for question in [*READS, *WRITES, *OPENED_BY_GET]:
        assert allowed(found, *question), question
    assert {"nonResourceURLs": ["*"], "verbs": ["*"]} in found


def test_read_only_can_read(helm: Helm) -> None:
    found = rules(helm.render(MATRIX["agent-read-only"]))
    for question in READS:
        assert allowed(found, *question), question


def test_read_only_lets_no_shell_in_and_no_change(helm: Helm) -> None:
    found = rules(helm.render(MATRIX["agent-read-only"]))
    for question in [*WRITES, *OPENED_BY_GET]:
        assert not allowed(found, *question), question
    assert all(set(each["verbs"]) <= {"get", "list", "watch"} for each in found)


def test_namespaced_reaches_its_namespaces_only(helm: Helm) -> None:
    rendered = helm.render(MATRIX["agent-namespaced"])
    assert not rendered.all("ClusterRole")
    assert not rendered.all("ClusterRoleBinding")
    bindings = rendered.all("RoleBinding")
    assert [each["metadata"]["namespace"] for each in bindings] == ["one", "two"]
    # A role of one's own would have to be granted by somebody who has all of it.
    assert not rendered.all("Role")
    assert {(each["roleRef"]["kind"], each["roleRef"]["name"]) for each in bindings} == {
        ("ClusterRole", "admin")
    }
    assert all(each["subjects"] == [TOKEN] for each in bindings)


def test_namespaced_has_rules_of_ones_own_beside_admin_or_in_its_place(helm: Helm) -> None:
    more = [{"apiGroups": ["example.com"], "resources": ["*"], "verbs": ["get"]}]
    for field, admin in (("extraRules", True), ("rules", False)):
        rendered = helm.render(AGENT | {"rbac": {"preset": "namespaced", field: more}})
        assert rules(rendered) == more
        given = [each["roleRef"]["name"] for each in rendered.all("RoleBinding")]
        assert given == ["argotun.tunnels", "admin"][: 1 + admin]


@pytest.mark.parametrize("preset", ["full", "read-only"])
def test_namespaces_alone_make_no_role_of_the_cluster(helm: Helm, preset: str) -> None:
    rendered = helm.render(AGENT | {"rbac": {"preset": preset, "namespaces": ["one", "two"]}})
    assert not rendered.all("ClusterRole") + rendered.all("ClusterRoleBinding")
    assert [each["metadata"]["namespace"] for each in rendered.all("Role")] == ["one", "two"]


def test_two_namespaces_agents_have_roles_of_their_own(helm: Helm) -> None:
    for values, kinds in (
        (AGENT, ("ClusterRole", "ClusterRoleBinding")),
        (AGENT | {"rbac": {"namespaces": ["shared"]}}, ("Role", "RoleBinding")),
    ):
        found = [
            {
                each["metadata"]["name"]
                for kind in kinds
                for each in helm.render(values, namespace=name).all(kind)
            }
            for name in ("hub-prod", "hub-stage")
        ]
        assert all(found)
        assert not found[0] & found[1]


@pytest.mark.parametrize("preset", ["full", "read-only"])
def test_a_role_of_a_namespace_does_not_speak_of_urls(helm: Helm, preset: str) -> None:
    rendered = helm.render(AGENT | {"rbac": {"preset": preset, "clusterWide": False}})
    (role,) = rendered.all("Role")
    assert role["metadata"]["namespace"] == "tunnels"
    assert role["rules"]
    assert not any("nonResourceURLs" in each for each in role["rules"])


def test_own_rules_are_used(helm: Helm) -> None:
    own = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}]
    more = [{"apiGroups": ["example.com"], "resources": ["*"], "verbs": ["get"]}]
    assert rules(helm.render(AGENT | {"rbac": {"rules": own}})) == own
    assert rules(helm.render(AGENT | {"rbac": {"rules": own, "extraRules": more}})) == own + more
    found = rules(helm.render(AGENT | {"rbac": {"preset": "read-only", "extraRules": more}}))
    assert allowed(found, "get", "example.com", "widgets")


@pytest.mark.parametrize("name", ["agent", "agent-read-only"])
def test_a_binding_gives_the_role_to_the_agent(helm: Helm, name: str) -> None:
    rendered = helm.render(MATRIX[name])
    bindings = [*rendered.all("ClusterRoleBinding"), *rendered.all("RoleBinding")]
    roles = [*rendered.all("ClusterRole"), *rendered.all("Role")]
    assert len(bindings) == len(roles) > 0
    for binding, role in zip(bindings, roles, strict=True):
        assert binding["subjects"] == [TOKEN]
        assert binding["roleRef"] == {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": role["kind"],
            "name": role["metadata"]["name"],
        }
        assert binding["metadata"].get("namespace") == role["metadata"].get("namespace")
    assert (
        rendered.pod["serviceAccountName"]
        == rendered.one("ServiceAccount")["metadata"]["name"]
        == TOKEN["name"]
    )


@pytest.mark.parametrize(
    "values", [SERVER, AGENT | {"rbac": {"create": False}}], ids=["server", "switched off"]
)
def test_no_role_is_made_for_nobody(helm: Helm, values: dict[str, Any]) -> None:
    rendered = helm.render(values)
    for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
        assert not rendered.all(kind)


def test_an_account_of_others_is_used(helm: Helm) -> None:
    account = {"create": False, "name": "existing"}
    rendered = helm.render(AGENT | {"serviceAccount": account})
    assert not rendered.all("ServiceAccount")
    assert rendered.pod["serviceAccountName"] == "existing"
    assert rendered.one("ClusterRoleBinding", "argotun.tunnels")["subjects"][0]["name"] == "existing"
