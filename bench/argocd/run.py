"""One run: everything is started, and what becomes of it is measured before, in and after an outage."""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import procfs
from bench.argocd import network
from bench.argocd.board import Watcher, summary
from bench.argocd.errorlog import ErrorLog
from bench.argocd.places import moments, places
from bench.argocd.samples import Sampler, between
from bench.argocd.standin import Counts, StandIn
from bench.argocd.tunnels import Tunnels, direct_secret, registration
from bench.errors import BenchError
from bench.run import say
from tests.argocd.harness import objects
from tests.argocd.harness.argocd import APPLICATIONS, SECRETS, ArgoCD
from tests.argocd.harness.program import Program
from tests.argocd.harness.repository import Repository
from tests.e2e.harness.binaries import Binaries
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.http import Endpoint

FILL = 900.0  # seconds in which all applications must be Synced for the first time
SETTLED = 5.0  # seconds without a new watch after which all of them are open
MAPS = 3  # ConfigMaps of an application
TOLD = 5  # kinds of error that are kept of a phase

KEPT, CUT = "kept", "cut"


@dataclass(frozen=True)
class Plan:
    """How much of it; times in seconds.

    In the outage there are commits, the `first` of them so long after its beginning, and then one `every` so
    often; each is waited for until `limit`. `calm` is how long is looked at before the outage, and after it.
    """

    clusters: int = 200
    share: float = 0.3
    kinds: int | None = None
    outage: float = 600.0
    first: float = 20.0
    every: float = 120.0
    calm: float = 90.0
    limit: float = 100.0
    vanish: bool = True


@dataclass
class Phase:
    """What was seen in one part of a run; requests and errors by group of clusters, and memory in MiB."""

    name: str
    seconds: float = 0.0
    rounds: list[dict[str, Any]] = field(default_factory=list)
    memory: dict[str, dict[str, int]] = field(default_factory=dict)
    agents_memory: int = 0
    cpu: dict[str, float] = field(default_factory=dict)
    """Shares of one processor."""
    requests: dict[str, dict[str, int]] = field(default_factory=dict)
    errors: int = 0
    said: dict[str, int] = field(default_factory=dict)
    states: dict[str, dict[str, int]] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.seconds:.0f} s, {self.errors} error lines {self.said}"]
        lines += [f"  memory {self.memory}, agents {self.agents_memory} MiB, CPU {self.cpu}"]
        lines += [f"  requests {self.requests}, states {self.states}"]
        return "\n".join([*lines, *(f"  commit: {each}" for each in self.rounds)])


class Scene:
    """All that runs."""

    def __init__(
        self, kubernetes: Binaries, program: Program, standin: str, plan: Plan, direct: bool, stack: ExitStack
    ) -> None:
        self.plan = plan
        self.direct = direct
        self.places = places(plan.clusters, plan.share)
        self.names = {
            group: [place.id for place in self.places if place.cut == (group == CUT)] for group in (KEPT, CUT)
        }
        folder = stack.enter_context(_folder())
        self.management = Cluster(kubernetes, folder / "management")
        stack.callback(self.management.stop)
        self.management.start()
        self.argocd = ArgoCD(program, self.management, folder / "argocd", {})
        # Its usual place is the same for all: two runs beside each other would take it from one another.
        self.argocd.environment["ARGOCD_ASK_PASS_SOCK"] = str(folder / "ask-pass.sock")
        stack.callback(self.argocd.stop)
        self.argocd.start()
        self._repository = Repository(
            "apps", self.argocd.folder / "git", folder / "work", self.argocd.git_url
        )
        self.standin = StandIn(standin, folder, self.places, direct, plan.kinds)
        stack.callback(self.standin.process.stop)
        self.tunnels: Tunnels | None = None
        if not direct:
            (folder / "hub").mkdir()
            self.tunnels = Tunnels(folder / "hub", self.places, self.standin)
            stack.callback(self.tunnels.stop)
            say(f"starting {len(self.places)} agents")
            say(f"they have come after {self.tunnels.start_agents():.0f} s")
        self._commits = 0
        self.revision = self.commit()
        self.watcher = Watcher(self.management.admin, APPLICATIONS)
        pids = {"controller": self.argocd.processes["controller"].pid, "stand-in": self.standin.process.pid}
        if self.tunnels is not None:
            pids["server"] = self.tunnels.server.pid
        self._pids = pids
        self.sampler = Sampler(pids)
        stack.callback(self.sampler.stop)
        self._log = ErrorLog(self.argocd.processes["controller"].log)

    def check(self) -> None:
        """AssertionError where a part has ended."""
        self.management.check()
        self.argocd.check()
        self.watcher.check()
        self.standin.process.check()
        if self.tunnels is not None:
            self.tunnels.server.check()
            for agent in self.tunnels.agents:
                agent.check()

    def commit(self) -> str:
        """Change what all applications deploy; the revision."""
        self._commits += 1
        data = {"number": str(self._commits)}
        self._repository.objects(
            "app/objects.json", *(objects.configmap(f"map-{each}", data) for each in range(MAPS))
        )
        return self._repository.commit(f"Number {self._commits}")

    def fill(self) -> float:
        """Register all clusters, with an application each; the seconds until all are Synced and watched."""
        began = time.monotonic()
        source = self._repository.source("app")
        for place in self.places:
            secret = (
                self.tunnels.secret(place) if self.tunnels is not None else direct_secret(place, self.standin)
            )
            self.management.create(SECRETS, registration(secret))
        for place in self.places:
            self.argocd.create(
                objects.application(place.id, source, place.id, "Validate=false", namespace="app")
            )
        everyone = [place.id for place in self.places]
        self.wait("all are Synced", lambda: len(self._at(everyone, began)) == len(everyone), FILL)
        self._settle()
        return time.monotonic() - began

    def round(self, at: float, *groups: str) -> dict[str, Any]:
        """Commit, tell Argo CD of it as a webhook would, and wait for the clusters of these groups."""
        began = time.monotonic()
        self.revision = self.commit()
        self._refresh()
        told = time.monotonic() - began
        names = [name for group in groups for name in self.names[group]]
        deadline = began + self.plan.limit
        while len(self._at(names, began)) < len(names) and time.monotonic() < deadline:
            self.check()
            time.sleep(0.2)
        found: dict[str, Any] = {"at": round(at, 1), "told": round(told, 2)}
        for group, members in self.names.items():
            found[group] = summary(self._at(members, began), len(members))
        return found

    def wait(self, what: str, reached: Callable[[], bool], seconds: float) -> float:
        """The seconds until it was reached; BenchError with what there is instead."""
        began = time.monotonic()
        while not reached():
            self.check()
            if time.monotonic() > began + seconds:
                raise BenchError(f"not within {seconds:.0f} s: {what}; {self._everything()}")
            time.sleep(0.5)
        return time.monotonic() - began

    def healed(self, since: float) -> list[float]:
        """When those that were cut off were at the last revision, in seconds after a moment."""
        return self._at(self.names[CUT], since)

    @contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        """What is seen until its end."""
        say(f"{name} …")
        phase = Phase(name)
        self._log.take()
        self.watcher.board.forget()
        began, cpu, requests = time.monotonic(), self._cpu(), self.standin.counts()
        yield phase
        ended = time.monotonic()
        phase.seconds = round(ended - began, 1)
        phase.memory = between(self.sampler.samples, began, ended)
        phase.cpu = {each: round((now - cpu[each]) / phase.seconds, 3) for each, now in self._cpu().items()}
        phase.requests = difference(self.standin.counts(), requests)
        said = self._log.take()
        phase.errors = sum(said.values())
        phase.said = dict(said.most_common(TOLD))
        phase.states = {group: self.watcher.board.states(members) for group, members in self.names.items()}
        if self.tunnels is not None:
            phase.agents_memory = round(self.tunnels.agents_memory() / 1024)
        say(str(phase))

    def _at(self, names: Sequence[str], began: float) -> list[float]:
        return self.watcher.board.since(names, self.revision, began)

    def _refresh(self) -> None:
        kind = {"Content-Type": "application/merge-patch+json"}
        patch = b'{"metadata": {"annotations": {"argocd.argoproj.io/refresh": "normal"}}}'
        api: Endpoint = self.management.admin
        with api.connection() as connection:
            for place in self.places:
                answer = api.send(connection, "PATCH", f"{APPLICATIONS}/{place.id}", patch, kind)
                said = answer.read()
                assert answer.status == 200, said

    def _settle(self) -> None:
        """Wait until no watch is opened any more."""
        before, since = -1, time.monotonic()
        while time.monotonic() < since + SETTLED:
            now = self.watches()
            if now != before:
                before, since = now, time.monotonic()
            time.sleep(0.5)

    def watches(self) -> int:
        """How many watches there are at the stand-in."""
        return sum(counts["open"] for counts in self.standin.counts().values())

    def _cpu(self) -> dict[str, float]:
        found = {name: procfs.cpu_seconds(pid) for name, pid in self._pids.items()}
        if self.tunnels is not None:
            found["agents"] = self.tunnels.agents_cpu()
        return found | {"machine": procfs.machine_busy_seconds()}

    def _everything(self) -> str:
        states = Counter(self.watcher.board.state.values())
        unhappy = [each for each in self.argocd.list() if not objects.is_fine(each)]
        shown = [objects.summary(each.get("status", {})) for each in unhappy[:2]]
        return f"applications {dict(states)}, {self.standin.counts()}, {shown}"


def difference(now: Counts, before: Counts) -> dict[str, dict[str, int]]:
    """Requests since then; of watches that are open, how many there are now."""
    return {
        group: {
            kind: count if kind == "open" else count - before[group][kind] for kind, count in counts.items()
        }
        for group, counts in now.items()
    }


def measure(kubernetes: Binaries, program: Program, standin: str, plan: Plan, direct: bool) -> dict[str, Any]:
    """All phases of a run, as they are kept."""
    with ExitStack() as stack:
        scene = Scene(kubernetes, program, standin, plan, direct, stack)
        say("registering the clusters")
        seconds = scene.fill()
        watches = scene.watches()
        say(f"all are Synced, and {watches} watches open, after {seconds:.0f} s")
        phases = [_before(scene), _outage(scene)]
        back, after = _after(scene)
        return {
            "plan": asdict(plan),
            "direct": direct,
            "fill": round(seconds, 1),
            "watches": watches,
            "phases": [asdict(each) for each in (*phases, after)],
            "back": back,
        }


def _before(scene: Scene) -> Phase:
    with scene.phase("before") as phase:
        began = time.monotonic()
        for at in moments(scene.plan.calm, 0.0, scene.plan.calm / 3):
            _until(began + at)
            phase.rounds.append(scene.round(time.monotonic() - began, KEPT, CUT))
        _until(began + scene.plan.calm)
    return phase


def _outage(scene: Scene) -> Phase:
    with scene.phase("outage") as phase:
        network.cut(network.VANISH if scene.plan.vanish else network.RESET)
        began = time.monotonic()
        for at in moments(scene.plan.outage, scene.plan.first, scene.plan.every):
            _until(began + at)
            phase.rounds.append(scene.round(time.monotonic() - began, KEPT))
            say(f"  commit: {phase.rounds[-1]}")
        _until(began + scene.plan.outage)
        scene.check()
    return phase


def _after(scene: Scene) -> tuple[dict[str, Any], Phase]:
    """What comes back by itself, and what a commit needs then."""
    with scene.phase("after") as phase:
        network.restore()
        began = time.monotonic()
        back: dict[str, Any] = {}
        lists: list[tuple[float, int]] = []
        first = scene.standin.counts()[CUT]["lists"]
        connected: list[float] = []
        while time.monotonic() < began + scene.plan.calm:
            scene.check()
            lists.append((time.monotonic() - began, scene.standin.counts()[CUT]["lists"] - first))
            if scene.tunnels is not None:
                there = len(scene.tunnels.connected() & set(scene.names[CUT]))
                connected += [time.monotonic() - began] * (there - len(connected))
            time.sleep(1.0)
        if scene.tunnels is not None:
            back["agents"] = summary(connected, len(scene.names[CUT]))
        back["healed"] = summary(scene.healed(began), len(scene.names[CUT]))
        back["lists"] = lists[-1][1]
        back["listed"] = round(next(at for at, count in lists if count == lists[-1][1]), 1)
        phase.rounds.append(scene.round(time.monotonic() - began, KEPT, CUT))
        _until(time.monotonic() + scene.plan.calm / 3)
        phase.rounds.append(scene.round(time.monotonic() - began, KEPT, CUT))
        say(f"back: {back}")
    return back, phase


def _until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


@contextmanager
def _folder() -> Iterator[Path]:
    """Everything of a run; kept where the run failed."""
    path = Path(tempfile.mkdtemp(prefix="argotun-bench-argocd-"))
    try:
        yield path
    except BaseException:
        say(f"logs are kept in {path}")
        raise
    shutil.rmtree(path, ignore_errors=True)
