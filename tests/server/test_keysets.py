"""Keys that an issuer serves: fetched beside the agents' dials, seldom, and within limits."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from argotun import __version__
from argotun.config.jwks import LARGEST_SET, parse_jwks
from argotun.config.values import Refused as WrongValue
from argotun.server import app, keysets
from argotun.server.keysets import FetchedKeys, fetch
from tests.raw_websocket import Refused, dial
from tests.rig import Api, Authority, Gate, Peer, Rig, answer, until
from tests.tokens import Issuer, account
from tests.v2_peers import SUBPROTOCOL

KUBE, NEXT = Issuer(), Issuer("key-2", 1)


def served(*issuers: Issuer) -> bytes:
    return json.dumps({"keys": [issuer.jwk for issuer in issuers]}).encode()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def issuer(authority: Authority) -> Iterator[Api]:
    """An https server of public keys."""
    api = Api(answer(body=served(KUBE)))
    api.start(authority)
    yield api
    api.close()


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "REFRESH", 0.02)
    monkeypatch.setattr(keysets, "PAUSE", 0.05)


def url(api: Api, host: str = "127.0.0.1") -> str:
    return f"https://{host}:{api.port}/openid/v1/jwks"


def entry(api: Api) -> dict[str, Any]:
    made = account(jwksURL=url(api))
    del made["jwks"]
    return {"serviceAccount": made}


def comes_in(rig: Rig, token: str) -> bool:
    try:
        dial(
            rig.server.public_address, SUBPROTOCOL + b"Authorization: Bearer %b\r\n" % token.encode()
        ).close()
    except Refused:
        return False
    return True


def test_keys_are_fetched_and_fetched_again_for_a_kid_that_is_not_known(
    eager: None, authority: Authority, issuer: Api
) -> None:
    with Rig(
        mutual=False, agent=None, cluster=entry(issuer), server={"jwks_ca": authority.path("ca.pem")}
    ) as rig:
        until(lambda: comes_in(rig, KUBE.token()), "the first keys")
        assert not comes_in(rig, NEXT.token())
        issuer.script = answer(body=served(NEXT))
        until(lambda: comes_in(rig, NEXT.token()), "the next keys")
        assert not comes_in(rig, KUBE.token())


def test_a_slow_issuer_holds_up_no_other_agent(eager: None, authority: Authority, issuer: Api) -> None:
    gate = Gate()

    def waits(peer: Peer) -> None:
        peer.head()
        gate.wait()

    issuer.script = waits
    with Rig(mutual=False, cluster=entry(issuer), server={"jwks_ca": authority.path("ca.pem")}) as rig:
        until(lambda: issuer.connections, "the fetch")
        assert not comes_in(rig, KUBE.token())
        assert rig.get().status == 200
        gate.open()


def test_unknown_kids_cause_no_more_fetches_than_one_in_each_pause(
    authority: Authority, issuer: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = FetchedKeys(url(issuer), authority.path("ca.pem"), lambda: None)
    until(lambda: keys.look() or keys.keys, "the first keys")
    for _ in range(100):
        keys.missed()
        keys.look()
        gevent.sleep(0)
    assert issuer.connections == 1
    monkeypatch.setattr(keysets, "PAUSE", 0.0)
    keys.missed()
    keys.look()
    until(lambda: issuer.connections == 2, "one more fetch")


def test_keys_stay_while_the_issuer_is_away(
    authority: Authority, issuer: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keysets, "PAUSE", 0.0)
    monkeypatch.setattr(keysets, "REFETCH", 0.0)
    errors: list[int] = []
    keys = FetchedKeys(url(issuer), authority.path("ca.pem"), lambda: errors.append(1))
    until(lambda: keys.look() or keys.keys, "the first keys")
    issuer.stop()
    until(lambda: keys.look() or errors, "the failure")
    assert set(keys.keys) == {KUBE.kid}
    keys.close()


def big(peer: Peer) -> None:
    peer.head()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        peer.send(b" " * 65536)


WRONG: dict[str, Callable[[Peer], None]] = {
    "a redirect": answer("302 Found", extra=b"Location: https://127.0.0.1:1/\r\n"),
    "not found": answer("404 Not Found"),
    "no HTTP": lambda peer: peer.send(b"SSH-2.0-x\r\n\r\n"),
    "nothing": lambda peer: None,
    "half": lambda peer: peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
}


@pytest.mark.parametrize("script", WRONG.values(), ids=WRONG)
def test_an_answer_that_is_no_set_is_an_error_in_words(
    authority: Authority, issuer: Api, script: Callable[[Peer], None]
) -> None:
    issuer.script = script
    with pytest.raises(ValueError):
        keysets.parse_bytes(fetch(url(issuer), authority.path("ca.pem")))


def test_a_fetch_says_who_asks(authority: Authority, issuer: Api) -> None:
    heads = []

    def script(peer: Peer) -> None:
        heads.append(peer.head())
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    issuer.script = script
    assert fetch(url(issuer), authority.path("ca.pem")) == b"{}"
    assert f"\r\nUser-Agent: argotun/{__version__}\r\n".encode() in heads[0]


def test_an_endless_answer_is_read_to_the_limit_only(authority: Authority, issuer: Api) -> None:
    issuer.script = big
    assert len(fetch(url(issuer), authority.path("ca.pem"))) == LARGEST_SET + 1


def test_an_answer_that_drips_is_given_up(
    authority: Authority, issuer: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drip(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            peer.send(b" ")
            gevent.sleep(0.01)

    issuer.script = drip
    monkeypatch.setattr(keysets, "FETCH_TIMEOUT", 0.3)
    with pytest.raises(ValueError, match="longer than"):
        fetch(url(issuer), authority.path("ca.pem"))


def test_an_issuer_whose_certificate_is_not_trusted_is_not_believed(issuer: Api, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="certificate"):
        fetch(url(issuer), Authority(tmp_path / "other").path("ca.pem"))
    with pytest.raises(ValueError, match="certificate"):
        fetch(url(issuer), None)


def jwk(**other: Any) -> dict[str, Any]:
    return {name: value for name, value in {**KUBE.jwk, **other}.items() if value is not None}


@pytest.mark.parametrize(
    ("keys", "kids"),
    [
        ([jwk()], ["key-1"]),
        ([jwk(use=None, alg=None)], ["key-1"]),
        ([jwk(), NEXT.jwk], ["key-1", "key-2"]),
        ([jwk(), {"kty": "OKP", "kid": "x", "crv": "Ed25519", "x": "AA"}], ["key-1"]),
        ([jwk(), jwk(use="enc", kid="x"), jwk(alg="RSA-OAEP", kid="y"), jwk(kid=None)], ["key-1"]),
        ([jwk(), jwk()], ["key-1"]),
    ],
)
def test_the_keys_for_signatures_are_taken(keys: list[Any], kids: list[str]) -> None:
    assert list(parse_jwks(json.dumps({"keys": keys}))) == kids


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"keys": {}}',
        '{"keys": [1]}',
        '{"keys": []}',
        "[" * 50_000,
        " " * (LARGEST_SET + 1),
        json.dumps({"keys": [jwk(d="AQAB")]}),
        json.dumps({"keys": [jwk(), {"kty": "oct", "k": "c2VjcmV0", "kid": "s"}]}),
        json.dumps({"keys": [jwk(n="AQAB")]}),
        json.dumps({"keys": [jwk(n="!!")]}),
        json.dumps({"keys": [jwk(alg="HS256")]}),
        json.dumps({"keys": [jwk(alg="none")]}),
        json.dumps({"keys": [jwk(kid=None)]}),
        json.dumps({"keys": [jwk(), jwk(n=NEXT.jwk["n"])]}),
        json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB", "kid": "e"}]}),
        json.dumps({"keys": [jwk(kid=str(number)) for number in range(65)]}),
    ],
)
def test_what_is_no_set_of_public_keys_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(WrongValue) as caught:
        parse_jwks(text)
    assert caught.value.shown == "the set"
