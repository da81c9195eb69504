"""What a server remembers of its agents and of those whom it refused, and who can change that."""

import json
import ssl
from typing import Any

import gevent
import pytest
from gevent.ssl import create_default_context

from argotun.server import guesses
from argotun.server.history import STRANGERS, History
from argotun.transport.reply import MAX_SAID
from tests.raw_websocket import Refused, dial
from tests.rig import Rig, until
from tests.tokens import Issuer, account
from tests.v2_peers import SUBPROTOCOL

AT_HOME = "192.0.2.7"
KUBE = Issuer()


class Clock:
    """A clock that a test turns."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def history(clock: Clock) -> History:
    return History(clock)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """All refusals here come from one address."""
    monkeypatch.setattr(guesses, "BURST", 1000)


def of(rig: Rig, cluster: str = "c1") -> dict[str, Any]:
    said: dict[str, Any] = rig.get("/status").json()["history"][cluster]
    return said


# What is kept


def test_a_cluster_without_an_agent_was_never_seen(history: History) -> None:
    assert history.of("c1", False) == {
        "lastSeenSeconds": None,
        "lastEnd": "",
        "lastRefusal": None,
        "lastClaim": None,
        "lastAttempt": None,
    }


def test_an_agent_that_went_was_seen_until_then(history: History, clock: Clock) -> None:
    history.came("c1", AT_HOME)
    clock.now += 50
    assert history.of("c1", True)["lastSeenSeconds"] == 0
    history.gone("c1", "the tunnel's connection was closed")
    clock.now += 7
    said = history.of("c1", False)
    assert (said["lastSeenSeconds"], said["lastEnd"]) == (7.0, "the tunnel's connection was closed")


def test_an_agent_that_comes_back_has_no_end(history: History) -> None:
    history.came("c1", AT_HOME)
    history.gone("c1", "it ended")
    history.came("c1", AT_HOME)
    assert history.of("c1", True)["lastEnd"] == ""


def test_refusals_are_counted_and_the_last_is_kept(history: History, clock: Clock) -> None:
    for number in range(5):
        history.refused(AT_HOME, f"reason {number}", "c1", proved=True)
    clock.now += 3
    assert history.of("c1", False)["lastRefusal"] == {
        "secondsAgo": 3.0,
        "peer": AT_HOME,
        "why": "reason 4",
        "count": 5,
    }


def test_who_only_names_a_cluster_displaces_no_word_of_its_agent(history: History) -> None:
    history.refused(AT_HOME, "the certificate is not one of cluster 'c1'", "c1", proved=True)
    for number in range(1000):
        history.refused(f"198.51.100.{number % 250}", "it is signed by nobody", "c1")
    said: dict[str, Any] = history.of("c1", False)
    assert said["lastRefusal"]["why"] == "the certificate is not one of cluster 'c1'"
    assert said["lastRefusal"]["count"] == 1
    assert said["lastClaim"]["count"] == 1000


def test_who_fails_from_a_clusters_last_address_is_told_with_it(history: History) -> None:
    history.came("c1", "2001:db8::7")
    history.gone("c1", "it ended")
    history.refused("2001:db8::8", "TLS handshake: the other side's certificate has expired")
    history.refused("2001:db8:0:1::8", "TLS handshake: something else")
    said: dict[str, Any] = history.of("c1", False)
    assert said["lastAttempt"]["why"] == "TLS handshake: the other side's certificate has expired"
    assert [each["peer"] for each in history.strangers()] == ["2001:db8:0:1::8"]


def test_an_address_of_several_clusters_tells_nothing_of_one(history: History) -> None:
    history.came("c1", AT_HOME)
    history.came("c2", AT_HOME)
    history.refused(AT_HOME, "TLS handshake: no")
    assert history.of("c1", False)["lastAttempt"] is None
    assert len(history.strangers()) == 1
    # One of them moves, and it is the other's own.
    history.came("c2", "192.0.2.8")
    history.refused(AT_HOME, "TLS handshake: no")
    assert history.of("c1", False)["lastAttempt"]
    assert history.of("c2", False)["lastAttempt"] is None


# Where it ends


def test_strangers_are_few_however_many_come(history: History) -> None:
    history.refused("203.0.113.1", "the token is not known")
    for number in range(5000):
        history.refused(f"198.18.{number // 250}.{number % 250}", "the token is not known")
    said = history.strangers()
    assert len(said) == STRANGERS == len(history._strangers)
    assert said[0]["peer"] == "198.18.19.249"


def test_one_address_is_one_stranger(history: History) -> None:
    for _ in range(3):
        history.refused("203.0.113.1", "the token is not known")
    (said,) = history.strangers()
    assert said["count"] == 3


def test_what_others_say_is_one_short_line(history: History) -> None:
    wild = "a\r\nfake line\x1b[31m\u202e" + "x" * 10_000
    history.came("c1", AT_HOME)
    history.gone("c1", wild)
    history.refused(AT_HOME, wild, "c1", proved=True)
    history.refused("198.51.100.1", wild)
    said: dict[str, Any] = history.of("c1", False)
    for words in (said["lastEnd"], said["lastRefusal"]["why"], history.strangers()[0]["why"]):
        assert len(words) <= MAX_SAID
        assert words.isprintable()


def test_a_removed_cluster_leaves_nothing(history: History) -> None:
    history.came("c1", AT_HOME)
    history.refused(AT_HOME, "no", "c1", proved=True)
    history.forget("c1")
    history.gone("c1", "the cluster was removed")
    assert not history._clusters
    assert not history._homes


# Over the wire


def test_status_says_of_each_cluster_when_and_why() -> None:
    with Rig() as rig:
        rig.write_clusters([{"id": "c1", "token": Rig.TOKEN}, {"id": "c9", "token": "token-of-agent-c9"}])
        until(lambda: "c9" in rig.server.clusters.clusters, "the clusters")
        assert of(rig, "c9")["lastSeenSeconds"] is None
        assert of(rig)["lastSeenSeconds"] == 0
        rig.agent.stop()
        until(lambda: not len(rig.server.registry), "the end of the session")
        until(lambda: of(rig)["lastEnd"], "the words")
        assert rig.get("/status").json()["clusters"] == {"c1": [], "c9": []}
        # Its certificate has no name of c9's.
        with pytest.raises(Refused):
            dial(
                rig.server.public_address,
                SUBPROTOCOL + b"Authorization: Bearer token-of-agent-c9\r\n",
                context=context(rig),
            )
        refusal = of(rig, "c9")["lastRefusal"]
        assert refusal["peer"] == "127.0.0.1"
        assert refusal["why"].startswith("the certificate is not one of cluster 'c9'")
        # Its CA is not ours, and this is where c1's agent was.
        with pytest.raises((OSError, EOFError)):
            dial(rig.server.public_address, SUBPROTOCOL, context=context(rig, certificate=False))
        until(lambda: of(rig)["lastAttempt"], "the refusal")
        assert "presented no client certificate" in of(rig)["lastAttempt"]["why"]


def context(rig: Rig, certificate: bool = True) -> ssl.SSLContext:
    made = create_default_context(cafile=rig.authority.path("ca.pem"))
    if certificate:
        rig.authority.issue("other", "someone.example")
        made.load_cert_chain(rig.authority.path("other.pem"), rig.authority.path("other.key"))
    return made


def test_a_token_with_a_wrong_signature_is_a_claim_and_an_old_one_a_refusal() -> None:
    with Rig(mutual=False, agent=None) as rig:
        rig.write_clusters([{"id": "c1", "serviceAccount": account(KUBE)}])
        until(lambda: rig.server.clusters.clusters["c1"].account, "the clusters")
        for token in (KUBE.token(exp=1_000_000_000), Issuer(KUBE.kid, 1).token()):
            with pytest.raises(Refused):
                dial(
                    rig.server.public_address,
                    SUBPROTOCOL + b"Authorization: Bearer %b\r\n" % token.encode(),
                )
        said = of(rig)
        assert said["lastRefusal"]["why"] == "its ServiceAccount token proves nothing: it has ended"
        assert said["lastRefusal"]["count"] == said["lastClaim"]["count"] == 1


def test_who_has_no_token_is_a_stranger_and_in_no_summary() -> None:
    with Rig(mutual=False, agent=None, server={"health_addr": ("127.0.0.1", 0)}) as rig:
        with pytest.raises(Refused):
            dial(rig.server.public_address, SUBPROTOCOL + b"Authorization: Bearer <b>guess</b>\r\n")
        (said,) = rig.get("/status").json()["strangers"]
        assert said["why"] == "the token is not known"
        assert rig.server._health is not None
        with gevent.Timeout(20), gevent.socket.create_connection(rig.server._health.address) as sock:
            sock.sendall(b"GET /status HTTP/1.0\r\n\r\n")
            answer = b""
            while data := sock.recv(65536):
                answer += data
        assert not {"history", "strangers", "callers"} & json.loads(answer.partition(b"\r\n\r\n")[2]).keys()
