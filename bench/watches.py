"""Fifteen thousand watches over a hundred tunnels: what they hold while nothing happens, and then events.

Clients keep a connection for each watch, as Argo CD does; the API answers with one event and is silent.
What server and agents have grown by is divided by the number of watches. Requests pass beside them through
one of the tunnels all the time. In the end something happens on a thousand watches in the same moment, and
on all of them. With `--hop` every other watch comes to a second replica, which has no agent: it takes a link.

    python -m bench.watches --streams 15000 --tunnels 100
    python -m bench.watches --streams 15000 --tunnels 667 --hop
"""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import argparse
import gc
import http.client
import json
import resource
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import gevent
from gevent import socket
from gevent.pool import Pool

from bench import certificates, machine, procfs, results
from bench.errors import BenchError
from bench.fleet import ACCOUNT, PROCESSES, Fleet
from bench.light_agent import cluster
from bench.live import Latency, Requests
from bench.registry import Registry
from bench.site import Child, Site, end_on_sigterm, wait_until
from bench.words import Told

EVENTS = 1000  # watches on which something happens at once
SECOND = 1.0  # in which all of those events must have been delivered
SERVER_LIMIT = 400  # MiB that the server may have
SETTLE = 3.0  # seconds for what is freed late
CALM = 5.0  # seconds in which nothing happens on any watch
OPENING = 32  # watches that are being opened at once
ANSWER_LIMIT = 60.0  # seconds


@dataclass
class Delivery:
    """Events that happened in the same moment; seconds from then until they were read."""

    events: int
    writing: float
    median: float
    last: float

    def __str__(self) -> str:
        return (
            f"{self.events} events at once: half of them read within {self.median * 1000:.0f} ms, all "
            f"within {self.last * 1000:.0f} ms (the API took {self.writing * 1000:.0f} ms to write them)"
        )


@dataclass
class Outcome:
    """Of `streams` watches over `tunnels`: KiB for each, MiB of processes, shares of one processor."""

    streams: int
    tunnels: int
    opening: float
    server_kib: float
    agent_kib: float
    server_mib: float
    server_peak_mib: float
    server_idle_cpu: float
    agents_idle_cpu: float
    alone: Latency
    beside: Latency
    deliveries: list[Delivery] = field(default_factory=list)
    left: int = 0
    beside_kib: float = 0.0  # for each watch that came to a second replica, of which there were half as many
    beside_mib: float = 0.0
    beside_idle_cpu: float = 0.0

    def __str__(self) -> str:
        lines = [
            f"{self.streams} watches over {self.tunnels} tunnels, opened in {self.opening:.0f} s",
            f"memory for each watch: server {self.server_kib:.1f} KiB, agent (TLS to the API) "
            f"{self.agent_kib:.1f} KiB",
            f"server: {self.server_mib:.0f} MiB, {self.server_peak_mib:.0f} MiB at most",
            f"while nothing happens: server {self.server_idle_cpu:.1%} of a processor, "
            f"all agents together {self.agents_idle_cpu:.1%}",
            f"requests without watches: {self.alone}",
            f"requests beside them:     {self.beside}",
            *map(str, self.deliveries),
            f"at the second replica, for each of its {self.streams // 2} watches: {self.beside_kib:.1f} KiB; "
            f"{self.beside_mib:.0f} MiB, {self.beside_idle_cpu:.1%} of a processor while nothing happens"
            if self.beside_mib
            else "no second replica",
            f"watches left at the API after the clients had gone: {self.left}",
        ]
        return "\n".join(lines)

    @property
    def problems(self) -> list[str]:
        """Aims that were missed."""
        found = []
        if self.server_peak_mib > SERVER_LIMIT:
            found.append(f"the server took more than {SERVER_LIMIT} MiB")
        if self.deliveries and self.deliveries[0].last > SECOND:
            found.append(f"{self.deliveries[0].events} events took more than {SECOND:.0f} s")
        if self.left:
            found.append(f"{self.left} watches were left over")
        return found


class Watch:
    """One client's watch; nothing of it runs while nothing happens."""

    __slots__ = ("_data", "_sock")

    def __init__(self, address: tuple[str, int], name: str) -> None:
        self._data = b""
        self._sock = socket.socket()
        self._sock.settimeout(ANSWER_LIMIT)
        self._sock.connect(address)
        request = f"GET /tunnel/{name}/api/v1/pods?watch=1 HTTP/1.1\r\nHost: argotun\r\n\r\n"
        self._sock.sendall(request.encode())
        if not self._until(b"\r\n\r\n").startswith(b"HTTP/1.1 200"):
            raise BenchError("a watch was refused")
        self.event()

    def event(self) -> float:
        """The next event: the time that it carries."""
        self._until(b"\r\n")
        return float(self._until(b"\r\n"))

    def close(self) -> None:
        """Lose interest."""
        self._sock.close()

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._data:
            more = self._sock.recv(4096)
            if not more:
                raise BenchError("a watch ended")
            self._data += more
        found, _, self._data = self._data.partition(mark)
        return found


def run(
    site: Site,
    streams: int,
    tunnels: int,
    processes: int,
    events: int = EVENTS,
    calm: float = CALM,
    settle: float = SETTLE,
    hop: bool = False,
) -> Outcome:
    """Open the watches, half of them by a `hop`, look at what they cost, let things happen, close them."""
    made = certificates.make(site.folder)
    api = Told(site, "api", "bench.watch_api", [str(made.server), str(made.server_key)])
    api.connect()
    target = ["--target", f"127.0.0.1:{api.say('port')}", "--ca-cert", str(made.ca), "--max-conns", "8192"]
    target += ["--tunnels", "1"]
    fleet = Fleet(site, tunnels, processes, target, made, Registry(site).options if hop else ())
    ports, servers = [fleet.internal], {"server": fleet.server}
    requests = None
    watches: list[Watch] = []
    try:
        fleet.wait(0.0)
        if hop:
            servers["beside"], _, internal = fleet.start_beside()
            wait_until("what the registry says", lambda: _elsewhere(internal) == tunnels, [servers["beside"]])
            ports.append(internal)
        requests = Requests(fleet.internal, cluster(1), ACCOUNT)
        alone = _calm(requests, calm)
        before = _memory(fleet, servers)
        began = time.monotonic()
        watches += _open(ports, streams, tunnels)
        opening = time.monotonic() - began
        gevent.sleep(settle)
        after = _memory(fleet, servers)
        cpu = _cpu(fleet, servers)
        began = time.monotonic()
        beside = _calm(requests, calm)
        seconds = time.monotonic() - began
        idle = {name: (used - cpu[name]) / seconds for name, used in _cpu(fleet, servers).items()}
        grown = {name: (after[name] - before[name]) / streams for name in before}
        deliveries = [_happen(api, watches, count) for count in (events, streams)]
        server = procfs.memory(fleet.server.pid)
        second = procfs.memory(servers["beside"].pid).rss if hop else 0
        for watch in watches:
            watch.close()
        left = _left(api)
    finally:
        if requests is not None:
            requests.stop()
        for watch in watches:
            watch.close()
        for child in (api, *fleet.agents):
            child.close()
    return Outcome(
        streams=streams,
        tunnels=tunnels,
        opening=opening,
        server_kib=grown["server"],
        agent_kib=grown["agents"],
        server_mib=server.rss / 1024,
        server_peak_mib=server.peak / 1024,
        server_idle_cpu=idle["server"],
        agents_idle_cpu=idle["agents"],
        alone=alone,
        beside=beside,
        deliveries=deliveries,
        left=left,
        beside_kib=2 * grown.get("beside", 0.0),
        beside_mib=second / 1024,
        beside_idle_cpu=idle.get("beside", 0.0),
    )


def _open(ports: list[tuple[str, int]], streams: int, tunnels: int) -> list[Watch]:
    def watch(number: int) -> Watch:
        return Watch(ports[number % len(ports)], cluster(1 + number // len(ports) % tunnels))

    opened: list[Watch] = Pool(OPENING).map(watch, range(streams))
    return opened


def _elsewhere(internal: tuple[str, int]) -> int:
    """How many clusters a replica knows at others."""
    connection = http.client.HTTPConnection(*internal, timeout=ANSWER_LIMIT)
    try:
        connection.request("GET", "/status")
        return len(json.load(connection.getresponse())["elsewhere"])
    finally:
        connection.close()


def _happen(api: Told, watches: list[Watch], count: int) -> Delivery:
    """Let something happen on so many watches, and see when that is read."""
    arrived: list[float] = []
    lost: Counter[str] = Counter()

    def follow(watch: Watch) -> None:
        try:
            happened = watch.event()
        except (OSError, BenchError) as error:
            lost[str(error)] += 1
        else:
            arrived.append(time.monotonic() - happened)

    followers = [gevent.spawn(follow, watch) for watch in watches]
    gevent.sleep(0.1)
    told = gevent.spawn(api.say, f"fire {count}")
    deadline = time.monotonic() + ANSWER_LIMIT
    while len(arrived) < count and not lost and time.monotonic() < deadline:
        gevent.sleep(0.01)
    _, writing = told.get()
    gevent.killall(followers)
    if len(arrived) != count:
        raise BenchError(f"{len(arrived)} of {count} events arrived; watches lost: {dict(lost) or 'none'}")
    arrived.sort()
    return Delivery(events=count, writing=writing, median=arrived[count // 2], last=arrived[-1])


def _left(api: Told) -> int:
    """Watches that the API still has a while after the last client has gone."""
    deadline = time.monotonic() + ANSWER_LIMIT
    while (left := api.say("held")) and time.monotonic() < deadline:
        gevent.sleep(0.2)
    return int(left)


def _calm(requests: Requests, seconds: float) -> Latency:
    began = time.monotonic()
    gevent.sleep(seconds)
    return requests.since(began)


def _memory(fleet: Fleet, servers: dict[str, Child]) -> dict[str, int]:
    """KiB that are nobody else's."""
    agents = sum(procfs.memory(each.child.pid).unshared for each in fleet.agents)
    return {name: procfs.memory(each.pid).unshared for name, each in servers.items()} | {"agents": agents}


def _cpu(fleet: Fleet, servers: dict[str, Child]) -> dict[str, float]:
    agents = sum(procfs.cpu_seconds(each.child.pid) for each in fleet.agents)
    return {name: procfs.cpu_seconds(each.pid) for name, each in servers.items()} | {"agents": agents}


def raise_file_limit() -> None:
    """As many descriptors as this process and its children may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.watches", description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=15_000)
    parser.add_argument("--tunnels", type=int, default=100)
    parser.add_argument("--processes", type=int, default=PROCESSES, help="that the agents are spread over")
    parser.add_argument("--hop", action="store_true", help="half of the watches by a second replica")
    parser.add_argument("--json", type=Path, help="write the outcome there too")
    options = parser.parse_args()
    raise_file_limit()
    # The client's own pauses must not look like the tunnels'.
    gc.disable()
    end_on_sigterm()
    try:
        with Site() as site:
            outcome = run(site, options.streams, options.tunnels, options.processes, hop=options.hop)
    except BenchError as error:
        print(f"watches: {error}", file=sys.stderr)
        return 1
    print(outcome)
    for problem in outcome.problems:
        print(f"MISSED {problem}")
    if options.json:
        results.write(options.json, machine.describe(), **asdict(outcome))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
