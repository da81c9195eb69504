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
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import gevent
from gevent import socket

from argotun.transport.listen import BACKLOG
from bench import certificates, procfs
from bench.errors import BenchError
from bench.light_agent import Driver, cluster, token
from bench.rolling import PROGRAM, Api, Connection
from bench.site import Child, Site, free_port, wait_until

PROCESSES = 4  # that the agents are spread over
LIMIT = 15.0  # seconds after which the last agent must be back
PATIENCE = 60.0  # seconds after which a storm is given up
DOWN = 1.0  # seconds that the server is away in a restart
EVERY = 0.02  # seconds between two requests on the live tunnel
CALM = 3.0  # seconds of requests before the storms, to compare with
SLOW = 500  # clients that begin a handshake and do not end it
LIVE = 0  # the number of the agent whose tunnel stays

# A ClientHello's first bytes: a record that says it is longer than what follows.
HALF_A_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"

COUNTERS = ("ListenOverflows", "ListenDrops", "TCPReqQFullDrop")


@dataclass
class Latency:
    """Of the requests on the live tunnel, seconds; `failed` counts those that were not answered with 200."""

    count: int
    p50: float
    p99: float
    slowest: float
    failed: dict[str, int]

    def __str__(self) -> str:
        return (
            f"{self.count} requests, p50 {self.p50 * 1000:.1f} ms, p99 {self.p99 * 1000:.1f} ms, "
            f"slowest {self.slowest * 1000:.0f} ms, failed: {self.failed or 'none'}"
        )


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


class Requests:
    """One request after the other through the live tunnel, each timed from when it was due."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._request = b"GET /tunnel/%b/api HTTP/1.1\r\nHost: argotun\r\n\r\n" % cluster(LIVE).encode()
        self._taken: list[tuple[float, float, str]] = []
        self._connection: Connection | None = None
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Ask no more."""
        self._greenlet.kill()
        self._hang_up()

    def since(self, began: float) -> Latency:
        """What those that were due since then took."""
        taken = [(seconds, failure) for due, seconds, failure in self._taken if due >= began]
        seconds = sorted(each for each, _ in taken) or [0.0]
        return Latency(
            count=len(taken),
            p50=seconds[len(seconds) // 2],
            p99=seconds[min(len(seconds) - 1, len(seconds) * 99 // 100)],
            slowest=seconds[-1],
            failed=dict(Counter(failure for _, failure in taken if failure)),
        )

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            gevent.sleep(max(0.0, due - time.monotonic()))
            try:
                self._connection = self._connection or Connection(self._address)
                status = self._connection.ask(self._request)[0]
                failure = "" if status == 200 else str(status)
            except (OSError, EOFError) as error:
                failure = type(error).__name__
                self._hang_up()
            now = time.monotonic()
            self._taken.append((due, now - due, failure))
            # After a long wait the next one is due at once, but those that were missed are not made up for.
            due = max(due + EVERY, now)

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


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


class Deployment:
    """A server, its agents in a few processes, the live one in one of its own, and the API."""

    def __init__(self, site: Site, agents: int, processes: int, handshake_timeout: str = "10s") -> None:
        self._site = site
        self._made = certificates.make(site.folder)
        self._clusters = site.write(
            "clusters.json", [{"id": cluster(n), "token": token(n)} for n in range(agents + 1)]
        )
        self.public = ("127.0.0.1", free_port())
        self.internal = ("127.0.0.1", free_port())
        self._handshake_timeout = handshake_timeout
        self._api = Api()
        self.count = agents
        self.server = self.start_server()
        options = self._agent_options()
        self.live = Driver(site, LIVE, 1, [*options, "--max-retry", "100ms"])
        share = -(-agents // processes)
        self.drivers = [
            Driver(site, first, min(share, agents + 1 - first), options)
            for first in range(1, agents + 1, share)
        ]
        for driver in (self.live, *self.drivers):
            driver.connect()

    def start_server(self) -> Child:
        """Start the server, and wait until it listens."""
        made = self._made
        command = ["--mode", "server", "--clusters", str(self._clusters), "--no-access-log"]
        command += ["--addr", _shown(self.public), "--internal-addr", _shown(self.internal)]
        command += ["--internal-plain", "--tls-client-ca", str(made.ca), "--log-level", "error"]
        command += ["--tls-cert", str(made.server), "--tls-key", str(made.server_key)]
        command += ["--handshake-timeout", self._handshake_timeout]
        self.server = self._site.start("server", [*PROGRAM, *command])
        wait_until("the server", lambda: _listens(self.internal), [self.server])
        return self.server

    def kill_server(self) -> None:
        """End it as kill -9 does."""
        self.server.process.kill()
        self.server.process.wait()

    def wait(self, began: float) -> list[tuple[int, float, int]]:
        """Until all agents have connected after `began`, or for as long as patience lasts; their reports."""
        deadline = time.monotonic() + PATIENCE
        while True:
            reports = [each for driver in self.drivers for each in driver.say("report")]
            if all(came > began for _, came, _ in reports) or time.monotonic() > deadline:
                return reports
            gevent.sleep(0.25)

    def stop(self) -> None:
        """End what is in this process."""
        for driver in (self.live, *self.drivers):
            driver.close()
        self._api.stop()

    def _agent_options(self) -> list[str]:
        made, folder = self._made, self._site
        return [
            *("--server", f"wss://127.0.0.1:{self.public[1]}/connect"),
            *("--server-ca-cert", str(made.ca), "--client-cert", str(made.agent)),
            *("--client-key", str(made.agent_key), "--target", self._api.address, "--plain-target"),
            *("--sa-token-path", str(folder.write("sa-token", "sa-token")), "--health-addr", "off"),
        ]


def restart(deployment: Deployment, requests: Requests) -> Storm:
    """Kill the server, wait a moment, start it again."""
    before = _dials(deployment)
    killed = time.monotonic()
    deployment.kill_server()
    gevent.sleep(DOWN)
    deployment.start_server()
    return _observe("restart", deployment, requests, killed, time.monotonic(), before)


def cut(deployment: Deployment, requests: Requests, name: str = "cut") -> Storm:
    """Break all tunnels but the live one."""
    before = _dials(deployment)
    began = min(gevent.pool.Group().map(lambda driver: driver.say("storm"), deployment.drivers))
    return _observe(name, deployment, requests, began, began, before)


def beside_slow_clients(deployment: Deployment, requests: Requests, count: int) -> Storm:
    """Break all tunnels while others do not end their handshakes."""
    slow = Slow(deployment.public, count)
    gevent.sleep(1.0)
    try:
        return cut(deployment, requests, f"beside {count} slow clients")
    finally:
        slow.stop()


def _observe(
    name: str,
    deployment: Deployment,
    requests: Requests,
    lost: float,
    began: float,
    before: dict[int, int],
) -> Storm:
    """The agents were `lost` then, and could come back from `began` on."""
    cpu = procfs.cpu_seconds(deployment.server.pid)
    reports = deployment.wait(lost)
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
        cpu=procfs.cpu_seconds(deployment.server.pid) - cpu,
        live=live,
    )


def _dials(deployment: Deployment) -> dict[int, int]:
    return {number: dials for driver in deployment.drivers for number, _, dials in driver.say("report")}


def run(site: Site, agents: int, processes: int, slow: int, calm: float = CALM) -> Outcome:
    """All three storms, one after the other."""
    before = listen_counters()
    deployment = Deployment(site, agents, processes)
    requests = None
    try:
        deployment.wait(0.0)
        wait_until("the live agent", lambda: deployment.live.say("report")[0][1] > 0, [deployment.live.child])
        requests = Requests(deployment.internal)
        began = time.monotonic()
        gevent.sleep(calm)
        outcome = Outcome(backlog=accept_queue(), calm=requests.since(began))
        outcome.storms.append(cut(deployment, requests))
        outcome.storms.append(beside_slow_clients(deployment, requests, slow))
        outcome.storms.append(restart(deployment, requests))
    finally:
        if requests is not None:
            requests.stop()
        deployment.stop()
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


def _shown(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def _listens(address: tuple[str, int]) -> bool:
    try:
        Connection(address).close()
    except OSError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.storm", description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=PROCESSES, help="that the agents are spread over")
    parser.add_argument("--slow", type=int, default=SLOW, help="clients that do not end their handshakes")
    parser.add_argument("--json", type=Path, help="write the outcome there too")
    options = parser.parse_args()
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
        options.json.write_text(json.dumps(asdict(outcome), indent=2) + "\n")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
