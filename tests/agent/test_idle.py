"""Connections to the API that streams leave: who gets one, and that nobody gets the answer of another."""

from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from argotun.agent import idle
from tests.raw_websocket import Listening
from tests.rig import Api, Gate, Peer, Rig, answers_its_own, until
from tests.v2_peers import CLOSE, CONNECTED, DATA, V2Server

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
UPGRADE = b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


@pytest.fixture(params=[True, False], ids=["https", "http"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with Rig(Api(answers_its_own, tls=request.param), agent={"idle_conns": 2}) as rig:
        yield rig


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time that passes in a test closes one."""
    monkeypatch.setattr(idle, "SECONDS", 3600.0)


def leave(rig: Rig, client: Peer, kept: int = 1, streams: int = 0) -> None:
    """The client goes; afterwards so many connections to the API are kept, beside `streams`."""
    client.close()
    until(lambda: rig.agent._streams == streams, "the end of the stream")
    until(lambda: len(rig.agent.api.idle) == kept, f"{kept} connections kept")


def test_the_next_client_gets_the_connection_that_the_last_one_left(rig: Rig) -> None:
    for _ in range(5):
        client = rig.client()
        assert rig.ask(client=client).status == 200
        assert rig.ask(client=client).status == 200
        leave(rig, client)
    assert rig.api.connections == 1


def test_there_are_no_more_of_them_than_allowed_and_the_oldest_goes(rig: Rig) -> None:
    clients = [rig.client() for _ in range(4)]
    for client in clients:
        assert rig.ask(client=client).status == 200
    assert rig.api.connections == 4
    for kept, client in enumerate(clients, 1):
        client.close()
        until(lambda kept=kept: rig.agent._streams == 4 - kept, "the end of the stream")
    until(lambda: len(rig.api.live) == 2, "the end of the two that were left first")
    assert len(rig.agent.api.idle) == 2


def test_one_that_nobody_takes_is_closed_after_a_while(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "SECONDS", 0.2)
    client = rig.client()
    assert rig.ask(client=client).status == 200
    client.close()
    until(lambda: not rig.api.live, "the end of the connection")
    assert not len(rig.agent.api.idle)


def test_an_agent_that_ends_leaves_none(rig: Rig) -> None:
    client = rig.client()
    assert rig.ask(client=client).status == 200
    leave(rig, client)
    rig.agent.stop()
    until(lambda: not rig.api.live, "the end of the connection")


def test_crowds_of_clients_that_come_and_go_each_get_their_own_answers(rig: Rig) -> None:
    def come_and_go() -> None:
        for number in range(12):
            client = rig.client()
            for _ in range(number % 3 + 1):
                assert rig.ask(client=client).status == 200
            client.close()

    crowd = [gevent.spawn(come_and_go) for _ in range(10)]
    gevent.joinall(crowd, raise_error=True)
    assert rig.api.connections < 120


@pytest.mark.parametrize("request_", [POST, UPGRADE], ids=["POST", "upgrade"])
def test_what_may_not_be_sent_twice_goes_on_a_connection_of_its_own(request_: bytes) -> None:
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        while True:
            heads.append(peer.head())
            if b"Content-Length" in heads[-1]:
                peer.read(2)
            peer.send(OK)

    with Rig(Api(script), agent={"idle_conns": 2}) as rig:
        client = rig.client()
        assert rig.get(client=client).status == 200
        leave(rig, client)
        other = rig.client()
        other.send(request_)
        assert other.response().status == 200
        assert rig.api.connections == 2
        # And one that has carried such a request is left to nobody.
        leave(rig, other)
        assert rig.get().status == 200
        assert rig.api.connections == 2


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_refusal_leaves_a_connection_where_it_was(tmp_path: Path, method: str) -> None:
    """What comes behind the refusal may be a POST: then it goes on a connection of its own."""
    heads: list[tuple[int, bytes]] = []

    def script(peer: Peer) -> None:
        number = rig.api.connections
        while True:
            heads.append((number, peer.head().split(b" ")[0]))
            if heads[-1][1] == b"POST":
                peer.read(2)
            peer.send(OK)

    policy = tmp_path / "policy.yaml"
    policy.write_text("presets: [no-secrets]")
    with Rig(Api(script), agent={"idle_conns": 2, "policy": str(policy)}) as rig:
        client = rig.client()
        assert rig.get(client=client).status == 200
        leave(rig, client)
        other = rig.client()
        other.send(f"{method} /tunnel/c1/api/v1/secrets HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert other.response(method).status == 403
        assert len(rig.agent.api.idle) == 1
        other.send(POST)
        assert other.response().status == 200
        assert rig.get(client=other).status == 200
        assert heads == [(1, b"GET"), (2, b"POST"), (2, b"GET")]


def test_a_connection_that_the_api_has_closed_is_not_used() -> None:
    ended = Gate()

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(OK)
        if rig.api.connections == 1:
            ended.wait()
        else:
            peer.head()

    with Rig(Api(script), agent={"idle_conns": 2}) as rig:
        client = rig.client()
        assert rig.get(client=client).status == 200
        leave(rig, client)
        ended.open()
        until(lambda: not rig.api.live, "the end of the connection")
        assert rig.get().status == 200
        assert rig.api.connections == 2


def test_a_connection_that_the_api_closes_under_the_request_is_replaced_unseen() -> None:
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        heads.append(peer.head())
        peer.send(OK)
        heads.append(peer.head())
        if rig.api.connections > 1:
            peer.send(OK)

    with Rig(Api(script), agent={"idle_conns": 2}) as rig:
        client = rig.client()
        assert rig.get(client=client).status == 200
        leave(rig, client)
        assert rig.get("/tunnel/c1/again").status == 200
        assert [head.split()[1] for head in heads] == [b"/api/v1/pods", b"/again", b"/again"]
        assert rig.api.connections == 2


@pytest.mark.parametrize("said", [OK, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", b"\0"])
def test_an_answer_that_nobody_asked_for_is_nobodys(said: bytes) -> None:
    """Whoever asks next on that connection would take it for his own, and so would everybody after him."""
    talking, talked = Gate(), Gate()

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(OK.replace(b"ok", b"%02d" % rig.api.connections))
        if rig.api.connections == 1:
            talking.wait()
            peer.send(said)
            talked.open()
        peer.head()

    with Rig(Api(script), agent={"idle_conns": 2}) as rig:
        client = rig.client()
        assert rig.get(client=client).body == b"01"
        leave(rig, client)
        talking.open()
        talked.wait()
        gevent.sleep(0.05)
        assert rig.get().body == b"02"


def test_a_connection_whose_answer_the_client_did_not_wait_for_is_not_kept() -> None:
    asked = Gate()

    def script(peer: Peer) -> None:
        number = rig.api.connections
        while True:
            if b"/late" in peer.head():
                asked.open()
                peer.head()
            peer.send(OK.replace(b"ok", b"%02d" % number))

    with Rig(Api(script), agent={"idle_conns": 2}) as rig:
        client = rig.client()
        assert rig.get(client=client).body == b"01"
        client.send(GET.replace(b"/x", b"/late"))
        asked.wait()
        client.close()
        until(lambda: not rig.agent._streams, "the end of the stream")
        until(lambda: not rig.api.live, "the end of the connection")
        assert rig.get().body == b"02"


def test_a_connection_of_an_older_ca_is_not_used() -> None:
    with Rig(Api(answers_its_own), agent={"idle_conns": 2}) as rig:
        client = rig.client()
        assert rig.ask(client=client).status == 200
        leave(rig, client)
        assert rig.agent.api.tls is not None
        before = rig.agent.api.tls.context()
        with open(rig.authority.path("ca.pem"), "a") as file:
            file.write("\n")
        until(lambda: rig.agent.api.tls.context() is not before, "the new context")
        assert rig.ask().status == 200
        assert rig.api.connections == 2


def test_when_the_api_loses_one_connection_all_others_that_were_kept_are_given_up() -> None:
    """A machine that is gone says nothing on any of them, and each would be found out anew."""

    def script(peer: Peer) -> None:
        while True:
            if b"/lost" in peer.head():
                peer.abort()
                return
            peer.send(OK)

    with Rig(Api(script), agent={"idle_conns": 2}) as rig:
        clients = [rig.client() for _ in range(3)]
        for client in clients:
            assert rig.get(client=client).status == 200
        for kept, client in enumerate(clients[1:], 1):
            leave(rig, client, kept, streams=3 - kept)
        clients[0].send(b"POST /tunnel/c1/lost HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        until(lambda: not rig.api.live, "the end of all")


@pytest.mark.parametrize("size", [2, 8000], ids=["a short answer", "a long one"])
def test_a_record_that_has_begun_when_its_client_leaves_is_nobodys(size: int) -> None:
    """TLS has taken in its beginning, so that the socket looks as if the API had said nothing."""

    def script(peer: Peer) -> None:
        number = rig.api.connections
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, b"%d" % number * size))
        record = peer.record(OK)
        if number == 1:
            peer.below(record[:20])
        peer.head()
        peer.below(record[20:])

    with Rig(Api(script), agent={"idle_conns": 2}) as rig:
        client = rig.client()
        assert rig.get(client=client).body == b"1" * size
        gevent.sleep(0.05)
        client.close()
        until(lambda: not rig.agent._streams, "the end of the stream")
        assert rig.get().body == b"2" * size


@pytest.mark.parametrize("first", ["api", "server"])
def test_what_the_api_says_in_the_moment_in_which_a_stream_ends_stays_to_be_seen(first: str) -> None:
    """The greenlet that reads is about to end: whatever it still took in would be missed by nobody."""
    peers: list[Peer] = []

    def script(peer: Peer) -> None:
        peers.append(peer)
        peer.head()
        peer.send(OK)
        peer.rest()

    with Listening() as listening, Rig(Api(script, tls=False), mutual=False, agent=None) as rig:
        url = f"ws://127.0.0.1:{listening.address[1]}/connect"
        agent = rig.make_agent(server=url, idle_conns=2)
        agent.start()
        server = V2Server(listening)
        stream = server.connect()
        server.send(DATA, stream, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        server.expect(CONNECTED, stream)
        server.until(b"ok", stream)
        server.pong()
        # Both are there when the agent looks next.
        for who in ("api", "server") if first == "api" else ("server", "api"):
            if who == "api":
                peers[0].send(OK[:-5])
            else:
                server.send(CLOSE, stream)
        until(lambda: not agent._streams, "the end of the stream")
        gevent.sleep(0.05)
        assert agent.api.take_idle() is None
        server.ws.close()


def test_what_is_left_of_a_head_is_not_taken_for_one() -> None:
    """The part before it came while there was a connection, and says what the request really is."""
    heads: list[tuple[int, bytes]] = []
    ended = Gate()

    def script(peer: Peer) -> None:
        number = rig.api.connections
        while True:
            heads.append((number, peer.head()))
            peer.send(OK)
            if number == 1:
                ended.wait()
                return

    with Listening() as listening, Rig(Api(script, tls=False), mutual=False, agent=None) as rig:
        agent = rig.make_agent(server=f"ws://127.0.0.1:{listening.address[1]}/connect", idle_conns=2)
        agent.start()
        server = V2Server(listening)
        for _ in range(2):
            stream = server.connect()
            server.send(DATA, stream, GET)
            server.expect(CONNECTED, stream)
            server.until(b"ok", stream)
        server.send(DATA, 1, POST.partition(b"Host")[0] + b"X: ")
        server.send(CLOSE, 2)
        server.pong()
        ended.open()
        until(lambda: len(rig.api.live) == 1, "the end of the first connection")
        until(lambda: len(agent.api.idle) == 1, "the second one to be kept")
        server.send(DATA, 1, GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n"))
        server.until(b"ok", 1)
        assert [number for number, _ in heads] == [1, 2, 3]
        assert heads[2][1].startswith(b"POST ")
        server.ws.close()


def test_a_record_that_has_begun_before_a_request_is_not_its_answer() -> None:
    def script(peer: Peer) -> None:
        number = rig.api.connections
        peer.head()
        peer.send(OK.replace(b"ok", b"%02d" % number))
        if number == 1:
            record = peer.record(OK)
            peer.below(record[:20])
            peer.head()
            peer.below(record[20:])

    with Rig(Api(script), agent={"idle_conns": 2}) as rig:
        client = rig.client()
        assert rig.get(client=client).body == b"01"
        gevent.sleep(0.05)
        assert rig.get(client=client).body == b"02"
