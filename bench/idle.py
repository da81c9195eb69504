"""Memory of connections that are open and silent, as Argo CD and kubectl leave them between requests."""

import time
from dataclasses import dataclass
from pathlib import Path

from bench import procfs
from bench.client import Client
from bench.errors import BenchError
from bench.subject import Running
from bench.upstream import Upstream

WARM_REQUESTS = 50  # on one connection, so that code and caches are loaded before the first measurement
SETTLE = 1.0  # seconds for what is freed late
OPENING_LIMIT = 60.0  # seconds to open all connections


@dataclass(frozen=True)
class Idle:
    """Bytes per stream by process (USS), and how many connections the API had to hold for them."""

    bytes_per_stream: dict[str, float]
    upstream_connections: int


def measure(running: Running, upstream: Upstream, ca: Path, streams: int) -> Idle:
    """Open `streams` keep-alive connections with one request each and see what they cost.

    `running` must be fresh, for a heap that has held more before would hide the growth. Each connection is
    used again after the measurement: one that had been closed meanwhile is an error, not a saving.
    """
    url = f"{running.url}/small"
    with Client(url, ca) as first:
        for _ in range(WARM_REQUESTS):
            _expect_ok(first)
    time.sleep(SETTLE)
    before = {name: procfs.memory(child.pid).unshared for name, child in running.children.items()}
    held_before = upstream.connections()
    connections: list[Client] = []
    deadline = time.monotonic() + OPENING_LIMIT
    try:
        for _ in range(streams):
            connections.append(Client(url, ca))
            _expect_ok(connections[-1])
            if time.monotonic() > deadline:
                raise BenchError(f"{len(connections)} of {streams} streams after {OPENING_LIMIT:.0f} s")
        time.sleep(SETTLE)
        after = {name: procfs.memory(child.pid).unshared for name, child in running.children.items()}
        held = upstream.connections() - held_before
        for connection in connections:
            _expect_ok(connection)
    finally:
        for connection in connections:
            connection.close()
    grown = {name: (after[name] - before[name]) * 1024 / streams for name in before}
    return Idle(bytes_per_stream=grown, upstream_connections=held)


def _expect_ok(connection: Client) -> None:
    status, _ = connection.get()
    if status != 200:
        raise BenchError(f"a request on an idle stream was answered with {status}")
