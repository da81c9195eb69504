"""Everything at once, for long: whether argotun ends as it began.

A server and two agents serve requests, watches, terminals, uploads, floods and slow readers while they
are killed, or told to end, at random. Agent `b` is at another replica, and all its requests take a hop there;
that replica and the registry are killed too. Agent `a` is spared, and so is the server in the second half:
what they hold after the load is compared with what they held before it, and their memory must not have grown
meanwhile. Where there is no redis-server there is one server only.

    python -m bench.soak --seconds 600 [--seed N]
"""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import argparse
import json
import random
import signal
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import gevent

from bench import certificates, procfs, registry
from bench.certificates import Certificates
from bench.errors import BenchError
from bench.registry import Registry
from bench.site import Child, Site, end_on_sigterm, wait_until
from bench.soak_api import Api
from bench.soak_load import Client, Load, Refused, requests

CLONE = Path(__file__).resolve().parent.parent
CLUSTERS = ["a", "b"]
FIXED = (20_000, 32_000)  # below Linux's usual net.ipv4.ip_local_port_range
SETTLE = 75.0  # seconds; the longest that argotun goes on after its clients have left is 60
ENDING = ("requests", "flood")  # what must have come to its end at least once
SPARED = 0.5  # part of the time after which the server is killed no more
WARM = 0.25  # part of a process's life that memory may take to reach its level
AWAY = 1.5  # seconds between a graceful end and the next start: more than `--reconnect-grace`
GROWTH = 16 * 1024  # KiB that memory may grow after that, over the whole run

LIMITS = "--stall-timeout=8s --keepalive=1s --keepalive-timeout=5s --tunnel-buffer=16Mi --no-access-log"
SERVER = "--internal-plain --body-timeout=3s --response-timeout=3s --reconnect-grace=1s --drain=500ms"
# An agent that drains is gone before those are refused who wait for the next one.
AGENT = "--max-retry=500ms --drain=500ms"


def kept_port() -> int:
    """A free port that no outgoing connection takes while the process that listens there is dead."""
    while True:
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", random.randrange(*FIXED)))
            except OSError:
                continue
            port: int = sock.getsockname()[1]
            return port


@dataclass
class Held:
    """What a process has, apart from memory."""

    greenlets: int
    descriptors: int
    streams: int
    places: Counter[str] = field(default_factory=Counter, repr=False)

    def within(self, other: "Held") -> bool:
        return (
            self.greenlets <= other.greenlets
            and self.descriptors <= other.descriptors
            and self.streams <= other.streams
        )


class Process:
    """A role, and the process that plays it now."""

    def __init__(self, site: Site, name: str, options: list[str]) -> None:
        self.name = name
        self.health = kept_port()
        self._site = site
        self._options = [
            *" ".join(options).split(),
            *LIMITS.split(),
            f"--health-addr=127.0.0.1:{self.health}",
        ]
        self._count = site.folder / f"{name}.count"
        self.replaced = 0
        self.memory: list[tuple[float, int]] = []
        self.child: Child
        self.start()

    def start(self) -> None:
        """Begin, or begin anew."""
        command = ["env", f"PYTHONPATH={CLONE}", sys.executable, "-m", "bench.counted", str(self._count)]
        self.memory = []
        self.child = self._site.start(self.name, [*command, *self._options])

    def replace(self, how: signal.Signals) -> None:
        """End it, as a lost node does or gracefully, and put another in its place."""
        self.child.process.send_signal(how)
        self.child.process.wait()
        if how == signal.SIGTERM:
            # Those who wait for the next one are refused first, on connections that they keep.
            gevent.sleep(AWAY)
        self._site.stop([self.child])
        self.replaced += 1
        self.start()

    def sample(self, now: float) -> None:
        """Note how much memory is its own."""
        try:
            self.memory.append((now, procfs.memory(self.child.pid).unshared))
        except (OSError, KeyError):
            # It has just been killed.
            pass

    def ready(self) -> bool:
        """Whether it does its work."""
        try:
            with urlopen(f"http://127.0.0.1:{self.health}/readyz", timeout=5):
                return True
        except OSError:
            return False

    def status(self) -> dict[str, object]:
        """What it says of itself."""
        with urlopen(f"http://127.0.0.1:{self.health}/status", timeout=10) as answer:
            said: dict[str, object] = json.load(answer)
            return said

    def held(self) -> Held:
        """What it has now."""
        self._count.unlink(missing_ok=True)
        self.child.process.send_signal(signal.SIGUSR1)
        wait_until(f"{self.name}'s count", self._count.exists, [self.child])
        text = json.dumps(self.status())
        streams = sum(int(part.split(",")[0].split("}")[0]) for part in text.split('"streams": ')[1:])
        descriptors = len(list(Path(f"/proc/{self.child.pid}/fd").iterdir()))
        places = Counter(self._count.read_text().split("\n"))
        return Held(places.total(), descriptors, streams, places)

    @property
    def slope(self) -> tuple[float, float]:
        """Growth of memory after warming up, KiB a minute by least squares; and over how many minutes."""
        if len(self.memory) < 4:
            return 0.0, 0.0
        began, ended = self.memory[0][0], self.memory[-1][0]
        late = [(at, size) for at, size in self.memory if at >= began + WARM * (ended - began)]
        middle = sum(at for at, _ in late) / len(late)
        spread = sum((at - middle) ** 2 for at, _ in late)
        slope = sum((at - middle) * size for at, size in late) / spread if spread else 0.0
        return slope * 60, (late[-1][0] - late[0][0]) / 60


@dataclass
class Outcome:
    """What the run showed; `faults` is empty when all is well."""

    seconds: float
    seed: int
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        acts: dict[str, list[str]] = {}
        for (act, how), count in sorted(self.seen.items()):
            acts.setdefault(act, []).append(f"{how} {count}")
        lines = [f"seed {self.seed}, {self.seconds:.0f} s", *self.lines]
        lines += [f"{act:12} {', '.join(hows)}" for act, hows in acts.items()]
        return "\n".join([*lines, *(f"FAULT {fault}" for fault in self.faults)])


class Soak:
    """A deployment and its load."""

    def __init__(self, site: Site, seconds: float, seed: int) -> None:
        self.outcome = Outcome(seconds, seed)
        self._dice = random.Random(seed)
        made = certificates.make(site.folder)
        self._api = Api(made, seed)
        self.registry = Registry(site) if registry.missing() is None else None
        self._internal = kept_port()
        entries = [
            {"id": name, "token": f"token-of-cluster-{name}", "certNames": [certificates.AGENT_NAME]}
            for name in CLUSTERS
        ]
        clusters = site.write("clusters.json", entries)

        def server(name: str, public: int, internal: int) -> Process:
            options = [
                f"--mode=server --addr=127.0.0.1:{public} --internal-addr=127.0.0.1:{internal}",
                f"--clusters={clusters} --tls-cert={made.server} --tls-key={made.server_key}",
                f"--tls-client-ca={made.ca} {SERVER}",
                *(self.registry.options if self.registry is not None else []),
            ]
            return Process(site, name, options)

        ports = [kept_port(), kept_port()]
        self.server = server("server", ports[0], self._internal)
        self.others = []
        if self.registry is None:
            ports[1] = ports[0]
        else:
            self.others = [server("replica", ports[1], kept_port())]
        self.agents = [
            self._agent(site, made, name, port) for name, port in zip(CLUSTERS, ports, strict=True)
        ]

    def _agent(self, site: Site, made: Certificates, name: str, public: int) -> Process:
        token = site.write(f"sa-{name}", f"sa-{name}")
        return Process(
            site,
            f"agent-{name}",
            [
                f"--mode=agent --server=wss://127.0.0.1:{public}/connect --token=token-of-cluster-{name}",
                f"--target=127.0.0.1:{self._api.port} --ca-cert={made.ca} --sa-token-path={token}",
                f"--server-ca-cert={made.ca} --client-cert={made.agent} --client-key={made.agent_key}",
                AGENT,
            ],
        )

    @property
    def processes(self) -> list[Process]:
        return [self.server, *self.others, *self.agents]

    def _victims(self, spared: bool) -> list[Process | Registry]:
        """Who may be killed; the server is not, where it is spared."""
        found: list[Process | Registry] = [*self.others, *self.agents[1:]]
        found += [] if self.registry is None else [self.registry]
        return found if spared else [self.server, *found]

    def run(self) -> Outcome:
        """Warm up, load and kill, and look what is left."""
        outcome = self.outcome
        self._ready()
        for name in CLUSTERS:
            self._warm(name)
        gevent.sleep(1.0)
        before = {
            process.name: self._settled(process, Held(10**6, 10**6, 0), 10.0) for process in self.processes
        }
        load = Load(("127.0.0.1", self._internal), CLUSTERS, outcome.seed)
        try:
            self._storm()
            # A busy machine may have finished nothing between two kills.
            deadline = time.monotonic() + SETTLE
            while load.missing(*ENDING) and time.monotonic() < deadline:
                gevent.sleep(0.1)
        finally:
            load.stop()
        outcome.seen = load.seen
        outcome.faults += load.wrong
        self._ready()
        for process in self.processes:
            self._judge(process, before[process.name])
        if self.registry is not None:
            outcome.lines.append(f"registry: replaced {self.registry.replaced} times")
        deadline = time.monotonic() + SETTLE
        while self._api.connections and time.monotonic() < deadline:
            # A watch notices only when it writes that nobody is there.
            gevent.sleep(0.1)
        if self._api.connections:
            outcome.faults.append(f"the API still has {self._api.connections} connections")
        self._api.stop()
        outcome.faults += [f"{act} never came to its end" for act in load.missing(*ENDING)]
        return outcome

    def _ready(self) -> None:
        for process in self.processes:
            wait_until(process.name, process.ready, [process.child])

    def _warm(self, name: str) -> None:
        """What is loaded or opened once is there before the first count."""
        client = Client(("127.0.0.1", self._internal))
        try:
            requests(client, name, random.Random(0))
        except Refused as refusal:
            raise BenchError(f"cluster {name} is not served: {refusal}") from refusal
        finally:
            client.sock.close()

    def _storm(self) -> None:
        """Replace at random until the time is over, and measure."""
        began = now = time.monotonic()
        seconds, due = self.outcome.seconds, 0.0
        while now < began + seconds:
            for process in self.processes:
                process.sample(now)
            if not due:
                # Between two of them there is always a time when all of them serve.
                due = now + self._pause() if all(process.ready() for process in self.processes) else 0.0
            elif now > due:
                spared = now > began + seconds * SPARED
                who = self._dice.choice(self._victims(spared))
                who.replace(self._dice.choice([signal.SIGKILL, signal.SIGTERM]))
                due = 0.0
            gevent.sleep(0.5)
            now = time.monotonic()

    def _pause(self) -> float:
        return self._dice.uniform(0.3, 1.7) * min(20.0, max(3.0, self.outcome.seconds / 20))

    def _settled(self, process: Process, limit: Held, seconds: float) -> Held:
        """What it holds once that is within the limit, or when the time is over."""
        deadline = time.monotonic() + seconds
        while not (held := process.held()).within(limit) and time.monotonic() < deadline:
            gevent.sleep(0.5)
        return held

    def _judge(self, process: Process, before: Held) -> None:
        outcome = self.outcome
        after = self._settled(process, before, SETTLE)
        slope, minutes = process.slope
        growth = slope * minutes
        sizes = [size for _, size in process.memory] or [0]
        outcome.lines.append(
            f"{process.name}: replaced {process.replaced} times; before {before}, after {after}; "
            f"memory {sizes[0] / 1024:.1f} MiB at first, {max(sizes) / 1024:.1f} at most, "
            f"{sizes[-1] / 1024:.1f} at last, "
            f"{slope:+.0f} KiB a minute over {minutes:.1f} min"
        )
        if not after.within(before):
            more = dict(after.places - before.places)
            outcome.faults.append(f"{process.name} holds {after}, and held {before} before: {more}")
        if growth > GROWTH and len(process.memory) > 20:
            outcome.faults.append(f"{process.name} has grown by {growth / 1024:.1f} MiB since it was warm")
        log = process.child.log.read_text(errors="replace")
        if "Traceback" in log:
            outcome.faults.append(
                f"{process.name}: a fault in argotun\n{log[log.index('Traceback') :][:3000]}"
            )


def main(argv: list[str] | None = None) -> int:
    """0 when everything is as it was, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args(argv)
    print(f"seed {options.seed}", flush=True)
    end_on_sigterm()
    try:
        with Site() as site:
            outcome = Soak(site, options.seconds, options.seed).run()
    except BenchError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    print(outcome)
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
