"""One Audit-ID names a request to its client, in the access log and in the customer's own audit log."""

from typing import Any

from .harness import objects
from .harness.objects import AGENT, AGENT_NAMESPACE
from .harness.tunnel import CLIENT_TOKEN, CLUSTER_ID, Tunnel
from .harness.waiting import until
from .harness.way import Way


def access_line(tunnel: Tunnel, path: str) -> dict[str, Any]:
    """The first access line for the path."""
    line = until(
        f"an access line for {path}",
        lambda: next((r for r in tunnel.log_records() if r.get("path") == path), None),
    )
    assert line
    return line


def test_an_audit_id_of_the_client_is_kept(way: Way) -> None:
    answer = way.api.get(f"{way.path('configmaps')}/none", Audit_ID=f"my-own-{way.name}")
    assert answer.header("Audit-Id") == f"my-own-{way.name}"
    event = way.cluster.audited("the client's own id", lambda e: e["auditID"] == f"my-own-{way.name}")
    assert event["objectRef"]["namespace"] == way.namespace


def test_access_line_audit_log_and_answer_share_one_id(tunnel: Tunnel) -> None:
    path = "/api/v1/namespaces/default/configmaps/audited"
    answer = tunnel.endpoint.get(path + "?timeout=9s")
    line = access_line(tunnel, path)
    assert line["audit_id"] == answer.header("Audit-Id")
    assert (line["cluster"], line["method"], line["status"]) == (CLUSTER_ID, "GET", 404)
    event = tunnel.cluster.audited("the request", lambda e: e["auditID"] == line["audit_id"])
    assert event["requestURI"] == path + "?timeout=9s"
    assert event["user"]["username"] == f"system:serviceaccount:{AGENT_NAMESPACE}:{AGENT}"


def test_each_request_has_an_id_of_its_own(tunnel: Tunnel) -> None:
    with tunnel.endpoint.connection() as conn:
        ids = set()
        for _ in range(20):
            response = tunnel.endpoint.send(conn, "GET", "/version")
            response.read()
            ids.add(response.getheader("Audit-Id"))
    assert len(ids) == 20
    assert None not in ids


def test_the_access_line_counts_the_bytes_of_both_directions(tunnel: Tunnel) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    body = objects.configmap("counted", text="x" * 5000)
    answer = tunnel.endpoint("POST", path, body, {"Audit-ID": "counted"})
    assert answer.status == 201
    line = until(
        "the access line",
        lambda: next((r for r in tunnel.log_records() if r.get("audit_id") == "counted"), None),
    )
    assert 5000 < line["bytes_in"] < 6000
    assert len(answer.body) <= line["bytes_out"] < len(answer.body) + 1000


def test_no_token_is_in_a_log(tunnel: Tunnel) -> None:
    tunnel.endpoint.get("/api/unlogged?token=in-the-query")
    access_line(tunnel, "/api/unlogged")
    for log in tunnel.folder.glob("*.log"):
        text = log.read_text()
        for secret in (
            CLIENT_TOKEN,
            tunnel.agent_token.read_text(),
            tunnel.account_token.read_text(),
            "in-the-query",
        ):
            assert secret not in text, log
