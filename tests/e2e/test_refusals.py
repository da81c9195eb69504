"""What the API refuses, and as whom it sees a client: carried back word for word."""

import pytest

from .harness import objects
from .harness.http import Answer
from .harness.objects import AGENT, AGENT_NAMESPACE
from .harness.tunnel import Tunnel
from .harness.way import Way

AGENT_USER = f"system:serviceaccount:{AGENT_NAMESPACE}:{AGENT}"


def reason(answer: Answer) -> tuple[int, str]:
    status = answer.json()
    assert status["kind"] == "Status"
    assert status["code"] == answer.status
    return answer.status, status["reason"]


def test_kubectl_shows_whom_rbac_refuses_and_what(way: Way) -> None:
    said = way.kubectl.run("get", "secrets", code=1).stderr.decode()
    assert f'secrets is forbidden: User "{AGENT_USER}" cannot list resource "secrets"' in said
    assert way.kubectl.run("auth", "can-i", "get", "secrets", code=1).stdout == b"no\n"
    assert way.kubectl.run("auth", "can-i", "get", "configmaps").stdout == b"yes\n"


def test_a_refusal_of_the_api_keeps_its_status_and_reason(way: Way) -> None:
    maps = way.path("configmaps")
    way.create("configmaps", objects.configmap("taken"))
    stale = objects.configmap("taken")
    stale["metadata"]["resourceVersion"] = "1"
    assert reason(way.api.get(way.path("secrets"))) == (403, "Forbidden")
    assert reason(way.api.get(f"{maps}/absent")) == (404, "NotFound")
    assert reason(way.api("POST", maps, objects.configmap("taken"))) == (409, "AlreadyExists")
    assert reason(way.api("PUT", f"{maps}/taken", stale)) == (409, "Conflict")
    assert reason(way.api("POST", maps, objects.configmap("NOT A NAME"))) == (422, "Invalid")
    assert reason(way.api("POST", maps, b"{")) == (400, "BadRequest")
    assert reason(way.api("POST", maps, b"x", {"Content-Type": "text/plain"})) == (
        415,
        "UnsupportedMediaType",
    )
    assert reason(way.api("PATCH", "/api/v1/nodes/x", b"{}")) == (403, "Forbidden")


def test_a_list_of_a_forgotten_revision_is_gone(way: Way) -> None:
    way.cluster.compact()
    answer = way.api.get(f"{way.path('configmaps')}?resourceVersion=1&resourceVersionMatch=Exact")
    assert reason(answer) == (410, "Expired")


def test_a_client_is_the_agents_account_whatever_token_it_sent(way: Way) -> None:
    assert way.kubectl.json("auth", "whoami")["status"]["userInfo"]["username"] == AGENT_USER


def test_a_user_and_each_group_are_impersonated(way: Way) -> None:
    as_alice = ("--as=alice", "--as-group=builders", "--as-group=a,b", "--as-group=system:authenticated")
    user = way.kubectl.json("auth", "whoami", *as_alice)["status"]["userInfo"]
    assert user["username"] == "alice"
    assert user["groups"] == ["builders", "a,b", "system:authenticated"]
    refused = way.kubectl.run("get", "cm", "--as=alice", code=1).stderr.decode()
    assert 'configmaps is forbidden: User "alice"' in refused


def test_an_impersonation_that_rbac_forbids_is_refused_by_the_api(way: Way) -> None:
    refused = way.kubectl.run("get", "cm", "--as=alice", "--as-uid=1", code=1).stderr.decode()
    assert f'User "{AGENT_USER}" cannot impersonate resource "uids"' in refused


@pytest.mark.parametrize("header", ["Impersonate-User", "impersonate-group", "Impersonate-Extra-Scopes"])
def test_an_impersonation_can_not_be_dropped_on_the_way(tunnel: Tunnel, header: str) -> None:
    """A Connection header that names it would have a proxy remove it, and the request act as the agent."""
    answer = tunnel.endpoint.get("/api", Connection=f"close, {header}", **{header: "nobody"})
    assert answer.status == 400
    assert "argotun:" in answer.json()["message"]
