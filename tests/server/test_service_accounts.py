"""Agents that prove themselves by a ServiceAccount token of their own cluster, and those who forge one."""

import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from gevent import socket

from argotun.server import accounts, app, guesses
from tests.raw_websocket import Refused, dial
from tests.rig import Authority, Peer, Rig, until
from tests.tokens import AUDIENCE, ISSUER, SUBJECT, Issuer, account, segment
from tests.v2_peers import SUBPROTOCOL

KUBE, OTHER = Issuer(), Issuer("key-of-another", 1)
SECOND = {"id": "c2", "serviceAccount": account(OTHER, audience="argotun/c2")}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """All the wrong tokens here come from one address."""
    monkeypatch.setattr(guesses, "BURST", 1000)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(mutual=False, agent=None) as rig:
        rig.write_clusters([{"id": "c1", "serviceAccount": account(KUBE)}, SECOND])
        until(lambda: "c2" in rig.server.clusters.clusters, "the clusters")
        yield rig


def enter(rig: Rig, token: str, more: bytes = b"") -> None:
    """Come in with a token, and leave; Refused where it does not do."""
    dial(
        rig.server.public_address, SUBPROTOCOL + b"Authorization: Bearer %b\r\n" % token.encode() + more
    ).close()


def refused(rig: Rig, token: str, more: bytes = b"") -> Refused:
    with pytest.raises(Refused) as caught:
        enter(rig, token, more)
    return caught.value


# Who is let in


@pytest.mark.parametrize("algorithm", ["RS256"])
def test_a_token_of_the_clusters_account_is_let_in(rig: Rig, algorithm: str) -> None:
    enter(rig, KUBE.token(algorithm=algorithm))


def test_one_audience_may_stand_alone_or_in_a_list(rig: Rig) -> None:
    enter(rig, KUBE.token(aud=AUDIENCE))
    enter(rig, KUBE.token(aud=[AUDIENCE]))


def test_a_minute_between_two_clocks_does_no_harm(rig: Rig) -> None:
    now = int(time.time())
    enter(rig, KUBE.token(exp=now - 30))
    enter(rig, KUBE.token(nbf=now + 30, iat=now + 30))


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=["P-256", "P-384"])
def test_an_issuer_may_sign_with_an_elliptic_curve(curve: Any) -> None:
    issuer = Issuer(curve=curve)
    with Rig(mutual=False, agent=None, cluster={"serviceAccount": account(issuer)}) as rig:
        enter(rig, issuer.token())
        refused(rig, Issuer(curve=curve).token())


def test_a_key_without_alg_may_sign_with_any_of_its_kind() -> None:
    jwk = {name: value for name, value in KUBE.jwk.items() if name != "alg"}
    with Rig(mutual=False, agent=None, cluster={"serviceAccount": account(jwks={"keys": [jwk]})}) as rig:
        for algorithm in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"):
            enter(rig, KUBE.token(algorithm=algorithm))
        refused(rig, KUBE.by_secret(KUBE.pem))


def test_an_entry_may_have_a_token_and_an_account() -> None:
    with Rig(mutual=False, agent=None, cluster={"serviceAccount": account(KUBE)}) as rig:
        enter(rig, rig.TOKEN)
        enter(rig, KUBE.token())


def test_the_account_decides_the_cluster(rig: Rig) -> None:
    websocket = dial(
        rig.server.public_address,
        SUBPROTOCOL + b"Authorization: Bearer %b\r\n" % OTHER.token(aud="argotun/c2").encode(),
    )
    assert b'"cluster":"c2"' in (websocket.receive() or b"")
    websocket.close()


def test_such_an_agent_needs_no_certificate_where_others_do() -> None:
    with Rig(agent=None, cluster={"serviceAccount": account(KUBE)}) as rig:
        bare = ssl.create_default_context(cafile=rig.authority.path("ca.pem"))
        fields = SUBPROTOCOL + b"Authorization: Bearer %b\r\n"
        dial(rig.server.public_address, fields % KUBE.token().encode(), context=bare).close()
        for proof in (rig.TOKEN, OTHER.token()):
            with pytest.raises(Refused) as caught:
                dial(rig.server.public_address, fields % proof.encode(), context=bare)
            assert caught.value.status in (401, 403)


def test_the_internal_port_wants_a_certificate_all_the_same() -> None:
    with Rig(agent=None, cluster={"serviceAccount": account(KUBE)}, server={"internal_plain": False}) as rig:
        bare = ssl.create_default_context(cafile=rig.authority.path("ca.pem"))
        sock = socket.create_connection(rig.server.internal_address)
        # With TLS 1.3 the refusal comes with the first read.
        client = bare.wrap_socket(sock, server_hostname="localhost")
        with client, pytest.raises(OSError, match="certificate required"):
            Peer(client).rest()


def test_an_entry_that_lists_names_wants_a_certificate_too() -> None:
    with Rig(agent=None, cluster={"serviceAccount": account(KUBE), "certNames": ["c1"]}) as rig:
        bare = ssl.create_default_context(cafile=rig.authority.path("ca.pem"))
        fields = SUBPROTOCOL + b"Authorization: Bearer %b\r\n" % KUBE.token().encode()
        with pytest.raises(Refused) as caught:
            dial(rig.server.public_address, fields, context=bare)
        assert caught.value.status == 403
        enter_tls(rig, KUBE.token())


def test_a_certificate_of_another_ca_is_refused_even_where_none_is_needed(tmp_path: Path) -> None:
    with Rig(agent=None, cluster={"serviceAccount": account(KUBE)}) as rig:
        foreign = ssl.create_default_context(cafile=rig.authority.path("ca.pem"))
        other = Authority(tmp_path)
        foreign.load_cert_chain(other.path("agent.pem"), other.path("agent.key"))
        fields = SUBPROTOCOL + b"Authorization: Bearer %b\r\n" % KUBE.token().encode()
        with pytest.raises((OSError, EOFError)):
            dial(rig.server.public_address, fields, context=foreign)


# Who is not

NOW = int(time.time())
FORGED = {
    "alg none": KUBE.unsigned(),
    "alg None": KUBE.unsigned("None"),
    "alg none with a signature": KUBE.unsigned() + "AAAA",
    "HS256 with the public key": KUBE.by_secret(KUBE.pem),
    "HS256 with the modulus": KUBE.by_secret(KUBE.jwk["n"].encode()),
    "HS256 with nothing": KUBE.by_secret(b""),
    "an algorithm that the key is not for": KUBE.token(algorithm="PS256"),
    "another's key under this kid": Issuer(KUBE.kid, 1).token(),
    "another cluster's key": OTHER.token(),
    "another cluster's key for the other's audience": KUBE.token(aud="argotun/c2"),
    "claims exchanged": KUBE.tampered(exp=NOW + 10**6),
    "no signature": KUBE.token().rpartition(".")[0] + ".",
    "two parts": KUBE.token().rpartition(".")[0],
    "four parts": KUBE.token() + ".AAAA",
    "aud of another": KUBE.token(aud="argotun"),
    "aud list with more": KUBE.token(aud=[AUDIENCE, "https://kubernetes.default.svc"]),
    "aud list of others": KUBE.token(aud=["a", "b"]),
    "aud list nested": KUBE.token(aud=[[AUDIENCE]]),
    "aud empty": KUBE.token(aud=[]),
    "aud missing": KUBE.token(aud=None),
    "iss that begins so": KUBE.tampered(iss=ISSUER + ".evil.example"),
    "iss a prefix": KUBE.tampered(iss=ISSUER[:-1]),
    "iss with a slash": KUBE.tampered(iss=ISSUER + "/"),
    "sub of another account": KUBE.token(sub="system:serviceaccount:argotun:default"),
    "sub of another namespace": KUBE.token(sub="system:serviceaccount:default:argotun"),
    "sub in capitals": KUBE.token(sub=SUBJECT.upper()),
    "sub missing": KUBE.token(sub=None),
    "nbf in the future": KUBE.token(nbf=NOW + 3600),
    "iat in the future": KUBE.token(iat=NOW + 3600),
    "exp past": KUBE.token(exp=NOW - 3600),
    "exp missing": KUBE.token(exp=None),
    "exp no number": KUBE.token(exp="never"),
    "exp endless": KUBE.token(exp=float("inf")),
    "exp a list": KUBE.token(exp=[NOW + 600]),
    "kid unknown": KUBE.token({"kid": "key-2"}),
    "kid a path": KUBE.token({"kid": "../../../../dev/null"}),
    "kid a URL": KUBE.token({"kid": "https://evil.example/keys"}),
    "kid a query": KUBE.token({"kid": "' OR 1=1 --"}),
    "kid empty": KUBE.token({"kid": ""}),
    "kid missing": f"{segment({'alg': 'RS256'})}.{KUBE.token().partition('.')[2]}",
    "kid a number": f"{segment({'alg': 'RS256', 'kid': 1})}.{KUBE.token().partition('.')[2]}",
    "jku": Issuer("key-3", 1).token({"jku": "https://evil.example/jwks", "kid": KUBE.kid}),
    "jwk in the header": Issuer(KUBE.kid, 1).token({"jwk": Issuer(KUBE.kid, 1).jwk}),
    "crit": KUBE.token({"crit": ["exp"]}),
    "huge": KUBE.token(padding="x" * 10_000),
    "deep": f"{segment(b'[' * 4000)}.{segment(b'[' * 3000)}.AAAA",
    "no object": f"{segment([1])}.{segment('x')}.AAAA",
    "no base64": "eyJ!.eyJ!.!!!",
    "binary": f"{segment(bytes(range(256)))}.{segment(bytes(range(256)))}.AAAA",
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED)
def test_a_forged_or_foreign_token_is_401(rig: Rig, token: str) -> None:
    refusal = refused(rig, token)
    assert refusal.status == 401
    assert token.encode() not in refusal.body


def test_two_tokens_in_two_fields_are_401(rig: Rig) -> None:
    assert refused(rig, KUBE.token(), b"Authorization: Bearer %b\r\n" % KUBE.token().encode()).status == 401


def test_a_token_as_large_as_a_head_may_be_is_refused(rig: Rig) -> None:
    assert refused(rig, KUBE.token(padding="x" * 40_000)).status == 401


def test_only_a_right_signature_is_told_what_is_wrong(rig: Rig) -> None:
    assert b"has ended" in refused(rig, KUBE.token(exp=NOW - 3600)).body
    assert refused(rig, Issuer(KUBE.kid, 1).token(exp=NOW - 3600)).body == b"the token is not known\n"


def test_the_log_says_which_cluster_and_why(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    # The tests before this one have had their lines.
    rig.server.agents._of_clusters._kinds.clear()
    refused(rig, KUBE.token({"kid": "key-2"}))
    (record,) = (each for each in caplog.records if "refused" in each.message)
    assert "its key is not one of the cluster's" in record.message
    assert record.fields["cluster"] == "c1"  # type: ignore[attr-defined]


def test_another_customer_of_the_same_issuer_name_is_no_danger(rig: Rig) -> None:
    """Most clusters call their issuer the same; what tells them apart is the audience, and the key."""
    enter(rig, OTHER.token(aud="argotun/c2"))
    refused(rig, OTHER.token(aud="argotun/c1"))


# What changes


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "REFRESH", 0.02)


def written(path: Path, value: object) -> Path:
    fresh = path.with_name("fresh")
    fresh.write_text(json.dumps(value))
    os.replace(fresh, path)
    return path


def agent_options(path: Path) -> dict[str, Any]:
    return {"token": None, "server_token_path": str(path)}


def test_a_key_that_is_rotated_lets_in_the_new_and_not_the_old(eager: None, tmp_path: Path) -> None:
    new = Issuer("key-2", 1)
    path = written(tmp_path / "jwks", {"keys": [KUBE.jwk]})
    entry = account(jwksFile=str(path))
    del entry["jwks"]
    with Rig(mutual=False, agent=None, cluster={"serviceAccount": entry}) as rig:
        enter(rig, KUBE.token())
        refused(rig, new.token())
        written(path, {"keys": [KUBE.jwk, new.jwk]})
        until(lambda: "key-2" in rig.server._accounts._by_cluster["c1"].keys, "the new key")
        enter(rig, new.token())
        enter(rig, KUBE.token())
        written(path, {"keys": [new.jwk]})
        until(lambda: "key-1" not in rig.server._accounts._by_cluster["c1"].keys, "the old key's end")
        refused(rig, KUBE.token())


def test_a_key_file_that_is_broken_keeps_the_last_good_keys(eager: None, tmp_path: Path) -> None:
    path = written(tmp_path / "jwks", {"keys": [KUBE.jwk]})
    entry = account(jwksFile=str(path))
    del entry["jwks"]
    with Rig(mutual=False, agent=None, cluster={"serviceAccount": entry}) as rig:
        written(path, {"keys": []})
        until(lambda: rig.server.metrics._reload_errors["jwks"] == 1, "the error")
        enter(rig, KUBE.token())


def test_a_tunnel_outlives_its_token_and_the_next_dial_shows_a_fresh_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet renews the file; a tunnel that is up is not asked again."""
    path = tmp_path / "token"
    now = int(time.time())
    path.write_text(KUBE.token(iat=now - 7200, nbf=now - 7200))
    with Rig(agent=None, cluster={"serviceAccount": account(KUBE)}) as rig:
        agent = rig.start_agent(**agent_options(path))
        session = rig.session
        # As if an hour had passed.
        monkeypatch.setattr(accounts, "LEEWAY", -3600.0)
        with pytest.raises(Refused):
            enter_tls(rig, path.read_text())
        assert not session.tunnel.ended.is_set()
        assert rig.get().status == 200
        (tunnel,) = agent.tunnels
        tunnel.end("the test cuts the tunnel")
        until(lambda: "has ended" in agent.connector.problem, "a refusal")
        fresh = tmp_path / "fresh"
        fresh.write_text(KUBE.token(exp=now + 7200, iat=now - 7200, nbf=now - 7200))
        os.replace(fresh, path)
        until(lambda: rig.server.registry.of("c1") and agent.connected.is_set(), "the agent's return")
        assert rig.get().status == 200


def enter_tls(rig: Rig, token: str) -> None:
    context = ssl.create_default_context(cafile=rig.authority.path("ca.pem"))
    context.load_cert_chain(rig.authority.path("agent.pem"), rig.authority.path("agent.key"))
    fields = SUBPROTOCOL + b"Authorization: Bearer %b\r\n" % token.encode()
    dial(rig.server.public_address, fields, context=context).close()


@pytest.mark.parametrize("change", ["key", "account", "none"])
def test_an_entry_that_would_not_let_an_agent_in_ends_its_tunnel(
    eager: None, tmp_path: Path, change: str
) -> None:
    path = tmp_path / "token"
    path.write_text(KUBE.token())
    with Rig(mutual=False, agent=None, cluster={"serviceAccount": account(KUBE)}) as rig:
        rig.start_agent(**agent_options(path))
        session = rig.session
        entry: dict[str, Any] = {"id": "c1", "token": rig.TOKEN, "rateLimit": 1000}
        if change == "none":
            entry["serviceAccount"] = account(KUBE, OTHER)
        elif change == "account":
            entry["serviceAccount"] = account(KUBE, subject="system:serviceaccount:argotun:other")
        else:
            entry["serviceAccount"] = account(OTHER)
        rig.write_clusters([entry])
        until(lambda: rig.server.clusters.clusters["c1"].rate_limit, "the change")
        if change == "none":
            assert not session.tunnel.ended.is_set()
        else:
            until(session.tunnel.ended.is_set, "the tunnel's end")


def test_a_server_without_such_an_entry_loads_no_library_for_it() -> None:
    probe = "import sys, argotun.server.app; print({'jwt', 'cryptography', 'requests'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


def test_guesses_at_an_account_do_not_delay_a_right_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guesses, "BURST", 1)
    monkeypatch.setattr(guesses, "LONGEST", 0.2)
    with Rig(mutual=False, agent=None, cluster={"serviceAccount": account(KUBE)}) as rig:
        guessing = [gevent.spawn(refused, rig, Issuer(KUBE.kid, 1).token()) for _ in range(20)]
        gevent.joinall(guessing)
        assert {each.value.status for each in guessing} == {401, 429}
        enter(rig, KUBE.token())
