"""Several servers with a real Redis, agents and clients at different ones: processes, but for the API.

A test module takes the fixtures `redis` and `fleet` from here by name.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent import socket

from bench.echo import echo, said
from tests.processes import STARTED
from tests.redis_server import RedisServer
from tests.rig import Api, Authority, Peer, until
from tests.server.test_drain import Process

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


def script(peer: Peer) -> None:
    """Answer `/ok/…` at once, begin a watch, switch protocols and say all back; never answer `/waiting`."""
    while True:
        head = peer.head()
        target = head.split(b" ")[1]
        if target.startswith(b"/ok"):
            peer.send(echo(head))
        elif b"watch=1" in target:
            peer.send(CHUNKED)
        elif target == b"/upgrade":
            peer.send(SWITCHED)
            peer.send(peer.rest() + b"!")
            return
        else:
            peer.heard = target  # type: ignore[attr-defined]
            peer.sock.recv(1)
            return


class Replica:
    """A server process: where its agents and its clients find it, and its id."""

    def __init__(self, process: Process) -> None:
        self.process = process
        until(lambda: "server listens" in process.log, "a server", STARTED, explain=lambda: process.log)
        found = process.says(r"public=(\S+):(\d+) internal=(\S+):(\d+)")
        self.public = found[1], int(found[2])
        self.internal = found[3], int(found[4])
        self.id = process.says(r"replica listens .*replica=(\w+)")[1]


class Fleet:
    """Servers that share a Redis, agents of `c1`, and an API."""

    TOKEN = "token-of-agent-c1"

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        self.redis = redis
        self._folder = folder
        self.url = redis.url
        self._authority = Authority(folder)
        peers = folder / "peers"
        peers.mkdir()
        self._peers = Authority(peers)
        self._peers.issue("peer", "argotun-peer")
        (folder / "sa-token").write_text("sa-token")
        self.api = Api(script)
        self.api.start(self._authority)
        self._processes: list[Process] = []
        self._clients: list[Peer] = []
        self.replicas: list[Replica] = []

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for process in self._processes:
            process.close()
        self.api.close()

    def add(self, count: int = 1, *options: str, **entry: Any) -> list[Replica]:
        """Start so many servers, which know each other when this returns."""
        processes = [self._start(*options, **entry) for _ in range(count)]
        self.replicas += [Replica(process) for process in processes]
        for replica in self.replicas:
            self.wait(
                replica, lambda status: sum(link["up"] for link in status["links"]) == len(self.replicas) - 1
            )
        return self.replicas[-count:]

    def places(self) -> tuple[str, ...]:
        """Where the next server listens."""
        return "--addr", "127.0.0.1:0", "--internal-addr", "127.0.0.1:0", "--peer-addr", "127.0.0.1:0"

    def _start(self, *options: str, **entry: Any) -> Process:
        path, peer = self._authority.path, self._peers.path
        process = Process(
            *("--mode", "server", *self.places()),
            *("--internal-plain", "--clusters", json.dumps([{"id": "c1", "token": self.TOKEN, **entry}])),
            *("--tls-cert", path("server.pem"), "--tls-key", path("server.key")),
            *("--tls-client-ca", path("ca.pem"), "--no-access-log", "--reconnect-grace", "5s"),
            *("--registry", self.url, "--peer-cert", peer("peer.pem")),
            *("--peer-key", peer("peer.key"), "--peer-ca", peer("ca.pem"), *options),
        )  # fmt: skip
        self._processes.append(process)
        return process

    def agent(self, replica: Replica, retry: str = "1s") -> Process:
        """An agent at one replica, connected when this returns."""
        path = self._authority.path
        process = Process(
            *("--mode", "agent", "--server", f"wss://127.0.0.1:{replica.public[1]}/connect"),
            *("--token", self.TOKEN, "--server-ca-cert", path("ca.pem"), "--client-cert", path("agent.pem")),
            *("--client-key", path("agent.key"), "--target", f"127.0.0.1:{self.api.port}"),
            *("--ca-cert", path("ca.pem"), "--sa-token-path", str(self._folder / "sa-token")),
            *("--health-addr", "off", "--no-access-log", "--max-retry", retry),
        )  # fmt: skip
        self._processes.append(process)
        until(lambda: " connected " in process.log, "an agent", STARTED, explain=lambda: process.log)
        return process

    def known(self, replica: Replica) -> None:
        """All others know that this replica has an agent."""
        for other in self.replicas:
            if other is not replica and other.process.running:
                self.wait(other, lambda status: replica.id in status["elsewhere"].get("c1", ()))

    def connect(self, replica: Replica) -> Peer:
        """A connection to the internal port, which ends with the fleet."""
        peer = Peer(socket.create_connection(replica.internal))
        self._clients.append(peer)
        return peer

    def ask(self, replica: Replica, path: str, method: str = "GET", extra: str = "") -> Peer:
        """A request on a connection of its own."""
        peer = self.connect(replica)
        peer.send(f"{method} /tunnel/c1{path} HTTP/1.1\r\nHost: argotun\r\n{extra}\r\n".encode())
        return peer

    def status(self, replica: Replica) -> Any:
        """Its `/status`."""
        peer = Peer(socket.create_connection(replica.internal))
        try:
            peer.send(b"GET /status HTTP/1.1\r\nHost: argotun\r\nConnection: close\r\n\r\n")
            return peer.response().json()
        finally:
            peer.close()

    def wait(self, replica: Replica, condition: Callable[[Any], object]) -> None:
        """Wait until what a replica says of itself is so."""
        until(lambda: condition(self.status(replica)), "a status", STARTED, lambda: self.status(replica))

    def waiting(self, count: int) -> None:
        """Wait until so many requests have reached the API and got no answer."""
        until(lambda: sum(hasattr(peer, "heard") for peer in self.api.live) == count, "requests at the API")


class Traffic:
    """Requests to some replicas, one after the other on kept connections, until the `with` ends."""

    def __init__(self, *replicas: Replica, method: str = "GET") -> None:
        self.lost: Counter[str] = Counter()
        self.answered = 0
        self.slowest = 0.0
        self._method = method
        self._over = False
        self._greenlets = [
            gevent.spawn(self._ask, replica, number) for number, replica in enumerate(replicas)
        ]

    def __enter__(self) -> "Traffic":
        self.more(20)
        return self

    def __exit__(self, *error: object) -> None:
        self._over = True
        gevent.joinall(self._greenlets, STARTED)

    def more(self, count: int) -> None:
        """Wait until so many more requests are over."""
        enough = self.answered + self.lost.total() + count
        until(lambda: self.answered + self.lost.total() >= enough, "answers", STARTED, lambda: self.lost)

    def _ask(self, replica: Replica, number: int) -> None:
        client: Peer | None = None
        turn = 0
        while not self._over:
            turn += 1
            target = f"/ok/{number}/{turn}"
            began = monotonic()
            try:
                client = client or Peer(socket.create_connection(replica.internal))
                length = "Content-Length: 0\r\n" if self._method == "POST" else ""
                client.send(f"{self._method} /tunnel/c1{target} HTTP/1.1\r\nHost: a\r\n{length}\r\n".encode())
                answer = client.response()
            except (OSError, EOFError) as error:
                self.lost[repr(error)] += 1
                client = None
            else:
                if answer.status == 200 and answer.body == said("sa-token", self._method, target):
                    self.answered += 1
                    self.slowest = max(self.slowest, monotonic() - began)
                else:
                    self.lost[f"{answer.status} {answer.body!r}"] += 1
                if answer.header("connection") == "close":
                    client.close()
                    client = None
            gevent.sleep(0.01)
        if client is not None:
            client.close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    yield server
    server.close()


@pytest.fixture
def fleet(tmp_path: Path, redis: RedisServer) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, redis)
    yield fleet
    fleet.close()
