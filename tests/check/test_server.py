"""A server's check: its files, its ports, and calls from inside; each fault has a sentence of its own."""

import datetime
import json
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from argotun.config import ServerConfig
from bench.ports import held
from tests.check.kubernetes import kubernetes
from tests.check.walked import Walked, walked
from tests.rig import Authority, Rig
from tests.secrecy import watch

Check = Callable[..., Walked]

STRONG = secrets.token_hex(32)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def check(authority: Authority, capsys: pytest.CaptureFixture[str]) -> Check:
    """Walks with certificates on both ports, one cluster that is bound, and these options."""

    def walk(entries: list[dict[str, Any]] | None = None, **options: Any) -> Walked:
        watch.hold(STRONG)
        values: dict[str, Any] = {
            "clusters": json.dumps(entries or [{"id": "c1", "token": STRONG}]),
            "addr": ("127.0.0.1", 0),
            "internal_addr": ("127.0.0.1", 0),
            "tls_cert": authority.path("server.pem"),
            "tls_key": authority.path("server.key"),
            "tls_client_ca": authority.path("ca.pem"),
            "public_connections": 64,
            "internal_connections": 64,
        }
        return walked("server", ServerConfig(**(values | options)), capsys)

    return walk


def test_all_is_well_where_the_server_would_serve(check: Check) -> None:
    found = check()
    assert (found.code, {each["result"] for each in found.steps}) == (0, {"ok"})
    assert found.names == [
        *("clusters", "callers", "certificates.own", "certificates.ca"),
        *("port.public", "port.internal", "descriptors"),
    ]
    assert found.of("clusters")["says"] == "1 cluster: c1"
    assert "that of 127.0.0.1, localhost, and ends on 3000-01-01" in found.of("certificates.own")["says"]


@pytest.mark.parametrize(
    ("entries", "step", "says"),
    [
        ([{"id": "c1", "token": "the-token-of-c1-ok"}], "clusters.weak", "the token of c1 could be guessed"),
        ([{"id": "c1", "tokens": [STRONG, "a" * 64]}], "clusters.weak", "the token of c1 could be guessed"),
        (
            [{"id": "c1", "token": STRONG, "certNames": ["*"]}],
            "clusters.unbound",
            "c1: bound to no certificate",
        ),
        (
            [{"id": each, "token": STRONG + each, "certNames": ["shared"]} for each in ("c1", "c2")],
            "clusters.double",
            "the certificate of shared may speak for c1, c2",
        ),
    ],
    ids=["weak", "weak-list", "unbound", "double"],
)
def test_a_cluster_that_guards_too_little_is_to_be_looked_at(
    check: Check, entries: list[dict[str, Any]], step: str, says: str
) -> None:
    found = check(entries)
    assert found.code == 0
    assert found.of(step)["result"] == "warning"
    assert says in found.of(step)["says"]


def test_a_digest_is_not_taken_for_a_weak_token(check: Check) -> None:
    assert "clusters.weak" not in check([{"id": "c1", "tokenSha256": "a" * 64}]).names


def test_without_client_certificates_every_cluster_is_unbound(check: Check) -> None:
    found = check([{"id": f"c{n}", "token": f"{STRONG}{n}"} for n in range(8)], tls_client_ca=None)
    assert found.of("clusters.unbound")["says"].startswith("c0, c1, c2, c3, c4 and 3 more: bound to no")
    assert found.of("callers")["result"] == "warning"


@pytest.mark.parametrize(
    ("options", "step", "says"),
    [
        ({"clusters": "/no"}, "clusters", "--clusters: '/no' is not valid"),
        ({"clusters": '[{"id": "c1"}]'}, "clusters", "clusters[0] (id 'c1'), token is not set"),
        ({"callers": "/no"}, "callers", "--callers: '/no' is not valid"),
        ({"revoked": "/no"}, "revoked", "--revoked: '/no' is not valid"),
        ({"tls_key": "/no"}, "certificates", "--tls-key: '/no' is not valid"),
        ({"internal_client_ca": "/no"}, "certificates", "--internal-client-ca: '/no' is not valid"),
        ({"addr": ("192.0.2.1", 0)}, "port.public", "no such address on this machine"),
    ],
)
def test_what_is_wrong_has_its_own_sentence(
    check: Check, options: dict[str, object], step: str, says: str
) -> None:
    found = check(**options)
    assert (found.code, found.failed) == (1, [step])
    assert says in found.of(step)["says"]


def test_two_clusters_with_one_token_fail(check: Check) -> None:
    found = check([{"id": "c1", "token": STRONG}, {"id": "c2", "token": STRONG}])
    assert found.failed == ["clusters"]
    assert "'c1' has it too" in found.of("clusters")["says"]


@pytest.mark.parametrize("port", ["addr", "internal_addr", "health_addr"])
def test_a_port_that_is_taken_fails(check: Check, port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = check(**{port: ("127.0.0.1", taken.getsockname()[1])})
    name = {"addr": "public", "internal_addr": "internal", "health_addr": "health"}[port]
    assert found.failed == [f"port.{name}"]
    assert "already in use" in found.of(f"port.{name}")["says"]
    assert "ss -ltnp" in found.of(f"port.{name}")["todo"]


def test_a_port_that_may_be_shared_is_not_tried(check: Check) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = check(addr=("127.0.0.1", taken.getsockname()[1]), reuse_port=True)
    assert found.failed == []
    assert "other replicas may have it" in found.of("port.public")["says"]


def test_a_port_is_free_again_behind_a_check(check: Check) -> None:
    with held() as port:
        address = port.getsockname()
        for _ in range(2):
            assert check(addr=address).code == 0
        socket.create_server(address).close()


@pytest.mark.parametrize(("left", "result"), [(-2, "failed"), (3, "warning"), (90, "ok")])
def test_the_end_of_the_servers_certificate_is_told(
    check: Check, authority: Authority, left: int, result: str
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    authority.issue("mine", "tunnel.example", not_before=now - 9 * day, not_after=now + left * day)
    found = check(tls_cert=authority.path("mine.pem"), tls_key=authority.path("mine.key"))
    assert found.of("certificates.own")["result"] == result
    assert "that of tunnel.example" in found.of("certificates.own")["says"]


def test_a_server_without_tls_is_to_be_looked_at(check: Check) -> None:
    found = check(tls_cert=None, tls_key=None, tls_client_ca=None)
    assert found.code == 0
    assert found.of("certificates")["result"] == "warning"


def test_keys_that_cannot_be_fetched_fail(check: Check) -> None:
    account = {
        "issuer": "https://a.example",
        "audience": "argotun",
        "subject": "system:serviceaccount:a:b",
        "jwksURL": "https://127.0.0.1:1/keys",
    }
    found = check([{"id": "c1", "serviceAccount": account}])
    assert found.failed == ["keys c1"]
    assert "--jwks-ca" in found.of("keys c1")["todo"]


# ── from inside ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(kubernetes(), server={"internal_plain": False}) as rig:
        yield rig


def inside(rig: Rig, capsys: pytest.CaptureFixture[str], **options: Any) -> Walked:
    """Call the running server from inside, as its own options and these say."""
    path = rig.authority.path
    values: dict[str, Any] = {
        "clusters": str(rig.clusters_file),
        "addr": ("127.0.0.1", 0),
        "internal_addr": ("127.0.0.1", 0),
        "tls_cert": path("server.pem"),
        "tls_key": path("server.key"),
        "tls_client_ca": path("ca.pem"),
        "from_inside": f"https://127.0.0.1:{rig.server.internal_address[1]}",
        "from_inside_cert": path("argocd.pem"),
        "from_inside_key": path("argocd.key"),
    }
    return walked("server", ServerConfig(**(values | options)), capsys)


def test_each_cluster_is_called_as_argo_cd_would(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.write_clusters([{"id": "c1", "token": rig.TOKEN}, {"id": "c2", "token": STRONG}])
    rig.server._follow_clusters()
    found = inside(rig, capsys)
    assert found.failed == ["inside c2"]
    assert "Kubernetes v1.36.3" in found.of("inside c1")["says"]
    assert "no agent" in found.of("inside c2")["says"]
    assert "argotun check agent" in found.of("inside c2")["todo"]


@pytest.mark.parametrize(
    ("options", "says", "todo"),
    [
        (
            {"from_inside_cert": None, "from_inside_key": None},
            "requires a client certificate",
            "--from-inside-cert",
        ),
        ({"from_inside": "https://127.0.0.1:1"}, "connection refused", "log"),
        ({"from_inside_token_file": "/no"}, "--from-inside-token-file", "log"),
        ({"tls_cert": "agent.pem", "tls_key": "agent.key"}, "comes from a CA", "log"),
    ],
    ids=["none", "refused", "token", "ca"],
)
def test_what_keeps_argo_cd_out_has_its_own_sentence(
    rig: Rig, capsys: pytest.CaptureFixture[str], options: dict[str, Any], says: str, todo: str
) -> None:
    for name in ("tls_cert", "tls_key"):
        if name in options:
            options = options | {name: rig.authority.path(options[name])}
    found = inside(rig, capsys, **options)
    assert found.failed == ["inside"]
    assert says in found.of("inside")["says"]
    assert todo in found.of("inside")["todo"]


def test_who_is_no_caller_is_told(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.authority.issue("somebody", common_name="somebody")
    path = rig.authority.path
    found = inside(rig, capsys, from_inside_cert=path("somebody.pem"), from_inside_key=path("somebody.key"))
    assert "'somebody' is not a caller" in found.of("inside c1")["says"]
    assert "--internal-client-names" in found.of("inside c1")["todo"]
