"""An agent's check against a real server: each thing that can be wrong has a sentence of its own."""

import base64
import datetime
import json
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from gevent.server import StreamServer

from argotun.server import heads
from tests.agent.test_ways import proxy
from tests.check.kubernetes import kubernetes, nothing
from tests.check.walked import Walked, walked
from tests.rig import Peer, Rig, until

Check = Callable[..., Walked]

WAY = ("server.dns", "server.tcp", "server.tls", "clock", "server.access", "server.upgrade", "server.hello")


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(kubernetes()) as rig:
        yield rig


@pytest.fixture
def check(rig: Rig, capsys: pytest.CaptureFixture[str]) -> Check:
    """Walks with the rig's own options and these."""
    return lambda **options: walked("agent", rig.agent_config(**options), capsys)


def test_all_is_well_where_the_agent_would_serve(check: Check) -> None:
    found = check()
    assert (found.code, found.failed) == (0, [])
    assert found.names == [
        *("server.token", "server.cert", "server.ca", *WAY),
        *("api.token", "api.dns", "api.tcp", "api.tls", "api.version", "api.self", "api.rights"),
    ]
    assert "cluster 'c1'" in found.of("server.hello")["says"]
    assert "v1.36.3" in found.of("api.version")["says"]
    assert "system:serviceaccount:argotun:agent" in found.of("api.self")["says"]
    assert "127.0.0.1, localhost, and ends on 3000-01-01" in found.of("server.tls")["says"]


@pytest.mark.parametrize("agents", [1, 4])
def test_no_agent_gives_way_to_a_check(capsys: pytest.CaptureFixture[str], agents: int) -> None:
    with Rig(kubernetes(), cluster={"agents": agents}) as rig:
        serving = rig.session
        assert walked("agent", rig.agent_config(), capsys).code == 0
        until(lambda: len(rig.server.agents._tunnels["c1"]) == 1, "the end of the check's own")
        assert rig.server.registry.all() == [serving]
        assert serving.usable
        assert rig.server.metrics.cluster("c1").takeovers == 0


class Old:
    """A server that knows version 1 only, as the seed's: it takes an agent up with its 101."""

    def __init__(self) -> None:
        self.upgrades = 0
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.port: int = self._server.server_port

    def _serve(self, sock: Any, _peer: Any) -> None:
        if b"\r\nUpgrade:" in Peer(sock).head():
            self.upgrades += 1
        sock.sendall(self.answer)

    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"

    def stop(self) -> None:
        self._server.stop(timeout=0)


@pytest.mark.parametrize(
    ("said", "result"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nSec-Websocket-Version: 13\r\nContent-Length: 0\r\n\r\n", "failed"),
        (b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n", "warning"),
    ],
    ids=["gorilla", "coder"],
)
def test_a_server_of_version_1_is_asked_for_no_upgrade(check: Check, said: bytes, result: str) -> None:
    old = Old()
    old.answer = said
    try:
        found = check(
            server=f"ws://127.0.0.1:{old.port}/connect",
            server_ca_cert=None,
            client_cert=None,
            client_key=None,
        )
    finally:
        old.stop()
    assert found.of("server.access")["result"] == result
    assert "server.upgrade" not in found.names
    assert old.upgrades == 0


# ── the way to the server ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "step", "says", "todo"),
    [
        (
            {"server": "wss://no-such-name.invalid/connect"},
            "server.dns",
            "the name cannot be resolved",
            "nslookup",
        ),
        ({"server": "wss://127.0.0.1:1/connect"}, "server.tcp", "connection refused", "--server"),
        ({"server_ca_cert": None}, "server.tls", "comes from a CA that is not among", "--server-ca-cert"),
        (
            {"client_cert": None, "client_key": None},
            "server.access",
            "requires a client cert",
            "--client-cert",
        ),
        ({"token": "token-of-another-cluster"}, "server.access", "does not accept the token", "sha256sum"),
        ({"token": None, "token_file": "/no"}, "server.token", "--token-file /no cannot be used", "token"),
        ({"client_cert": "/no"}, "server.files", "--client-cert: '/no' is not valid", "option"),
        ({"target": ("127.0.0.1", 1)}, "api.tcp", "connection refused", "--target"),
        ({"target_host_name": "another.name"}, "api.tls", "Hostname mismatch", "--target-host-name"),
        ({"sa_token_path": "/no"}, "api.token", "/no cannot be used", "--sa-token-path"),
        ({"ca_cert": "/no"}, "api.files", "--ca-cert: '/no' is not valid", "option"),
        ({"policy": "/no"}, "policy", "'/no' is not valid", "--policy-check"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value and " " not in value else "",
)
def test_what_is_wrong_has_its_own_sentence(
    check: Check, options: dict[str, object], step: str, says: str, todo: str
) -> None:
    found = check(**options)
    assert (found.code, found.failed) == (1, [step])
    assert says in found.of(step)["says"]
    assert todo in found.of(step)["todo"]


def test_where_the_ca_is_wrong_it_is_said_who_answers(check: Check) -> None:
    found = check(server_ca_cert=None)
    shows = found.of("server.shows")["says"]
    assert "certificate of 127.0.0.1, localhost, made by" in shows
    assert "trustme" in shows
    assert found.of("clock")["result"] == "ok"


def test_a_name_that_is_not_in_the_certificate_fails_at_tls(check: Check, rig: Rig) -> None:
    rig.authority.issue("server", "another.example")
    until(lambda: "another" in check().of("server.shows")["says"], "the new certificate")
    found = check()
    assert found.of("server.tls")["result"] == "failed"
    assert "--server" in found.of("server.tls")["todo"]


def days(count: int) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=count)


@pytest.mark.parametrize(("left", "result"), [(-2, "failed"), (3, "warning"), (90, "ok")])
def test_the_end_of_the_agents_certificate_is_told(check: Check, rig: Rig, left: int, result: str) -> None:
    rig.authority.issue("mine", "c1", not_before=days(-9), not_after=days(left))
    found = check(client_cert=rig.authority.path("mine.pem"), client_key=rig.authority.path("mine.key"))
    finding = found.of("server.cert")
    assert finding["result"] == result
    assert "that of c1" in finding["says"]
    assert ("ended on" if left < 0 else "ends on") in finding["says"]
    if left < 0:
        assert "expired" in found.of("server.access")["says"]
        assert "renew" in found.of("server.access")["todo"]


@pytest.mark.parametrize(
    ("begin", "end", "words"), [(-9, -2, "has expired"), (3, 9, "is not valid yet")], ids=["over", "early"]
)
def test_a_server_certificate_of_another_time_fails(
    rig: Rig, capsys: pytest.CaptureFixture[str], begin: int, end: int, words: str
) -> None:
    rig.authority.issue("late", "127.0.0.1", not_before=days(begin), not_after=days(end))
    late = {"tls_cert": rig.authority.path("late.pem"), "tls_key": rig.authority.path("late.key")}
    rig.server.stop()
    rig.start_server(**late)
    found = walked("agent", rig.agent_config(), capsys)
    assert words in found.of("server.tls")["says"]
    assert "clock" in found.of("server.tls")["todo"]
    assert found.of("clock")["result"] == "ok"


@pytest.mark.parametrize(
    ("ahead", "result", "words"),
    [
        (0, "ok", "agrees"),
        (-20, "warning", " seconds ahead of"),
        (7300, "failed", "2 hours behind"),
        (-86400 * 3 - 60, "failed", "3 days ahead of"),
    ],
)
def test_the_clock_is_compared_with_the_servers(
    check: Check, monkeypatch: pytest.MonkeyPatch, ahead: int, result: str, words: str
) -> None:
    monkeypatch.setattr(heads, "formatdate", lambda **_: formatdate(time.time() + ahead, usegmt=True))
    finding = check().of("clock")
    assert finding["result"] == result
    assert words in finding["says"]


@pytest.mark.parametrize(
    ("status", "says", "todo"),
    [
        ("403 Forbidden", "the proxy does not allow this address", "NO_PROXY"),
        ("407 Proxy Authentication Required", "the proxy wants user and password", "USER:PASSWORD"),
    ],
)
def test_a_proxy_that_refuses_fails_at_its_own_step(check: Check, status: str, says: str, todo: str) -> None:
    with proxy(status) as middle:
        found = check(proxy=f"http://127.0.0.1:{middle.port}")
    assert found.failed == ["server.proxy"]
    assert says in found.of("server.proxy")["says"]
    assert todo in found.of("server.proxy")["todo"]


def test_a_proxy_on_the_way_is_named(check: Check) -> None:
    with proxy() as middle:
        found = check(proxy=f"http://127.0.0.1:{middle.port}")
    assert found.code == 0
    assert "the proxy answers" in found.of("server.tcp")["says"]
    assert "lets this agent through" in found.of("server.proxy")["says"]


def test_a_password_of_the_proxy_is_shown_nowhere(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    with proxy("407 No") as middle:
        found = check(proxy=f"http://somebody:hunter-and-more@127.0.0.1:{middle.port}")
    assert "hunter" not in repr(found.steps)
    assert "correct user and password" in found.of("server.proxy")["todo"]


def test_a_certificate_of_another_cluster_is_refused(check: Check, rig: Rig) -> None:
    rig.authority.issue("other", "c9")
    found = check(client_cert=rig.authority.path("other.pem"), client_key=rig.authority.path("other.key"))
    assert found.failed == ["server.access"]
    assert "the certificate is not one of cluster 'c1'" in found.of("server.access")["says"]
    assert "certNames" in found.of("server.access")["todo"]


def test_a_target_that_the_server_does_not_name_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with Rig(kubernetes(), agent=None, cluster={"targetAddr": "10.0.0.1:6443"}) as rig:
        found = walked("agent", rig.agent_config(), capsys)
    assert found.failed == ["server.hello"]
    assert "targetAddr" in found.of("server.hello")["todo"]


def test_a_wrong_path_is_told(check: Check, rig: Rig) -> None:
    found = check(server=f"{rig.agent_config().server}s")
    assert found.failed == ["server.access"]
    assert "/connect" in found.of("server.access")["todo"]


@pytest.mark.parametrize(("plain", "scheme"), [(True, "ws"), (False, "wss")])
def test_the_internal_port_is_told_from_a_gateway(
    capsys: pytest.CaptureFixture[str], plain: bool, scheme: str
) -> None:
    """Where it takes everybody's word, and where it asks who calls."""
    with Rig(kubernetes(), agent=None, server={"internal_plain": plain}) as rig:
        host, port = rig.server.internal_address
        url = f"{scheme}://{host}:{port}/connect"
        found = walked("agent", rig.agent_config(server=url, allow_insecure_server=plain), capsys)
    assert found.failed == ["server.access"]
    said = found.of("server.access")["says"]
    assert said.startswith("the server's internal port was dialled: agents dial its public one (--addr")
    assert "gateway" not in said
    assert "name the public port in --server" in found.of("server.access")["todo"]


# ── tokens that say when they end ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("claims", "result", "words"),
    [
        ({"exp": time.time() - 7300}, "failed", "ended 2 hours ago"),
        ({"exp": time.time() + 9000, "nbf": time.time() + 5400}, "failed", "valid in 1 hour only"),
        ({"exp": time.time() + 90000}, "ok", "ends in 1 day"),
    ],
)
def test_a_token_for_the_api_is_judged_by_its_own_words(
    check: Check, rig: Rig, claims: dict[str, float], result: str, words: str
) -> None:
    rig.token_file.write_text(signed(claims))
    finding = check().of("api.token")
    assert finding["result"] == result
    assert words in finding["says"]


def signed(claims: dict[str, float]) -> str:
    return ".".join((segment({"alg": "none"}), segment(claims), "c2ln"))


def segment(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


# ── the API ────────────────────────────────────────────────────────────────────────────────────────


def at(api: Any, capsys: pytest.CaptureFixture[str], **options: Any) -> Walked:
    with Rig(api, agent=None) as rig:
        return walked("agent", rig.agent_config(**options), capsys)


def test_no_rights_at_all_fail(capsys: pytest.CaptureFixture[str]) -> None:
    found = at(kubernetes(nothing), capsys)
    assert found.failed == ["api.rights"]
    assert "rbac.preset" in found.of("api.rights")["todo"]


def test_rights_that_only_read_are_to_be_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    found = at(kubernetes(lambda wanted: wanted["verb"] in ("get", "list", "watch")), capsys)
    assert found.code == 0
    assert "create deployments (apps), patch deployments (apps)" in found.of("api.rights")["says"]


def test_rights_in_one_namespace_are_to_be_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    found = at(kubernetes(lambda wanted: wanted["namespace"] == "argotun"), capsys)
    assert found.code == 0
    assert "may read namespace argotun" in found.of("api.rights")["says"]


def test_an_api_that_takes_the_agent_for_nobody_fails(capsys: pytest.CaptureFixture[str]) -> None:
    found = at(kubernetes(user="system:anonymous"), capsys)
    assert found.failed == ["api.self"]


def test_a_credential_that_the_api_does_not_accept_fails(capsys: pytest.CaptureFixture[str]) -> None:
    found = at(kubernetes(status=401), capsys)
    assert found.failed == ["api.version"]
    assert "--sa-token-path" in found.of("api.version")["todo"]


def test_what_is_no_api_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = at(None, capsys)
    assert found.of("api.version")["result"] == "warning"
    assert "api.self" in found.failed


def test_the_credential_goes_with_each_question(rig: Rig, check: Check) -> None:
    check()
    asked = [head for head in rig.api.heads if head.startswith((b"POST", b"GET /version"))]
    assert len(asked) == 14
    assert all(b"\r\nAuthorization: Bearer sa-token\r\n" in head for head in asked)


@pytest.mark.parametrize(
    ("text", "result", "words"),
    [
        ("presets: full\n", "ok", "lets all pass"),
        ("presets: read-only\n", "warning", "create deployments (apps)"),
        ("default: allow\nrules: [{name: d, deny: {verbs: ['*']}}]\n", "failed", "refuses all"),
        (
            "default: allow\nrules: [{name: d, deny: {nonResourceURLs: [/apis]}}]\n",
            "failed",
            "/apis, which Argo CD asks for before",
        ),
        ("rules: [{}]\n", "failed", "--policy"),
    ],
)
def test_the_policy_is_asked_for_what_argo_cd_needs(
    check: Check, tmp_path: Path, text: str, result: str, words: str
) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    finding = check(policy=str(tmp_path / "policy.yaml")).of("policy")
    assert finding["result"] == result
    assert words in finding["says"]
