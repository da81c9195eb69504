"""Replicas of the server, agents and a Redis before one cluster: processes that a test may kill."""

import json
import os
import secrets
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.ports import free_port
from tests.balancer import Balancer
from tests.secrecy import watch

from .cluster import Cluster
from .http import Endpoint
from .pki import Authority
from .processes import Process
from .tunnel import CLIENT_TOKEN, CLUSTER_ID, REPOSITORY
from .waiting import until

STARTED = 60.0
"""Seconds that a process may take to start on a busy machine."""

# The defaults suit the world; a run of many deaths would have to wait for them.
_SERVER = ("--reconnect-grace=200ms", "--drain=5s", "--keepalive=1s", "--keepalive-timeout=3s")
_AGENT = ("--max-retry=500ms", "--drain=5s", "--keepalive=1s", "--keepalive-timeout=3s", "--dial-timeout=2s")


class Part:
    """A program that is killed, stopped and started again by one name, with the same ports."""

    def __init__(self, name: str, argv: list[str | Path], folder: Path) -> None:
        self.name = name
        self._argv = argv
        self._folder = folder
        self._process: Process | None = None
        self.logs: set[Path] = set()

    def start(self) -> None:
        """Run it where it does not run."""
        if self._process is None:
            env = {
                name: value
                for name, value in os.environ.items()
                if not name.startswith("ARGOTUN_") and not name.lower().endswith("_proxy")
            }
            self._process = Process(self.name, self._argv, self._folder, env)
            self.logs.add(self._process.log)

    def end(self, how: int = signal.SIGKILL) -> None:
        """End it by a signal; SIGTERM lets it take its time."""
        if self._process is not None:
            self._process.stop(how, seconds=30)
            self._process = None

    def freeze(self) -> None:
        """Let it stand still until it goes on, or is ended."""
        assert self._process is not None
        self._process.send(signal.SIGSTOP)

    def go_on(self) -> None:
        """Undo freeze()."""
        assert self._process is not None
        self._process.send(signal.SIGCONT)

    def check(self) -> None:
        """AssertionError when it has ended by itself."""
        if self._process is not None:
            self._process.check()


class Fleet:
    """The parts, and where clients find the cluster: `endpoints`, one for each replica.

    Agents dial the replicas through a load balancer that passes over one that is not there.
    """

    def __init__(self, cluster: Cluster, folder: Path, replicas: int = 3, agents: int = 2) -> None:
        if not (program := shutil.which("redis-server")):
            pytest.skip("needs redis-server (Debian: redis-server)")
        folder.mkdir()
        (folder / "peers").mkdir()
        self._folder = folder
        self._cluster = cluster
        self._authority = Authority("fleet", folder)
        self._peers = Authority("peers", folder / "peers")
        self._peer = self._peers.issue("peer", "argotun-peer")
        self._serving = self._authority.issue("fleet-server", "127.0.0.1", "localhost")
        self._client = self._authority.issue(CLUSTER_ID)
        token = secrets.token_urlsafe(32)
        account = cluster.token()
        watch.hold(token, account, CLIENT_TOKEN)
        (folder / "agent-token").write_text(token)
        (folder / "account-token").write_text(account)
        (folder / "clusters.json").write_text(json.dumps([{"id": CLUSTER_ID, "token": token}]))
        ports = [(free_port(), free_port()) for _ in range(replicas)]
        self._balancer = Balancer([("127.0.0.1", public) for public, _ in ports])
        self._redis_port = free_port()
        redis = ("--port", str(self._redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", folder)
        self.redis = Part("redis", [program, *redis], folder)
        self.replicas = [self._replica(number, *pair) for number, pair in enumerate(ports)]
        self._internal = [Endpoint(internal) for _, internal in ports]
        self.agents: list[Part] = []
        self._agents = agents
        self.endpoints = [
            replace(each, prefix=f"/tunnel/{CLUSTER_ID}", token=CLIENT_TOKEN) for each in self._internal
        ]

    @property
    def parts(self) -> list[Part]:
        """All of them, in the order in which they start."""
        return [self.redis, *self.replicas, *self.agents]

    def __enter__(self) -> "Fleet":
        self._balancer.__enter__()
        try:
            self.agents = [self._agent(number) for number in range(self._agents)]
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Run what does not run, and return when a request goes through each replica."""
        for part in self.parts:
            part.start()
        until("a request goes through each replica", self._through, seconds=STARTED)

    def stop(self) -> None:
        """End whatever runs; no secret of the run may stand in what it has written."""
        for part in reversed(self.parts):
            part.end()
            for log in part.logs:
                watch.said(log.read_text(errors="replace"))
        self._balancer.__exit__(None, None, None)

    def _through(self) -> bool:
        for part in self.parts:
            part.check()
        return all(each.get("/readyz").status == 200 for each in self.endpoints)

    def _replica(self, number: int, public: int, internal: int) -> Part:
        return self._argotun(
            f"replica-{number}",
            "server",
            "--addr", f"127.0.0.1:{public}",
            "--internal-addr", f"127.0.0.1:{internal}",
            "--internal-plain",
            "--clusters", self._folder / "clusters.json",
            "--tls-cert", self._serving.cert,
            "--tls-key", self._serving.key,
            "--tls-client-ca", self._authority.cert,
            "--registry", f"redis://127.0.0.1:{self._redis_port}",
            "--peer-addr", "127.0.0.1:0",
            "--peer-cert", self._peer.cert,
            "--peer-key", self._peer.key,
            "--peer-ca", self._peers.cert,
            *_SERVER,
        )  # fmt: skip

    def _agent(self, number: int) -> Part:
        return self._argotun(
            f"agent-{number}",
            "agent",
            "--server", f"wss://127.0.0.1:{self._balancer.port}/connect",
            "--token-file", self._folder / "agent-token",
            "--server-ca-cert", self._authority.cert,
            "--client-cert", self._client.cert,
            "--client-key", self._client.key,
            "--target", f"127.0.0.1:{self._cluster.api_port}",
            "--ca-cert", self._cluster.ca,
            "--sa-token-path", self._folder / "account-token",
            "--health-addr", "off",
            *_AGENT,
        )  # fmt: skip

    def _argotun(self, name: str, mode: str, *options: str | Path) -> Part:
        program = (sys.executable, REPOSITORY / "argotun.py", "--mode", mode, "--log-format", "json")
        return Part(name, [*program, *options], self._folder)
