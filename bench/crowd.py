"""Many agents of a peer lose their tunnels and come back at once: what bench.storm is for argotun's."""

import http.client
import os
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from bench import procfs, sockets
from bench.errors import BenchError
from bench.site import Child, Site, wait_until

LIMIT = 60.0
"""Seconds after which agents that are not there are given up."""

DOWN = 1.0
"""Seconds that the hub is away in a restart."""

CALM = 6.0
"""Seconds between two storms: chisel calls a connection good, and forgets what went before, after five."""

LOOK = 0.1
"""Seconds between two looks at who is there: the hub answers on the same processors."""

CUT = signal.SIGUSR1
"""What breaks all tunnels of a process of agents, where it knows how."""


@dataclass
class Crowd:
    """A hub and a process that is many agents of it.

    They dial `port`; `there` says how many of them the hub has now, and may fail while there is no hub.
    `cuts` says whether the agents obey CUT.
    """

    hub: Child
    agents: Child
    port: int
    there: Callable[[], int]
    cuts: bool = True

    @property
    def children(self) -> list[Child]:
        """Its processes."""
        return [self.hub, self.agents]


@dataclass(frozen=True)
class Return:
    """All are back: `last` = seconds until the last one was, `cpu` = CPU seconds of the hub until then."""

    last: float
    cpu: float


def gather(crowd: Crowd, count: int) -> None:
    """Wait until all have come for the first time; BenchError where they do not."""
    _wait(crowd, count, "at first", time.monotonic(), lambda: _there(crowd))


def cut(crowd: Crowd, count: int) -> Return:
    """Break every tunnel in the same moment; each agent dials as it does by itself."""
    lost, cpu = sockets.accepted(crowd.port), procfs.cpu_seconds(crowd.hub.pid)
    began = time.monotonic()
    os.kill(crowd.agents.pid, CUT)

    def back() -> int:
        # The hub may have some whose end it has not seen: as many connections must be new.
        return min(_there(crowd), len(sockets.accepted(crowd.port) - lost))

    last = _wait(crowd, count, "cut", began, back)
    return Return(last, procfs.cpu_seconds(crowd.hub.pid) - cpu)


def restart(crowd: Crowd, count: int, site: Site) -> Return:
    """Kill the hub, wait a moment, start it again; the clocks run from when it listens."""
    crowd.hub.process.kill()
    crowd.hub.process.wait()
    time.sleep(DOWN)
    crowd.hub = site.again(crowd.hub)
    wait_until("the hub", lambda: bool(sockets.listening([crowd.port])), [crowd.hub])
    began, cpu = time.monotonic(), procfs.cpu_seconds(crowd.hub.pid)
    last = _wait(crowd, count, "restart", began, lambda: _there(crowd))
    return Return(last, procfs.cpu_seconds(crowd.hub.pid) - cpu)


def _wait(crowd: Crowd, count: int, storm: str, began: float, back: Callable[[], int]) -> float:
    """Seconds since `began` until so many are `back`; BenchError when a process ends, or after LIMIT."""
    while True:
        looked = time.monotonic()
        found = back()
        if found >= count:
            return time.monotonic() - began
        for child in crowd.children:
            if child.process.poll() is not None:
                raise BenchError(f"{storm}: {child.name} ended, with {found} of {count} agents there")
        if looked > began + LIMIT:
            raise BenchError(f"{storm}: {found} of {count} agents were there after {LIMIT:.0f} s")
        time.sleep(max(0.0, looked + LOOK - time.monotonic()))


def _there(crowd: Crowd) -> int:
    try:
        return crowd.there()
    except (OSError, http.client.HTTPException):
        # It has only begun, or is too busy to say.
        return 0


def asked(address: str, path: str) -> str:
    """What the hub says at a path of a port of its own, `host:port`, within five seconds."""
    connection = http.client.HTTPConnection(address, timeout=5.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def listeners(ports: Collection[int]) -> Callable[[], int]:
    """`there` of a hub that listens on one of these ports for each agent, while it has the agent."""
    return lambda: sockets.listening(ports)
