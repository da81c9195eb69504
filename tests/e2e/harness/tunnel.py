"""argotun between the tests and a cluster: a server and an agent, with mutual TLS, as two processes.

With a hop, as with ARGOTUN_E2E_HOP, the agent is at another replica of the server than the one that is asked.
"""

import json
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from argotun.observe.probes import FRESH
from bench.ports import free_port
from tests.secrecy import watch

from .cluster import Cluster
from .http import Endpoint
from .pki import Authority
from .processes import Process
from .waiting import until

REPOSITORY = Path(__file__).parents[3]
CLUSTER_ID = "e2e"
CLIENT_TOKEN = "only-for-the-tunnel"  # what clients send: it must never reach the API
HOP = bool(os.environ.get("ARGOTUN_E2E_HOP"))
_JSON_LINE = re.compile(r"^\{.*\}$", re.MULTILINE)


def redis_server(port: int, folder: Path) -> tuple[str, ...]:
    """The command of a registry that keeps nothing."""
    return "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)


def replica(registry: int, folder: Path) -> list[str | Path]:
    """The options of a server that is one of several, with certificates made in the folder."""
    (folder / "peers").mkdir()
    peers = Authority("peers", folder / "peers")
    peer = peers.issue("peer", "argotun-peer")
    return [
        *("--registry", f"redis://127.0.0.1:{registry}", "--peer-addr", "127.0.0.1:0"),
        *("--peer-cert", peer.cert, "--peer-key", peer.key, "--peer-ca", peers.cert),
    ]


class Tunnel:
    """Server and agent in a folder; the cluster's API is then at `endpoint`."""

    def __init__(
        self, cluster: Cluster, folder: Path, *options: str, plain: bool = True, hop: bool = HOP
    ) -> None:
        """Options are added to the server's; its internal port wants certificates too unless it is plain."""
        self.cluster = cluster
        self.folder = folder
        self._options = (*options, "--internal-plain") if plain else options
        folder.mkdir()
        authority = Authority("tunnel", folder)
        self._ca = authority.cert
        self._serving = authority.issue("tunnel-server", "127.0.0.1", "localhost")
        self._client = authority.issue(CLUSTER_ID)
        self._public, self._internal, self._agent_health = free_port(), free_port(), free_port()
        self._shared: list[str | Path] = []
        self._between: list[Process] = []
        # Where the agent is, and who knows of its tunnel.
        self._home = self._public, self._internal
        self._hop = hop
        if hop:
            self._home = free_port(), free_port()
            self._registry = free_port()
            self._shared = replica(self._registry, folder)
        self.agent_token = folder / "agent-token"
        self.agent_token.write_text(secrets.token_urlsafe(32))
        self._clusters = folder / "clusters.json"
        self._clusters.write_text(json.dumps([{"id": CLUSTER_ID, "token": self.agent_token.read_text()}]))
        self.account_token = folder / "account-token"
        self.give_account_token(cluster.token())
        self.server: Process | None = None
        self.agent: Process | None = None
        argo = authority.issue("argocd")
        self.internal = Endpoint(self._internal) if plain else Endpoint(self._internal, "", self._ca, argo)
        self.endpoint = self.endpoint_of(CLUSTER_ID)

    def endpoint_of(self, cluster_id: str) -> Endpoint:
        """Where clients find a cluster of that id."""
        return replace(self.internal, prefix=f"/tunnel/{cluster_id}", token=CLIENT_TOKEN)

    def give_account_token(self, token: str) -> None:
        """Put a ServiceAccount token where the agent reads it, in one step, as a kubelet does."""
        fresh = self.account_token.with_suffix(".new")
        fresh.write_text(token)
        watch.hold(token, self.agent_token.read_text(), CLIENT_TOKEN)
        fresh.replace(self.account_token)

    def start(self) -> None:
        """Run both, and return when a request goes through."""
        self.start_what_is_missing()

    def start_what_is_missing(self) -> None:
        """Run those of both that were stopped, and return when a request goes through."""
        if not self.server:
            self.start_server()
        if not self.agent:
            self.start_agent()
        self.wait()

    def start_server(self) -> None:
        """Run the server, and with a hop the agent's as well."""
        if self._hop:
            redis = redis_server(self._registry, self.folder)
            self._between = [
                Process("redis", redis, self.folder, dict(os.environ)),
                self._run("server", *self._server_options(*self._home), name="home"),
            ]
        self.server = self._run("server", *self._server_options(self._public, self._internal))
        server = self.server

        def listening() -> bool:
            server.check()
            return self.internal.get("/healthz").status == 200

        until("the server listens", listening)

    def _server_options(self, public: int, internal: int) -> list[str | Path]:
        return [
            "--addr", f"127.0.0.1:{public}",
            "--internal-addr", f"127.0.0.1:{internal}",
            "--clusters", self._clusters,
            "--drain", "5s",
            "--tls-cert", self._serving.cert,
            "--tls-key", self._serving.key,
            "--tls-client-ca", self._ca,
            *self._shared,
            *self._options,
        ]  # fmt: skip

    def start_agent(self) -> None:
        """Run the agent; wait() waits for its tunnel."""
        self.agent = self._run(
            "agent",
            "--server", f"wss://127.0.0.1:{self._home[0]}/connect",
            "--token-file", self.agent_token,
            "--server-ca-cert", self._ca,
            "--client-cert", self._client.cert,
            "--client-key", self._client.key,
            "--target", f"127.0.0.1:{self.cluster.api_port}",
            "--ca-cert", self.cluster.ca,
            "--sa-token-path", self.account_token,
            "--health-addr", f"127.0.0.1:{self._agent_health}",
            "--max-retry", "1s",
            "--drain", "5s",
        )  # fmt: skip

    def wait(self) -> None:
        """Return when a request goes through."""

        def through() -> bool:
            for process in self.processes():
                process.check()
            return self.endpoint.get("/readyz").status == 200

        until("a request goes through the tunnel", through, seconds=20)

    def stop_agent(self, how: int = signal.SIGTERM) -> int:
        """End the agent; its exit code."""
        assert self.agent
        code = self.agent.stop(how, seconds=30)
        self.agent = None
        return code

    def stop_server(self, how: int = signal.SIGTERM) -> int:
        """End the server; its exit code."""
        assert self.server
        code = self.server.stop(how, seconds=30)
        self.server = None
        while self._between:
            self._between.pop().stop(how, seconds=30)
        return code

    def stop(self) -> None:
        """End whatever runs; no secret of the run may stand in what it has written."""
        for process in self.processes():
            process.stop(seconds=30)
            watch.said(process.log.read_text(errors="replace"))
        assert watch.leaks() == []

    def streams(self) -> int:
        """How many streams the server counts on its tunnel."""
        # An answer may be as old as that, and nothing in it says so.
        time.sleep(FRESH)
        home = replace(self.internal, port=self._home[1])
        sessions = home.get("/status").json()["clusters"][CLUSTER_ID]
        return sum(session["streams"] for session in sessions)

    def processes(self) -> list[Process]:
        """The running ones, in the order in which they are to end."""
        return [p for p in (self.agent, self.server, *reversed(self._between)) if p]

    def log_records(self) -> Iterator[dict[str, object]]:
        """The servers' log lines."""
        text = "".join(path.read_text() for path in self.folder.glob("argotun-[sh]*.log"))
        for line in _JSON_LINE.finditer(text):
            yield json.loads(line[0])

    def _run(self, mode: str, *args: str | Path, name: str = "") -> Process:
        env = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith("ARGOTUN_") and not k.lower().endswith("_proxy")
        }
        argv = [sys.executable, REPOSITORY / "argotun.py", "--mode", mode, "--log-format", "json", *args]
        return Process(f"argotun-{name or mode}", argv, self.folder, env)
