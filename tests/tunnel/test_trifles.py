"""Raw agents that flood with frames that carry nothing, or collect tunnels: only their own cluster pays."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import gevent
import pytest
from gevent import socket

from argotun.server.agents import MAX_TUNNELS
from argotun.wire import trifles
from argotun.wire.trifles import BURST
from tests.raw_websocket import BINARY
from tests.raw_websocket import PING as WS_PING
from tests.rig import Rig, until
from tests.v1_peers import V1Agent
from tests.v2_peers import CLOSE, CONNECT, CONNECTED, DATA, GOAWAY, PING, PONG, WINDOW, V2Agent, frame, hello

HUGE = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"
REQUEST = b"GET /tunnel/c1/x HTTP/1.1\r\nHost: argotun\r\n\r\n"


@pytest.fixture
def agent(rig: Rig) -> Iterator[V2Agent]:
    """An agent with a request on stream 1 that it has not answered."""
    rig.server.agents.forget("c1")  # no flood of another test counts
    agent = V2Agent(rig)
    client = rig.client()
    client.send(REQUEST)
    assert agent.expect(CONNECT).stream == 1
    agent.until(b"\r\n\r\n", 1)
    agent.send(CONNECTED, 1)
    yield agent
    agent.ws.close()
    until(lambda: not rig.server.registry.of("c1"), "the end of the session")


@pytest.fixture(autouse=True)
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow a busy machine makes a flood, time forgives next to nothing of it."""
    monkeypatch.setattr(trifles, "RATE", 1.0)


FLOODS: dict[str, Callable[[V2Agent], bytes]] = {
    "PING": lambda agent: agent.ws.frame(frame(PING) * 1000),
    "PONG": lambda agent: agent.ws.frame(frame(PONG) * 1000),
    "GOAWAY": lambda agent: agent.ws.frame(frame(GOAWAY) * 1000),
    "WINDOW of a byte": lambda agent: agent.ws.frame(frame(WINDOW, 1, b"\0\0\0\1") * 1000),
    "empty DATA": lambda agent: agent.ws.frame(frame(DATA, 1) * 1000),
    "DATA for a stream that is over": lambda agent: agent.ws.frame(frame(DATA, 1, bytes(16)) * 1000),
    "one PING for each message": lambda agent: agent.ws.frame(frame(PING)) * 1000,
    "empty fragments": lambda agent: agent.ws.frame(b"", 0, first=0) * 1000,
    "WebSocket pings": lambda agent: agent.ws.frame(b"", WS_PING) * 1000,
}


def flood(rig: Rig, agent: V2Agent | V1Agent, data: bytes) -> str:
    """Send for as long as the tunnel lives; why it ended."""
    session = rig.server.registry.of("c1")[0]
    with suppress(ConnectionError):
        while not session.tunnel.ended.is_set():
            agent.ws.peer.send(data)
            gevent.sleep(0)
    until(session.tunnel.ended.is_set, "the end of the tunnel")
    return session.tunnel.reason


def ends_for_it(agent: V2Agent | V1Agent) -> None:
    """The close frame says 1008; a reset (1006) may overtake it, for the agent leaves PONGs unread."""
    assert agent.ws.close_code() in (1008, 1006)


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_frames_that_carry_nothing_ends_its_tunnel(rig: Rig, agent: V2Agent, kind: str) -> None:
    if "over" in kind:
        agent.send(DATA, 1, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\nmore")
    if "fragments" in kind:
        agent.ws.peer.send(agent.ws.frame(b"", BINARY, first=BINARY))
    # PONGs that it does not read may be too many before PINGs are.
    assert "flood" in flood(rig, agent, FLOODS[kind](agent))
    ends_for_it(agent)
    assert rig.get("/tunnel/c2/x").status == 200


def test_a_flood_of_version_1_ends_its_tunnel(rig: Rig) -> None:
    rig.server.agents.forget("c1")
    agent = V1Agent(rig)
    until(lambda: bool(rig.server.registry.of("c1")), "the session")
    assert "flood of frames" in flood(rig, agent, agent.ws.frame(bytes([PING, 0, 0, 0, 0])) * 1000)
    ends_for_it(agent)
    assert rig.get("/tunnel/c2/x").status == 200


def test_a_burst_of_trifles_is_borne(rig: Rig, agent: V2Agent) -> None:
    agent.ws.peer.send(agent.ws.frame(frame(PONG) * (BURST // 2)))
    agent.pong()


def test_who_floods_and_comes_again_has_no_new_store(rig: Rig, agent: V2Agent) -> None:
    assert "flood" in flood(rig, agent, FLOODS["PONG"](agent))
    again = V2Agent(rig, greet=False)
    again.ws.peer.send(again.ws.frame(hello() + frame(PONG) * (BURST // 2)))
    ends_for_it(again)


def test_a_flood_is_counted_for_its_cluster(rig: Rig, agent: V2Agent) -> None:
    stats = rig.server.metrics.cluster("c1")
    before, others = stats.frames, rig.server.metrics.cluster("c2").frames
    flood(rig, agent, FLOODS["PONG"](agent))
    until(lambda: stats.frames - before > BURST, "the frames")
    until(lambda: stats.cpu, "its part of a processor")
    assert rig.server.metrics.cluster("c2").frames - others < 1000


def test_clients_that_give_up_are_no_flood(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was on its way to them when they left comes in small frames, many times more than are borne."""
    rig.server.agents.forget("c1")
    monkeypatch.setattr(trifles, "BURST", 200)
    agent = V2Agent(rig)
    session = rig.server.registry.of("c1")[0]
    clients = [rig.client() for _ in range(50)]
    for client in clients:
        client.send(REQUEST)
        stream = agent.expect(CONNECT).stream
        agent.until(b"\r\n\r\n", stream)
        agent.ws.send(frame(CONNECTED, stream) + frame(DATA, stream, HUGE))
        client.head()
    for client in clients:
        client.abort()
    until(lambda: not session.tunnel.mux.streams, "the end of the streams")
    for stream in range(1, len(clients) + 1):
        agent.ws.send(frame(DATA, stream, b"an event") * 20 + frame(CLOSE, stream))
    agent.pong()
    assert not session.tunnel.ended.is_set()
    # Its PONG says that it knows of their end.
    agent.ws.send(frame(DATA, 1, b"an event") * 20)
    agent.pong()
    session.tunnel.mux.ping(b"and now")
    while (got := agent.raw()) is not None and got.payload != b"and now":
        pass
    agent.send(PONG, 0, b"and now")
    assert "flood" in flood(rig, agent, agent.ws.frame(frame(DATA, 1, b"an event") * 100))


def test_a_cluster_has_no_more_tunnels_than_its_limit(rig: Rig) -> None:
    # One that has not said HELLO counts as well.
    agents = [V2Agent(rig, greet=False) for _ in range(MAX_TUNNELS + 4)]
    assert agents[0].ws.close_code() == 1001
    living = agents[4:]
    for agent in living:
        agent.ws.close()
    until(lambda: "c1" not in rig.server.agents._tunnels, "the end of all tunnels")
    assert rig.get("/tunnel/c2/x").status == 200


def test_tunnels_that_begin_at_once_are_no_more_than_the_limit(rig: Rig) -> None:
    head = (
        b"GET /connect HTTP/1.1\r\nHost: argotun\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: argotun.v2\r\nAuthorization: Bearer %b\r\n\r" % Rig.TOKEN.encode()
    )
    port = rig.server.agents
    before = port._places.taken
    socks = [socket.create_connection(rig.server.public_address) for _ in range(5 * MAX_TUNNELS)]
    for sock in socks:
        sock.sendall(head)
    until(lambda: port._places.taken == before + len(socks), "all of them")
    # Without a turn of the event loop in between.
    for sock in socks:
        sock.send(b"\n")
    for sock in socks:
        assert sock.recv(1).startswith(b"H")
    until(lambda: port._places.taken <= before + MAX_TUNNELS, "the end of those beyond the limit")
    assert len(port._tunnels["c1"]) == MAX_TUNNELS
    for sock in socks:
        sock.close()
    until(lambda: "c1" not in port._tunnels, "the end of all tunnels")


def test_one_that_says_no_hello_takes_no_place_from_one_that_serves(rig: Rig, agent: V2Agent) -> None:
    silent = [V2Agent(rig, greet=False) for _ in range(MAX_TUNNELS + 4)]
    assert silent[0].ws.close_code() == 1001
    assert not rig.session.tunnel.ended.is_set()
    agent.pong()


def test_one_that_says_no_hello_takes_no_place_where_all_serve() -> None:
    with Rig(agent=None, mutual=False, cluster={"agents": MAX_TUNNELS}) as rig:
        serving = [V2Agent(rig, instance=f"agent-{number}") for number in range(MAX_TUNNELS)]
        until(lambda: len(rig.server.registry.of("c1")) == MAX_TUNNELS, "all sessions")
        silent = [V2Agent(rig, greet=False) for _ in range(2)]
        assert silent[0].ws.close_code() == 1001
        for agent in serving:
            agent.pong()
        assert len(rig.server.registry.of("c1")) == MAX_TUNNELS


def test_an_agent_that_drains_for_ever_loses_its_tunnel() -> None:
    rig = Rig(mutual=False, agent={"token": "token-of-agent-c2"}, server={"drain": 0.2})
    rig.write_clusters([{"id": "c1", "token": Rig.TOKEN}, {"id": "c2", "token": "token-of-agent-c2"}])
    with rig:
        agent = V2Agent(rig)
        agent.send(GOAWAY)
        assert agent.receive() is None
        assert agent.ws.closed_with == (1001, "the agent drained for too long")


def test_an_answer_that_comes_byte_by_byte_is_no_flood(rig: Rig, agent: V2Agent) -> None:
    """Its size is for the API to choose, and no fault of the agent's."""
    agent.send(DATA, 1, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(2 * BURST // 1000):
        agent.ws.peer.send(agent.ws.frame(frame(DATA, 1, b"x") * 1000))
    agent.pong()
    assert not rig.server.registry.of("c1")[0].tunnel.ended.is_set()
