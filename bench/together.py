"""Several servers of one machine behind one address, and all the tunnels that they hold at once.

The kernel spreads the agents, each with one tunnel over mutual TLS; links are Unix sockets. Then every
tunnel is cut in the same moment. Requests for some clusters are asked of whoever takes the connection.

    python -m bench.together --servers 4 --agents 10000
"""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence

import gevent

from bench import procfs
from bench.errors import BenchError
from bench.fleet import PROCESSES, Fleet
from bench.light_agent import cluster
from bench.outage import get
from bench.ports import free_port
from bench.registry import Registry
from bench.rolling import Api
from bench.site import Child, Site, end_on_sigterm, wait_until
from bench.words import Told

QUIET = 30.0  # seconds in which the held tunnels are watched
SAMPLE = 400  # clusters that are asked for
# Agents have the same processors as the servers: ten thousand handshakes at once are slow on both sides.
PATIENT = ("--handshake-timeout", "120s", "--hello-timeout", "60s", "--reconnect-grace", "20s")
PATIENT_AGENT = ("--dial-timeout", "120s", "--tunnels", "1")
LIMIT = 900.0  # seconds
DIALS = 100  # of each process of agents at once: more have their turns too late, and begin again


class Together(Fleet):
    """The fleet with `count` servers, which have both ports together."""

    patience = LIMIT
    dials = DIALS
    look = 2.0
    start_limit = LIMIT

    def __init__(
        self, site: Site, count: int, agents: int, processes: int, target: Sequence[str], registry: Registry
    ) -> None:
        self._count = count
        self.servers: list[Child] = []
        self.health = [("127.0.0.1", free_port()) for _ in range(count)]
        options = [*registry.options, "--reuse-port", *PATIENT]
        super().__init__(site, agents, processes, [*target, *PATIENT_AGENT], server=options)

    def start_server(self) -> Child:
        for host, port in self.health[len(self.servers) : self._count]:
            own = ("--health-addr", f"{host}:{port}")
            self.servers.append(self._start("server", self.public, self.internal, own))
            wait_until("its health port", lambda at=(host, port): answers(at), self.servers, LIMIT)
        return self.servers[0]

    def met(self, agents: Told) -> None:
        """They begin beside each other; `meet` waits for all."""

    def meet(self) -> None:
        """Wait until all processes of agents obey."""
        for each in self.agents:
            each.connect(LIMIT, LIMIT)

    def held(self) -> list[int]:
        """How many tunnels each server has."""
        return [json.loads(get(each, "/status")[1])["agents"] for each in self.health]

    def memory(self) -> list[int]:
        """What each server would free if it ended, KiB."""
        return [procfs.memory(each.pid).unshared for each in self.servers]

    def cpu(self) -> list[float]:
        """Seconds of processor that each server has used."""
        return [procfs.cpu_seconds(each.pid) for each in self.servers]


def answers(address: tuple[str, int]) -> bool:
    """Whether a server is there and knows the others."""
    try:
        return get(address, "/joined")[0] == 200
    except OSError:
        return False


def spread(values: Sequence[float], unit: str) -> str:
    """The least and the largest of some figures."""
    return f"{min(values):.1f} to {max(values):.1f} {unit}"


def ask(fleet: Together, agents: int) -> str:
    """Ask for some clusters, each on a connection of its own, so that any server may have it."""
    asked: Counter[int] = Counter()
    times = []
    for number in range(1, agents + 1, max(1, agents // SAMPLE)):
        began = time.monotonic()
        asked[get(fleet.internal, f"/tunnel/{cluster(number)}/api/v1/pods")[0]] += 1
        times.append(time.monotonic() - began)
    return f"asked through the one address: {dict(asked)}, the slowest after {max(times):.2f} s"


def settled(fleet: Together, agents: int) -> None:
    """Wait until the servers have a tunnel of each agent at the same time."""
    wait_until("all tunnels at once", lambda: sum(fleet.held()) >= agents, fleet.servers, LIMIT)


def arrivals(fleet: Together, began: float, cpu: list[float]) -> str:
    """Wait for all agents; how soon they were there after `began`, when servers had used so much."""
    reports = fleet.wait(began)
    came = sorted(each - began for _, each, _ in reports if each > began)
    if len(came) < len(reports):
        raise BenchError(f"{len(came)} of {len(reports)} agents after {LIMIT:.0f} s")
    used = [after - before for before, after in zip(cpu, fleet.cpu(), strict=True)]
    return (
        f"{len(came)} tunnels, half of them after {came[len(came) // 2]:.1f} s, "
        f"the last after {came[-1]:.1f} s; CPU of the servers {spread(used, 's')}; "
        f"load {os.getloadavg()[0]:.0f}"
    )


def run(site: Site, servers: int, agents: int, processes: int) -> None:
    """Let them come, hold them, cut them all."""
    api, registry = Api(), Registry(site, one_machine=True)
    began = time.monotonic()
    fleet = Together(site, servers, agents, processes, ["--target", api.address, "--plain-target"], registry)
    fleet.meet()
    print("come:", arrivals(fleet, began, [0.0] * servers), flush=True)
    settled(fleet, agents)
    print("tunnels of each server:", fleet.held(), flush=True)
    gevent.sleep(QUIET)
    cpu, began = fleet.cpu(), time.monotonic()
    gevent.sleep(QUIET)
    seconds = time.monotonic() - began
    used = [100 * (after - before) / seconds for before, after in zip(cpu, fleet.cpu(), strict=True)]
    print(
        f"held: {sum(fleet.held())} tunnels; {spread([each / 1024 for each in fleet.memory()], 'MiB')} each; "
        f"{spread(used, '% of a core')} each; load {os.getloadavg()[0]:.0f}",
        flush=True,
    )
    print(ask(fleet, agents), flush=True)
    cpu = fleet.cpu()
    began = min(gevent.pool.Group().map(lambda each: each.say("storm"), fleet.agents))
    print("cut, all of them at once:", arrivals(fleet, began, cpu), flush=True)
    settled(fleet, agents)
    print("tunnels of each server:", fleet.held(), flush=True)
    print(ask(fleet, agents), flush=True)
    memory = [each / 1024 for each in fleet.memory()]
    print(f"memory then: {spread(memory, 'MiB')} each", flush=True)
    for child in fleet.agents:
        child.close()
    api.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.together", description=__doc__.splitlines()[0])
    parser.add_argument("--servers", type=int, default=4)
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=PROCESSES, help="that the agents are spread over")
    options = parser.parse_args()
    end_on_sigterm()
    try:
        with Site() as site:
            run(site, options.servers, options.agents, options.processes)
    except BenchError as error:
        print(f"together: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
