"""A hostile agent floods the server: how long a good cluster's requests take beside each of twelve floods.

Each flood is sent by a process of its own (`bench/flooder.py`), so many bytes a second, and begins anew on
another tunnel whenever the server ends one. Beside it a good cluster is asked for 1 KiB a hundred times a
second, as it is alone, before and after each flood. Then 170 readers take nothing of answers that come in
frames of two bytes.

    python -m bench.floods --rate 1e6 --only PING
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import certificates, client, flooder, machine, probe, procfs, results, upstream
from bench.certificates import Certificates
from bench.errors import BenchError
from bench.fleet import Fleet
from bench.light_agent import token
from bench.probe import Latency
from bench.report import Aim, lined_up
from bench.run import say
from bench.site import Site
from bench.subjects import CLONE

SLOWER = Aim(3.0)  # p99 beside a flood, as a multiple of p99 alone
GONE = 2.0  # seconds after which the flooding tunnel is gone, where that is not kept
MEMORY = Aim(100.0)  # MiB
FILES = 8192
ALONE = 3.0  # seconds of requests between two floods
PATIENCE = 240.0  # seconds that the answers for nobody may take
HOSTILE = 0  # the number of the hostile agent's cluster; the good one is 1
TWELVE = [name for name in flooder.FLOODS if name != flooder.TINY]


@dataclass(frozen=True)
class Flood:
    """One flood, and what the good cluster had beside it.

    `lives` are the seconds that each tunnel of it lived, `rate` its bytes per second, `cpu` the server's part
    of a processor, `busy` what the metrics say of the hostile cluster's part of that.
    """

    name: str
    latency: Latency
    lives: list[float]
    tunnels: int
    rate: float
    cpu: float
    busy: float
    why: str

    @property
    def gone(self) -> float | None:
        """The longest that a tunnel lived until it was ended; None where none was."""
        return max(self.lives, default=None)


@dataclass
class Outcome:
    """All of a run; `memory` is the server's peak before and after the unread answers, in MiB."""

    alone: list[float] = field(default_factory=list)
    floods: list[Flood] = field(default_factory=list)
    memory: tuple[float, float] | None = None
    accepted: float = 0.0

    def verdict(self, flood: Flood) -> str:
        """Whether one of both aims is met."""
        times = flood.latency.p99 / probe.summary(self.alone).p99
        if SLOWER.met(times) or (flood.gone is not None and flood.gone <= GONE):
            return "met"
        return "MISSED"

    def table(self) -> str:
        """One row for each flood."""
        alone = probe.summary(self.alone)
        lines = [["", "p50 ms", "p99 ms", "× alone", "ended after s", "tunnels", "MB/s", "CPU", "of it", ""]]
        lines.append(["alone", f"{1e3 * alone.p50:.2f}", f"{1e3 * alone.p99:.2f}", *[""] * 7])
        for flood in self.floods:
            latency = flood.latency
            lines.append(
                [
                    flood.name,
                    f"{1e3 * latency.p50:.2f}",
                    f"{1e3 * latency.p99:.2f}",
                    f"{latency.p99 / alone.p99:.1f}",
                    f"{flood.gone:.2f}" if flood.gone is not None else "not",
                    f"{flood.tunnels}",
                    f"{flood.rate / 1e6:.2f}",
                    f"{flood.cpu:.2f}",
                    f"{flood.busy:.2f}",
                    self.verdict(flood),
                ]
            )
        return lined_up(lines, words=(0, 9))


class Stage:
    """A server with a good cluster and room for a hostile one."""

    def __init__(self, site: Site, made: Certificates, api: str) -> None:
        self._made = made
        target = ["--target", api, "--plain-target"]
        self.fleet = Fleet(site, 1, 1, target, made, ["--min-wire-version", "1"])
        self.fleet.wait(0.0)
        self._internal = f"{self.fleet.internal[0]}:{self.fleet.internal[1]}"

    def ask(self, seconds: float) -> list[float]:
        """What requests to the good cluster take."""
        return probe.latencies(f"http://{self._internal}/tunnel/c1/small", self._made.ca, seconds)

    def flood(self, name: str, rate: float, seconds: float) -> "subprocess.Popen[str]":
        """Begin one."""
        public = f"{self.fleet.public[0]}:{self.fleet.public[1]}"
        command = [sys.executable, "-m", "bench.flooder", name, str(rate), str(seconds), public]
        command += [self._internal, str(self._made.ca), str(self._made.agent), str(self._made.agent_key)]
        return subprocess.Popen([*command, token(HOSTILE)], stdout=subprocess.PIPE, text=True, cwd=CLONE)

    def busy(self) -> float:
        """Seconds that the server's metrics count for the hostile cluster."""
        _, text = client.get(f"http://{self._internal}/metrics")
        found = re.search(rb'^argotun_tunnel_cpu_seconds_total\{cluster="c0"\} (\S+)', text, re.M)
        return float(found[1]) if found else 0.0

    def close(self) -> None:
        """Say no more to the agents."""
        for agent in self.fleet.agents:
            agent.close()


def said(child: "subprocess.Popen[str]", patience: float) -> dict[str, Any]:
    """What a flooder reports when it ends."""
    try:
        text, _ = child.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        child.kill()
        raise BenchError("the flooder does not end") from None
    if child.returncode != 0:
        raise BenchError(f"the flooder ended with {child.returncode}")
    found: dict[str, Any] = json.loads(text)
    return found


def beside(stage: Stage, name: str, rate: float, seconds: float) -> Flood:
    """The good cluster beside one flood."""
    say(name)
    busy, cpu, began = stage.busy(), procfs.cpu_seconds(stage.fleet.server.pid), time.monotonic()
    # It begins before the first request, and goes on until after the last.
    child = stage.flood(name, rate, seconds + 3.0)
    time.sleep(1.0)
    latency = probe.summary(stage.ask(seconds))
    report = said(child, seconds + 60.0)
    passed = time.monotonic() - began
    time.sleep(1.2)  # the gauges are a second old
    return Flood(
        name=name,
        latency=latency,
        lives=report["lives"],
        tunnels=report["tunnels"],
        rate=report["sent"] / (seconds + 3.0),
        cpu=(procfs.cpu_seconds(stage.fleet.server.pid) - cpu) / passed,
        busy=(stage.busy() - busy) / passed,
        why=report["why"],
    )


def measure(names: Sequence[str], rate: float, seconds: float, memory: bool) -> Outcome:
    """All of it in turn."""
    outcome = Outcome()
    with Site() as site:
        made = certificates.make(site.folder)
        api = upstream.start(site, made, FILES).plain
        stage = Stage(site, made, api)
        try:
            stage.ask(1.0)
            for name in names:
                outcome.alone += stage.ask(ALONE)
                outcome.floods.append(beside(stage, name, rate, seconds))
            if names:
                outcome.alone += stage.ask(ALONE)
        finally:
            stage.close()
        if memory:
            # A fresh server: the peak of the other one is of the floods.
            stage = Stage(site, made, api)
            try:
                _unread(stage, outcome)
            finally:
                stage.close()
    return outcome


def _unread(stage: Stage, outcome: Outcome) -> None:
    say(flooder.TINY)
    stage.ask(1.0)
    before = procfs.memory(stage.fleet.server.pid)
    report = said(stage.flood(flooder.TINY, 1e9, PATIENCE), PATIENCE + 60.0)
    after = procfs.memory(stage.fleet.server.pid)
    outcome.memory = before.peak / 1024, after.peak / 1024
    outcome.accepted = report["unread"] / 1e6


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.floods", description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=1e6, help="bytes per second of a flood (%(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of requests beside each (%(default)s)")
    parser.add_argument(
        "--only", action="append", metavar="FLOOD", help=f"one of {', '.join(TWELVE)}, memory"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args(argv)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))
    chosen = options.only or [*TWELVE, "memory"]
    if unknown := [name for name in chosen if name not in (*TWELVE, "memory")]:
        parser.error(f"there is no flood {unknown[0]!r}")
    try:
        outcome = measure(
            [n for n in TWELVE if n in chosen], options.rate, options.seconds, "memory" in chosen
        )
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if outcome.floods:
        print(outcome.table())
    if outcome.memory:
        before, after = outcome.memory
        print(
            f"{flooder.READERS} readers of {flooder.TINY}: {outcome.accepted:.1f} MB accepted, "
            f"peak RSS {after:.0f} MiB (before: {before:.0f}), {MEMORY.verdict(after)}"
        )
    print(", ".join(f"{name} {value}" for name, value in machine.describe().items()))
    if options.json:
        results.write(options.json, machine.describe(), **asdict(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
