"""An agent that breaks the rules of the tunnel, against a live server that serves another one meanwhile."""

from collections.abc import Iterator
from contextlib import suppress

import gevent
import pytest

from argotun.tunnel import link
from tests.raw_websocket import PING as WS_PING
from tests.raw_websocket import TEXT
from tests.rig import Peer, Rig, until
from tests.tunnel.bad_messages import FIRST_WORDS, MESSAGES, each
from tests.v2_peers import (
    CLOSE,
    CONNECT,
    CONNECTED,
    DATA,
    END,
    ERROR,
    PING,
    PONG,
    WINDOW,
    V2Agent,
    frame,
    hello,
)

REQUEST = b"GET /tunnel/c1/x HTTP/1.1\r\nHost: argotun\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def agent(rig: Rig) -> Iterator[V2Agent]:
    agent = V2Agent(rig)
    yield agent
    agent.ws.close()
    until(lambda: not rig.server.registry.of("c1"), "the end of the session")


@pytest.fixture
def client(rig: Rig, agent: V2Agent) -> Peer:
    """A client whose request is on stream 1, sent and not answered."""
    client = rig.client()
    client.send(REQUEST)
    assert agent.expect(CONNECT).stream == 1
    agent.until(b"\r\n\r\n", 1)
    return client


def lives_on(rig: Rig) -> None:
    """The other cluster's tunnel works."""
    assert rig.get("/tunnel/c2/x").status == 200


@each(MESSAGES)
def test_a_bad_message_ends_the_tunnel_and_its_requests(
    rig: Rig, agent: V2Agent, client: Peer, message: bytes
) -> None:
    agent.ws.send(message)
    answer = client.response()
    assert (answer.status, answer.header("retry-after")) == (502, None)
    assert agent.ws.close_code() == 1002
    lives_on(rig)


def test_a_tunnel_ends_in_order_although_the_agent_sends_on(rig: Rig, agent: V2Agent) -> None:
    """A reset, which unread bytes would cause, can overtake the close frame that says why."""
    agent.ws.peer.send(agent.ws.frame(b"") + bytes(300_000))
    assert agent.ws.close_code() == 1002
    assert agent.ws.peer.ended() == "closed"


def test_connect_from_the_agent_ends_the_tunnel(rig: Rig, agent: V2Agent, client: Peer) -> None:
    agent.send(CONNECT, 2, b"")
    assert client.response().status == 502
    assert agent.ws.close_code() == 1002


@each(FIRST_WORDS)
def test_a_first_word_that_is_no_hello_ends_the_tunnel(rig: Rig, message: bytes) -> None:
    agent = V2Agent(rig, greet=False)
    agent.ws.send(message)
    assert agent.ws.close_code() == 1002
    assert not rig.server.registry.of("c1")
    lives_on(rig)


def test_an_agent_that_never_says_hello_is_not_kept(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HELLO_TIMEOUT", 0.1)
    agent = V2Agent(rig, greet=False)
    assert agent.ws.close_code() == 1001
    assert rig.get("/tunnel/c1/x").status == 503


def test_a_message_over_the_limit_is_refused_by_its_announcement(
    rig: Rig, agent: V2Agent, client: Peer
) -> None:
    agent.ws.peer.send(agent.ws.frame(b"", length=(1 << 20) + 1))
    assert client.response().status == 502
    assert agent.ws.close_code() == 1009
    lives_on(rig)


def test_a_message_of_exactly_the_limit_is_read(agent: V2Agent) -> None:
    one = frame(PONG, 0, b"x" * 1015)
    agent.ws.send(one * 1024)
    agent.pong()


def test_a_text_message_is_refused(agent: V2Agent, client: Peer) -> None:
    agent.ws.send(frame(PING), TEXT)
    assert client.response().status == 502
    assert agent.ws.close_code() == 1003


def test_an_unmasked_frame_is_refused(agent: V2Agent, client: Peer) -> None:
    agent.ws.send(frame(PING), mask=False)
    assert client.response().status == 502
    assert agent.ws.close_code() == 1002


def test_a_reserved_bit_is_refused(agent: V2Agent, client: Peer) -> None:
    agent.ws.send(frame(PING), first=0xC2)
    assert client.response().status == 502
    assert agent.ws.close_code() == 1002


def test_more_than_the_credit_ends_the_tunnel(rig: Rig, agent: V2Agent, client: Peer) -> None:
    agent.send(CONNECTED, 1)
    agent.send(DATA, 1, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    client.head()
    # The client reads no further, so credit stops coming back; the agent goes on all the same.
    closed = gevent.spawn(agent.ws.close_code)
    sent = 0
    chunk = frame(DATA, 1, bytes(60000))
    while not closed.ready():
        assert sent < 64 << 20, "the server took 64 MiB that nobody reads"
        try:
            agent.ws.send(chunk)
        except OSError:
            break
        sent += len(chunk)
        gevent.sleep(0)
    assert closed.get() == 1002
    assert client.ended() == "reset"
    lives_on(rig)


def test_a_second_connected_ends_its_stream_only(agent: V2Agent, client: Peer) -> None:
    agent.send(CONNECTED, 1)
    agent.send(CONNECTED, 1)
    assert client.response().status == 502
    agent.expect(ERROR, 1)
    agent.pong()


@pytest.mark.parametrize("late", [frame(DATA, 1, b"x"), frame(END, 1)], ids=["DATA", "END"])
def test_what_comes_behind_end_ends_its_stream_only(agent: V2Agent, client: Peer, late: bytes) -> None:
    agent.send(CONNECTED, 1)
    agent.send(DATA, 1, b"HTTP/1.1 200 OK\r\n\r\nall")
    agent.ws.send(frame(END, 1) + late)
    assert client.response().body == b"all"
    agent.pong()


@pytest.mark.parametrize("early", [frame(DATA, 1, b"x"), frame(END, 1)], ids=["DATA", "END"])
def test_what_comes_before_connected_ends_its_stream_only(agent: V2Agent, client: Peer, early: bytes) -> None:
    agent.ws.send(early)
    assert client.response().status in (502, 503)
    agent.expect(ERROR, 1)
    agent.pong()


@pytest.mark.parametrize("over", [frame(CLOSE, 1), frame(ERROR, 1, b"gone")], ids=["CLOSE", "ERROR"])
def test_frames_for_a_stream_that_is_over_are_dropped(
    rig: Rig, agent: V2Agent, client: Peer, over: bytes
) -> None:
    agent.ws.send(over)
    assert client.response().status == 503
    late = (
        frame(CONNECTED, 1),
        frame(DATA, 1, b"x"),
        frame(WINDOW, 1, b"\0\0\0\1"),
        frame(END, 1),
        frame(ERROR, 1, b"again"),
        frame(CLOSE, 1),
    )
    agent.ws.send(b"".join(late))
    agent.pong()
    # The next request of the same connection is served on a new stream.
    client.send(REQUEST)
    stream = agent.expect(CONNECT).stream
    agent.send(CONNECTED, stream)
    agent.until(b"\r\n\r\n", stream)
    agent.send(DATA, stream, ANSWER)
    assert client.response().body == b"ok"


def test_an_error_text_that_is_no_text_reaches_nobody_raw(agent: V2Agent, client: Peer) -> None:
    agent.send(ERROR, 1, b'\xff\r\n\r\n"}' * 1000)
    answer = client.response()
    assert answer.status == 503
    assert len(answer.json()["message"]) < 4000


def test_pings_without_end_do_not_grow_the_server(rig: Rig, agent: V2Agent, client: Peer) -> None:
    """The agent asks and never reads: the answers that wait are bounded, and then it is over."""
    flood = frame(PING, 0, bytes(125)) * 4000
    session = rig.server.registry.of("c1")[0]
    for _ in range(200):
        try:
            agent.ws.send(flood)
        except OSError:
            break
        gevent.sleep(0)
        if session.tunnel.ended.is_set():
            break
    assert session.tunnel.ended.is_set()
    assert "floods" in session.tunnel.reason
    assert client.response().status == 502
    lives_on(rig)


def test_websocket_pings_without_end_end_the_tunnel(rig: Rig, agent: V2Agent) -> None:
    flood = agent.ws.frame(bytes(125), WS_PING) * 2000
    session = rig.server.registry.of("c1")[0]
    with suppress(ConnectionError):
        while not session.tunnel.ended.is_set():
            agent.ws.peer.send(flood)
            gevent.sleep(0)
            assert session.tunnel._writer.pending < 512 * 1024
    until(session.tunnel.ended.is_set, "the end of the tunnel")
    assert "flood of frames" in session.tunnel.reason


def test_an_agent_that_vanishes_fails_its_requests_at_once(rig: Rig, agent: V2Agent, client: Peer) -> None:
    half = rig.client()
    half.send(REQUEST)
    stream = agent.expect(CONNECT).stream
    agent.send(CONNECTED, stream)
    agent.send(DATA, stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
    half.until(b"half\r\n")
    agent.ws.abort()
    answer = client.response()
    assert (answer.status, answer.header("retry-after")) == (502, None)
    assert half.ended() == "reset"
    assert half.buffer == b""


def test_unknown_keys_of_hello_are_ignored(rig: Rig) -> None:
    agent = V2Agent(rig, greet=False)
    agent.ws.send(hello(version=3, colour="blue", compression=["zstd"], target="a:1", nested={"a": [1]}))
    agent.pong()
    until(lambda: len(rig.server.registry.of("c1")) == 1, "the session")
    agent.ws.close()
    until(lambda: not rig.server.registry.of("c1"), "the end of the session")
