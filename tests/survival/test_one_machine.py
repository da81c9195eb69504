"""Several processes of one machine behind one address: whoever takes a connection serves every cluster."""

import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from bench.echo import said
from bench.ports import free_port
from tests.redis_server import RedisServer
from tests.rig import Peer
from tests.survival.fleet import Fleet, Replica, redis

__all__ = ["redis"]

PROCESSES = 3
TRIES = 1000
"""Connections until each process has had one; by chance it would take some ten."""


class OneMachine(Fleet):
    """Servers that have both ports together, and links by Unix sockets."""

    def __init__(self, folder: Path, sockets: Path, redis: RedisServer) -> None:
        super().__init__(folder, redis)
        self.sockets = sockets
        self.public = f"127.0.0.1:{free_port()}"
        self._internal = f"127.0.0.1:{free_port()}"

    def places(self) -> tuple[str, ...]:
        ports = "--addr", self.public, "--internal-addr", self._internal, "--reuse-port"
        return *ports, "--peer-sockets", str(self.sockets)

    def client(self, replica: Replica) -> Peer:
        """A connection that the kernel has given to this process."""
        for _ in range(TRIES):
            peer = self.connect(replica)
            if self.who(peer) == replica.id:
                return peer
            peer.close()
        raise AssertionError("no connection came to this process")

    def who(self, peer: Peer) -> Any:
        """Which process has this connection."""
        peer.send(b"GET /status HTTP/1.1\r\nHost: argotun\r\n\r\n")
        return peer.response().json()["replica"]

    def status(self, replica: Replica) -> Any:
        peer = self.client(replica)
        try:
            peer.send(b"GET /status HTTP/1.1\r\nHost: argotun\r\n\r\n")
            return peer.response().json()
        finally:
            peer.close()

    def get(self, peer: Peer, path: str) -> None:
        """A request of c1 that must be answered."""
        peer.send(f"GET /tunnel/c1{path} HTTP/1.1\r\nHost: argotun\r\n\r\n".encode())
        answer = peer.response()
        assert (answer.status, answer.body) == (200, said("sa-token", "GET", path))


@pytest.fixture
def machine(tmp_path: Path, redis: RedisServer) -> Iterator[OneMachine]:
    # tmp_path may be too long for a socket.
    with TemporaryDirectory(prefix="argotun-") as above:
        machine = OneMachine(tmp_path, Path(above) / "s", redis)
        yield machine
        machine.close()


def test_whichever_process_takes_a_connection_serves_every_cluster(machine: OneMachine) -> None:
    servers = machine.add(PROCESSES)
    machine.agent(servers[0])
    for number, each in enumerate(servers):
        client = machine.client(each)
        for turn in range(3):
            machine.get(client, f"/ok/{number}/{turn}")
    links = machine.status(servers[0])["links"]
    assert sorted(link["address"] for link in links) == sorted(
        f"unix:{machine.sockets}/{each.id}.sock" for each in servers[1:]
    )


def test_a_killed_process_takes_no_new_connection_and_no_cluster(machine: OneMachine) -> None:
    [victim] = machine.add()
    # Each agent is to be at a process that the test knows.
    machine.public = f"127.0.0.1:{free_port()}"
    [other] = machine.add()
    for each in (victim, other):
        machine.agent(each)
        machine.known(each)
    victim.process.signal(signal.SIGKILL)
    victim.process.code()
    machine.replicas.remove(victim)
    for number in range(50):
        client = machine.connect(other)
        machine.get(client, f"/ok/{number}")
        client.close()
    left = machine.sockets / f"{victim.id}.sock"
    assert left.exists()
    machine.add()
    assert not left.exists()
