"""The orderly end of server and agent, in this process and as processes that get a signal."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket

from argotun.server import drain
from tests.processes import Process, RemoteServer
from tests.raw_websocket import Listening, Refused
from tests.rig import PATIENCE, Api, Gate, Peer, Rig, until
from tests.v2_peers import CLOSE, CONNECT, CONNECTED, DATA, GOAWAY, V2Agent, V2Server

GET = b"GET /tunnel/c1/x HTTP/1.1\r\nHost: argotun\r\n\r\n"
WATCH = b"GET /tunnel/c1/api/v1/pods?watch=1 HTTP/1.1\r\nHost: argotun\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Start a server process; all of them end with the test."""
    started: list[Any] = []

    def start(*options: str) -> RemoteServer:
        clusters = json.dumps([{"id": "c1", "token": "token-of-agent-c1"}])
        process = Process(
            "--mode", "server", "--addr", "127.0.0.1:0", "--internal-addr", "127.0.0.1:0",
            "--clusters", clusters, *options,
        )  # fmt: skip
        started.append(process)
        server = RemoteServer(process)
        started.append(server)
        return server

    yield start
    for each in started:
        each.close()


def take(agent: V2Agent) -> int:
    stream = agent.expect(CONNECT).stream
    agent.send(CONNECTED, stream)
    agent.until(b"\r\n\r\n", stream)
    return stream


def refuses(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signalled_server_finishes_what_runs_and_exits_with_0(start: Any, number: int) -> None:
    server = start("--drain", "60s")
    agent: Any = V2Agent(server)
    until(lambda: server.ready() == 200, "readiness")
    watch = server.client(WATCH)
    agent.send(DATA, take(agent), CHUNKED)
    watch.until(b"event\r\n")
    slow = server.client(GET)
    stream = take(agent)

    server.process.signal(number)
    assert agent.expect(GOAWAY, 0).payload == b"the server is draining"
    # Agents are sent elsewhere at once; clients are served until the last request has ended.
    until(lambda: refuses(server.public_address), "the end of the public port")
    assert server.ready() == 503
    agent.send(DATA, stream, OK + b"ok")
    answer = slow.response()
    assert (answer.body, answer.header("connection")) == (b"ok", "close")
    assert watch.rest() == b"0\r\n\r\n"
    assert server.process.code() == 0
    assert refuses(server.internal_address)
    assert agent.ws.close_code() == 1001


def test_a_request_that_never_ends_is_cut_when_the_drain_is_over(start: Any) -> None:
    server = start("--drain", "300ms")
    agent: Any = V2Agent(server)
    begun = server.client(GET)
    agent.send(DATA, take(agent), CHUNKED)
    begun.until(b"event\r\n")
    silent = server.client(GET)
    take(agent)
    server.process.signal(signal.SIGTERM)
    assert begun.ended() == "reset"
    assert begun.buffer == b""
    assert silent.ended() in ("reset", "closed")
    assert silent.buffer == b""
    assert server.process.code() == 0


def test_a_client_that_has_just_come_is_heard_before_the_server_ends() -> None:
    with Rig(agent=None, server={"drain": 60.0}) as rig:
        client = rig.client()
        until(lambda: rig.server.clients.connections, "the connection")
        draining = gevent.spawn(rig.server.drain)
        until(lambda: refuses(rig.server.internal_address), "the end of the port")
        client.send(GET)
        response = client.response()
        assert (response.status, response.header("connection")) == (503, "close")
        draining.join(PATIENCE)
        assert draining.successful()


def test_a_client_that_never_says_anything_holds_up_no_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "ARRIVAL", 0.1)
    with Rig(agent=None, server={"drain": 3600.0}) as rig:
        client = rig.client()
        until(lambda: rig.server.clients.connections, "the connection")
        with gevent.Timeout(PATIENCE, AssertionError("the drain waits for the client")):
            rig.server.drain()
        assert client.ended() in ("closed", "reset")


def test_an_idle_server_ends_without_waiting(start: Any) -> None:
    server = start("--drain", "1h")
    client = server.client(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.response().status == 200
    server.process.signal(signal.SIGTERM)
    assert server.process.code() == 0
    assert client.ended() == "closed"


def test_a_signalled_agent_finishes_what_runs_and_exits_with_0(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("sa-token")
    asked, answer = Gate(), Gate()

    def script(peer: Peer) -> None:
        peer.head()
        asked.open()
        answer.wait()
        peer.send(OK + b"ok")
        peer.ended()

    with Listening() as listening, Rig(Api(script, tls=False), mutual=False, agent=None) as rig:
        process = Process(
            "--mode", "agent", "--server", f"ws://127.0.0.1:{listening.address[1]}/connect", "--token", "t",
            "--allow-insecure-server", "--target", f"127.0.0.1:{rig.api.port}", "--plain-target",
            "--sa-token-path", str(token), "--health-addr", "127.0.0.1:0",
        )  # fmt: skip
        try:
            server = V2Server(listening)
            stream = server.connect()
            server.send(DATA, stream, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            server.expect(CONNECTED, stream)
            asked.wait()
            process.signal(signal.SIGTERM)
            assert server.expect(GOAWAY, 0).payload == b"the agent is draining"
            answer.open()
            server.until(b"\r\n\r\nok", stream)
            assert server.ws.close_code() == 1001
            assert process.code() == 0
            with pytest.raises(AssertionError, match="nobody connected"):
                listening.peer(0.1)
        finally:
            process.close()


def test_a_request_that_crossed_the_agents_goaway_is_served() -> None:
    """The server had not heard of the drain when it sent it: a second at most, and no lost request."""
    with Listening() as listening, Rig(mutual=False, agent=None) as rig:
        agent = rig.make_agent(server=f"ws://127.0.0.1:{listening.address[1]}/connect")
        agent.start()
        server = V2Server(listening)
        server.pong()
        draining = gevent.spawn(agent.drain)
        server.expect(GOAWAY, 0)
        stream = server.connect()
        server.send(DATA, stream, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        server.expect(CONNECTED, stream)
        server.until(b"\r\n\r\nok", stream)
        draining.join(PATIENCE)


def test_an_answer_that_waits_for_credit_is_finished_before_the_agent_ends() -> None:
    # Little enough to be read from the API at once, so that only the tunnel still holds it.
    body = bytes(100_000)

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        peer.ended()

    with Listening() as listening, Rig(Api(script), mutual=False, agent=None) as rig:
        agent = rig.make_agent(server=f"ws://127.0.0.1:{listening.address[1]}/connect", drain=PATIENCE)
        agent.start()
        server = V2Server(listening, window=1000)
        stream = server.connect()
        server.send(DATA, stream, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        server.expect(CONNECTED, stream)
        got = server.expect(DATA, stream).payload
        while len(got) < 1000:
            got += server.expect(DATA, stream).payload
        draining = gevent.spawn(agent.drain)
        server.expect(GOAWAY, 0)
        server.pong()
        gevent.sleep(0.3)
        assert not draining.ready()
        server.send(8, stream, (400_000).to_bytes(4, "big"))
        while len(got) < len(body):
            got += server.expect(DATA, stream).payload
        server.send(CLOSE, stream)
        draining.join(PATIENCE)
        assert draining.ready()


def test_an_agent_that_drains_leaves_no_request_unanswered() -> None:
    """Watches end with their final chunk, and the running request is answered by the agent that leaves."""
    asked, proceed = Gate(), Gate()

    def script(peer: Peer) -> None:
        if b"watch=1" in peer.head():
            peer.send(CHUNKED)
            peer.ended()
        else:
            asked.open()
            proceed.wait()
            peer.send(OK + b"ok")

    with Rig(Api(script)) as rig:
        watch, slow = rig.client(), rig.client()
        watch.send(WATCH)
        watch.until(b"event\r\n")
        slow.send(GET)
        asked.wait()
        draining = gevent.spawn(rig.agent.drain)
        assert watch.rest() == b"0\r\n\r\n"
        assert not draining.ready()
        proceed.open()
        assert slow.response().body == b"ok"
        draining.join(PATIENCE)
        assert draining.ready()
        until(lambda: len(rig.server.registry) == 0, "the end of the session")


def test_a_restarted_server_has_its_agent_back_and_serves_who_waited() -> None:
    with Rig(server={"reconnect_grace": PATIENCE, "drain": 1.0}, agent={"max_retry": 60.0}) as rig:
        assert rig.get().status == 200
        rig.server.drain()
        rig.start_server()
        # No agent is there yet: the request waits for it, and it is back within one step of its backoff.
        assert rig.get().status == 200
        until(lambda: len(rig.server.registry) == 1, "one session")


def test_a_drain_is_no_reason_for_the_agent_to_stay_away_for_long() -> None:
    """Its attempts fail for as long as the drain takes; those do not count while the old tunnel serves."""
    with Rig(mutual=False, agent=None) as rig, Listening() as listening:
        agent = rig.make_agent(server=f"ws://127.0.0.1:{listening.address[1]}/connect", max_retry=60.0)
        for _ in range(50):
            agent.connector._backoff.delay(covered=True)
        agent.connector._backoff._jitter = lambda low, high: high
        assert agent.connector._backoff.delay(covered=True) < 2


def test_clients_that_still_come_are_served_while_load_balancers_notice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also on a connection that was kept; each answer ends its connection: the next goes elsewhere."""
    monkeypatch.setattr(drain, "NOTICE", 2.0)
    with Rig() as rig:
        kept = rig.client()
        kept.send(GET)
        assert kept.response().status == 200
        draining = gevent.spawn(rig.server.drain)
        until(lambda: rig.server.draining, "the drain")
        for client in (kept, rig.client()):
            client.send(GET)
            answer = client.response()
            assert (answer.status, answer.header("connection")) == (200, "close")
            assert client.ended() == "closed"
        draining.join(PATIENCE)
        assert draining.ready()
        assert refuses(rig.server.internal_address)


LINGERS = {"lingers": True, "reasons": True}
"""What an agent or a server of this release says of itself."""

REPLACED, ENDING = b"\x07", b"\x09"


def test_a_server_is_through_when_its_last_agent_has_another() -> None:
    with Rig(mutual=False, agent=None, server={"drain": 600.0}) as rig:
        agent = V2Agent(rig, **LINGERS)
        draining = gevent.spawn(rig.server.drain)
        agent.expect(GOAWAY)
        # New requests come meanwhile, also after what is time enough for load balancers.
        gevent.sleep(2 * drain.NOTICE)
        client = rig.client()
        client.send(GET)
        stream = agent.expect(CONNECT).stream
        agent.send(CONNECTED, stream)
        agent.send(DATA, stream, OK + b"ok")
        assert client.response().body == b"ok"
        assert not draining.ready()
        agent.send(GOAWAY, 0, REPLACED)
        draining.join(PATIENCE)
        assert draining.ready()


def test_an_agent_that_could_not_tell_is_not_waited_for() -> None:
    with Rig(mutual=False, agent=None, server={"drain": 600.0}) as rig:
        agent = V2Agent(rig)
        draining = gevent.spawn(rig.server.drain)
        agent.expect(GOAWAY)
        draining.join(PATIENCE)
        assert draining.ready()


@pytest.mark.parametrize("word", [REPLACED, None], ids=["another agent has come", "nobody comes"])
def test_an_agent_that_drains_serves_until_the_server_has_another(word: bytes | None) -> None:
    with Listening() as listening, Rig(mutual=False, agent=None) as rig:
        url = f"ws://127.0.0.1:{listening.address[1]}/connect"
        agent = rig.make_agent(server=url, drain=600.0 if word else 1.0)
        agent.start()
        server = V2Server(listening, **LINGERS)
        until(agent.connected.is_set, "the connection")
        draining = gevent.spawn(agent.drain)
        assert server.expect(GOAWAY, 0).payload == b"\x08the agent is draining"
        if word:
            gevent.sleep(0.5)
            stream = server.connect()
            server.send(DATA, stream, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            server.expect(CONNECTED, stream)
            server.until(b"\r\n\r\nok", stream)
            assert agent.connected.is_set()
            server.send(CLOSE, stream)
            server.send(GOAWAY, 0, word)
        assert server.expect(GOAWAY, 0).payload[:1] == ENDING
        draining.join(PATIENCE)
        assert draining.ready()


def test_an_agent_tells_a_server_that_drains_of_its_other_tunnel() -> None:
    with Listening() as listening, Rig(mutual=False, agent=None) as rig:
        rig.make_agent(server=f"ws://127.0.0.1:{listening.address[1]}/connect").start()
        old = V2Server(listening, **LINGERS)
        old.send(GOAWAY, 0, b"\x08draining")
        old.pong()
        V2Server(listening, **LINGERS).pong()
        assert old.expect(GOAWAY, 0).payload[:1] == REPLACED


def test_a_second_signal_ends_the_drain(start: Any) -> None:
    server = start("--drain", "1h")
    agent = V2Agent(server)
    client = server.client(GET)
    take(agent)
    server.process.signal(signal.SIGINT)
    agent.expect(GOAWAY)
    server.process.signal(signal.SIGINT)
    server.process.says("ended by a second signal: what was still in progress is cut off")
    assert server.process.code() == 1
    assert client.response().status == 502


def test_new_agents_are_refused_while_the_server_drains() -> None:
    with Rig(mutual=False, agent=None, server={"drain": 60.0}) as rig:
        agent = V2Agent(rig)
        client = rig.client()
        client.send(GET)
        stream = take(agent)
        draining = gevent.spawn(rig.server.drain)
        agent.expect(GOAWAY)
        with pytest.raises((Refused, OSError, EOFError)):
            V2Agent(rig)
        agent.send(DATA, stream, OK + b"ok")
        assert client.response().body == b"ok"
        draining.join(PATIENCE)
        assert draining.ready()


def test_a_server_that_is_stopped_twice_ends_once() -> None:
    with Rig(server={"drain": 1.0}) as rig:
        rig.server.drain()
        rig.server.drain()
        rig.server.stop()
        rig.agent.drain()
        rig.agent.stop()
