"""A version 1 agent, scripted as the seed system's Go agent speaks, against a live server."""

from time import monotonic

import gevent
import pytest

from tests.rig import Peer, Rig, until
from tests.v1_peers import CLOSE, CONNECT, CONNECTED, DATA, ERROR, PING, V1Agent

TARGET = "api.internal:6443"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


@pytest.fixture
def rig():
    with Rig(mutual=False, agent=None, cluster={"targetAddr": TARGET}) as rig:
        yield rig


@pytest.fixture
def agent(rig: Rig) -> V1Agent:
    agent = V1Agent(rig)
    until(lambda: len(rig.server.registry) == 1, "the session")
    return agent


def ask(rig: Rig, request: bytes = b"GET /tunnel/c1/x HTTP/1.1\r\nHost: argotun\r\n\r\n") -> Peer:
    client = rig.client()
    client.send(request)
    return client


def take(agent: V1Agent) -> tuple[int, bytes]:
    """Accept the next stream; its number and the request's head."""
    stream = agent.expect(CONNECT).stream
    agent.send(CONNECTED, stream)
    return stream, agent.until(b"\r\n\r\n", stream)


def test_no_data_is_sent_before_the_agent_is_connected(rig: Rig, agent: V1Agent) -> None:
    client = ask(rig)
    connect = agent.expect(CONNECT)
    assert connect.payload == TARGET.encode()
    agent.send(PING, 0, b"in between")
    # What the server said before this PONG is only CONNECT: `pong` would drop DATA, so it is looked at raw.
    while (frame := agent.raw()) is not None and frame.payload != b"in between":
        assert frame.kind != DATA
    agent.send(CONNECTED, connect.stream)
    head = agent.until(b"\r\n\r\n", connect.stream)
    assert head.startswith(b"GET /x HTTP/1.1\r\n")
    agent.send(DATA, connect.stream, ANSWER)
    agent.send(CLOSE, connect.stream)
    assert client.response().body == b"hello"


def test_a_request_asks_the_api_to_close_once(rig: Rig, agent: V1Agent) -> None:
    ask(rig)
    _, head = take(agent)
    assert head.lower().count(b"connection: close\r\n") == 1


def test_an_answer_is_whole_however_its_frames_are_cut(rig: Rig, agent: V1Agent) -> None:
    client = ask(rig)
    stream, _ = take(agent)
    for byte in ANSWER:
        agent.send(DATA, stream, bytes((byte,)))
    agent.send(CLOSE, stream)
    assert client.response().body == b"hello"


def test_each_request_of_a_connection_has_a_stream_of_its_own(rig: Rig, agent: V1Agent) -> None:
    client = rig.client()
    numbers = set()
    for _ in range(3):
        client.send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: argotun\r\n\r\n")
        stream, _head = take(agent)
        numbers.add(stream)
        agent.send(DATA, stream, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        # The client connection lives on, whatever the API said about its own.
        assert client.response().body == b"hello"
        agent.send(CLOSE, stream)
        agent.expect(CLOSE, stream)
    assert len(numbers) == 3


def test_an_answer_without_a_length_ends_with_the_stream(rig: Rig, agent: V1Agent) -> None:
    client = ask(rig)
    stream, _ = take(agent)
    agent.send(DATA, stream, b"HTTP/1.0 200 OK\r\n\r\nall of it")
    agent.send(CLOSE, stream)
    answer = client.response()
    assert answer.body == b"all of it"


def test_an_error_before_connected_is_a_503_with_retry_after(rig: Rig, agent: V1Agent) -> None:
    client = ask(rig)
    agent.send(ERROR, agent.expect(CONNECT).stream, b"dial tcp: connection refused")
    answer = client.response()
    assert (answer.status, answer.header("retry-after")) == (503, "1")
    assert "dial tcp: connection refused" in answer.json()["message"]


def test_an_error_after_connected_is_a_502_without_retry_after(rig: Rig, agent: V1Agent) -> None:
    client = ask(rig)
    stream, _ = take(agent)
    agent.send(ERROR, stream, b"read: connection reset by peer")
    answer = client.response()
    assert (answer.status, answer.header("retry-after")) == (502, None)


def test_an_answer_that_ends_too_early_is_never_completed(rig: Rig, agent: V1Agent) -> None:
    client = ask(rig)
    stream, _ = take(agent)
    agent.send(DATA, stream, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    agent.send(CLOSE, stream)
    client.until(b"half")
    assert client.ended() == "reset"


def test_a_ping_is_answered_with_its_own_bytes(agent: V1Agent) -> None:
    for payload in (b"", b"12345678", b"\x00" * 16):
        agent.send(PING, 0, payload)
        assert agent.pong() == payload


def test_the_server_sends_pings_and_measures_the_round_trip() -> None:
    with Rig(mutual=False, agent=None, server={"keepalive": 0.05}) as rig:
        agent = V1Agent(rig)
        while len(agent.pings) < 3:
            frame = agent.raw()
            assert frame is not None
            assert frame.kind == PING
            assert frame.stream == 0
            agent.pings.append(frame.payload)
            agent.send(7, 0, frame.payload)
        session = rig.server.registry.all()[0]
        until(lambda: session.tunnel.rtt > 0, "a measured round trip")


def test_an_agent_that_stops_answering_is_given_up_with_its_requests() -> None:
    with Rig(mutual=False, agent=None, server={"keepalive": 0.5, "keepalive_timeout": 2.0}) as rig:
        agent = V1Agent(rig)
        until(lambda: len(rig.server.registry) == 1, "the session")
        client = ask(rig)
        agent.silent = True
        agent.send(CONNECTED, agent.expect(CONNECT).stream)
        answer = client.response()
        assert (answer.status, answer.header("retry-after")) == (502, None)
        assert len(rig.server.registry) == 0
        assert agent.ws.close_code() == 1001


def test_an_agent_that_only_answers_pings_is_alive() -> None:
    limit = 1.0
    with Rig(mutual=False, agent=None, server={"keepalive": limit / 20, "keepalive_timeout": limit}) as rig:
        agent = V1Agent(rig)
        ends = monotonic() + 1.5 * limit
        while monotonic() < ends:
            frame = agent.raw()
            assert frame is not None, "the server gave a living agent up"
            assert frame.kind == PING
            agent.send(7, 0, frame.payload)


def test_watch_events_pass_one_by_one(rig: Rig, agent: V1Agent) -> None:
    client = ask(rig, b"GET /tunnel/c1/api/v1/pods?watch=1 HTTP/1.1\r\nHost: argotun\r\n\r\n")
    stream, head = take(agent)
    assert head.startswith(b"GET /api/v1/pods?watch=1 ")
    agent.send(DATA, stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.head()
    for event in (b'{"type":"ADDED"}\n', b'{"type":"MODIFIED"}\n'):
        agent.send(DATA, stream, b"%x\r\n%b\r\n" % (len(event), event))
        assert client.until(b"}\n\r\n").endswith(event + b"\r\n")
    client.close()
    agent.expect(CLOSE, stream)


def test_a_watch_ends_with_its_final_chunk_when_the_server_drains(rig: Rig, agent: V1Agent) -> None:
    client = ask(rig, b"GET /tunnel/c1/api/v1/pods?watch=1 HTTP/1.1\r\nHost: argotun\r\n\r\n")
    stream, _ = take(agent)
    agent.send(DATA, stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n")
    client.until(b"event\r\n")
    draining = gevent.spawn(rig.server.drain)
    assert client.rest() == b"0\r\n\r\n"
    assert agent.ws.close_code() == 1001
    draining.join()


def test_an_upgraded_connection_carries_raw_bytes_both_ways(rig: Rig, agent: V1Agent) -> None:
    client = ask(
        rig,
        b"POST /tunnel/c1/exec HTTP/1.1\r\nHost: argotun\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n",
    )
    stream, head = take(agent)
    assert b"upgrade: spdy/3.1\r\n" in head.lower()
    assert b"connection: close" not in head.lower()
    agent.send(
        DATA,
        stream,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nfirst",
    )
    assert client.response().status == 101
    assert client.read(5) == b"first"
    client.send(b"\x00\xff up \r\n\r\n")
    assert agent.until(b"\r\n\r\n", stream) == b"\x00\xff up \r\n\r\n"
    agent.send(DATA, stream, b"\x80\x03 down")
    assert client.read(7) == b"\x80\x03 down"
    agent.send(CLOSE, stream)
    assert client.ended() == "closed"


def test_the_stream_of_a_client_that_leaves_is_closed(rig: Rig, agent: V1Agent) -> None:
    client = ask(rig)
    stream, _ = take(agent)
    client.close()
    agent.expect(CLOSE, stream)
    # The agent's own CLOSE crosses the server's: nobody's mistake.
    agent.send(DATA, stream, b"too late")
    agent.send(CLOSE, stream)
    agent.send(ERROR, stream, b"and again")
    agent.send(PING, 0, b"alive")
    assert agent.pong() == b"alive"


def test_a_request_body_arrives_whole(rig: Rig, agent: V1Agent) -> None:
    body = bytes(range(256)) * 1024
    client = ask(
        rig, b"POST /tunnel/c1/x HTTP/1.1\r\nHost: argotun\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    stream, head = take(agent)
    got = head.partition(b"\r\n\r\n")[2]
    while len(got) < len(body):
        got += agent.expect(DATA, stream).payload
    assert got == body
    agent.send(DATA, stream, ANSWER)
    agent.send(CLOSE, stream)
    assert client.response().body == b"hello"


def test_an_entry_without_a_target_means_the_usual_one() -> None:
    with Rig(mutual=False, agent=None) as rig:
        agent = V1Agent(rig)
        until(lambda: len(rig.server.registry) == 1, "the session")
        ask(rig)
        assert agent.expect(CONNECT).payload == b"kubernetes.default.svc:443"


@pytest.mark.parametrize(
    "message",
    [b"", b"\x03\x00\x00\x00", b"\x08\x00\x00\x00\x01", b"\x09\x00\x00\x00\x00{}", b"\x00" * 5, b"\xff" * 5],
    ids=["empty", "truncated", "WINDOW", "HELLO", "zero", "all ones"],
)
def test_a_message_that_is_no_frame_of_version_1_ends_the_tunnel(
    rig: Rig, agent: V1Agent, message: bytes
) -> None:
    client = ask(rig)
    take(agent)
    agent.ws.send(message)
    assert client.response().status == 502
    assert agent.ws.close_code() == 1002


def test_data_on_stream_0_ends_the_tunnel(rig: Rig, agent: V1Agent) -> None:
    agent.send(DATA, 0, b"x")
    assert agent.ws.close_code() == 1002


def test_a_ping_on_a_stream_ends_the_tunnel(rig: Rig, agent: V1Agent) -> None:
    agent.send(PING, 7, b"x")
    assert agent.ws.close_code() == 1002


def test_frames_for_streams_that_never_were_are_dropped(rig: Rig, agent: V1Agent) -> None:
    for kind in (CONNECTED, DATA, ERROR, CLOSE):
        agent.send(kind, 4711, b"x")
    agent.send(PING, 0, b"alive")
    assert agent.pong() == b"alive"


def test_a_flood_for_a_client_that_does_not_read_ends_that_stream_only(rig: Rig) -> None:
    """Version 1 has no credit: what the API's side floods is bounded by `--tunnel-buffer`."""
    with Rig(mutual=False, agent=None, server={"tunnel_buffer": 1 << 20}) as small:
        agent = V1Agent(small)
        until(lambda: len(small.server.registry) == 1, "the session")
        client = small.client()
        client.send(b"GET /tunnel/c1/big HTTP/1.1\r\nHost: argotun\r\n\r\n")
        stream, _ = take(agent)
        agent.send(DATA, stream, b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        client.head()
        # The client reads no further; the agent floods until the server gives this one stream up.
        chunk = bytes(64 * 1024)
        over = gevent.spawn(lambda: agent.expect(ERROR, stream).payload)
        sent = 0
        while not over.ready():
            assert sent < 64 << 20, "the server took 64 MiB for a client that does not read"
            agent.send(DATA, stream, chunk)
            sent += len(chunk)
            gevent.sleep(0)
        assert b"too slow" in over.get()
        agent.send(PING, 0, b"alive")
        assert agent.pong() == b"alive"
