"""Who is no replica gets nothing at the port for replicas; who is one may break no rule there."""

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic

import gevent
import pytest

from argotun.server.links import ASK_RATE
from argotun.wire import trifles
from argotun.wire.streams import DISCARD
from argotun.wire.trifles import BURST
from tests.raw_websocket import RawWebSocket, Refused, dial
from tests.replicas import NAME, Replicas
from tests.rig import Api, answers_its_own, until
from tests.v2_peers import CONNECT, ERROR, HELLO, V2, V2Agent, frame, hello
from tests.wire.mux_peers import take_in

LEAVE, ASK, HAVE = 0x0C, 0x0D, 0x0E
FIELDS = b"Sec-WebSocket-Protocol: argotun.peer.v1\r\nArgotun-Replica: 00000000000000ff\r\n"


@pytest.fixture
def replicas() -> Iterator[Replicas]:
    with Replicas(2, api=Api(answers_its_own)) as replicas:
        replicas.agent_at(1)
        yield replicas


def context(replicas: Replicas, name: str = "") -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=replicas.peers.path("ca.pem"))
    made.load_verify_locations(replicas.authority.path("ca.pem"))
    made.check_hostname = False
    if name:
        path = replicas.peers.path
        made.load_cert_chain(path(f"{name}.pem"), path(f"{name}.key"))
    return made


def knock(
    replicas: Replicas, name: str = "peer", fields: bytes = FIELDS, path: bytes = b"/peer"
) -> RawWebSocket:
    found = dial(
        replicas.membership(replicas.servers[1]).address, fields, path=path, context=context(replicas, name)
    )
    replicas.keep(found.peer)
    return found


def replica(replicas: Replicas, **said: object) -> V2:
    """A raw replica that dials the second one."""
    peer = V2(knock(replicas))
    peer.ws.send(hello(**{"replica": "00000000000000ff", "prefix": "argotun", **said}))
    assert json.loads(peer.expect(HELLO).payload)["replica"] == replicas.ids[1]
    return peer


@pytest.mark.parametrize("name", ["agent", "argocd", "server"])
def test_a_certificate_of_another_name_is_refused(replicas: Replicas, name: str) -> None:
    with pytest.raises(Refused) as refused:
        knock(replicas, name)
    assert refused.value.status == 403


def test_without_a_certificate_there_is_no_handshake(replicas: Replicas) -> None:
    with pytest.raises((OSError, EOFError)):
        knock(replicas, "")


def test_an_agent_is_refused_whatever_it_shows(replicas: Replicas) -> None:
    token = b"Authorization: Bearer %b\r\nSec-WebSocket-Protocol: argotun.v2\r\n" % replicas.TOKEN.encode()
    for path, status in ((b"/connect", 404), (b"/peer", 426)):
        with pytest.raises(Refused) as refused:
            knock(replicas, "peer", token, path)
        assert refused.value.status == status


def test_a_replica_is_refused_at_the_public_port(replicas: Replicas) -> None:
    """Its CA counts for nothing there."""
    with pytest.raises((OSError, EOFError)):
        dial(replicas.servers[1].public_address, FIELDS, path=b"/peer", context=context(replicas, "peer"))


def test_a_revoked_replica_is_cut_off_and_stays_away(tmp_path_factory: pytest.TempPathFactory) -> None:
    revoked = tmp_path_factory.mktemp("revoked") / "list"
    revoked.write_text("")
    with Replicas(2, peers={"revoked": str(revoked)}) as replicas:
        revoked.write_text(f"name {NAME}\n")
        until(lambda: not any(each.alive for each in replicas.directories), "the end of the links")
        refused: list[int] = []

        def told() -> list[int]:
            try:
                knock(replicas)
            except Refused as error:
                refused.append(error.status)
            return refused

        # Each of the two reads the list at its own time, and the first one ends the links of both.
        until(told, "a refusal")
        assert refused == [403]


def test_a_stream_for_no_cluster_reaches_nobody(replicas: Replicas) -> None:
    peer = replica(replicas)
    for number, name in enumerate([b"", b"c9", b"127.0.0.1:443", b"\xff" * 600], 1):
        peer.send(CONNECT, number, name)
        assert b"no agent of this cluster is here" in peer.expect(ERROR, number).payload
    assert replicas.get_from(0).status == 200


def test_a_replica_of_another_installation_is_sent_away(replicas: Replicas) -> None:
    peer = V2(knock(replicas))
    peer.ws.send(hello(replica="00000000000000ff", prefix="other"))
    peer.expect(HELLO)
    assert peer.receive() is None


def test_another_replica_at_an_address_gets_no_request(replicas: Replicas) -> None:
    link = replicas.links(0)._links[replicas.ids[1]]
    link.replica = "00000000000000aa"
    link.tunnel.end("lost")
    until(lambda: "another replica" in link.problem, "the end of the link")
    assert replicas.get_from(0).status == 503


BAD: dict[str, Callable[[], bytes]] = {
    "LEAVE": lambda: frame(LEAVE, 1),
    "HAVE": lambda: frame(HAVE, 0, bytes(9) + b"c1"),
    "ASK on a stream": lambda: frame(ASK, 1, b"c1"),
    "an unknown type": lambda: frame(0x0F, 0),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_frame_that_is_not_the_diallers_ends_its_link_only(replicas: Replicas, kind: str) -> None:
    peer = replica(replicas)
    peer.ws.send(BAD[kind]())
    assert peer.ws.close_code() == 1002
    assert replicas.get_from(0).status == 200


@pytest.mark.parametrize("kind", [LEAVE, ASK, HAVE])
def test_an_agent_that_speaks_as_a_replica_is_cut_off(replicas: Replicas, kind: int) -> None:
    server, replicas.server = replicas.server, replicas.servers[1]
    own = ssl.create_default_context(cafile=replicas.authority.path("ca.pem"))
    own.load_cert_chain(replicas.authority.path("agent.pem"), replicas.authority.path("agent.key"))
    agent = V2Agent(replicas, context=own, instance="raw")
    replicas.server = server
    agent.send(kind, 1 if kind == LEAVE else 0, b"c1")
    assert agent.ws.close_code() == 1002


def test_who_has_asked_and_is_gone_is_forgotten(replicas: Replicas) -> None:
    peer = replica(replicas)
    # The agent itself ends: one whose tunnel is lost is back at once, and answers the question.
    replicas.agents[0].stop()
    until(lambda: not replicas.servers[1].registry.of("c1"), "the end of the session")
    peer.send(ASK, 0, b"c1")
    peer.pong()
    port = replicas.membership(replicas.servers[1]).peers
    assert port._asked
    peer.ws.peer.close()
    until(lambda: not port._asked, "the end of the link")


def test_a_drain_of_many_streams_is_no_flood(replicas: Replicas) -> None:
    """Each stream hears of it once, however many there are."""
    peer = replica(replicas)
    peer.send(CONNECT, 1, b"c1")
    link = next(iter(replicas.links(0)))
    mux = link.tunnel.mux
    for _ in range(3):
        mux.open(DISCARD, "c1")
    before = mux.trifles
    for stream in list(mux.streams):
        take_in(mux, frame(LEAVE, stream))
    assert mux.trifles == before
    take_in(mux, frame(LEAVE, stream))
    assert mux.trifles == before + 1


def test_a_replica_asks_no_more_than_another_bears(replicas: Replicas) -> None:
    replicas.directories[0].current = False
    links = replicas.links(0)
    begun = monotonic()
    for number in range(2 * BURST):
        links.ask(f"c{number}")
    # A second's worth at once, and what the clock has given since.
    assert len(links.asked) <= ASK_RATE * (1 + monotonic() - begun) + 1
    assert replicas.get_from(0).status == 200


@pytest.mark.parametrize("name", [b"c1", b"c9"])
def test_a_flood_of_questions_ends_its_link(name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a machine that is busy enough no questions are more than RATE a second, and no flood.
    monkeypatch.setattr(trifles, "RATE", 1.0)
    # It answers no PING, and may take its time.
    with Replicas(2, api=Api(answers_its_own), peers={"peer_keepalive_timeout": 60.0}) as replicas:
        replicas.agent_at(1)
        peer = replica(replicas)
        with suppress(OSError):
            for _ in range(4 * BURST // 1000):
                peer.ws.peer.send(peer.ws.frame(frame(ASK, 0, name) * 1000))
                gevent.sleep(0)
        assert peer.ws.close_code() in (1008, 1006), peer.ws.closed_with
        assert replicas.get_from(0).status == 200
