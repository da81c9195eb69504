"""The full run and the quick one: which load meets which subject, in which order, how often."""

import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from bench import figures, idle, load, machine, procfs
from bench.errors import BenchError
from bench.figures import Figures
from bench.load import Cpu, Requests, Transfer
from bench.subject import Ground, Running, Subject
from bench.upstream import Upstream


@dataclass(frozen=True)
class Plan:
    """How much is measured: `seconds` per wrk run, `rounds` over all subjects, idle `streams` (0: none)."""

    seconds: int
    rounds: int
    streams: int
    bulk: bool
    connections: tuple[int, ...]


FULL = Plan(seconds=3, rounds=3, streams=2000, bulk=True, connections=(1, 16, 64))
QUICK = Plan(seconds=2, rounds=1, streams=0, bulk=False, connections=(1, 64))


@dataclass
class Outcome:
    """All figures by subject, and what says how far to trust them.

    `rounds`: those of each round by themselves, by subject and key.
    `spread`: how far the rounds of one load lie apart at most, and of which. `others`: the share of the
    machine that other programs had, the median and the most over all loads.
    """

    subjects: dict[str, Figures]
    rounds: dict[str, dict[str, list[float]]]
    spread: tuple[float, str]
    others: tuple[float, float]
    failed: list[str]


class Run:
    """Measures the subjects side by side.

    All of them stand at the same time and take turns, round after round: what a shared machine does to one
    of them, it then does to all.
    """

    def __init__(self, ground: Ground, plan: Plan) -> None:
        self._ground = ground
        self._plan = plan
        self._processors = machine.processors()
        self._running: dict[str, Running] = {}
        self._requests: dict[tuple[str, int], list[Requests]] = defaultdict(list)
        self._transfers: dict[tuple[str, str], list[Transfer]] = defaultdict(list)
        self._figures: dict[str, Figures] = {}
        self._failed: list[str] = []

    def measure(self, subjects: list[Subject]) -> Outcome:
        """Everything of the plan; a subject that fails is reported and left out from there on."""
        for subject in subjects:
            self._attempt(subject, "start", self._start)
        for round_number in range(1, self._plan.rounds + 1):
            # There and back: who comes first in a round, and what the machine does slowly, favours nobody.
            for subject in subjects if round_number % 2 else reversed(subjects):
                self._attempt(subject, f"round {round_number} of {self._plan.rounds}", self._load)
        for subject in subjects:
            self._attempt(subject, "memory", self._memory)
        for running in self._running.values():
            self._ground.site.stop(list(running.children.values()))
        for subject in subjects:
            if self._plan.streams and subject.idle:
                self._attempt(subject, f"{self._plan.streams} idle streams", self._idle)
        return self._outcome(subjects)

    def _attempt(self, subject: Subject, what: str, step: Callable[[Subject], None]) -> None:
        if any(failed.startswith(f"{subject.name}: ") for failed in self._failed):
            return
        say(f"{subject.name}: {what}")
        try:
            step(subject)
        except (BenchError, OSError) as error:
            self._failed.append(f"{subject.name}: {what}: {error}")
            say(self._failed[-1])

    def _start(self, subject: Subject) -> None:
        running = self._running[subject.name] = subject.start(self._ground)
        # Warm up: code is loaded, memory that the machine sees for the first time is costly.
        load.requests(running, self._upstream, self._processors, connections=16, seconds=1)
        if subject.bulk and self._plan.bulk:
            for direction in ("down", "up"):
                self._transfer(running, direction)

    def _load(self, subject: Subject) -> None:
        running = self._running[subject.name]
        for connections in subject.connections:
            if connections in self._plan.connections:
                self._requests[subject.name, connections].append(
                    load.requests(running, self._upstream, self._processors, connections, self._plan.seconds)
                )
        if subject.bulk and self._plan.bulk:
            for direction in ("down", "up"):
                self._transfers[subject.name, direction].append(self._transfer(running, direction))

    def _transfer(self, running: Running, direction: str) -> Transfer:
        ca = self._ground.certificates.ca
        return load.transfer(running, self._upstream, self._processors, direction, ca)

    def _memory(self, subject: Subject) -> None:
        children = self._running[subject.name].children
        memory = {name: procfs.memory(child.pid) for name, child in children.items()}
        self._figures[subject.name] = figures.of_memory(memory)

    def _idle(self, subject: Subject) -> None:
        fresh = subject.start(self._ground)
        try:
            measured = idle.measure(fresh, self._upstream, self._ground.certificates.ca, self._plan.streams)
        finally:
            self._ground.site.stop(list(fresh.children.values()))
        self._figures[subject.name] |= figures.of_idle(measured)

    def _outcome(self, subjects: list[Subject]) -> Outcome:
        errors: dict[str, int] = defaultdict(int)
        spreads: list[tuple[float, str]] = [(0.0, "")]
        cpu: list[Cpu] = []
        for (name, connections), request_runs in self._requests.items():
            self._figures.setdefault(name, {}).update(figures.of_requests(connections, request_runs))
            errors[name] += sum(run.result.errors for run in request_runs)
            rates = [run.result.rate for run in request_runs]
            spreads.append((figures.spread(rates), f"{name}, c={connections}"))
            cpu += [run.cpu for run in request_runs]
        for (name, direction), transfer_runs in self._transfers.items():
            self._figures.setdefault(name, {}).update(figures.of_transfers(direction, transfer_runs))
            rates = [run.rate for run in transfer_runs]
            spreads.append((figures.spread(rates), f"{name}, {direction}"))
            cpu += [run.cpu for run in transfer_runs]
        for name, count in errors.items():
            self._figures[name]["errors"] = count
            if count:
                self._failed.append(f"{name}: {count} requests failed")
        shares = [each.others for each in cpu] or [0.0]
        ordered = {s.name: self._figures[s.name] for s in subjects if s.name in self._figures}
        figures.add_ratios(ordered)
        return Outcome(
            subjects=ordered,
            rounds=self._by_round(),
            spread=max(spreads),
            others=(median(shares), max(shares)),
            failed=self._failed,
        )

    def _by_round(self) -> dict[str, dict[str, list[float]]]:
        found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for (name, connections), requests in self._requests.items():
            for each in requests:
                for key, value in figures.of_requests(connections, [each]).items():
                    found[name][key].append(value)
        for (name, direction), transfers in self._transfers.items():
            for one in transfers:
                for key, value in figures.of_transfers(direction, [one]).items():
                    found[name][key].append(value)
        return found

    @property
    def _upstream(self) -> Upstream:
        return self._ground.upstream


def say(words: str) -> None:
    """Progress, apart from the results."""
    print(words, file=sys.stderr, flush=True)
