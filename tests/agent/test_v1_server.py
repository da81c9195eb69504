"""Our agent against a version 1 server, scripted as the seed system's Go server speaks."""

from collections.abc import Iterator

import pytest

from argotun.agent.app import Agent
from tests.raw_websocket import Listening
from tests.rig import Gate, Peer, Rig, answer, until
from tests.v1_peers import CLOSE, CONNECT, CONNECTED, DATA, ERROR, PING, V1Server

REQUEST = b"GET /x HTTP/1.1\r\nHost: argotun\r\nConnection: close\r\n\r\n"


class Site:
    """A scripted server, our agent and its scripted API."""

    def __init__(self, rig: Rig, listening: Listening, **options: object) -> None:
        self.rig = rig
        url = f"ws://127.0.0.1:{listening.address[1]}/connect"
        self.agent = Agent(rig.agent_config(server=url, **options))
        rig.agents.append(self.agent)
        self.agent.start()
        self.server = V1Server(listening)
        self.target = f"127.0.0.1:{rig.api.port}"
        until(self.agent.connected.is_set, "the agent's connection")

    def ask(self, request: bytes = REQUEST) -> int:
        """Send a request as the Go server does."""
        return self.server.ask(self.target, request)


@pytest.fixture
def listening() -> Iterator[Listening]:
    with Listening() as listening:
        yield listening


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(mutual=False, agent=None) as rig:
        yield rig


def test_the_agent_offers_version_2_and_takes_version_1(rig: Rig, listening: Listening) -> None:
    site = Site(rig, listening)
    head = site.server.ws.head
    assert head.startswith(b"GET /connect HTTP/1.1\r\n")
    assert b"Authorization: Bearer token-of-agent-c1\r\n" in head
    assert b"argotun.v2" in head
    assert site.agent.tunnels[0].version == 1
    # Its first word is nothing that version 1 does not know: `raw` would fail.
    frame = site.server.raw()
    assert frame is not None
    assert frame.kind == PING


def test_an_answer_ends_with_close_and_its_connection_with_it(rig: Rig, listening: Listening) -> None:
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        heads.append(peer.head())
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        peer.rest()

    rig.api.script = script
    site = Site(rig, listening)
    for _ in range(2):
        data = site.server.answer(site.ask())
        assert data.startswith(b"HTTP/1.1 200 OK\r\n")
        assert data.endswith(b"\r\n\r\nhello")
    assert rig.api.connections == 2
    assert heads[0].lower().count(b"connection: close\r\n") == 1
    assert b"Authorization: Bearer sa-token\r\n" in heads[0]
    until(lambda: not rig.api.live, "the end of the connections to the API")
    until(lambda: not site.agent.tunnels[0].mux.streams, "the end of the streams")


def test_connected_comes_after_the_dial_and_before_any_data(rig: Rig, listening: Listening) -> None:
    site = Site(rig, listening)
    stream = site.server.connect(site.target)
    site.server.expect(CONNECTED, stream)
    until(lambda: rig.api.connections == 1, "the connection to the API")
    # Nothing was asked, so the API's side is silent and so is the stream.
    site.server.send(PING, 0, b"quiet")
    assert site.server.pong() == b"quiet"


@pytest.mark.parametrize(
    "target", ["", "127.0.0.1:1", "kubernetes.default.svc:443", "evil\r\n:443", "x" * 5000]
)
def test_another_target_is_refused(rig: Rig, listening: Listening, target: str) -> None:
    site = Site(rig, listening)
    stream = site.server.connect(target)
    if target:
        assert site.server.expect(ERROR, stream).payload == b"address not allowed"
        assert rig.api.connections == 0
    else:
        site.server.expect(CONNECTED, stream)


def test_an_api_that_cannot_be_dialled_is_an_error(rig: Rig, listening: Listening) -> None:
    site = Site(rig, listening)
    rig.api.stop()
    stream = site.server.connect(site.target)
    assert b"refused" in site.server.expect(ERROR, stream).payload
    # The tunnel and the next request are not touched by it.
    rig.api.start(rig.authority)
    assert site.server.answer(site.ask()).endswith(b"ok")


def test_a_client_that_leaves_ends_the_connection_to_the_api(rig: Rig, listening: Listening) -> None:
    asked, ended = Gate(), Gate()

    def script(peer: Peer) -> None:
        peer.head()
        asked.open()
        peer.ended()
        ended.open()

    rig.api.script = script
    site = Site(rig, listening)
    stream = site.ask()
    asked.wait()
    site.server.send(CLOSE, stream)
    ended.wait()
    # Twice, and data behind it: dropped.
    site.server.send(CLOSE, stream)
    site.server.send(DATA, stream, b"GET / HTTP/1.1\r\n\r\n")
    site.server.send(ERROR, stream, b"x")
    site.server.send(PING, 0, b"alive")
    assert site.server.pong() == b"alive"
    assert rig.api.connections == 1


def test_more_streams_than_max_conns_are_an_error(rig: Rig, listening: Listening) -> None:
    site = Site(rig, listening, max_conns=2)
    streams = [site.server.connect(site.target) for _ in range(3)]
    got = {frame.stream: frame for frame in (site.server.receive() for _ in streams) if frame is not None}
    assert [got[stream].kind for stream in streams] == [CONNECTED, CONNECTED, ERROR]
    assert got[streams[2]].payload.startswith(b"stream limit")
    site.server.send(CLOSE, streams[0])
    site.server.expect(CONNECTED, site.server.connect(site.target))


def test_an_api_connection_lost_in_an_answer_is_an_error(rig: Rig, listening: Listening) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    rig.api.script = script
    site = Site(rig, listening)
    stream = site.ask()
    site.server.until(b"half", stream)
    site.server.expect(ERROR, stream)


def test_a_watch_passes_event_by_event(rig: Rig, listening: Listening) -> None:
    more = Gate()

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nevent1\r\n")
        more.wait()
        peer.send(b"6\r\nevent2\r\n0\r\n\r\n")
        peer.rest()

    rig.api.script = script
    site = Site(rig, listening)
    stream = site.ask(b"GET /pods?watch=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    site.server.until(b"event1\r\n", stream)
    more.open()
    assert site.server.answer(stream) == b"6\r\nevent2\r\n0\r\n\r\n"


def test_an_upgraded_connection_is_raw_both_ways(rig: Rig, listening: Listening) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nfirst"
        )
        assert peer.read(6) == b"\x00up\r\n\xff"
        peer.send(b"\x80down")

    rig.api.script = script
    site = Site(rig, listening)
    stream = site.ask(
        b"POST /exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    assert site.server.until(b"first", stream).startswith(b"HTTP/1.1 101 ")
    site.server.send(DATA, stream, b"\x00up\r\n\xff")
    assert site.server.answer(stream) == b"\x80down"


def test_a_request_in_many_frames_is_one_request(rig: Rig, listening: Listening) -> None:
    site = Site(rig, listening)
    stream = site.server.connect(site.target)
    site.server.expect(CONNECTED, stream)
    for byte in REQUEST:
        site.server.send(DATA, stream, bytes((byte,)))
    assert site.server.answer(stream).endswith(b"ok")


def test_a_large_answer_arrives_in_messages_that_the_server_takes(rig: Rig, listening: Listening) -> None:
    body = bytes(range(256)) * 8192
    rig.api.script = answer(body=body)
    site = Site(rig, listening)
    stream = site.ask()
    data = b""
    while (frame := site.server.receive()) is not None and frame.kind == DATA:
        assert len(frame.payload) <= 32 * 1024
        data += frame.payload
    assert frame is not None
    assert (frame.kind, frame.stream) == (CLOSE, stream)
    assert data.partition(b"\r\n\r\n")[2] == body


@pytest.mark.parametrize("payload", [b"", b"12345678", b"\x00\xff" * 40])
def test_a_ping_is_answered_with_its_own_bytes(rig: Rig, listening: Listening, payload: bytes) -> None:
    site = Site(rig, listening)
    site.server.send(PING, 0, payload)
    assert site.server.pong() == payload


def test_a_server_that_stops_answering_is_left_and_dialled_anew(rig: Rig, listening: Listening) -> None:
    site = Site(rig, listening, keepalive=0.5, keepalive_timeout=2.0)
    site.server.silent = True
    second = V1Server(listening)
    second.expect(CONNECTED, second.connect(site.target))


def test_the_end_of_the_tunnel_ends_the_connections_to_the_api(rig: Rig, listening: Listening) -> None:
    rig.api.script = lambda peer: peer.ended() and None
    site = Site(rig, listening)
    for _ in range(3):
        site.ask()
    until(lambda: len(rig.api.live) == 3, "the connections to the API")
    site.server.ws.abort()
    until(lambda: not rig.api.live, "the end of the connections to the API")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01\x00\x00\x00",
        b"\x08\x00\x00\x00\x01\x00\x00\x00\x01",
        b"\x0a\x00\x00\x00\x00bye",
        b"\xff" * 9,
        b"\x01\x00\x00\x00\x00x:1",
        b"\x06\x00\x00\x00\x01",
    ],
    ids=["empty", "truncated", "WINDOW", "GOAWAY", "all ones", "CONNECT on 0", "PING on 1"],
)
def test_a_message_that_is_no_frame_of_version_1_ends_the_tunnel(
    rig: Rig, listening: Listening, message: bytes
) -> None:
    rig.api.script = lambda peer: peer.ended() and None
    site = Site(rig, listening)
    site.ask()
    site.server.ws.send(message)
    assert site.server.ws.close_code() == 1002
    until(lambda: not rig.api.live, "the end of the connection to the API")
    # The process lives and comes back.
    V1Server(listening)


def test_connect_for_a_stream_in_use_ends_the_tunnel(rig: Rig, listening: Listening) -> None:
    site = Site(rig, listening)
    stream = site.server.connect(site.target)
    site.server.expect(CONNECTED, stream)
    site.server.send(CONNECT, stream, site.target.encode())
    assert site.server.ws.close_code() == 1002


def test_connected_from_a_server_touches_one_stream_only(rig: Rig, listening: Listening) -> None:
    site = Site(rig, listening)
    stream = site.server.connect(site.target)
    site.server.expect(CONNECTED, stream)
    site.server.send(CONNECTED, stream)
    site.server.expect(ERROR, stream)
    assert site.server.answer(site.ask()).endswith(b"ok")


def test_a_server_that_says_nothing_after_the_handshake_does_not_hang_the_agent(
    rig: Rig, listening: Listening
) -> None:
    agent = Agent(rig.agent_config(server=f"ws://127.0.0.1:{listening.address[1]}/connect", dial_timeout=0.2))
    rig.agents.append(agent)
    agent.start()
    silent = listening.peer()
    silent.head()
    # The agent gives up and dials again, and closes what it gave up.
    V1Server(listening)
    assert silent.ended() in ("closed", "reset")
