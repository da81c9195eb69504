"""Puts one subject under one kind of load and says what it took."""

import resource
import time
from dataclasses import dataclass
from pathlib import Path

from bench import bulk, procfs, wrk
from bench.errors import BenchError
from bench.subject import Running
from bench.upstream import BULK, Upstream


@dataclass(frozen=True)
class Cpu:
    """CPU seconds by process over one load; `others` is the share of the machine that strangers had."""

    by_process: dict[str, float]
    others: float


@dataclass(frozen=True)
class Requests:
    """Small requests: what wrk saw and what it cost."""

    result: wrk.Result
    cpu: Cpu


@dataclass(frozen=True)
class Transfer:
    """One large body: bytes per second and what it cost."""

    rate: float
    cpu: Cpu


class Meter:
    """Reads the clocks of the processes at work before and after a load."""

    def __init__(self, running: Running, upstream: Upstream, processors: int) -> None:
        self._pids = {name: child.pid for name, child in running.children.items()}
        self._pids["upstream"] = upstream.child.pid
        self._processors = processors
        self._wall = time.monotonic()
        self._busy = procfs.machine_busy_seconds()
        self._own = _own_seconds()
        self._before = self._read()

    def stop(self) -> Cpu:
        """CPU time since this meter was made."""
        used = {name: seconds - self._before[name] for name, seconds in self._read().items()}
        drivers = _own_seconds() - self._own
        machine = procfs.machine_busy_seconds() - self._busy
        wall = time.monotonic() - self._wall
        strangers = machine - sum(used.values()) - drivers
        return Cpu({**used, "driver": drivers}, max(0.0, strangers / (wall * self._processors)))

    def _read(self) -> dict[str, float]:
        return {name: procfs.cpu_seconds(pid) for name, pid in self._pids.items()}


def requests(
    running: Running, upstream: Upstream, processors: int, connections: int, seconds: int
) -> Requests:
    """GET the small answer on so many connections for so long."""
    meter = Meter(running, upstream, processors)
    result = wrk.run(f"{running.url}/small", connections, seconds)
    cpu = meter.stop()
    if not result.requests:
        raise BenchError(f"not one request was answered at {connections} connections")
    return Requests(result, cpu)


def transfer(
    running: Running,
    upstream: Upstream,
    processors: int,
    direction: str,
    ca: Path,
    limit: float = bulk.LIMIT,
) -> Transfer:
    """Move the large body once, within `limit` seconds; an upload must have arrived whole."""
    path = "bulk" if direction == "down" else "upload/body"
    if direction == "up":
        # Not sooner: a virtual machine may give freed memory back to its host within seconds, and getting
        # it anew costs nginx more than the TLS of the whole transfer.
        upstream.uploaded.unlink(missing_ok=True)
    meter = Meter(running, upstream, processors)
    seconds = bulk.run(direction, f"{running.url}/{path}", BULK, ca, limit)
    cpu = meter.stop()
    if direction == "up":
        size = upstream.uploaded.stat().st_size
        if size != BULK:
            raise BenchError(f"{size} of {BULK} bytes arrived at the upstream")
    return Transfer(BULK / seconds, cpu)


def _own_seconds() -> float:
    """CPU time of this process and of the drivers that it has waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)
