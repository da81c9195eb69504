"""Hosts and a router between them, as network namespaces of this machine: cables that can be cut.

Nothing of it is seen outside, so that several tests at once may use the same addresses. A direction is
cut by a route of the router that drops packets without a word, the other one by a rule that does.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Self

SERVER, ROUTER, AGENT, CLIENT, API, SPARE = "server", "router", "agent", "client", "api", "spare"
ADDRESS = {
    host: f"10.{number}.0.2" for number, host in enumerate((SERVER, AGENT, CLIENT, API, SPARE), start=1)
}

TIME_WAIT = "06"
"""A connection that is over, in /proc/net/tcp (linux/tcp_states.h)."""

CLONE_NEWNET = 0x40000000
"""What setns(2) is told: a network namespace."""

_libc = ctypes.CDLL(None, use_errno=True)


def missing() -> str | None:
    """What this machine lacks, or None."""
    if not shutil.which("ip"):
        return "the program ip (Debian: iproute2)"
    probe = f"argotun-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode:
        return "the right to make network namespaces"
    subprocess.run(["ip", "netns", "del", probe], check=True)
    return None


class Network:
    """The hosts `server` and `agent`, and `more`, each a hop from the router; use as a context manager."""

    def __init__(self, *more: str) -> None:
        self._hosts = (SERVER, AGENT, *more)
        # A process may have several, and one that was killed left its own behind.
        mark = token_hex(4)
        self._names = {host: f"argotun-{mark}-{host}" for host in (ROUTER, *self._hosts)}
        self._cut: set[str] = set()
        self._lost: set[str] = set()

    def __enter__(self) -> Self:
        for name in self._names.values():
            _ip("netns", "add", name)
        for host in self._hosts:
            address = ADDRESS[host]
            gateway = address.removesuffix("2") + "1"
            link = ("link", "add", "eth0", "netns", self._names[host], "type", "veth")
            _ip(*link, "peer", "name", host, "netns", self._names[ROUTER])
            self._in(host, "addr", "add", f"{address}/24", "dev", "eth0")
            self._in(ROUTER, "addr", "add", f"{gateway}/24", "dev", host)
            self._in(host, "link", "set", "lo", "up")
            self._in(host, "link", "set", "eth0", "up")
            self._in(ROUTER, "link", "set", host, "up")
            self._in(host, "route", "add", "default", "via", gateway)
        with self.inside(ROUTER):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._names.values():
            _ip("netns", "del", name)

    @contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """Sockets that are made meanwhile are the host's, and so is a process that is started."""
        with open("/proc/thread-self/ns/net") as ours, open(f"/run/netns/{self._names[host]}") as theirs:
            _enter(theirs.fileno())
            try:
                yield
            finally:
                _enter(ours.fileno())

    def cut(self, *towards: str) -> None:
        """Drop every packet to these hosts."""
        for host in towards:
            self._in(ROUTER, "route", "add", "blackhole", f"{ADDRESS[host]}/32")
            self._cut.add(host)

    def lose(self, host: str) -> None:
        """The machine is gone: every packet to it and from it is dropped."""
        self.cut(host)
        self._in(ROUTER, "rule", "add", "from", ADDRESS[host], "blackhole")
        self._lost.add(host)

    def mend(self) -> None:
        """Let everything pass again."""
        while self._lost:
            self._in(ROUTER, "rule", "del", "from", ADDRESS[self._lost.pop()], "blackhole")
        while self._cut:
            self._in(ROUTER, "route", "del", "blackhole", f"{ADDRESS[self._cut.pop()]}/32")

    def talks(self, host: str, other: str) -> bool:
        """Whether a host has a TCP connection to another one, on which something may still be sent."""
        far = bytes(map(int, reversed(ADDRESS[other].split(".")))).hex().upper()
        with self.inside(host), open("/proc/thread-self/net/tcp") as table:
            rows = [line.split()[2:4] for line in table]
        return any(where.startswith(far + ":") and state != TIME_WAIT for where, state in rows)

    def _in(self, host: str, *command: str) -> None:
        _ip("-n", self._names[host], *command)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
