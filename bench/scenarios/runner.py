"""Runs scenarios: for each of them every subject in turn, round after round."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench import figures
from bench.errors import BenchError
from bench.run import say
from bench.scenarios.scene import Effort, Figures, NotMeasured, Scenario, Stage
from bench.subject import Ground, Running, Subject

# An address or a path says nothing to a reader on another machine.
_OF_THIS_MACHINE = re.compile(r"[:\s]*\S*(?:127\.0\.0\.1|(?<!\d)/\w+/)\S*")


@dataclass
class Outcome:
    """Medians of the rounds by subject and `SCENARIO.KEY`, and what went wrong by subject and scenario.

    `spread` is how far the rounds of a scenario's first figure lay apart at most, over all subjects.
    """

    subjects: dict[str, Figures]
    failed: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    not_measured: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    spread: dict[str, float] = field(default_factory=dict)


class Runner:
    """Measures the subjects side by side: all of a ground stand at the same time and take turns."""

    def __init__(
        self,
        grounds: Mapping[str, Callable[[], Ground]],
        subjects: Sequence[Subject],
        effort: Effort,
        warm_up: Callable[[Stage], None],
    ) -> None:
        """`warm_up` is done to each subject when it has started."""
        self._grounds = grounds
        self._subjects = subjects
        self._effort = effort
        self._warm_up = warm_up
        self._running: dict[str, Running] = {}
        self._outcome = Outcome({subject.name: {} for subject in subjects})

    def run(self, scenarios: Sequence[Scenario]) -> Outcome:
        """Everything; what fails is kept as such and the next one begins."""
        for on in dict.fromkeys(scenario.on for scenario in scenarios):
            ground = self._grounds[on]()
            for scenario in scenarios:
                if scenario.on == on:
                    self._measure(ground, scenario)
            for running in self._running.values():
                ground.site.stop(list(running.children.values()))
            self._running.clear()
        return self._outcome

    def _measure(self, ground: Ground, scenario: Scenario) -> None:
        found: dict[str, list[Figures]] = defaultdict(list)
        for number in range(min(scenario.rounds, self._effort.rounds)):
            # There and back, so that who comes first in a round favours nobody.
            for subject in self._subjects if number % 2 == 0 else reversed(self._subjects):
                figures_of_round = self._attempt(ground, scenario, subject)
                if figures_of_round is not None:
                    found[subject.name].append(figures_of_round)
        first, spreads = scenario.rows[0].key, [0.0]
        for name, rounds in found.items():
            if scenario.name in self._outcome.failed.get(name, ()):
                continue
            spreads.append(figures.spread([each[first] for each in rounds if each.get(first)]))
            self._outcome.subjects[name] |= medians(scenario.name, rounds)
        self._outcome.spread[scenario.name] = max(spreads)

    def _attempt(self, ground: Ground, scenario: Scenario, subject: Subject) -> Figures | None:
        failed, not_measured = self._outcome.failed, self._outcome.not_measured
        if any(scenario.name in kept.get(subject.name, ()) for kept in (failed, not_measured)):
            return None
        say(f"{scenario.name}: {subject.name}")
        try:
            fresh = subject.name not in self._running
            if fresh:
                self._running[subject.name] = subject.start(ground)
            stage = Stage(ground, subject, self._running[subject.name], self._effort)
            if fresh:
                self._warm_up(stage)
            return scenario.measure(stage)
        except NotMeasured as why:
            not_measured[subject.name][scenario.name] = str(why)
        except (BenchError, OSError) as error:
            say(f"{scenario.name}: {subject.name} fails: {error}")
            failed[subject.name][scenario.name] = what_happened(error)
            # What is left of it is not to be measured by the next one.
            if running := self._running.pop(subject.name, None):
                ground.site.stop(list(running.children.values()))
        return None


def medians(scenario: str, rounds: Sequence[Figures]) -> Figures:
    """One figure for each key that every round has, by `SCENARIO.KEY`."""
    keys = [key for key in rounds[0] if all(key in each for each in rounds)]
    return {f"{scenario}.{key}": median(each[key] for each in rounds) for key in keys}


def what_happened(error: Exception) -> str:
    """An error's first line, without what is only of this machine."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _OF_THIS_MACHINE.sub("", lines[0])
