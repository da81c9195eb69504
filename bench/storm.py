"""A thousand agents come at once: how long until all are back, and what a live tunnel notices of it.

Three storms, each over mutual TLS, with one more agent whose tunnel carries a request every 20 ms:

- restart: the server is killed and started again; agents dial with the backoff that they have.
- cut: every tunnel but the live one breaks in the same moment, and every agent dials at once, undelayed.
- beside slow clients: the same, while others hold as many handshakes open as they can and end none.

    python -m bench.storm --agents 1000
"""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import argparse
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import gevent
from gevent import socket

from argotun.transport.listen import BACKLOG
from bench import machine, procfs, results
from bench.errors import BenchError
from bench.fleet import PROCESSES, Fleet
from bench.light_agent import cluster
from bench.live import Latency, Requests
from bench.rolling import Api
from bench.site import Site, end_on_sigterm, wait_until

LIMIT = 15.0  # seconds after which the last agent must be back
DOWN = 1.0  # seconds that the server is away in a restart
CALM = 3.0  # seconds of requests before the storms, to compare with
SLOW = 500  # clients that begin a handshake and do not end it
LIVE = 0  # the number of the agent whose tunnel stays

# A ClientHello's first bytes: a record that says it is longer than what follows.
HALF_A_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"

COUNTERS = ("ListenOverflows", "ListenDrops", "TCPReqQFullDrop")


@dataclass
class Storm:
    """What became of one storm; times are seconds after the first moment in which agents could come."""

    name: str
    agents: int
    back: int
    median: float
    last: float
    dials: float
    most_dials: int
    cpu: float
    live: Latency

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.back} of {self.agents} agents back, half of them after {self.median:.1f} s, "
            f"the last after {self.last:.1f} s; {self.dials:.2f} dials for each, {self.most_dials} at most; "
            f"server {self.cpu * 1000 / self.agents:.1f} ms of CPU for each\n  live tunnel: {self.live}"
        )


@dataclass
class Outcome:
    """All of a run; `lost` are connections that the kernel dropped in front of a full queue, by counter."""

    backlog: int
    calm: Latency
    storms: list[Storm] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        lost = ", ".join(f"{name} +{count}" for name, count in self.lost.items())
        lines = [f"calm: {self.calm}", *map(str, self.storms), f"accept queue of {self.backlog}: {lost}"]
        return "\n".join(lines)

    @property
    def problems(self) -> list[str]:
        """What a storm must not do."""
        found = [
            f"{storm.name}: not all agents were back after {LIMIT:.0f} s"
            for storm in self.storms
            if storm.back < storm.agents or storm.last > LIMIT
        ]
        return found + [f"{name} rose" for name, count in self.lost.items() if count]


class Slow:
    """Clients that keep handshakes open, silently or with half a message, and come again when dropped."""

    def __init__(self, address: tuple[str, int], count: int) -> None:
        self._address = address
        self._greenlets = [gevent.spawn(self._hold, number) for number in range(count)]

    def stop(self) -> None:
        """Leave."""
        gevent.killall(self._greenlets)

    def _hold(self, number: int) -> None:
        while True:
            sock = socket.socket()
            try:
                sock.connect(self._address)
                if number % 2:
                    sock.sendall(HALF_A_HELLO)
                while sock.recv(100):
                    pass
            except OSError:
                gevent.sleep(0.1)
            finally:
                sock.close()


def restart(fleet: Fleet, requests: Requests) -> Storm:
    """Kill the server, wait a moment, start it again."""
    before = _dials(fleet)
    killed = time.monotonic()
    fleet.kill_server()
    gevent.sleep(DOWN)
    fleet.start_server()
    return _observe("restart", fleet, requests, killed, time.monotonic(), before)


def cut(fleet: Fleet, requests: Requests, name: str = "cut") -> Storm:
    """Break all tunnels but the live one."""
    before = _dials(fleet)
    began = min(gevent.pool.Group().map(lambda each: each.say("storm"), fleet.agents))
    return _observe(name, fleet, requests, began, began, before)


def beside_slow_clients(fleet: Fleet, requests: Requests, count: int) -> Storm:
    """Break all tunnels while others do not end their handshakes."""
    slow = Slow(fleet.public, count)
    gevent.sleep(1.0)
    try:
        return cut(fleet, requests, f"beside {count} slow clients")
    finally:
        slow.stop()


def _observe(
    name: str,
    fleet: Fleet,
    requests: Requests,
    lost: float,
    began: float,
    before: dict[int, int],
) -> Storm:
    """The agents were `lost` then, and could come back from `began` on."""
    cpu = procfs.cpu_seconds(fleet.server.pid)
    reports = fleet.wait(lost)
    live = requests.since(began)
    came = sorted(max(came - began, 0.0) for _, came, _ in reports if came > lost)
    dials = [count - before[number] for number, _, count in reports]
    return Storm(
        name=name,
        agents=len(reports),
        back=len(came),
        median=came[len(came) // 2] if came else 0.0,
        last=came[-1] if came else 0.0,
        dials=sum(dials) / len(dials),
        most_dials=max(dials),
        cpu=procfs.cpu_seconds(fleet.server.pid) - cpu,
        live=live,
    )


def _dials(fleet: Fleet) -> dict[int, int]:
    return {number: dials for each in fleet.agents for number, _, dials in each.say("report")}


def run(site: Site, agents: int, processes: int, slow: int, calm: float = CALM) -> Outcome:
    """All three storms, one after the other."""
    before = listen_counters()
    api = Api()
    fleet = Fleet(site, agents, processes, ["--target", api.address, "--plain-target"])
    account = site.write("sa-live", "sa-live")
    live = fleet.start_agents("live", LIVE, 1, "--max-retry", "100ms", "--sa-token-path", str(account))
    requests = None
    try:
        fleet.wait(0.0)
        wait_until("the live agent", lambda: live.say("report")[0][1] > 0, [live.child])
        requests = Requests(fleet.internal, cluster(LIVE), "sa-live")
        began = time.monotonic()
        gevent.sleep(calm)
        outcome = Outcome(backlog=accept_queue(), calm=requests.since(began))
        outcome.storms.append(cut(fleet, requests))
        outcome.storms.append(beside_slow_clients(fleet, requests, slow))
        outcome.storms.append(restart(fleet, requests))
    finally:
        if requests is not None:
            requests.stop()
        for child in (live, *fleet.agents):
            child.close()
        api.stop()
    after = listen_counters()
    outcome.lost = {name: after[name] - before[name] for name in COUNTERS}
    return outcome


def listen_counters() -> dict[str, int]:
    """How often the kernel has dropped a connection because an accept queue was full (all sockets)."""
    names, values = Path("/proc/net/netstat").read_text().splitlines()[:2]
    found = dict(zip(names.split(), values.split(), strict=True))
    return {name: int(found.get(name, 0)) for name in COUNTERS}


def accept_queue() -> int:
    """How many connections the kernel holds for one of argotun's listeners until they are accepted."""
    return min(BACKLOG, int(Path("/proc/sys/net/core/somaxconn").read_text()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.storm", description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=PROCESSES, help="that the agents are spread over")
    parser.add_argument("--slow", type=int, default=SLOW, help="clients that do not end their handshakes")
    parser.add_argument("--json", type=Path, help="write the outcome there too")
    options = parser.parse_args()
    end_on_sigterm()
    try:
        with Site() as site:
            outcome = run(site, options.agents, options.processes, options.slow)
    except BenchError as error:
        print(f"storm: {error}", file=sys.stderr)
        return 1
    print(outcome)
    for problem in outcome.problems:
        print(f"MISSED {problem}")
    if options.json:
        results.write(options.json, machine.describe(), **asdict(outcome))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
