"""argotun as processes that get signals, with what a test wants to know of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import gevent
from gevent import socket

import argotun
from tests.rig import PATIENCE, Peer, until

ROOT = Path(argotun.__file__).parent.parent


STARTED = 120.0
"""Seconds that a process may take to start, or to end, on a busy machine."""


class Process:
    """`python argotun.py` with these options; its log is collected as it comes.

    `around` is a command that runs it, with the program and the options as its own last arguments; `root` the
    folder that the program is in, where it is not this one.
    """

    def __init__(
        self,
        *options: str,
        env: dict[str, str] | None = None,
        around: tuple[str, ...] = (),
        root: Path = ROOT,
    ) -> None:
        clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        self._child = subprocess.Popen(
            [*around, sys.executable, str(root / "argotun.py"), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=clean | (env or {}),
        )
        self.log = ""
        self._reader = gevent.spawn(self._read)

    def _read(self) -> None:
        assert self._child.stdout is not None
        while data := os.read(self._child.stdout.fileno(), 65536) if self._wait() else b"":
            self.log += data.decode()

    def _wait(self) -> bool:
        assert self._child.stdout is not None
        gevent.socket.wait_read(self._child.stdout.fileno())
        return True

    def says(self, pattern: str) -> re.Match[str]:
        """Wait until the log has this."""
        until(lambda: re.search(pattern, self.log), pattern, STARTED, explain=lambda: self.log)
        found = re.search(pattern, self.log)
        assert found is not None
        return found

    @property
    def pid(self) -> int:
        return self._child.pid

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    def code(self) -> int:
        """Its exit code, once it has ended."""
        until(
            lambda: self._child.poll() is not None,
            "the end of the process",
            STARTED,
            explain=lambda: self.log,
        )
        return int(self._child.returncode)

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def close(self) -> None:
        if self.running:
            self._child.kill()
        self._child.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self._child.stdout is not None
        self._child.stdout.close()


class RemoteServer:
    """What the scripted peers ask of a rig, for a server in another process."""

    TOKEN = "token-of-agent-c1"

    def __init__(self, process: Process) -> None:
        self.process = process
        found = process.says(r"public=(\S+):(\d+) internal=(\S+):(\d+)")
        self.public_address = (found[1], int(found[2]))
        self.internal_address = (found[3], int(found[4]))
        self.server = self
        self._peers: list[Peer] = []

    def keep(self, peer: Peer) -> Peer:
        self._peers.append(peer)
        return peer

    def client(self, request: bytes = b"") -> Peer:
        peer = self.keep(Peer(socket.create_connection(self.internal_address)))
        peer.send(request)
        return peer

    def ready(self) -> int:
        client = self.client(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return client.response().status

    def close(self) -> None:
        for peer in self._peers:
            peer.close()
