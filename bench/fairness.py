"""Bad days: how long a small request takes beside floods, a large LIST and streams that nobody reads.

Three logs that their readers take at 1 KiB/s or not at all, a LIST of 200 MB that is read as fast as it
comes, then 50 and 1,000 downloads that nobody reads, all through one tunnel: latency of a 1 KiB GET, and
what server and agent hold. Beside it, the same LIST and GET without a tunnel, and the GET through a tunnel
of its own: what it takes longer then is the processors' and the link's affair.

    python -m bench.fairness
    python -m bench.fairness --rtt 0.02 --rate 25e6
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from bench import bulk, certificates, machine, probe, procfs, results, subjects, upstream
from bench.client import Client
from bench.errors import BenchError
from bench.link import Link
from bench.load import Meter
from bench.probe import Latency
from bench.report import Aim, lined_up
from bench.run import say
from bench.site import Site
from bench.subject import Ground, Running
from bench.upstream import BULK

FILES = 8192
STREAMS = 1024  # the agent's own limit, and its default
BUFFER = 64  # MiB
ROLES = ("server", "agent")
ALONE, AFTERWARDS, IDLE = "alone", "alone, afterwards", "alone, idle streams"
CONTROL = "beside the LIST, on another tunnel"
LOGS = 3
LOG_RATE = 1024  # bytes per second that two of the readers take; the third takes nothing
STALLED = (50, 1000)
SETTLE = 3.0  # seconds until what stalls has stalled
LISTS = 8  # at once, as when a client starts and asks for all kinds of resources
KERNEL = 4096  # asked of the kernel for a reader that does not read, bytes
# Of nginx: a thousand stalled downloads with 4 MiB each would be more than the kernel gives to all of TCP
# (tcp_mem), and it would drop packets of everybody. An API has a machine of its own.
SEND_BUFFER = "128k"
CHUNK = 32 * 1024  # of one turn, bytes


@dataclass(frozen=True)
class Memory:
    """MiB of one process: what is its own, and what it ever had."""

    unshared: float
    peak: float


@dataclass(frozen=True)
class Phase:
    """What was measured in one situation; `cpu` is by process, in parts of one processor."""

    name: str
    latency: Latency
    cpu: dict[str, float]
    memory: dict[str, Memory] = field(default_factory=dict)
    list_rate: float = 0.0


class Reader:
    """A download that is read at `rate` bytes per second, or not at all."""

    def __init__(self, url: str, ca: Path, rate: int = 0) -> None:
        self._client = Client(url, ca, receive_buffer=KERNEL)
        self._rate = rate
        self._due = time.monotonic()

    def idle(self) -> None:
        """One small request, so that its stream exists."""
        if self._client.get("small")[0] != 200:
            raise BenchError("a request before the flood was not answered")

    def begin(self) -> None:
        """Ask for the large body."""
        self._client.ask("bulk")

    def step(self) -> None:
        """Read what is due."""
        if self._rate and time.monotonic() >= self._due:
            self._due += 1.0
            if not self._client.take(self._rate):
                raise BenchError("a slow download was cut")

    def close(self) -> None:
        """Give it up."""
        self._client.close()


class Background:
    """The LIST, again and again, so many at once, and the slow readers, until it is stopped."""

    def __init__(self, url: str, ca: Path, readers: list[Reader], lists: int = 1) -> None:
        self._url = f"{url}/bulk"
        self._ca = ca
        self._readers = readers
        self._stopped = threading.Event()
        self._failed: list[BaseException] = []
        self._rates: list[float] = []
        self._threads = [
            threading.Thread(target=self._guard, args=(run,)) for run in (self._read, *[self._list] * lists)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    @property
    def transfers(self) -> int:
        """How often a LIST has ended."""
        return len(self._rates)

    def stop(self) -> float:
        """The LIST's median rate in MB/s, once the last is over; BenchError where something failed."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        if self._failed:
            raise BenchError(f"beside the small requests: {self._failed[0]}")
        return sorted(self._rates)[len(self._rates) // 2] if self._rates else 0.0

    def _guard(self, run: Callable[[], None]) -> None:
        try:
            run()
        except (BenchError, OSError) as error:
            self._failed.append(error)

    def _list(self) -> None:
        while not self._stopped.is_set():
            self._rates.append(BULK / bulk.run("down", self._url, BULK, self._ca) / 1e6)

    def _read(self) -> None:
        while not self._stopped.wait(0.1):
            for reader in self._readers:
                reader.step()


class Scene:
    """One way to the API, and what happens on it."""

    def __init__(self, ground: Ground, running: Running, seconds: float) -> None:
        self._ground = ground
        self._running = running
        self._seconds = seconds
        self._ca = ground.certificates.ca

    def alone(self, name: str) -> Phase:
        """Small requests and nothing else."""
        return self._measure(name, lambda: 0.0)

    def beside_a_list(
        self, name: str, readers: Sequence[Reader] = (), lists: int = 1, url: str = ""
    ) -> Phase:
        """Small requests beside the LIST and what these readers leave; `url` is another way for them."""
        background = Background(self._running.url, self._ca, list(readers), lists)
        time.sleep(1.0)
        return self._measure(name, background.stop, url)

    def readers(self, count: int, rate: int = 0) -> list[Reader]:
        """So many connections, each with a live stream and nothing on its way."""
        made = [Reader(self._running.url, self._ca, rate) for _ in range(count)]
        for reader in made:
            reader.idle()
        return made

    def memory(self) -> dict[str, Memory]:
        """What server and agent have now."""
        found = {name: procfs.memory(child.pid) for name, child in self._running.children.items()}
        return {name: Memory(each.unshared / 1024, each.peak / 1024) for name, each in found.items()}

    def _measure(self, name: str, stop: Callable[[], float], url: str = "") -> Phase:
        say(name)
        meter = Meter(self._running, self._ground.upstream, machine.processors())
        began = time.monotonic()
        try:
            latency = probe.run(f"{url or self._running.url}/small", self._ca, self._seconds)
            cpu, wall = meter.stop(), time.monotonic() - began
        finally:
            rate = stop()
        shares = {
            process: seconds / wall for process, seconds in cpu.by_process.items() if process != "driver"
        }
        shares["others"] = cpu.others * machine.processors() + cpu.by_process["driver"] / wall
        return Phase(name, latency, shares, self.memory(), rate)


def measure(link: Link | None, seconds: float) -> list[Phase]:
    """All situations in turn."""
    with Site() as site:
        made = certificates.make(site.folder)
        ground = Ground(site, upstream.start(site, made, FILES, SEND_BUFFER), made)
        via = (lambda address: link.between(site, address)) if link else str
        direct = Scene(ground, Running(f"https://{via(ground.upstream.tls)}"), seconds)
        phases = [direct.alone("direct, alone"), direct.beside_a_list("direct, beside the LIST")]
        running, other = [
            subjects.start(
                replace(ground, via=via),
                ("--tunnel-buffer", f"{BUFFER}Mi"),
                ("--max-conns", str(STREAMS), "--keepalive", "1s"),
            )
            for _ in range(2)
        ]
        scene = Scene(ground, running, seconds)
        phases.append(scene.alone(ALONE))
        phases.append(scene.beside_a_list(CONTROL, url=other.url))
        phases.append(scene.beside_a_list("beside the LIST"))
        phases.append(scene.beside_a_list(f"beside {LISTS} LISTs", lists=LISTS))
        readers: list[Reader] = []
        try:
            logs = [*scene.readers(LOGS - 1, LOG_RATE), *scene.readers(1)]
            stalled = scene.readers(STALLED[-1])
            readers += logs + stalled
            phases.append(scene.alone(f"{IDLE}: {len(readers):,}"))
            for reader in logs:
                reader.begin()
            phases.append(scene.beside_a_list(f"LIST and {LOGS} logs", logs))
            begun = 0
            for count in STALLED:
                for reader in stalled[begun:count]:
                    reader.begin()
                begun = count
                time.sleep(SETTLE)
                phases.append(scene.beside_a_list(f"LIST, {LOGS} logs, {count:,} stalled", logs))
            phases.append(scene.alone(f"{LOGS} logs, {STALLED[-1]:,} stalled"))
        finally:
            for reader in readers:
                reader.close()
        time.sleep(SETTLE)
        phases.append(scene.alone(AFTERWARDS))
    return phases


def table(phases: list[Phase]) -> str:
    """One row for each situation."""
    processes = {"server": "server", "agent": "agent", "upstream": "nginx", "others": "others"}
    head = ["", "p50 ms", "p99 ms", "worst ms", "LIST MB/s"]
    head += [f"CPU: {name}" for name in processes.values()]
    lines = [head + [f"MiB: {role}" for role in ROLES]]
    for phase in phases:
        latency = phase.latency
        cells = [f"{1000 * value:.2f}" for value in (latency.p50, latency.p99, latency.worst)]
        cells.append(f"{phase.list_rate:.0f}" if phase.list_rate else "")
        cells += [f"{phase.cpu[each]:.2f}" if each in phase.cpu else "" for each in processes]
        cells += [f"{phase.memory[role].unshared:.0f}" if role in phase.memory else "" for role in ROLES]
        lines.append([phase.name, *cells])
    return lined_up(lines, words=(0,))


def verdicts(phases: list[Phase], chunk: float) -> str:
    """The aims, and what became of them; `chunk` is the time of one on the link, in seconds."""
    alone = max(phase.latency.p99 for phase in phases if phase.name in (ALONE, AFTERWARDS))
    bound = 2 * alone + chunk
    idle, *_, last = [phase for phase in phases if phase.name.startswith(IDLE) or "stalled" in phase.name]
    lines = [
        f"p99 of {phase.name}: {1000 * phase.latency.p99:.2f} ms, "
        + Aim(round(1000 * bound, 2)).verdict(1000 * phase.latency.p99)
        for phase in phases
        if "logs" in phase.name or "LISTs" in phase.name
    ]
    for role in ROLES:
        grown = last.memory[role].unshared - idle.memory[role].unshared
        lines.append(f"{role}: {grown:.0f} MiB more than with idle streams, {Aim(BUFFER).verdict(grown)}")
        lines[-1] += f"; peak RSS {last.memory[role].peak:.0f} MiB"
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__.splitlines()[0])
    parser.add_argument("--rtt", type=float, default=0.0, help="put a link of so many seconds in the way")
    parser.add_argument("--rate", type=float, default=Link.rate, help="its bytes per second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args(argv)
    described = machine.describe()
    link = Link(options.rtt, options.rate) if options.rtt else None
    try:
        phases = measure(link, options.seconds)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(table(phases))
    print("\n" + verdicts(phases, CHUNK / link.rate if link else 0.0))
    if link:
        print(f"link: {link.rtt * 1000:g} ms, {link.rate * 8 / 1e6:g} Mbit/s")
    print(", ".join(f"{name} {value}" for name, value in described.items()))
    if options.json:
        over = {"link": {"rtt": link.rtt, "rate": link.rate}} if link else {}
        results.write(options.json, described, **over, phases=[asdict(phase) for phase in phases])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
