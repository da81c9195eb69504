"""argotun between Argo CD and the customers' clusters: a server, and an agent for each cluster.

With ARGOTUN_E2E_HOP agents are at another replica of the server, and every request of Argo CD takes a hop.
"""

import json
import os
import re
import secrets
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from bench.ports import free_port
from tests.argocd.harness.links import Link
from tests.argocd.harness.rendered import account_token
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.http import Endpoint
from tests.e2e.harness.pki import Authority, Pair
from tests.e2e.harness.processes import Process
from tests.e2e.harness.tunnel import HOP, REPOSITORY, redis_server, replica
from tests.e2e.harness.waiting import until


@dataclass
class Server:
    """A server's process and its two ports; with a hop `home` is the replica that has the public one."""

    process: Process
    public: int
    internal: int
    home: "Server | None" = None

    @property
    def processes(self) -> list[Process]:
        """It, and the replica that has its agents."""
        return [self.process, *(self.home.processes if self.home is not None else ())]

    def stop(self, how: int) -> int:
        """End it, and the replica that has its agents; its exit code."""
        code = self.process.stop(how, seconds=40)
        if self.home is not None:
            self.home.stop(how)
        return code


class Hub:
    """A server and its agents in a folder; clusters are known by their names.

    Options are given to both. With TLS, both ports want certificates. With links, agents and Argo CD reach
    the server through `outside` and `inside`, which a test can cut, freeze or lead elsewhere.
    With `version_1` the server takes such agents too, and its clusters file says what they are to dial.
    """

    def __init__(
        self,
        folder: Path,
        clusters: dict[str, Cluster],
        *options: str,
        tls: bool = True,
        linked: bool = False,
        version_1: bool = False,
    ) -> None:
        folder.mkdir()
        self.folder = folder
        self.clusters = clusters
        self._options = options
        self._version_1 = version_1
        authority = Authority("hub", folder)
        self._ca = authority.cert
        self._serving = authority.issue("argotun", "127.0.0.1", "localhost")
        self._client = authority.issue("agent")
        argocd = authority.issue("argocd")
        self.tls: tuple[Path, Pair] | None = (self._ca, argocd) if tls else None
        self._redis: Process | None = None
        self._replica: list[str | Path] = []
        if HOP:
            registry = free_port()
            self._redis = Process("redis", redis_server(registry, folder), folder, dict(os.environ))
            self._replica = replica(registry, folder)
        self._ports = free_port(), free_port()
        self.outside = Link(self._ports[0]) if linked else None
        self.inside = Link(self._ports[1]) if linked else None
        self.public = self.outside.port if self.outside else self._ports[0]
        self.port = self.inside.port if self.inside else self._ports[1]
        self.internal = Endpoint(self.port, "", *(self.tls or ()))
        self.tokens = {name: [secrets.token_urlsafe(32)] for name in clusters}
        self._clusters_file = folder / "clusters.json"
        self.write_clusters()
        for name in clusters:
            self.give_agent_token(name, self.tokens[name][0])
            self.give_account_token(name)
        self.server: Server | None = None
        self.agents: dict[str, Process] = {}
        self._health: dict[str, int] = {}

    def start(self) -> None:
        """Run the server and every agent, and return when a request to each cluster goes through."""
        self.start_server()
        for name in self.clusters:
            self.start_agent(name)
        for name in self.clusters:
            self.wait(name)

    def stop(self) -> None:
        """End whatever runs."""
        for name in list(self.agents):
            self.stop_agent(name)
        if self.server:
            self.stop_server()
        if self._redis:
            self._redis.stop(seconds=40)
        for link in (self.outside, self.inside):
            if link:
                link.close()

    def start_server(self) -> None:
        """Run the server where it was."""
        self.server = self._run_server("server", *self._ports)

    def start_second_server(self) -> Server:
        """Run another server beside the first one, on ports of its own."""
        return self._run_server("second", free_port(), free_port())

    def stop_server(self, how: int = signal.SIGTERM) -> int:
        """End the server; its exit code."""
        assert self.server
        code = self.server.stop(how)
        self.server = None
        return code

    def start_agent(self, name: str, *more: str) -> None:
        """Run a cluster's agent, with more options; wait() waits for its tunnel."""
        cluster = self.clusters[name]
        self._health[name] = free_port()
        scheme = "wss" if self.tls else "ws"
        tls = (
            "--server-ca-cert",
            self._ca,
            "--client-cert",
            self._client.cert,
            "--client-key",
            self._client.key,
        )
        self.agents[name] = self._run(
            f"agent-{name}",
            "--mode", "agent",
            "--server", f"{scheme}://127.0.0.1:{self.public}/connect",
            *(tls if self.tls else ("--allow-insecure-server",)),
            "--token-file", self._file(name, "agent-token"),
            "--target", f"127.0.0.1:{cluster.api_port}",
            "--drain", "5s",
            "--ca-cert", cluster.ca,
            "--sa-token-path", self._file(name, "account-token"),
            "--health-addr", f"127.0.0.1:{self._health[name]}",
            *self._options,
            *more,
        )  # fmt: skip

    def stop_agent(self, name: str, how: int = signal.SIGTERM) -> int:
        """End a cluster's agent; its exit code."""
        return self.agents.pop(name).stop(how, seconds=40)

    def agent_is_ready(self, name: str) -> bool:
        """Whether the agent that was started last has a tunnel."""
        return Endpoint(self._health[name]).get("/readyz").status == 200

    def endpoint(self, name: str) -> Endpoint:
        """Where Argo CD finds a cluster."""
        return replace(self.internal, prefix=f"/tunnel/{name}", token="unused")

    def wait(self, name: str, seconds: float = 40) -> None:
        """Return when a request to the cluster goes through."""
        until(
            f"a request to {name} goes through",
            lambda: self.endpoint(name).get("/readyz").status == 200,
            seconds,
        )

    def sessions(self, name: str) -> list[dict[str, object]]:
        """What the server says about the tunnels of a cluster."""
        home = self.server and self.server.home
        internal = replace(self.internal, port=home.internal) if home else self.internal
        return list(internal.get("/status").json()["clusters"].get(name, []))

    def requests(self, name: str) -> int:
        """How many requests to the cluster were answered so far."""
        return int(
            sum(
                float(line.rpartition(" ")[2])
                for line in self.internal.get("/metrics").body.decode().splitlines()
                if line.startswith("proxy_requests_total{") and f'cluster="{name}"' in line
            )
        )

    def refusals(self, name: str) -> dict[str, int]:
        """How often each rule of a cluster's policy has refused, as its newest agent counts."""
        text = Endpoint(self._health[name]).get("/metrics").body.decode()
        found = re.findall(r'^argotun_policy_refusals_total\{[^}]*rule="([^"]*)"\} (\d+)', text, re.MULTILINE)
        return {rule: int(count) for rule, count in found}

    def write_clusters(self) -> None:
        """Write the clusters file anew from `tokens`."""
        entries: list[dict[str, object]] = [
            {"id": name, "tokens": tokens, **({"certNames": ["agent"]} if self.tls else {})}
            for name, tokens in self.tokens.items()
        ]
        if self._version_1:
            for entry, cluster in zip(entries, self.clusters.values(), strict=True):
                entry["targetAddr"] = f"127.0.0.1:{cluster.api_port}"
        self._put("clusters.json", json.dumps(entries))

    def give_agent_token(self, name: str, token: str) -> None:
        """Give the agent another token for the server."""
        self._put(self._file(name, "agent-token").name, token)

    def give_account_token(self, name: str) -> None:
        """Give the agent a fresh token for its API."""
        self._put(self._file(name, "account-token").name, account_token(self.clusters[name]))

    def _file(self, name: str, what: str) -> Path:
        return self.folder / f"{name}-{what}"

    def _put(self, name: str, text: str) -> None:
        """Write a file in one step, as a kubelet does."""
        fresh = self.folder / f"{name}.new"
        fresh.write_text(text)
        fresh.replace(self.folder / name)

    def _run_server(self, name: str, public: int, internal: int) -> Server:
        if not HOP:
            return self._run_replica(name, public, internal)
        home = self._run_replica(f"{name}-home", public, free_port())
        return replace(self._run_replica(name, free_port(), internal), public=public, home=home)

    def _run_replica(self, name: str, public: int, internal: int) -> Server:
        tls = ("--tls-cert", self._serving.cert, "--tls-key", self._serving.key, "--tls-client-ca", self._ca)
        process = self._run(
            name,
            "--mode", "server",
            "--addr", f"127.0.0.1:{public}",
            "--internal-addr", f"127.0.0.1:{internal}",
            "--clusters", self._clusters_file,
            "--drain", "5s",
            *(tls if self.tls else ()),
            *(("--min-wire-version", "1") if self._version_1 else ()),
            *self._replica,
            *self._options,
        )  # fmt: skip
        endpoint = replace(self.internal, port=internal)

        def listens() -> bool:
            process.check()
            return endpoint.get("/healthz").status == 200

        until("the server listens", listens)
        return Server(process, public, internal)

    def _run(self, name: str, *args: str | Path) -> Process:
        return argotun(name, self.folder, *args)


def argotun(name: str, folder: Path, *args: str | Path) -> Process:
    """argotun of this clone, with its log in `folder`; nothing of the environment is an option of it."""
    env = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith("ARGOTUN_") and not k.lower().endswith("_proxy")
    }
    argv = [sys.executable, REPOSITORY / "argotun.py", "--log-format", "json", *args]
    return Process(name, argv, folder, env)
