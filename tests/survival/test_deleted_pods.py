"""A pod that is deleted and not rolled: SIGTERM comes first, and the next pod long after. Real processes."""

import json
import signal
from collections.abc import Iterator
from itertools import count
from time import monotonic

import pytest

from bench import echo
from bench.ports import held
from tests.processes import Process, RemoteServer
from tests.rig import Api, Peer, Response, Rig, until

TOKEN = "token-of-agent-c1"
LONG = 6.0
"""Seconds without a next pod: more than a server waits for load balancers to notice its end (NOTICE)."""

EVENT = b"5\r\nevent\r\n"
NUMBERS = count(1)


def script(peer: Peer) -> None:
    """Watches get an event; every other answer says which request it is for."""
    while True:
        head = peer.head()
        if b"watch=1" in head:
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + EVENT)
            peer.ended()
            return
        peer.send(echo.echo(head))


class Site:
    """Processes that dial one port for agents; the API is the rig's."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._started: list[Process | RemoteServer] = []
        self._held = held()
        self.port = self._held.getsockname()[1]

    def start_server(self, *options: str) -> RemoteServer:
        """A server; each takes the port for agents that the one before it has given up."""
        process = self._keep(Process(
            "--mode", "server", "--addr", f"127.0.0.1:{self.port}", "--internal-addr", "127.0.0.1:0",
            "--clusters", json.dumps([{"id": "c1", "token": TOKEN}]), "--no-access-log", *options,
        ))  # fmt: skip
        server = RemoteServer(process)
        self._started.append(server)
        return server

    def start_agent(self, account: str, *options: str) -> Process:
        """An agent, connected, that shows this account's token to the API."""
        token = self._rig.folder / account
        token.write_text(account)
        agent = self._keep(Process(
            "--mode", "agent", "--server", f"ws://127.0.0.1:{self.port}/connect", "--token", TOKEN,
            "--allow-insecure-server", "--target", f"127.0.0.1:{self._rig.api.port}", "--plain-target",
            "--sa-token-path", str(token), "--health-addr", "127.0.0.1:0", "--no-access-log", *options,
        ))  # fmt: skip
        agent.says("connected")
        return agent

    def close(self) -> None:
        for each in reversed(self._started):
            each.close()
        self._held.close()

    def _keep(self, process: Process) -> Process:
        self._started.append(process)
        return process


@pytest.fixture
def site() -> Iterator[Site]:
    with Rig(Api(script, tls=False), mutual=False, agent=None) as rig:
        site = Site(rig)
        yield site
        site.close()


def ask(server: RemoteServer, account: str) -> Response:
    """A request like no other on a connection of its own: its answer is a 200 for just that."""
    target = f"/own/{next(NUMBERS)}"
    client = server.client(f"GET /tunnel/c1{target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    answer = client.response()
    client.close()
    assert (answer.status, answer.body) == (200, echo.said(account, "GET", target))
    return answer


def watch(server: RemoteServer) -> Peer:
    client = server.client(b"GET /tunnel/c1/api/v1/pods?watch=1 HTTP/1.1\r\nHost: a\r\n\r\n")
    client.until(EVENT)
    return client


def test_a_deleted_server_serves_until_its_agent_has_another(site: Site) -> None:
    old = site.start_server("--drain", "60s")
    site.start_agent("first")
    ask(old, "first")
    watching = watch(old)
    old.process.signal(signal.SIGTERM)
    until(lambda: ask(old, "first").header("connection") == "close", "the drain")
    since = monotonic()
    while monotonic() - since < LONG:
        assert ask(old, "first").header("connection") == "close"
    new = site.start_server()
    until(lambda: new.ready() == 200, "the agent at the new server")
    # Both serve while whoever sends clients to the old one has not heard.
    ask(new, "first")
    ask(old, "first")
    assert watching.rest() == b"0\r\n\r\n"
    assert old.process.code() == 0
    ask(new, "first")


def test_a_deleted_server_without_a_next_one_ends_with_its_drain(site: Site) -> None:
    server = site.start_server("--drain", "3s")
    site.start_agent("first")
    watching = watch(server)
    server.process.signal(signal.SIGTERM)
    until(lambda: "draining" in server.process.log, "the drain")
    ask(server, "first")
    assert watching.rest() == b"0\r\n\r\n"
    assert server.process.code() == 0


def test_a_deleted_agent_serves_until_the_server_has_another(site: Site) -> None:
    server = site.start_server()
    old = site.start_agent("first", "--drain", "60s")
    watching = watch(server)
    kept = server.client()
    old.signal(signal.SIGTERM)
    old.says("draining")
    since = monotonic()
    while monotonic() - since < 2.0:
        ask(server, "first")
        kept.send(b"GET /tunnel/c1/kept HTTP/1.1\r\nHost: a\r\n\r\n")
        assert kept.response().body == b"first GET /kept"
    site.start_agent("second")
    assert watching.rest() == b"0\r\n\r\n"
    assert old.code() == 0
    ask(server, "second")
    kept.send(b"GET /tunnel/c1/kept HTTP/1.1\r\nHost: a\r\n\r\n")
    assert kept.response().body == b"second GET /kept"


def test_a_deleted_agent_without_a_next_one_ends_with_its_drain(site: Site) -> None:
    server = site.start_server()
    agent = site.start_agent("first", "--drain", "3s")
    watching = watch(server)
    agent.signal(signal.SIGTERM)
    agent.says("draining")
    ask(server, "first")
    assert watching.rest() == b"0\r\n\r\n"
    assert agent.code() == 0
