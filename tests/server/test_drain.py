"""The orderly end of server and agent, in this process and as processes that get a signal."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket

import argotun
from argotun.server import clients
from tests.raw_websocket import Listening, Refused
from tests.rig import PATIENCE, Api, Gate, Peer, Rig, until
from tests.v2_peers import CLOSE, CONNECT, CONNECTED, DATA, GOAWAY, V2Agent, V2Server

ROOT = Path(argotun.__file__).parent.parent
GET = b"GET /tunnel/c1/x HTTP/1.1\r\nHost: argotun\r\n\r\n"
WATCH = b"GET /tunnel/c1/api/v1/pods?watch=1 HTTP/1.1\r\nHost: argotun\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


class Process:
    """`python argotun.py` with these options; its log is collected as it comes.

    `around` is a command that runs it, with the program and the options as its own last arguments.
    """

    def __init__(
        self, *options: str, env: dict[str, str] | None = None, around: tuple[str, ...] = ()
    ) -> None:
        clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        self._child = subprocess.Popen(
            [*around, sys.executable, str(ROOT / "argotun.py"), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=clean | (env or {}),
        )
        self.log = ""
        self._reader = gevent.spawn(self._read)

    def _read(self) -> None:
        assert self._child.stdout is not None
        while data := os.read(self._child.stdout.fileno(), 65536) if self._wait() else b"":
            self.log += data.decode()

    def _wait(self) -> bool:
        assert self._child.stdout is not None
        gevent.socket.wait_read(self._child.stdout.fileno())
        return True

    def says(self, pattern: str) -> re.Match[str]:
        """Wait until the log has this."""
        until(lambda: re.search(pattern, self.log), pattern, explain=lambda: self.log)
        found = re.search(pattern, self.log)
        assert found is not None
        return found

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    def code(self) -> int:
        """Its exit code, once it has ended."""
        until(lambda: self._child.poll() is not None, "the end of the process", explain=lambda: self.log)
        return int(self._child.returncode)

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def close(self) -> None:
        if self.running:
            self._child.kill()
        self._child.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self._child.stdout is not None
        self._child.stdout.close()


class RemoteServer:
    """What the scripted peers ask of a rig, for a server in another process."""

    TOKEN = "token-of-agent-c1"

    def __init__(self, process: Process) -> None:
        self.process = process
        found = process.says(r"public=(\S+):(\d+) internal=(\S+):(\d+)")
        self.public_address = (found[1], int(found[2]))
        self.internal_address = (found[3], int(found[4]))
        self.server = self
        self._peers: list[Peer] = []

    def keep(self, peer: Peer) -> Peer:
        self._peers.append(peer)
        return peer

    def client(self, request: bytes = b"") -> Peer:
        peer = self.keep(Peer(socket.create_connection(self.internal_address)))
        peer.send(request)
        return peer

    def ready(self) -> int:
        client = self.client(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return client.response().status

    def close(self) -> None:
        for peer in self._peers:
            peer.close()


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
    server = start("--drain", "4s")
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
        agent = rig.make_agent(server=f"ws://127.0.0.1:{listening.address[1]}/connect")
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
    with Rig(server={"reconnect_grace": 5.0, "drain": 1.0}, agent={"max_retry": 60.0}) as rig:
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
    monkeypatch.setattr(clients, "NOTICE", 2.0)
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


def test_a_second_signal_ends_the_drain(start: Any) -> None:
    server = start("--drain", "1h")
    agent = V2Agent(server)
    client = server.client(GET)
    take(agent)
    server.process.signal(signal.SIGINT)
    agent.expect(GOAWAY)
    server.process.signal(signal.SIGINT)
    assert server.process.code() == 1
    assert client.response().status == 502


def test_new_agents_are_refused_while_the_server_drains() -> None:
    with Rig(mutual=False, agent=None, server={"drain": 5.0}) as rig:
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
