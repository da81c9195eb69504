"""Thirty replicas' directories on one real Redis: what they cost, and how soon all know what one has said.

Each replica is a process with nothing but `argotun.replicas`: no agents, no links. 10,000 clusters with two
tunnels each are 20,000 routes.

    python -m bench.replicas --replicas 30 --clusters 10000
"""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
from gevent.fileobject import FileObject

from argotun.config import ServerConfig
from argotun.config.network import parse_registry
from argotun.replicas.directory import Directory
from argotun.replicas.records import Claim
from argotun.replicas.shared import SharedRegistry, new_id
from bench.ports import free_port
from bench.site import end_on_sigterm

PATIENCE = 120.0
STORM = 5.0  # seconds in which the agents of a storm arrive


def digest(routes: dict[str, set[str]], without: str) -> int:
    """One number for who has what, as a replica that is not in it should see it."""
    pairs = sorted(f"{each} {name}" for each, names in routes.items() if each != without for name in names)
    return zlib.crc32("\n".join(pairs).encode())


def replica(url: str) -> None:
    """A replica that does what stdin says, a JSON object a line, and answers each on stdout."""
    changed = [0.0, 0]

    def on_change(cluster: str) -> None:
        changed[0] = monotonic()
        changed[1] += 1

    directory = Directory(new_id(), on_change)
    claims: dict[str, Claim] = {}
    shared = SharedRegistry(ServerConfig(registry=parse_registry(url)), directory, "h:1", claims)

    def arrive(names: list[str], seconds: float) -> float:
        for name in names:
            gevent.sleep(seconds / len(names))
            claims[name] = Claim(monotonic(), 1)
            shared.changed(name)
        return monotonic()

    def state() -> dict[str, Any]:
        routes = {name: set(found.routes) for name, found in directory.replicas.items()}
        return {
            "digest": digest(routes, directory.me),
            "replicas": len(routes),
            "up": shared.up,
            "changed": changed[0],
            "changes": changed[1],
            "cpu": sum(os.times()[:2]),
            "beats": shared.beats,
            "errors": shared.errors,
        }

    actions: dict[str, Callable[..., Any]] = {
        "arrive": arrive,
        "state": state,
        "start": shared.start,
        "up": lambda: shared.up,
    }
    print(directory.me, flush=True)
    # A plain read would stop all greenlets.
    for line in FileObject(sys.stdin.fileno(), "r"):
        name, *arguments = json.loads(line)
        print(json.dumps(actions[name](*arguments)), flush=True)
    shared.stop()


class Child:
    """One replica's process."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.replicas", "--child", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.id = ""
        self.has: set[str] = set()

    def meet(self) -> None:
        """Wait until it says who it is."""
        assert self.process.stdout is not None
        self.id = self.process.stdout.readline().strip()

    def do(self, *action: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(action) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def arrive(self, names: list[str], seconds: float) -> float:
        self.has |= set(names)
        return float(self.do("arrive", names, seconds))


class Fleet:
    """All of them, and their Redis."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            sys.exit("bench.replicas needs redis-server (Debian: redis-server)")
        self.port = free_port()
        self.command = [program, "--port", str(self.port), "--save", "", "--appendonly", "no"]
        self.command += ["--bind", "127.0.0.1", "--dir", str(folder), "--loglevel", "warning"]
        self.redis: subprocess.Popen[bytes] | None = None
        self.children: list[Child] = []

    def start(self) -> None:
        """Begin with an empty Redis."""
        self.redis = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)

    def kill_redis(self) -> None:
        """End it, as kill -9 does."""
        if self.redis is not None:
            self.redis.kill()
            self.redis.wait()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self) -> Any:
        import redis

        return redis.Redis(port=self.port, protocol=2)

    def redis_cpu(self) -> float:
        with self.client() as client:
            used = client.info("cpu")
        return float(used["used_cpu_user"] + used["used_cpu_sys"])

    def states(self) -> list[dict[str, Any]]:
        return [child.do("state") for child in self.children]

    def settled(self) -> list[dict[str, Any]]:
        """Wait until each one's table is the truth; their states then."""
        truth = {child.id: child.has for child in self.children}
        wanted = [digest(truth, child.id) for child in self.children]
        deadline = monotonic() + PATIENCE
        while True:
            states = self.states()
            if [state["digest"] for state in states] == wanted and all(state["up"] for state in states):
                return states
            if monotonic() > deadline:
                sys.exit(f"no agreement: {states}")
            gevent.sleep(1.0)

    def current(self) -> float:
        """Wait until each one hears itself; when that was."""
        while not all(child.do("up") for child in self.children):
            gevent.sleep(0.05)
        return monotonic()

    def close(self) -> None:
        for child in self.children:
            child.process.kill()
            child.process.wait()
        self.kill_redis()


def latest(states: list[dict[str, Any]]) -> float:
    return max(float(state["changed"]) for state in states)


def share(before: list[dict[str, Any]], after: list[dict[str, Any]], seconds: float) -> str:
    used = [100 * (b["cpu"] - a["cpu"]) / seconds for a, b in zip(before, after, strict=True)]
    return f"{min(used):.2f} to {max(used):.2f} % of a core each"


def measure_fair_weather(fleet: Fleet, replicas: int, clusters: int) -> None:
    begin = monotonic()
    for _ in range(replicas):
        fleet.children.append(Child(fleet.url))
    for child in fleet.children:
        child.meet()
    print(f"{replicas} processes after {monotonic() - begin:.1f} s; load {os.getloadavg()[0]:.0f}")
    holders: list[list[str]] = [[] for _ in range(replicas)]
    for number in range(clusters):
        first = number % replicas
        holders[first].append(f"c{number}")
        holders[(first + 1 + number // replicas % (replicas - 1)) % replicas].append(f"c{number}")
    for child, names in zip(fleet.children, holders, strict=True):
        child.arrive(names, 0.0)
    for child in fleet.children:
        child.do("start")
    begin = monotonic()
    states = fleet.settled()
    print(f"{2 * clusters} routes known to all {latest(states) - begin:.2f} s after the start")

    cpu, begin = fleet.redis_cpu(), monotonic()
    gevent.sleep(20)
    after = fleet.states()
    seconds = monotonic() - begin
    redis = 100 * (fleet.redis_cpu() - cpu) / seconds
    print(f"quiet: {share(states, after, seconds)}, Redis {redis:.2f} %")

    before, cpu, begin = fleet.states(), fleet.redis_cpu(), monotonic()
    storms = [
        gevent.spawn(child.arrive, [f"storm{number}-{each}" for each in range(1000 // replicas)], STORM)
        for number, child in enumerate(fleet.children)
    ]
    gevent.joinall(storms)
    last = max(storm.value for storm in storms)
    states = fleet.settled()
    seconds = monotonic() - begin
    beats = sum(b["beats"] - a["beats"] for a, b in zip(before, states, strict=True))
    print(
        f"1,000 arrivals in {STORM:.0f} s: known to all {latest(states) - last:.2f} s after the last; "
        f"{share(before, states, seconds)}, Redis {100 * (fleet.redis_cpu() - cpu) / seconds:.2f} %, "
        f"{beats / seconds:.0f} scripts/s"
    )


def measure_outages(fleet: Fleet) -> None:
    routes = sum(len(child.has) for child in fleet.children)
    changes = [state["changes"] for state in fleet.settled()]
    begin = monotonic()
    with fleet.client() as client:
        client.flushall()
        keys = [f"{{argotun}}:routes:{child.id}" for child in fleet.children]
        while sum(client.hlen(key) for key in keys) < routes + len(keys):
            gevent.sleep(0.02)
        print(f"FLUSHALL: {routes} routes there again after {monotonic() - begin:.2f} s", end="; ")
    print(f"changes seen: {sum(s['changes'] for s in fleet.settled()) - sum(changes)}")

    assert fleet.redis is not None
    fleet.redis.send_signal(signal.SIGSTOP)
    gevent.sleep(20)
    fleet.redis.send_signal(signal.SIGCONT)
    begin = monotonic()
    print(f"paused for 20 s: all current {fleet.current() - begin:.2f} s after it goes on", end="; ")
    states = fleet.settled()
    print(f"changes seen: {sum(s['changes'] for s in states) - sum(changes)}")

    fleet.kill_redis()
    gevent.sleep(5)
    fleet.start()
    begin = monotonic()
    print(f"killed for 5 s: all current {fleet.current() - begin:.2f} s after its start", end="; ")
    states = fleet.settled()
    print(f"changes seen: {sum(s['changes'] for s in states) - sum(changes)}")


def measure_replicas(fleet: Fleet) -> None:
    begin = monotonic()
    newcomer = Child(fleet.url)
    fleet.children.append(newcomer)
    newcomer.meet()
    newcomer.do("start")
    begin, used = monotonic(), newcomer.do("state")["cpu"]
    state = fleet.settled()[-1]
    print(f"a newcomer knows all after {state['changed'] - begin:.2f} s, {state['cpu'] - used:.2f} s of CPU")

    victim = fleet.children.pop(0)
    victim.process.kill()
    victim.process.wait()
    begin = monotonic()
    states = fleet.settled()
    print(f"a killed one, without links, is forgotten after {latest(states) - begin:.2f} s")
    print(f"errors: {[sum(s['errors'][kind] for s in states) for kind in ('write', 'read', 'resync')]}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.replicas")
    parser.add_argument("--replicas", type=int, default=30)
    parser.add_argument("--clusters", type=int, default=10_000)
    parser.add_argument("--child", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        replica(options.child)
        return
    end_on_sigterm()
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(Path(folder))
        try:
            fleet.start()
            measure_fair_weather(fleet, options.replicas, options.clusters)
            measure_outages(fleet)
            measure_replicas(fleet)
        finally:
            fleet.close()


if __name__ == "__main__":
    main()
