"""The tunnel is lost: processes that are killed or stopped, and cables that are cut, under real requests.

Server and agent are processes with mutual TLS between them and TLS to the API. Each test has one request
of every kind in flight: one without an answer yet, and answers that were cut in the middle.
"""

import json
import re
import signal
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket

from bench.echo import echo, said
from bench.ports import held
from tests.processes import STARTED, Process
from tests.rig import Api, Authority, Peer, Response, until
from tests.survival import network
from tests.survival.network import ADDRESS, AGENT, SERVER, Network
from tests.v2_peers import CLOSE, CONNECT, CONNECTED, DATA, V2Agent

LACKING = network.missing()
needs_a_network = pytest.mark.skipif(LACKING is not None, reason=f"needs {LACKING}")

KEEPALIVE = ("--keepalive", "500ms", "--keepalive-timeout", "3s")

WATCH = b"/api/v1/pods?watch=1"

# What the API says of a request and what it keeps to itself for ever.
SAID = {
    b"/waiting": b"",
    b"/length": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf",
    b"/unframed": b"HTTP/1.1 200 OK\r\n\r\nhalf",
    WATCH: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n",
    b"/upgrade": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nhello",
}
UPGRADE = b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"


def script(peer: Peer) -> None:
    """Answer `/ok` and what begins with it at once, and everything else in part."""
    while True:
        head = peer.head()
        target = head.split(b" ")[1]
        if target.startswith(b"/ok"):
            peer.send(echo(head))
            continue
        peer.send(SAID[target])
        peer.heard = target
        peer.sock.recv(1)
        return


class World:
    """The API of this process, and server and agents in others; with a network, on hosts of their own."""

    TOKEN = "token-of-agent-c1"

    def __init__(self, folder: Path, net: Network | None = None, *options: str, grace: str = "500ms") -> None:
        self.net = net
        self.server = self
        self._folder = folder
        self._options = options
        self._grace = grace
        self._authority = Authority(folder)
        self._processes: list[Process] = []
        self._peers: list[Peer] = []
        self._numbers = count(1)
        # The second server listens where the first one did.
        self._held = [] if net else [held(), held()]
        self.public_address, self.internal = (
            [each.getsockname() for each in self._held]
            if self._held
            else [(ADDRESS[SERVER], 8443), ("127.0.0.1", 8080)]
        )
        issued = self._authority.ca.issue_cert(self.public_address[0])
        issued.private_key_pem.write_to_path(str(folder / "server.key"))
        issued.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
        (folder / "sa-token").write_text("sa-token")
        self.api = Api(script)
        with self._on(AGENT):
            self.api.start(self._authority)

    def close(self) -> None:
        for each in (*self._peers, *self._processes, *self._held):
            each.close()
        self.api.close()

    def start_server(self) -> Process:
        """A server; the second one takes the ports of the first."""
        path = self._authority.path
        with self._on(SERVER):
            process = Process(
                *("--mode", "server", "--addr", shown(self.public_address)),
                *("--internal-addr", shown(self.internal), "--internal-plain", "--no-access-log"),
                *("--clusters", json.dumps([{"id": "c1", "token": self.TOKEN}])),
                *("--tls-cert", path("server.pem"), "--tls-key", path("server.key")),
                *("--tls-client-ca", path("ca.pem"), "--reconnect-grace", self._grace, *self._options),
            )  # fmt: skip
        self._processes.append(process)
        found = says(process, r"public=(\S+):(\d+) internal=(\S+):(\d+)")
        self.public_address, self.internal = (found[1], int(found[2])), (found[3], int(found[4]))
        return process

    def start_agent(self, *options: str, wait: bool = True, around: tuple[str, ...] = ()) -> Process:
        """One more agent, connected when this returns."""
        path = self._authority.path
        with self._on(AGENT):
            process = Process(
                *("--mode", "agent", "--server", f"wss://{shown(self.public_address)}/connect"),
                *("--token", self.TOKEN),
                *("--server-ca-cert", path("ca.pem"), "--client-cert", path("agent.pem")),
                *("--client-key", path("agent.key"), "--target", f"127.0.0.1:{self.api.port}"),
                *("--ca-cert", path("ca.pem"), "--sa-token-path", str(self._folder / "sa-token")),
                *("--health-addr", "off", "--no-access-log", "--max-retry", "1s", "--log-level", "debug"),
                *("--dial-timeout", "2s" if self.net else "20s", *self._options, *options),
                # One that is kept lives for as long as these tests wait for the end of all.
                *("--idle-conns", "0"),
                around=around,
            )  # fmt: skip
        self._processes.append(process)
        if wait:
            says(process, " connected ")
        return process

    def script_agent(self) -> V2Agent:
        """An agent of the test's own, with the same certificate."""
        context = ssl.create_default_context(cafile=self._authority.path("ca.pem"))
        context.load_cert_chain(self._authority.path("agent.pem"), self._authority.path("agent.key"))
        return V2Agent(self, context=context)  # type: ignore[arg-type]

    def ask(self, path: bytes, extra: bytes = b"") -> Peer:
        """A request on a connection of its own."""
        with self._on(SERVER):
            sock = socket.socket()
        sock.connect(self.internal)
        peer = self.keep(Peer(sock))
        peer.send(b"GET /tunnel/c1%b HTTP/1.1\r\nHost: argotun\r\n%b\r\n" % (path, extra))
        return peer

    def ask_own(self) -> tuple[bytes, Peer]:
        """A request like no other, and the body of its answer."""
        target = f"/ok/{next(self._numbers)}"
        return said("sa-token", "GET", target), self.ask(target.encode())

    def keep(self, peer: Peer) -> Peer:
        """Close this connection too when the world ends."""
        self._peers.append(peer)
        return peer

    def in_flight(self) -> dict[bytes, Peer]:
        """One request of every kind, with all of its answer that will ever come."""
        asked = {path: self.ask(path, UPGRADE if path == b"/upgrade" else b"") for path in SAID}
        asked[b"/length"].until(b"half")
        # On its way it has a frame, or the end of any process there would be the end of it.
        asked[b"/unframed"].until(b"\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        asked[WATCH].until(b"event\r\n")
        asked[b"/upgrade"].until(b"hello")
        until(lambda: any(getattr(peer, "heard", b"") == b"/waiting" for peer in self.api.live), "a request")
        return asked

    def _on(self, host: str) -> Any:
        return self.net.inside(host) if self.net else nullcontext()


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[Any]:
    """Make a world on this host, which ends with the test."""
    made = []

    def make(*options: str, grace: str = "500ms") -> World:
        made.append(World(tmp_path, None, *options, grace=grace))
        return made[-1]

    yield make
    for world in made:
        world.close()


@contextmanager
def wire(folder: Path, *options: str) -> Iterator[World]:
    """A world with a cable, and these options of both ends."""
    with Network() as net:
        world = World(folder, net, *options)
        try:
            world.start_server()
            world.start_agent()
            yield world
        finally:
            world.close()


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world with a cable, and short limits for a peer that is silent; each test leaves it connected."""
    with wire(tmp_path_factory.mktemp("wired"), *KEEPALIVE) as world:
        yield world


def shown(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def says(process: Process, pattern: str) -> re.Match[str]:
    until(lambda: re.search(pattern, process.log), pattern, STARTED, explain=lambda: process.log)
    found = re.search(pattern, process.log)
    assert found is not None
    return found


def times(process: Process, pattern: str) -> list[datetime]:
    """When the process said something that matches."""
    return [
        datetime.fromisoformat(line.split(" ", 1)[0])
        for line in process.log.splitlines()
        if re.search(pattern, line)
    ]


def assert_answered_as_lost(asked: dict[bytes, Peer]) -> None:
    """502 where nothing was answered, and nothing that looks complete where something was."""
    answer = asked[b"/waiting"].response()
    assert (answer.status, answer.header("retry-after")) == (502, None)
    message = answer.json()["message"]
    assert message.startswith("argotun: the tunnel was lost")
    assert "handshake" not in message
    for path in (b"/length", b"/unframed", WATCH, b"/upgrade"):
        assert asked[path].ended() == "reset", path
        assert asked[path].buffer == b"", path


def assert_refused(answer: Response) -> None:
    assert (answer.status, answer.header("retry-after")) == (503, "1")


def assert_served(world: World) -> None:
    """The tunnel is back; what is asked before that is refused, and never left without an answer."""

    def served() -> bool:
        body, peer = world.ask_own()
        answer = peer.response()
        assert answer.body == body or answer.status == 503
        return answer.status == 200

    until(served, "an answer", STARTED)


# ── processes that are killed ──────────────────────────────────────────────────────────────────


def test_a_killed_agent_leaves_no_request_waiting(worlds: Any) -> None:
    world = worlds(grace="0")
    world.start_server()
    agent = world.start_agent()
    asked = world.in_flight()
    agent.signal(signal.SIGKILL)
    # No keepalive could be this early: the kernel tells of the end.
    assert_answered_as_lost(asked)
    assert_refused(world.ask(b"/ok").response())


def test_a_killed_server_leaves_no_answer_that_looks_complete(worlds: Any) -> None:
    world = worlds()
    server = world.start_server()
    world.start_agent()
    asked = world.in_flight()
    server.signal(signal.SIGKILL)
    for path, peer in asked.items():
        peer.ended()
        assert peer.buffer == b"", path
    # The agent does not go on for nobody.
    until(lambda: not world.api.live, "the end of the connections to the API")


def test_an_agent_notices_the_return_of_a_killed_server(worlds: Any) -> None:
    """It is back with its first dial that could succeed, hence within one step of its backoff."""
    world = worlds()
    server = world.start_server()
    agent = world.start_agent()
    server.signal(signal.SIGKILL)
    says(agent, "cannot connect to .*refused")
    server = world.start_server()
    until(lambda: len(times(agent, " connected ")) == 2, "the tunnel", STARTED, explain=lambda: agent.log)
    (returned,) = times(server, "server listens")
    late = [when for when in times(agent, "cannot connect") if when > returned]
    # One that was refused before may be told after.
    assert len(late) <= 1, agent.log
    body, peer = world.ask_own()
    assert peer.response().body == body


def test_a_request_in_the_gap_is_served_by_the_agent_that_comes_back(worlds: Any) -> None:
    world = worlds(grace="60s")
    server = world.start_server()
    agent = world.start_agent()
    agent.signal(signal.SIGKILL)
    # Until then a request goes on its way by the lost tunnel, and nobody may repeat it.
    says(server, "agent gone")
    body, peer = world.ask_own()
    world.start_agent()
    assert peer.response().body == body


def test_a_request_in_the_gap_is_refused_when_the_grace_is_over(worlds: Any) -> None:
    world = worlds(grace="300ms")
    server = world.start_server()
    agent = world.start_agent()
    agent.signal(signal.SIGKILL)
    says(server, "agent gone")
    assert_refused(world.ask(b"/ok").response())


def test_a_stopped_agent_gives_way_to_a_second_one(worlds: Any) -> None:
    """Its connection lives and nobody is behind it; the end of it takes nothing away."""
    world = worlds(*KEEPALIVE, "--drain", "60s")
    server = world.start_server()
    first = world.start_agent()
    asked = world.in_flight()
    first.signal(signal.SIGSTOP)
    second = world.script_agent()
    # A GET without an answer is asked again once the first one is lost, at worst before the other one comes.
    assert_answered_by(second, world.ask(b"/ok"), asked[b"/waiting"])
    # What the first one has begun to answer is not moved, and does not wait until the drain is over.
    assert asked[WATCH].rest() == b"0\r\n\r\n"
    for path in (b"/length", b"/unframed", b"/upgrade"):
        assert asked[path].ended() == "reset", path
    first.signal(signal.SIGKILL)
    says(server, "agent gone")
    assert_answered_by(second, world.ask(b"/ok"))


def assert_answered_by(agent: V2Agent, *clients: Peer) -> None:
    """The requests of these clients, which may come in any order."""
    streams = []
    for _ in clients:
        stream = agent.expect(CONNECT).stream
        agent.send(CONNECTED, stream)
        agent.until(b"\r\n\r\n", stream)
        agent.send(DATA, stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n2!")
        streams.append(stream)
    for client in clients:
        assert client.response().body == b"2!"
        client.close()
    assert {agent.expect(CLOSE).stream for _ in clients} == set(streams)


# ── cables that are cut ────────────────────────────────────────────────────────────────────────


@needs_a_network
@pytest.mark.parametrize("towards", [(SERVER, AGENT), (AGENT,), (SERVER,)], ids=["both ways", "down", "up"])
def test_a_cut_cable_leaves_no_request_waiting(wired: World, towards: tuple[str, ...]) -> None:
    """Packets are dropped without a word, also in one direction only: both ends give up within the limit."""
    assert wired.net is not None
    asked = wired.in_flight()
    wired.net.cut(*towards)
    assert_answered_as_lost(asked)
    until(lambda: not wired.api.live, "the end of the connections to the API")
    assert_refused(wired.ask(b"/ok").response())
    wired.net.mend()
    assert_served(wired)


@needs_a_network
def test_a_short_interruption_does_not_end_the_tunnel(tmp_path: Path) -> None:
    """TCP repeats what was dropped: a cable that is back before the limit has cost nothing but time."""
    # How short it is depends on how soon the programs run that cut and mend.
    with wire(tmp_path, "--keepalive", "500ms", "--keepalive-timeout", "60s") as world:
        assert world.net is not None
        asked = world.in_flight()
        world.net.cut(SERVER, AGENT)
        body, late = world.ask_own()
        gevent.sleep(0.7)
        world.net.mend()
        assert late.response().body == body
        for peer in asked.values():
            peer.sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                peer.sock.recv(1)
