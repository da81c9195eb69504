"""Two pods as the chart and `--mode pki` make them find each other by a real Redis."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from gevent import socket

from argotun.config import PkiConfig
from argotun.config.network import parse_server_url
from argotun.pki.folder import Folder
from bench.ports import free_port
from tests.chart.helm import RELEASES, Rendered, helm_or_skip
from tests.chart.test_options import written
from tests.processes import Process
from tests.redis_server import RedisServer
from tests.rig import Peer, until

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="the openssl program is not installed")

STARTED = 90.0
"""Seconds that two processes may take to start on a busy machine."""

PORTS = ("port", "internalPort", "healthPort")


class Pod:
    """The process of a pod, at an address of this machine as a pod has one of its own."""

    def __init__(self, rendered: Rendered, folder: Path, address: str) -> None:
        self._probe = rendered.container["readinessProbe"]["httpGet"]
        ports = {each["name"]: each["containerPort"] for each in rendered.container["ports"]}
        self._health = address, ports[self._probe["port"]]
        arguments = [each.replace("=/", f"={folder}/", 1) for each in rendered.args]
        arguments = [each.replace("=:", f"={address}:").replace("$(POD_IP)", address) for each in arguments]
        self.process = Process(*arguments)

    def asked(self, path: str) -> tuple[int, bytes]:
        """What its health port answers; 0 while nothing listens there."""
        try:
            peer = Peer(socket.create_connection(self._health))
        except OSError:
            return 0, b""
        peer.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        response = peer.response()
        peer.close()
        return response.status, response.body

    def wait_until_ready(self) -> None:
        path = self._probe["path"]
        until(lambda: self.asked(path)[0] == 200, "a ready pod", STARTED, lambda: self.process.log)

    def wait_until_it_knows(self, count: int) -> None:
        """Replicas, itself too."""
        line = f"\nargotun_replicas {count}.0\n".encode()
        known = f"{count} replicas"
        until(lambda: line in self.asked("/metrics")[1], known, STARTED, lambda: self.process.log)


@pytest.fixture
def rendered(tmp_path: Path) -> Iterator[Rendered]:
    helm = helm_or_skip(RELEASES[-1].version, tmp_path)
    config = PkiConfig(
        pki_folder=str(tmp_path / "pki"),
        pki_server=parse_server_url("wss://argotun.example.com"),
        pki_replicas=True,
    )
    Folder(config).fill()
    values: dict[str, Any] = yaml.safe_load((tmp_path / "pki" / "server.yaml").read_text())
    server = RedisServer(tmp_path / "redis")
    values |= {"replicas": 2, "registry": {"url": server.url}} | {name: free_port() for name in PORTS}
    values["peer"] |= {"port": free_port()}
    try:
        yield helm.render(values)
    finally:
        server.close()


@pytest.fixture
def pods(rendered: Rendered, tmp_path: Path) -> Iterator[list[Pod]]:
    written(rendered, tmp_path / "files")
    pods = [Pod(rendered, tmp_path / "files", f"127.0.0.{number}") for number in (2, 3)]
    yield pods
    for pod in pods:
        pod.process.close()


def test_two_pods_are_ready_and_know_each_other(pods: list[Pod]) -> None:
    for pod in pods:
        pod.wait_until_ready()
        pod.wait_until_it_knows(2)
    pods[0].process.signal(signal.SIGTERM)
    assert pods[0].process.code() == 0
    pods[1].wait_until_it_knows(1)
    assert pods[1].asked("/joined")[0] == 200
