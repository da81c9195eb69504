"""A server that breaks the rules of the tunnel, against a live agent, which must come back and serve."""

from collections.abc import Iterator
from contextlib import suppress

import gevent
import pytest

from argotun.agent.app import Agent
from tests.raw_websocket import PING as WS_PING
from tests.raw_websocket import TEXT, Listening
from tests.rig import Gate, Peer, Rig, until
from tests.tunnel.bad_messages import FIRST_WORDS, MESSAGES, each
from tests.v2_peers import CLOSE, CONNECT, CONNECTED, DATA, END, ERROR, PING, PONG, WINDOW, V2Server, frame

REQUEST = b"GET /x HTTP/1.1\r\nHost: argotun\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def script(peer: Peer) -> None:
    """Answer what asks for /x, and hold everything else for ever."""
    while b" /x " in peer.head():
        peer.send(ANSWER)
    peer.ended()


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Rig, Listening]]:
    with Listening() as listening, Rig(mutual=False, agent=None) as rig:
        rig.api.script = script
        url = f"ws://127.0.0.1:{listening.address[1]}/connect"
        agent = Agent(rig.agent_config(server=url, max_retry=0.05))
        rig.agents.append(agent)
        agent.start()
        yield rig, listening


@pytest.fixture
def rig(site: tuple[Rig, Listening]) -> Rig:
    return site[0]


@pytest.fixture
def listening(site: tuple[Rig, Listening]) -> Listening:
    return site[1]


@pytest.fixture
def server(rig: Rig, listening: Listening) -> Iterator[V2Server]:
    """The agent's next tunnel, with a request to the API in progress on stream 1."""
    server = V2Server(listening)
    assert server.connect() == 1
    server.send(DATA, 1, b"GET /held HTTP/1.1\r\nHost: argotun\r\n\r\n")
    server.expect(CONNECTED, 1)
    until(lambda: len(rig.api.live) == 1, "the connection to the API")
    yield server
    server.ws.close()
    until(lambda: not rig.agent.tunnels, "the end of the tunnel")


def serves(server: V2Server) -> None:
    """This tunnel works."""
    stream = server.connect()
    server.send(DATA, stream, REQUEST)
    server.expect(CONNECTED, stream)
    server.until(b"\r\n\r\nok", stream)
    server.send(CLOSE, stream)


def comes_back(rig: Rig, listening: Listening) -> None:
    """Nothing of the old tunnel is left, and a new one works."""
    until(lambda: not rig.api.live, "the end of the connections to the API")
    again = V2Server(listening)
    serves(again)
    again.ws.close()


@each(MESSAGES)
def test_a_bad_message_ends_the_tunnel_and_its_connections(
    rig: Rig, listening: Listening, server: V2Server, message: bytes
) -> None:
    server.ws.send(message)
    assert server.ws.close_code() == 1002
    comes_back(rig, listening)


@each(FIRST_WORDS)
def test_a_first_word_that_is_no_hello_ends_the_tunnel(
    rig: Rig, listening: Listening, message: bytes
) -> None:
    server = V2Server(listening, greet=False)
    server.ws.send(message)
    assert server.ws.close_code() == 1002
    assert not rig.agent.connected.is_set()
    comes_back(rig, listening)


def test_connect_for_a_stream_in_use_ends_the_tunnel(server: V2Server) -> None:
    server.send(CONNECT, 1)
    assert server.ws.close_code() == 1002


def test_a_message_over_the_limit_is_refused_by_its_announcement(server: V2Server) -> None:
    server.ws.peer.send(server.ws.frame(b"", length=(1 << 20) + 1))
    assert server.ws.close_code() == 1009


def test_a_text_message_is_refused(server: V2Server) -> None:
    server.ws.send(frame(PING), TEXT)
    assert server.ws.close_code() == 1003


def test_a_masked_frame_is_refused(server: V2Server) -> None:
    server.ws.send(frame(PING), mask=True)
    assert server.ws.close_code() == 1002


def test_a_fragment_that_begins_nothing_is_refused(server: V2Server) -> None:
    server.ws.send(frame(PING), first=0x80)
    assert server.ws.close_code() == 1002


def test_a_message_in_fragments_is_read(server: V2Server) -> None:
    message = frame(PING, 0, b"in parts")
    server.ws.send(message[:3], first=0x02)
    server.ws.send(message[3:10], first=0x00)
    server.ws.send(message[10:], first=0x80)
    while (got := server.raw()) is not None and got.payload != b"in parts":
        pass
    assert got is not None
    assert got.kind == PONG


def test_more_than_the_credit_ends_the_tunnel(rig: Rig, listening: Listening, server: V2Server) -> None:
    """The API does not read, so credit stops coming back; the server goes on all the same."""
    stream = server.connect()
    server.send(DATA, stream, b"POST /y HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
    over = Gate()
    rig.api.script = lambda peer: over.wait()  # reads nothing at all
    try:
        server.expect(CONNECTED, stream)
        closed = gevent.spawn(server.ws.close_code)
        sent = 0
        while not closed.ready():
            assert sent < 64 << 20, "the agent took 64 MiB that nobody reads"
            try:
                server.ws.send(frame(DATA, stream, bytes(60000)))
            except OSError:
                break
            sent += 60000
            gevent.sleep(0)
        assert closed.get() == 1002
    finally:
        rig.api.script = script
        over.open()
    comes_back(rig, listening)


def test_connected_from_the_server_ends_its_stream_only(rig: Rig, server: V2Server) -> None:
    server.send(CONNECTED, 1)
    server.expect(ERROR, 1)
    until(lambda: not rig.api.live, "the end of the connection to the API")
    serves(server)


@pytest.mark.parametrize("over", [frame(CLOSE, 1), frame(ERROR, 1, b"gone")], ids=["CLOSE", "ERROR"])
def test_frames_for_a_stream_that_is_over_are_dropped(rig: Rig, server: V2Server, over: bytes) -> None:
    server.ws.send(over)
    until(lambda: not rig.api.live, "the end of the connection to the API")
    late = (
        over,
        frame(CONNECTED, 1),
        frame(DATA, 1, REQUEST),
        frame(WINDOW, 1, b"\0\0\0\1"),
        frame(END, 1),
        frame(ERROR, 1, b"again"),
    )
    server.ws.send(b"".join(late))
    server.pong()
    assert not rig.api.live
    serves(server)


@pytest.mark.parametrize("late", [frame(DATA, 2, REQUEST), frame(END, 2)], ids=["DATA", "END"])
def test_what_comes_behind_end_ends_its_stream_only(server: V2Server, late: bytes) -> None:
    stream = server.connect()
    server.ws.send(frame(END, stream) + late)
    while (got := server.receive()) is not None and got.kind not in (ERROR, CLOSE):
        pass
    assert got is not None
    assert got.stream == stream
    serves(server)


def test_a_request_no_parser_should_see_is_answered_on_its_stream(rig: Rig, server: V2Server) -> None:
    stream = server.connect()
    server.send(DATA, stream, b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
    server.expect(CONNECTED, stream)
    assert server.until(b"\r\n\r\n", stream).startswith(b"HTTP/1.1 400 ")
    while (got := server.receive()) is not None and got.kind != CLOSE:
        assert got.stream == stream
    serves(server)


def test_a_request_behind_one_that_is_asked_again_is_refused_at_once(
    rig: Rig, server: V2Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent dials for the repeated one: what would wait for that is out of turn."""
    dials = []

    def hangs_up(peer: Peer) -> None:
        peer.head()
        peer.send(ANSWER)
        peer.head()

    def dial() -> None:
        dials.append(1)
        Gate().wait()

    monkeypatch.setattr(rig.api, "script", hangs_up)
    stream = server.connect()
    server.send(DATA, stream, REQUEST)
    server.expect(CONNECTED, stream)
    server.until(b"ok", stream)
    monkeypatch.setattr(rig.agent.api, "dial", dial)
    server.send(DATA, stream, REQUEST)
    until(lambda: dials, "the second dial")
    server.send(DATA, stream, REQUEST)
    assert server.until(b"\r\n\r\n", stream).startswith(b"HTTP/1.1 400 ")
    while (got := server.receive()) is not None and got.kind != CLOSE:
        assert got.stream == stream
    monkeypatch.undo()
    serves(server)


@pytest.mark.parametrize(
    "said", [b"Argotun-Caller: a\r\n" * 2, b"Argotun-Caller: a,b\r\n", b"argotun-caller:\r\n"]
)
def test_a_server_that_names_two_callers_or_none_is_not_believed(
    rig: Rig, listening: Listening, said: bytes
) -> None:
    server = V2Server(listening, callers=True)
    stream = server.connect()
    server.send(DATA, stream, REQUEST.replace(b"\r\n\r\n", b"\r\n" + said + b"\r\n"))
    server.expect(CONNECTED, stream)
    assert b"Argotun-Caller must be there once" in server.until(b'"code":400}\n', stream)
    while (got := server.receive()) is not None and got.kind != CLOSE:
        assert got.stream == stream
    serves(server)
    server.ws.close()
    until(lambda: not rig.agent.tunnels, "the end of the tunnel")


def test_pings_without_end_do_not_grow_the_agent(rig: Rig, listening: Listening, server: V2Server) -> None:
    flood = frame(PING, 0, bytes(125)) * 4000
    tunnel = rig.agent.tunnels[0]
    for _ in range(200):
        try:
            server.ws.send(flood)
        except OSError:
            break
        gevent.sleep(0)
        if tunnel.ended.is_set():
            break
    assert tunnel.ended.is_set()
    assert "floods" in tunnel.reason
    comes_back(rig, listening)


def test_websocket_pings_without_end_end_the_tunnel(rig: Rig, server: V2Server) -> None:
    flood = server.ws.frame(bytes(125), WS_PING) * 2000
    tunnel = rig.agent.tunnels[0]
    with suppress(ConnectionError):
        while not tunnel.ended.is_set():
            server.ws.peer.send(flood)
            gevent.sleep(0)
            assert tunnel._writer.pending < 512 * 1024
    until(tunnel.ended.is_set, "the end of the tunnel")
    assert "flood of frames" in tunnel.reason


def test_a_server_that_vanishes_ends_the_connections_to_the_api(
    rig: Rig, listening: Listening, server: V2Server
) -> None:
    server.ws.abort()
    comes_back(rig, listening)


def test_another_target_is_refused(rig: Rig, server: V2Server) -> None:
    for target in ("evil.example:443", "127.0.0.1:1", f"127.0.0.1:{rig.api.port} ", "x" * 4000):
        stream = server.connect(target)
        server.send(DATA, stream, REQUEST)
        assert server.expect(ERROR, stream).payload == b"address not allowed"
    assert len(rig.api.live) == 1
    stream = server.connect(f"127.0.0.1:{rig.api.port}")
    server.expect(CONNECTED, stream)


def test_a_flood_of_other_targets_is_a_few_lines(server: V2Server, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(300):
        server.expect(ERROR, server.connect("evil.example:443"))
    assert 0 < caplog.text.count("evil.example") <= 10


def test_more_streams_than_max_conns_are_an_error_each(rig: Rig, listening: Listening) -> None:
    with Listening() as other:
        agent = Agent(rig.agent_config(server=f"ws://127.0.0.1:{other.address[1]}/connect", max_conns=3))
        rig.agents.append(agent)
        agent.start()
        server = V2Server(other)
        assert server.said["maxStreams"] == 3
        streams = [server.connect() for _ in range(5)]
        got = [server.receive() for _ in streams]
        refused = sorted(frame.stream for frame in got if frame is not None and frame.kind == ERROR)
        assert refused == streams[3:]
        agent.stop()
        rig.agents.remove(agent)
    until(lambda: len(rig.api.live) <= 1, "the end of the connections to the API")
