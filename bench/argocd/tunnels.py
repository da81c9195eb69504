"""argotun between Argo CD and the clusters: one server, and for each cluster an agent, a process of its own.

All options are the defaults but for what names this machine's addresses and files.
"""

import base64
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import procfs
from bench.argocd.places import DOORS, Place
from bench.argocd.standin import StandIn
from bench.ports import free_port
from tests.argocd.harness.hub import argotun
from tests.e2e.harness.http import Endpoint
from tests.e2e.harness.pki import Authority
from tests.e2e.harness.processes import Process
from tests.e2e.harness.waiting import until

START = 300.0  # seconds that all agents may take to come


class Tunnels:
    """Server and agents, which reach the APIs of the stand-in."""

    def __init__(self, folder: Path, places: Sequence[Place], standin: StandIn) -> None:
        self._folder = folder
        self._places = places
        self._standin = standin
        authority = Authority("hub", folder)
        self._ca = authority.cert
        self._serving = authority.issue("argotun", "localhost", *DOORS.values())
        self._client = authority.issue("agent")
        self._argocd = authority.issue("argocd")
        self._public, self._internal = free_port(), free_port()
        self.internal = Endpoint(self._internal, "", self._ca, self._argocd)
        tokens = {place.id: secrets.token_urlsafe(32) for place in places}
        entries = [{"id": name, "token": token, "certNames": ["agent"]} for name, token in tokens.items()]
        (folder / "clusters.json").write_text(json.dumps(entries))
        (folder / "account-token").write_text("account-token")
        for name, token in tokens.items():
            (folder / f"{name}-token").write_text(token)
        self.agents: list[Process] = []
        self.server = self._run(
            "server",
            "--mode", "server",
            "--addr", f":{self._public}",
            "--internal-addr", f"127.0.0.1:{self._internal}",
            "--clusters", folder / "clusters.json",
            "--tls-cert", self._serving.cert,
            "--tls-key", self._serving.key,
            "--tls-client-ca", self._ca,
        )  # fmt: skip
        until("the server listens", self._listens, seconds=60)

    def start_agents(self) -> float:
        """Run all agents, and wait until each has its tunnel; the seconds that it took."""
        began = time.monotonic()
        for place in self._places:
            self.agents.append(self._agent(place))
        until("all agents have come", lambda: len(self.connected()) == len(self._places), START, every=0.5)
        return time.monotonic() - began

    def connected(self) -> set[str]:
        """The clusters whose agents are there, as the server knows them."""
        self.server.check()
        clusters = self.internal.get("/status").json()["clusters"]
        return {name for name, sessions in clusters.items() if sessions}

    def secret(self, place: Place) -> dict[str, str]:
        """What Argo CD's secret of a cluster says."""
        endpoint = replace(self.internal, prefix=f"/tunnel/{place.id}")
        tls = {
            "caData": encoded(self._ca.read_bytes()),
            "certData": encoded(self._argocd.cert.read_bytes()),
            "keyData": encoded(self._argocd.key.read_bytes()),
        }
        config = {"bearerToken": "unused", "tlsClientConfig": tls}
        return {"name": place.id, "server": endpoint.url, "config": json.dumps(config)}

    def agents_memory(self) -> int:
        """What would come free if all agents ended, in KiB."""
        return sum(procfs.memory(agent.pid).unshared for agent in self.agents)

    def agents_cpu(self) -> float:
        """CPU seconds of all agents."""
        return sum(procfs.cpu_seconds(agent.pid) for agent in self.agents)

    def stop(self) -> None:
        """End all of it."""
        for process in (*self.agents, self.server):
            process.send(9)
        for process in (*self.agents, self.server):
            process.stop()

    def _listens(self) -> bool:
        self.server.check()
        return self.internal.get("/healthz").status == 200

    def _agent(self, place: Place) -> Process:
        return self._run(
            f"agent-{place.id}",
            "--mode", "agent",
            "--server", f"wss://{DOORS[place.cut]}:{self._public}/connect",
            "--server-ca-cert", self._ca,
            "--client-cert", self._client.cert,
            "--client-key", self._client.key,
            "--token-file", self._folder / f"{place.id}-token",
            "--target", self._standin.at(place),
            "--ca-cert", self._standin.ca,
            "--sa-token-path", self._folder / "account-token",
            "--health-addr", "off",
        )  # fmt: skip

    def _run(self, name: str, *args: str | Path) -> Process:
        return argotun(name, self._folder, *args)


def direct_secret(place: Place, standin: StandIn) -> dict[str, str]:
    """What Argo CD's secret of a cluster says that it reaches directly."""
    tls = {"caData": encoded(standin.ca.read_bytes())}
    config = {"bearerToken": "account-token", "tlsClientConfig": tls}
    return {"name": place.id, "server": f"https://{standin.at(place)}", "config": json.dumps(config)}


def registration(data: dict[str, str]) -> dict[str, Any]:
    """The secret itself."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": f"cluster-{data['name']}",
            "namespace": "argocd",
            "labels": {"argocd.argoproj.io/secret-type": "cluster"},
        },
        "stringData": data,
    }


def encoded(data: bytes) -> str:
    """As certificates are written in such a secret."""
    return base64.b64encode(data).decode()
