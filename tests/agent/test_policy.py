"""The customer's policy on the agent: a refusal is the one answer of its request, and follows its file."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from argotun.agent.app import Agent
from argotun.agent.policy import LINES, PolicyFile
from argotun.errors import PolicyError
from argotun.files import fingerprint, settled
from argotun.observe.metrics import AgentMetrics
from tests.raw_websocket import Listening
from tests.rig import Api, Peer, Response, Rig, answer, until
from tests.v1_peers import CLOSE, CONNECTED, DATA, V1Server
from tests.v2_peers import V2Server

NO_SHELL = "presets: [no-shell, no-secrets]"
EXEC = "/tunnel/c1/api/v1/namespaces/shop/pods/web-0/exec?command=sh"
SECRETS = "/tunnel/c1/api/v1/secrets"
PODS = "/tunnel/c1/api/v1/pods"


def replace(path: Path, text: str) -> None:
    """As the kubelet does: the new file appears as one step."""
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    os.replace(fresh, path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_text(NO_SHELL)
    return file


def recorded(peer: Peer) -> None:
    """A script that answers each request with its first line, reading a body of known length."""
    while True:
        head = peer.head()
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                peer.read(int(line.partition(b":")[2]))
        body = head.split(b"\r\n")[0]
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def policed(file: Path, **options: Any) -> Rig:
    return Rig(Api(recorded), agent={"policy": str(file), **options})


def forbidden(answer: Response, rule: str) -> None:
    assert answer.status == 403
    status = answer.json()
    assert (status["kind"], status["reason"], status["code"]) == ("Status", "Forbidden", 403)
    assert status["message"].startswith("argotun: the policy of this cluster's agent ")
    assert rule in status["message"]


def refusals(rig: Rig) -> dict[str, int]:
    return {rule: count for rule, count in rig.agent.metrics._policy_refusals.items() if count}


def test_a_refusal_is_a_status_that_names_the_rule(file: Path) -> None:
    with policed(file) as rig:
        client = rig.client()
        forbidden(rig.get(EXEC, client=client), "(rule no-shell/shells)")
        forbidden(rig.get(SECRETS, client=client), "(rule no-secrets/secrets)")
        forbidden(rig.get(PODS.replace("pods", "%70ods"), client=client), "an escape that is not needed")
        assert rig.get(PODS, client=client).body == b"GET /api/v1/pods HTTP/1.1"
        assert rig.api.connections == 1
        assert refusals(rig) == {"no-shell/shells": 1, "no-secrets/secrets": 1, "not-canonical": 1}


HOSTILE = (
    *(
        "/api/v1//secrets",
        "//api/v1/secrets",
        "/api/v1/secrets/",
        "/api/v1/x/../secrets",
        "/api/v1/./secrets",
    ),
    *(
        "/api/v1/secrets;",
        "/api/v1/%73ecrets",
        "/api/v1/secrets%2F",
        "/api/v1/secrets%2fx",
        "/api%2Fv1/secrets",
    ),
    *("/api/v1/secrets%00", "/api/v1/secrets%5C", "/api/v1/secrets%3Bx", "/api/v1/secrets?watch=0&watch=1"),
    *(
        "/api/v1/secrets",
        "/api/v2/secrets",
        "/api/v1/watch/secrets",
        "/api/v1/secrets?watch",
        "/api/v1/secrets?",
    ),
    *(
        "/api/v1/namespaces/a/secrets",
        "/api/v1/namespaces/a/secrets/b",
        "/api/v1/watch/namespaces/a/secrets/b",
    ),
    *("/api/v1/proxy/namespaces/a/pods/b", "/api/v1/nodes/n/proxy/run/a/b/c", "/api/v1/nodes/n/proxy/"),
    *("/api/v1/namespaces/a/pods/b/attach", "/api/v1/namespaces/a/services/b:80/proxy/x"),
)


def test_no_spelling_of_what_is_refused_reaches_the_api(file: Path) -> None:
    with policed(file) as rig:
        rig.api.script = lambda peer: rig.api.heads.append(peer.head())
        for target in HOSTILE:
            for method in (b"GET", b"HEAD", b"DELETE"):
                client = rig.client()
                client.send(b"%b /tunnel/c1%b HTTP/1.1\r\nHost: a\r\n\r\n" % (method, target.encode()))
                assert client.response(method.decode()).status == 403, target
        assert rig.api.heads == []


@pytest.mark.parametrize("field", [b"Impersonate-User: joe", b"impersonate-group: system:masters"])
def test_impersonation_is_refused(file: Path, field: bytes) -> None:
    with policed(file) as rig:
        forbidden(rig.get(PODS, field + b"\r\n"), "(rule no-shell/impersonation)")


def test_of_a_refused_head_no_body_is_said(file: Path) -> None:
    with policed(file) as rig:
        client = rig.client()
        client.send(b"HEAD %b HTTP/1.1\r\nHost: a\r\n\r\n" % SECRETS.encode())
        assert client.response("HEAD").status == 403
        assert rig.get(PODS, client=client).status == 200


def test_requests_behind_a_refused_one_get_their_own_answers(file: Path) -> None:
    with policed(file) as rig:
        client = rig.client()
        request = "GET {} HTTP/1.1\r\nHost: a\r\n\r\n"
        paths = [SECRETS, PODS, EXEC, PODS + "/2"]
        client.send("".join(request.format(path) for path in paths).encode())
        assert [client.response().status for _ in paths] == [403, 200, 403, 200]
        assert client.buffer == b""


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [5, 300_000])
def test_a_refused_request_with_a_body_gets_one_answer(file: Path, size: int, chunked: bool) -> None:
    with policed(file) as rig:
        client = rig.client()
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size) if chunked else b"x" * size
        client.send(b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % (SECRETS.encode(), framing))
        try:
            client.send(body)
        except OSError:
            # It may have been answered and ended before all of that was sent.
            assert size > 5
        forbidden(client.response(), "no-secrets/secrets")
        rig.settle()
        assert rig.get(PODS, client=rig.client()).status == 200


def test_who_expects_100_continue_hears_403_at_once(file: Path) -> None:
    with policed(file) as rig:
        client = rig.client()
        client.send(
            b"POST %b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
            % SECRETS.encode()
        )
        answer = client.response()
        forbidden(answer, "no-secrets/secrets")
        assert answer.interim == []
        assert client.ended() == "closed"


@pytest.mark.parametrize("protocol", [b"websocket", b"SPDY/3.1"])
def test_a_refused_upgrade_is_answered_and_its_connection_ends(file: Path, protocol: bytes) -> None:
    with policed(file) as rig:
        client = rig.client()
        client.send(
            b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"
            b"GET /api/v1/secrets HTTP/1.1\r\nHost: a\r\n\r\n" % (PODS.encode(), protocol)
        )
        forbidden(client.response(), "(rule no-shell/upgrades)")
        assert client.rest() == b""
        rig.settle()


def test_a_refusal_needs_no_api(file: Path) -> None:
    with policed(file) as rig:
        client = rig.client()
        assert rig.get(PODS, client=client).status == 200
        rig.api.stop()
        until(lambda: not rig.api.live, "the end of the connection to the API")
        answers = [rig.get(path, client=client).status for path in (SECRETS, PODS, SECRETS)]
        assert answers == [403, 503, 403]


def dialling(rig: Rig, listening: Listening, file: Path) -> Agent:
    """An agent with the policy in `file`, which dials whoever listens."""
    url = f"ws://127.0.0.1:{listening.address[1]}/connect"
    agent = Agent(rig.agent_config(server=url, policy=str(file)))
    rig.agents.append(agent)
    agent.start()
    return agent


def test_a_hostile_server_is_refused_as_a_client_is(file: Path) -> None:
    with Listening() as listening, Rig(Api(recorded), mutual=False, agent=None) as rig:
        dialling(rig, listening, file)
        server = V2Server(listening, callers=True)
        stream = server.connect()
        server.send(DATA, stream, b"GET /api/v1/pods HTTP/1.1\r\nHost: a\r\n\r\n")
        server.expect(CONNECTED, stream)
        server.until(b"GET /api/v1/pods HTTP/1.1", stream)
        for field in (b"", b"Argotun-Caller: root\r\n", b"X-Original-URL: /api/v1/pods\r\n"):
            server.send(DATA, stream, b"GET /api/v1/secrets HTTP/1.1\r\nHost: a\r\n%b\r\n" % field)
            refused = server.until(b"}\n", stream)
            assert refused.startswith(b"HTTP/1.1 403 Forbidden\r\n")
            assert b"no-secrets/secrets" in refused


@pytest.mark.parametrize(("callers", "status"), [(True, b"200"), (False, b"403")])
def test_only_a_server_that_says_so_names_callers(file: Path, callers: bool, status: bytes) -> None:
    """One that does not know the field lets a client's own through."""
    file.write_text("default: deny\nrules:\n- name: argocd\n  allow: {callers: [argocd]}\n")
    with Listening() as listening, Rig(Api(answer()), mutual=False, agent=None) as rig:
        dialling(rig, listening, file)
        server = V2Server(listening, callers=callers)
        stream = server.connect()
        head = b"GET /api/v1/pods HTTP/1.1\r\nHost: a\r\nArgotun-Caller: argocd\r\n\r\n"
        server.send(DATA, stream, head)
        server.expect(CONNECTED, stream)
        assert server.until(b"\r\n\r\n", stream).split()[1] == status


def test_a_server_of_version_1_gets_the_refusal_and_the_end(file: Path) -> None:
    with Listening() as listening, Rig(Api(recorded), mutual=False, agent=None) as rig:
        agent = dialling(rig, listening, file)
        server = V1Server(listening)
        until(agent.connected.is_set, "the agent's connection")
        stream = server.ask(
            f"127.0.0.1:{rig.api.port}",
            b"GET /api/v1/secrets HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        )
        assert server.expect(DATA, stream).payload.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        server.expect(CLOSE, stream)


# ── the file ───────────────────────────────────────────────────────────────────────────────────


def test_a_changed_policy_is_in_force_on_kept_connections(file: Path) -> None:
    with policed(file) as rig:
        client = rig.client()
        assert rig.get(SECRETS, client=client).status == 403
        replace(file, "presets: [no-shell]")
        until(lambda: rig.get(SECRETS, client=client).status == 200, "the new policy")
        replace(file, "presets: [read-only]")
        until(lambda: "read-only/writes" in rig.agent.metrics._policy_refusals, "the newest policy")
        assert rig.get(EXEC, client=client).status == 403
        assert refusals(rig) == {"read-only/shells": 1}


def test_a_broken_policy_leaves_the_last_good_one_and_says_so(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = AgentMetrics()
    with caplog.at_level(logging.INFO, "argotun.agent"):
        policy = PolicyFile(str(file), metrics)
        rules = policy.rules
        for text in ("presets: [no-shel]", "rules: [", "", None):
            if text is None:
                file.unlink()
            else:
                replace(file, text)
            policy.refresh()
            policy.refresh()
            assert (policy.rules, metrics.policy_outdated) == (rules, 1)
            assert policy.problem.startswith(f"--policy {file}") or "readable file" in policy.problem
        said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert len(said) == 4
        assert all("the policy read before stays in force" in line for line in said)
        file.write_text(NO_SHELL)
        policy.refresh()
        assert (policy.rules, policy.problem, metrics.policy_outdated) == (rules, "", 0)
        assert "can be used again" in caplog.records[-1].getMessage()


@pytest.mark.parametrize("text", [NO_SHELL, "presets: ["])
def test_a_file_is_read_again_only_when_it_has_changed(
    file: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = PolicyFile(str(file), AgentMetrics())
    replace(file, text)
    until(lambda: settled(fingerprint(str(file))), "the time after which a write shows")
    policy.refresh()
    monkeypatch.setattr("argotun.files.read", lambda *_: pytest.fail("it is read again"))
    policy.refresh()


def test_a_policy_that_cannot_be_used_at_the_start_is_an_error(file: Path) -> None:
    for text in ("nonsense", "presets: full # " + "x" * 70_000):
        file.write_text(text)
        with pytest.raises(PolicyError, match="--policy"):
            PolicyFile(str(file), AgentMetrics())


def test_status_and_metrics_tell_of_the_policy(file: Path) -> None:
    with policed(file) as rig:
        rig.get(SECRETS)
        assert rig.agent._status()["policy"] == {
            "file": str(file),
            "rules": rig.agent.policy.rules,  # type: ignore[union-attr]
            "problem": "",
            "refusals": {"no-secrets/secrets": 1},
        }
        text = rig.agent.metrics.exposition()[0].decode()
        assert 'argotun_policy_refusals_total{rule="no-secrets/secrets"} 1.0' in text
        assert 'argotun_policy_refusals_total{rule="default"} 0.0' in text
        assert "argotun_policy_outdated 0.0" in text
    with Rig() as rig:
        assert rig.agent._status()["policy"] is None
        assert "argotun_policy_refusals_total{" not in rig.agent.metrics.exposition()[0].decode()


def test_a_refusal_is_a_line_with_caller_and_audit_id(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with policed(file) as rig, caplog.at_level(logging.WARNING, "argotun.agent"):
        rig.get(SECRETS, b"Audit-ID: 4a6f\r\n")
        (line,) = [each for each in caplog.records if each.getMessage() == "the policy refuses a request"]
        said = line.__dict__["fields"]
        assert (said["rule"], said["request"]) == ("no-secrets/secrets", "list secrets")
        assert (said["caller"], said["audit_id"]) == ("-", "4a6f")


def test_refusals_do_not_flood_the_log(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with policed(file) as rig, caplog.at_level(logging.WARNING, "argotun.agent"):
        assert rig.agent.policy is not None
        rig.agent.policy._seldom._seconds = 3600.0  # no second passes
        client = rig.client()
        for _ in range(LINES + 5):
            assert rig.get(SECRETS, client=client).status == 403
        lines = [each for each in caplog.records if each.getMessage() == "the policy refuses a request"]
        assert len(lines) == LINES
        assert refusals(rig) == {"no-secrets/secrets": LINES + 5}
    assert "5 more lines like this were left out: the policy refuses a request" in caplog.messages


def test_an_empty_file_is_no_policy(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(PolicyError, match="expected a mapping of presets"):
        PolicyFile(str(tmp_path / "empty"), AgentMetrics())
