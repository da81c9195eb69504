"""A server and an agent of two releases, as processes, and a scripted API behind them.

An older release is a commit of this repository, unpacked into a folder, and runs with the packages of today.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import pytest
from gevent import socket

from bench.echo import echo
from bench.errors import BenchError
from bench.history import unpack as unpack_commit
from tests.processes import ROOT, Process
from tests.rig import Api, Authority, Peer, Response, until

STARTED = 60.0
"""Seconds that a process may take to start on a busy machine."""

DRAIN = "6s"
"""A server's whose agent has no other one takes nearly all of it."""


class Release(NamedTuple):
    """A name, and the commit that stands for it: "" for the working tree."""

    name: str
    commit: str = ""


PRESENT = Release("present")
PREVIOUS = Release("before-replicas", "17bb166c1332d97517c34a42752e163360bb9226")
FIRST = Release("first", "2fc1d9d930a037e7b3b9ccceb7a2ac906597454e")


def unpack(release: Release, folder: Path) -> Path:
    """The folder with the program of a release; skips where the repository has no history of it."""
    if not release.commit:
        return ROOT
    place = folder / release.name
    if not place.exists():
        try:
            unpack_commit(release.commit, place)
        except BenchError as why:
            pytest.skip(f"{release.name} is a commit that a shallow clone lacks: {why}")
    return place


def script(peer: Peer) -> None:
    """The API, by target: a digest of what is uploaded, so many bytes, a watch, an upgrade; else an echo."""
    while True:
        head = peer.head()
        target = head.split(b" ")[1]
        if target.startswith(b"/upload/"):
            digest = hashlib.sha256(peer.read(int(target.rpartition(b"/")[2]))).hexdigest().encode()
            peer.send(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%b" % (len(digest), digest))
        elif target.startswith(b"/download/"):
            size = int(target.rpartition(b"/")[2])
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            peer.send(body(size))
        elif b"watch=1" in target:
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n")
            # Until the agent hangs up, or a test has an event for it.
            peer.heard = target  # type: ignore[attr-defined]
            peer.sock.recv(1)
            return
        elif target == b"/upgrade":
            peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
            peer.send(peer.rest() + b"!")
            return
        elif target.startswith(b"/held"):
            peer.heard = target  # type: ignore[attr-defined]
            until(lambda held=peer: hasattr(held, "let_go"), "a test that lets it go", STARTED)
            peer.send(echo(head))
        else:
            peer.send(echo(head))


def body(size: int) -> bytes:
    """Bytes that show where they stand."""
    return b"".join(b"%07d|" % number for number in range(size // 8 + 1))[:size]


class Site:
    """A server of one release and agents of another one, as processes; both can end and come back."""

    TOKEN = "token-of-agent-c1"

    def __init__(self, folder: Path, server: Path, agent: Path) -> None:
        self._folder = folder
        self._server, self._agent = server, agent
        self.authority = Authority(folder)
        self.account = folder / "sa-token"
        self.give("sa-token")
        self.api = Api(script)
        self.api.start(self.authority)
        self._processes: list[Process] = []
        self._clients: list[Peer] = []
        self._ports = (0, 0)
        self.server = self.start_server()
        self.agent = self.start_agent()

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for process in self._processes:
            process.close()
        self.api.stop()

    def give(self, token: str) -> None:
        """Another ServiceAccount token in the agent's file, in one step, as a kubelet does."""
        fresh = self.account.with_suffix(".new")
        fresh.write_text(token)
        fresh.replace(self.account)

    def start_server(self, release: Path | None = None) -> Process:
        """A server where the first one was; it listens when this returns."""
        path = self.authority.path
        process = Process(
            *("--mode", "server", "--addr", f"127.0.0.1:{self._ports[0]}"),
            *("--internal-addr", f"127.0.0.1:{self._ports[1]}", "--internal-plain"),
            *("--clusters", json.dumps([{"id": "c1", "token": self.TOKEN}]), "--drain", DRAIN),
            *("--tls-cert", path("server.pem"), "--tls-key", path("server.key")),
            *("--tls-client-ca", path("ca.pem"), "--reconnect-grace", "20s"),
            root=release or self._server,
        )  # fmt: skip
        self._processes.append(process)
        until(lambda: "server listens" in process.log, "a server", STARTED, explain=lambda: process.log)
        found = process.says(r"public=(\S+):(\d+) internal=(\S+):(\d+)")
        self._ports = int(found[2]), int(found[4])
        return process

    def start_agent(self, release: Path | None = None) -> Process:
        """An agent, connected when this returns."""
        path = self.authority.path
        process = Process(
            *("--mode", "agent", "--server", f"wss://127.0.0.1:{self._ports[0]}/connect"),
            *("--token", self.TOKEN, "--server-ca-cert", path("ca.pem"), "--client-cert", path("agent.pem")),
            *("--client-key", path("agent.key"), "--target", f"127.0.0.1:{self.api.port}"),
            *("--ca-cert", path("ca.pem"), "--sa-token-path", str(self.account), "--drain", DRAIN),
            *("--health-addr", "off", "--max-retry", "1s"),
            root=release or self._agent,
        )  # fmt: skip
        self._processes.append(process)
        until(lambda: " connected " in process.log, "an agent", STARTED, explain=lambda: process.log)
        return process

    def client(self) -> Peer:
        """A client's connection."""
        peer = Peer(socket.create_connection(("127.0.0.1", self._ports[1])))
        self._clients.append(peer)
        return peer

    def ask(self, path: str, method: str = "GET", extra: str = "", data: bytes = b"") -> Peer:
        """A request on a connection of its own."""
        peer = self.client()
        length = f"Content-Length: {len(data)}\r\n" if method == "POST" else ""
        peer.send(f"{method} /tunnel/c1{path} HTTP/1.1\r\nHost: argotun\r\n{length}{extra}\r\n".encode())
        peer.send(data)
        return peer

    def get(self, path: str) -> Response:
        """The answer to a GET on a connection of its own."""
        return self.ask(path).response()

    def heard(self, target: str) -> Peer:
        """The API's side of the request for a target, once it has come there."""
        wanted = target.encode()

        def found() -> list[Peer]:
            return [each for each in self.api.live if getattr(each, "heard", b"") == wanted]

        until(found, f"{target} at the API", STARTED)
        return found()[0]
