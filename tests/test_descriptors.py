"""Descriptors: what is found is raised, and divided so that no port takes another's."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from gevent import socket
from gevent.server import StreamServer

from argotun import descriptors
from argotun.agent.app import Agent
from argotun.config import AgentConfig
from argotun.config.models import ServerUrl
from argotun.descriptors import KEPT_BACK, divide, share
from bench.ports import free_port
from tests.raw_websocket import Listening, dial
from tests.rig import Peer, until
from tests.v2_peers import DATA, V2Server

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("limit", "public", "internal", "expected"),
    [
        (1 << 20, 8192, 16384, (8192, 16384)),
        (4096, 8192, 16384, (992, 2976)),
        (1024, 8192, 16384, (224, 672)),
        (4096, 100, 16384, (100, 3868)),
        (4096, 8192, 100, (3868, 100)),
        (64, 8192, 16384, (4, 12)),
    ],
)
def test_each_port_has_its_part(limit: int, public: int, internal: int, expected: tuple[int, int]) -> None:
    assert divide(limit, public, internal) == expected
    assert sum(expected) <= max(limit - KEPT_BACK, 16)


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    code = (
        "import json, resource; from argotun.descriptors import raise_limit;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200)); limit = raise_limit();"
        "print(json.dumps([*limit, *resource.getrlimit(resource.RLIMIT_NOFILE)]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert json.loads(ran.stdout) == [100, 200, 200, 200, 200]
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] != 100


@pytest.mark.parametrize(
    ("limit", "wanted", "expected"),
    [(1 << 20, 4096, (4096, 4096)), (1024, 4096, (784, 112)), (1024, 100, (100, 100)), (64, 4096, (14, 2))],
)
def test_an_agents_streams_leave_some(limit: int, wanted: int, expected: tuple[int, int]) -> None:
    assert share(limit, wanted) == expected


@pytest.mark.parametrize("limit", [64, 1024, 1 << 20])
def test_connections_that_are_kept_take_nothing_from_what_is_kept_back(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(descriptors, "allowed", lambda: limit)
    config = AgentConfig(
        server=ServerUrl(tls=False), token="t", target=("h", 1), plain_target=True, idle_conns=4096
    )
    agent = Agent(config)
    left_behind = agent.api.most_flushing + agent.config.idle_conns
    assert agent.config.max_conns + left_behind <= max(limit - KEPT_BACK, 16)


# Few, so that they are soon taken.
FEW = 256


@contextmanager
def limited(soft: int, *options: str) -> Iterator[None]:
    """A program that may have FEW descriptors, and `soft` of them at first."""
    command = f"ulimit -Sn {soft}; ulimit -Hn {FEW}; " + 'exec "$@"'
    process = subprocess.Popen(
        ["sh", "-c", command, "-", sys.executable, "argotun.py", *options], cwd=ROOT, stderr=subprocess.PIPE
    )
    try:
        yield
    finally:
        process.kill()
        _, said = process.communicate()
    raised = f", was {soft}" if soft != FEW else ""
    assert f"the soft limit is {FEW}{raised}; the hard limit is {FEW}" in said.decode()


def connected(port: int) -> Peer:
    found: list[Peer] = []

    def connects() -> bool:
        with suppress(OSError):
            found.append(Peer(socket.create_connection(("127.0.0.1", port))))
        return bool(found)

    until(connects, "the port")
    return found[0]


def healthy(port: int) -> bool:
    peer = connected(port)
    peer.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    try:
        return peer.response().status == 200
    finally:
        peer.close()


@pytest.mark.parametrize("soft", [64, FEW])
def test_a_server_whose_places_are_taken_is_healthy_and_lets_agents_in(soft: int, tmp_path: Path) -> None:
    public, internal, health = free_port(), free_port(), free_port()
    clusters = tmp_path / "clusters"
    clusters.write_text('[{"id": "c1", "token": "a-token-of-many-characters"}]')
    with limited(
        soft,
        *("--mode", "server", "--clusters", str(clusters), "--reconnect-grace", "1m"),
        *("--addr", f"127.0.0.1:{public}", "--internal-addr", f"127.0.0.1:{internal}"),
        *("--health-addr", f"127.0.0.1:{health}"),
    ):
        assert healthy(health)
        clients = [connected(internal) for _ in range(FEW)]
        for client in clients:
            with suppress(OSError):
                client.send(b"GET /tunnel/c1/api?watch=true HTTP/1.1\r\nHost: a\r\n\r\n")
        assert all(healthy(health) for _ in range(40))
        agent = dial(
            ("127.0.0.1", public),
            b"Authorization: Bearer a-token-of-many-characters\r\nSec-WebSocket-Protocol: argotun.v2\r\n",
        )
        agent.close()
        for client in clients:
            client.close()


@pytest.mark.parametrize("soft", [64, FEW])
def test_an_agent_whose_streams_are_taken_is_healthy(soft: int, tmp_path: Path) -> None:
    health = free_port()
    (tmp_path / "sa").write_text("x")
    asked: list[Peer] = []

    def api(sock: Any, _peer: Any) -> None:
        peer = Peer(sock)
        peer.head()
        asked.append(peer)
        with suppress(OSError, EOFError):
            peer.rest()

    listening_api = StreamServer(("127.0.0.1", 0), api)
    listening_api.start()
    with (
        Listening() as listening,
        limited(
            soft,
            *("--mode", "agent", "--server", f"ws://127.0.0.1:{listening.address[1]}/connect"),
            *("--allow-insecure-server", "--token", "a-token-of-many-characters"),
            *("--health-addr", f"127.0.0.1:{health}", "--sa-token-path", str(tmp_path / "sa")),
            *("--target", f"127.0.0.1:{listening_api.server_port}", "--plain-target"),
        ),
    ):
        server = V2Server(listening)
        streams, _ = share(FEW, 4096)
        assert server.said["maxStreams"] == streams
        for _ in range(streams):
            number = server.connect()
            server.send(DATA, number, b"GET /api?watch=true HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: len(asked) == streams, "all of them")
        assert all(healthy(health) for _ in range(40))
    listening_api.stop()
