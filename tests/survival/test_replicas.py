"""Several servers with a real Redis, agents and clients at different ones: who dies, and who notices.

All are processes; the API is in this one. A request is lost when its client gets anything but its own answer.
"""

import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent import socket

from bench.echo import echo, said
from tests.redis_server import RedisServer
from tests.rig import Api, Authority, Peer, until
from tests.server.test_drain import Process

STARTED = 60.0
"""Seconds that a process may take to start on a busy machine."""

AWAY = 600.0 if "ARGOTUN_WHOLE" in os.environ else 5.0
"""Seconds that Redis is away: longer than the time limits of those who talk to it."""

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
        self.api.stop()

    def add(self, count: int = 1, *options: str, **entry: Any) -> list[Replica]:
        """Start so many servers, which know each other when this returns."""
        processes = [self._start(*options, **entry) for _ in range(count)]
        self.replicas += [Replica(process) for process in processes]
        for replica in self.replicas:
            self.wait(
                replica, lambda status: sum(link["up"] for link in status["links"]) == len(self.replicas) - 1
            )
        return self.replicas[-count:]

    def _start(self, *options: str, **entry: Any) -> Process:
        path, peer = self._authority.path, self._peers.path
        process = Process(
            *("--mode", "server", "--addr", "127.0.0.1:0", "--internal-addr", "127.0.0.1:0"),
            *("--internal-plain", "--clusters", json.dumps([{"id": "c1", "token": self.TOKEN, **entry}])),
            *("--tls-cert", path("server.pem"), "--tls-key", path("server.key")),
            *("--tls-client-ca", path("ca.pem"), "--no-access-log", "--reconnect-grace", "5s"),
            *("--registry", self.url, "--peer-addr", "127.0.0.1:0", "--peer-cert", peer("peer.pem")),
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

    def ask(self, replica: Replica, path: str, method: str = "GET", extra: str = "") -> Peer:
        """A request on a connection of its own."""
        peer = Peer(socket.create_connection(replica.internal))
        self._clients.append(peer)
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


def test_every_kind_of_request_finds_an_agent_at_another_replica(fleet: Fleet) -> None:
    here, there = fleet.add(2)
    fleet.agent(there)
    fleet.known(there)
    answer = fleet.ask(here, "/ok/1").response()
    assert (answer.status, answer.body) == (200, said("sa-token", "GET", "/ok/1"))
    answer = fleet.ask(here, "/ok/2", "POST", "Content-Length: 0\r\n").response()
    assert answer.body == said("sa-token", "POST", "/ok/2")
    watch = fleet.ask(here, "/api/v1/pods?watch=1")
    watch.until(b"event\r\n")
    upgraded = fleet.ask(here, "/upgrade", extra="Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n")
    assert upgraded.response().status == 101
    upgraded.send(b"said and done" * 10_000)
    upgraded.sock.shutdown(socket.SHUT_WR)
    assert upgraded.rest() == b"said and done" * 10_000 + b"!"


def test_a_killed_replica_takes_only_what_was_in_flight_on_it(fleet: Fleet) -> None:
    here, one, other = fleet.add(3)
    fleet.agent(one)
    fleet.known(one)
    post = fleet.ask(here, "/waiting", "POST", "Content-Length: 0\r\n")
    watch = fleet.ask(here, "/api/v1/pods?watch=1")
    watch.until(b"event\r\n")
    fleet.waiting(1)
    fleet.agent(other)
    fleet.known(other)
    with Traffic(here, other) as traffic:
        one.process.signal(signal.SIGKILL)
        answer = post.response()
        assert (answer.status, answer.header("retry-after")) == (502, None)
        assert watch.ended() == "reset"
        traffic.more(100)
    assert not traffic.lost
    fleet.wait(here, lambda status: one.id not in status["registry"]["replicas"])


def test_a_replica_that_stands_still_is_passed_over(fleet: Fleet) -> None:
    here, one, other = fleet.add(3)
    fleet.agent(one)
    fleet.known(one)
    waiting = fleet.ask(here, "/waiting")
    fleet.waiting(1)
    fleet.agent(other)
    fleet.known(other)
    one.process.signal(signal.SIGSTOP)
    try:
        # A GET without an answer is asked again of the other agent, once the link is dead.
        fleet.waiting(2)
        with Traffic(here) as traffic:
            traffic.more(50)
        assert not traffic.lost
    finally:
        one.process.signal(signal.SIGCONT)
    waiting.close()


def test_a_replica_that_drains_loses_nothing(fleet: Fleet) -> None:
    here, one, other = fleet.add(3)
    fleet.agent(one)
    fleet.known(one)
    watch = fleet.ask(here, "/api/v1/pods?watch=1")
    watch.until(b"event\r\n")
    with Traffic(here, here, here) as traffic:
        fleet.agent(other)
        fleet.known(other)
        one.process.signal(signal.SIGTERM)
        assert one.process.code() == 0
        traffic.more(50)
    assert not traffic.lost
    assert watch.rest() == b"0\r\n\r\n"
    fleet.wait(here, lambda status: one.id not in status["registry"]["replicas"])


@pytest.mark.parametrize("what", ["killed", "restarted", "flushed", "paused"])
def test_nothing_that_runs_notices_that_redis_is(what: str, fleet: Fleet) -> None:
    here, there = fleet.add(2)
    fleet.agent(there)
    fleet.known(there)
    watch = fleet.ask(here, "/api/v1/pods?watch=1")
    watch.until(b"event\r\n")
    with Traffic(here, here) as traffic:
        if what == "flushed":
            with fleet.redis.client() as client:
                client.flushall()
        elif what == "paused":
            fleet.redis.pause()
        else:
            fleet.redis.kill()
        if what == "restarted":
            fleet.redis.start()
        until_over = monotonic() + AWAY
        while monotonic() < until_over:
            traffic.more(20)
        if what == "killed":
            fleet.redis.start()
        elif what == "paused":
            fleet.redis.go_on()
        fleet.wait(here, lambda status: status["registry"]["up"])
        fleet.known(there)
    assert not traffic.lost
    assert watch.buffer == b""
    with fleet.redis.client() as client:
        until(lambda: client.hexists(f"{{argotun}}:routes:{there.id}", "c1"), "the route in Redis")


def test_an_agent_that_moves_while_redis_is_away_is_found_by_asking(fleet: Fleet) -> None:
    here, one, other = fleet.add(3)
    agent = fleet.agent(one)
    fleet.known(one)
    fleet.redis.kill()
    fleet.wait(here, lambda status: not status["registry"]["up"])
    agent.signal(signal.SIGKILL)
    fleet.wait(one, lambda status: not status["clusters"]["c1"])
    fleet.agent(other)
    answer = fleet.ask(here, "/ok/1").response()
    assert (answer.status, answer.body) == (200, said("sa-token", "GET", "/ok/1"))


def test_a_replica_that_comes_later_serves_everything_at_once(fleet: Fleet) -> None:
    [first] = fleet.add()
    fleet.agent(first)
    [later] = fleet.add()
    fleet.known(first)
    assert fleet.ask(later, "/ok/1").response().status == 200


def test_of_agents_that_stand_alone_the_newest_stays_over_replicas(fleet: Fleet) -> None:
    here, there = fleet.add(2, agents=1)
    # Half of that is how long it stays away when it has been replaced.
    fleet.agent(here, retry="60s")
    fleet.known(here)
    fleet.agent(there)
    here.process.says("a newer agent is at another replica")
    fleet.wait(here, lambda status: status["elsewhere"].get("c1") == [there.id])
    answer = fleet.ask(here, "/ok/1").response()
    assert answer.status == 200
    assert not re.search("a newer agent", there.process.log)
