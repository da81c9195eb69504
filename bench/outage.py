"""A thousand agents come at once to three replicas whose Redis stands still: who is found, and how soon.

haproxy spreads the agents, each with one tunnel, so two thirds of them come to another replica than before.
While Redis is stopped, a request for each of some clusters goes to every replica.

    python -m bench.outage --agents 1000
"""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import argparse
import http.client
import json
import os
import signal
import sys
import time
from collections import Counter
from typing import Any

from bench import procfs
from bench.errors import BenchError
from bench.fleet import PROCESSES, Fleet
from bench.light_agent import cluster
from bench.ports import free_port
from bench.registry import Registry
from bench.rolling import Api
from bench.site import Site, end_on_sigterm, wait_until

STOPPED = 10.0  # seconds
SAMPLE = 30  # clusters that are asked for meanwhile
LIMIT = 60.0  # seconds for one answer
REPLICAS = 3

FRONT = """
global
    maxconn 8000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen agents
    bind 127.0.0.1:{port}
    balance random
{servers}
"""


def get(address: tuple[str, int], path: str) -> tuple[int, bytes]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(*address, timeout=LIMIT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def status(address: tuple[str, int]) -> dict[str, Any]:
    """What a replica says of itself."""
    found: dict[str, Any] = json.loads(get(address, "/status")[1])
    return found


def known(internals: list[tuple[str, int]], agents: int) -> bool:
    """Whether each replica hears the registry, and knows of each agent where it is."""
    for each in map(status, internals):
        found = sum(len(there) for kind in ("clusters", "elsewhere") for there in each[kind].values())
        if not each["registry"]["up"] or found != agents:
            return False
    return True


def run(site: Site, agents: int, processes: int) -> None:
    """Let them come, while Redis works and while it does not."""
    api, registry = Api(), Registry(site)
    front = ("127.0.0.1", free_port())
    target = ["--target", api.address, "--plain-target", "--tunnels", "1"]
    fleet = Fleet(site, agents, processes, target, server=registry.options, front=front)
    beside = [fleet.start_beside() for _ in range(REPLICAS - 1)]
    publics = [fleet.public, *(public for _, public, _ in beside)]
    internals = [fleet.internal, *(internal for _, _, internal in beside)]
    servers = [fleet.server, *(child for child, _, _ in beside)]
    lines = "\n".join(f"    server s{at} {host}:{port}" for at, (host, port) in enumerate(publics))
    config = site.write("haproxy.cfg", FRONT.format(port=front[1], servers=lines))
    site.start("haproxy", ["haproxy", "-db", "-f", str(config)])
    fleet.wait(0.0)
    wait_until("what all know", lambda: known(internals, agents), servers)

    redis = registry.child.process
    for stopped in (False, True):
        used = [procfs.cpu_seconds(each.pid) for each in servers]
        if stopped:
            redis.send_signal(signal.SIGSTOP)
        halted = time.monotonic()
        began = min(each.say("storm") for each in fleet.agents)
        came = sorted(came - began for _, came, _ in fleet.wait(began) if came > began)
        asked: Counter[int] = Counter()
        slowest = 0.0
        if stopped:
            for number in range(1, agents + 1, max(1, agents // SAMPLE)):
                for internal in internals:
                    due = time.monotonic()
                    asked[get(internal, f"/tunnel/{cluster(number)}/api/v1/pods")[0]] += 1
                    slowest = max(slowest, time.monotonic() - due)
            asking = time.monotonic() - halted
            time.sleep(max(0.0, STOPPED - asking))
            redis.send_signal(signal.SIGCONT)
        seconds = time.monotonic() - halted
        whole = time.monotonic()
        wait_until("what all know", lambda: known(internals, agents), servers)
        cpu = [procfs.cpu_seconds(each.pid) - before for each, before in zip(servers, used, strict=True)]
        print(
            f"Redis stopped for {seconds:.0f} s" if stopped else "Redis works",
            f"{len(came)} of {agents} agents back, half of them after {came[len(came) // 2]:.1f} s, the last "
            f"after {came[-1]:.1f} s",
            f"known everywhere {time.monotonic() - whole:.2f} s later",
            f"CPU of the replicas {min(cpu):.1f} to {max(cpu):.1f} s",
            f"load {os.getloadavg()[0]:.0f}",
            sep="; ",
        )
        if stopped:
            print(f"asked meanwhile, at all replicas: {dict(asked)}, the slowest {slowest:.2f} s")
    for child in fleet.agents:
        child.close()
    api.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.outage", description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=PROCESSES, help="that the agents are spread over")
    options = parser.parse_args()
    end_on_sigterm()
    try:
        with Site() as site:
            run(site, options.agents, options.processes)
    except BenchError as error:
        print(f"outage: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
