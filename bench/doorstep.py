"""Thousands of strangers who drip their TLS hellos at the public port: how long until an honest agent is in.

Each sends a byte of its ClientHello every 0.8 s and comes again when it is dropped, from one of 50 addresses
of 127.66.0.0/16. Beside them an agent loses its tunnel and dials anew, again and again.

    python -m bench.doorstep --strangers 5500
"""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import argparse
import resource
import sys
import time
from dataclasses import dataclass, field

import gevent
from gevent import socket

from bench import procfs
from bench.errors import BenchError
from bench.fleet import Fleet
from bench.site import Site

LIMIT = 3.0  # seconds after which an agent must be in
ADDRESSES = 50
PERIOD = 0.8  # seconds between two bytes
WARM = 4.0  # seconds until all strangers have come, and have come again

# A ClientHello's first bytes: a record that says it is longer than what follows.
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)


class Strangers:
    """`count` clients that are always there, each from its address."""

    def __init__(self, address: tuple[str, int], count: int) -> None:
        self.connected = 0
        self.dials = 0
        self._address = address
        self._greenlets = [gevent.spawn(self._drip, f"127.66.0.{1 + n % ADDRESSES}") for n in range(count)]

    def stop(self) -> None:
        """Leave."""
        gevent.killall(self._greenlets)

    def _drip(self, source: str) -> None:
        while True:
            sock = socket.socket()
            self.dials += 1
            try:
                sock.bind((source, 0))
                sock.connect(self._address)
                self.connected += 1
                try:
                    for byte in HELLO:
                        sock.sendall(bytes((byte,)))
                        gevent.sleep(PERIOD)
                finally:
                    self.connected -= 1
            except OSError:
                gevent.sleep(0.1)
            finally:
                sock.close()


@dataclass
class Outcome:
    """Seconds until each agent was in, beside so many strangers; the server's share of a processor."""

    strangers: int
    alone: float
    beside: list[float] = field(default_factory=list)
    cpu: float = 0.0
    dials: float = 0.0

    @property
    def problems(self) -> list[str]:
        """What must not be."""
        return [f"an agent was in after {took:.1f} s" for took in self.beside if took > LIMIT]

    def __str__(self) -> str:
        took = ", ".join(f"{each:.2f}" for each in self.beside)
        return (
            f"alone: in after {self.alone:.2f} s\n"
            f"beside {self.strangers} strangers ({self.dials:.0f} dials/s): {took} s\n"
            f"server: {self.cpu:.0%} of a processor"
        )


def run(site: Site, strangers: int, tries: int = 5, warm: float = WARM) -> Outcome:
    """An agent alone, and then `tries` of them, one after the other, beside the strangers."""
    fleet = Fleet(site, 1, 1, ["--target", "127.0.0.1:1", "--plain-target"])
    try:
        fleet.wait(0.0)
        outcome = Outcome(strangers, _again(fleet))
        crowd = Strangers(fleet.public, strangers)
        try:
            gevent.sleep(warm)
            cpu, dials, began = procfs.cpu_seconds(fleet.server.pid), crowd.dials, time.monotonic()
            outcome.beside = [_again(fleet) for _ in range(tries)]
            passed = time.monotonic() - began
            outcome.cpu = (procfs.cpu_seconds(fleet.server.pid) - cpu) / passed
            outcome.dials = (crowd.dials - dials) / passed
        finally:
            crowd.stop()
    finally:
        for child in fleet.agents:
            child.close()
    return outcome


def _again(fleet: Fleet) -> float:
    """The agent loses its tunnel and dials at once: seconds until it is in again."""
    began = min(each.say("storm") for each in fleet.agents)
    ((_, came, _),) = fleet.wait(began)
    return float(came - began)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.doorstep", description=__doc__.splitlines()[0])
    parser.add_argument("--strangers", type=int, default=5500)
    parser.add_argument("--tries", type=int, default=5, help="agents that come, one after the other")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with Site() as site:
            outcome = run(site, options.strangers, options.tries)
    except BenchError as error:
        print(f"doorstep: {error}", file=sys.stderr)
        return 1
    print(outcome)
    for problem in outcome.problems:
        print(f"MISSED {problem}")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
