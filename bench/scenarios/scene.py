"""What a scenario of the benchmark is: what it measures of one subject, and on what it stands meanwhile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench import machine
from bench.errors import BenchError
from bench.load import Cpu, Meter
from bench.subject import Ground, Running, Subject

Figures = dict[str, float]

STANDARD = "standard"
"""The ground on which the API is the nginx of the whole benchmark, and no link is in the way."""


class NotMeasured(BenchError):
    """The scenario asks for something that this subject is not made for; str() says what."""


@dataclass(frozen=True)
class Row:
    """A line of the table: which of a scenario's figures, what it is and in what unit, how many decimals.

    With `over_direct` another line says how much more it is than that of the subject `direct`.
    """

    key: str
    label: str
    decimals: int = 1
    more_is_better: bool = False
    over_direct: bool = False


@dataclass(frozen=True)
class Effort:
    """How much is measured: `seconds` of each load, `rounds` at most, `streams` idle or stalled, `agents`
    that come at once."""

    seconds: int
    rounds: int
    streams: int
    agents: int


FULL = Effort(seconds=2, rounds=3, streams=1000, agents=1000)
SHORT = Effort(seconds=1, rounds=1, streams=100, agents=50)
"""To see that a scenario works; no figures to tell of."""


@dataclass(frozen=True)
class Stage:
    """A subject at work, as a scenario finds it."""

    ground: Ground
    subject: Subject
    running: Running
    effort: Effort

    def meter(self) -> Meter:
        """The clocks of its processes and of the API, from now on."""
        return Meter(self.running, self.ground.upstream, machine.processors())

    @contextmanager
    def fresh(self) -> Iterator[Running]:
        """The same subject once more, by itself, for as long as the block lasts."""
        running = self.subject.start(self.ground)
        try:
            yield running
        finally:
            self.ground.site.stop(list(running.children.values()))


@dataclass(frozen=True)
class Scenario:
    """One thing to measure: `name` chooses it, `says` tells a reader how it is measured.

    `measure` gives the figures of one round by the keys of `rows`, of which some may be missing where a
    subject has no such process. It raises BenchError, or OSError, where the subject fails. `on` is
    the ground, `rounds` how often it is repeated, of which the effort may allow fewer.
    """

    name: str
    says: str
    rows: tuple[Row, ...]
    measure: Callable[[Stage], Figures]
    on: str = STANDARD
    rounds: int = 1


def costs(cpu: Cpu, parts: float, unit: float) -> Figures:
    """CPU of the subject's processes together, and of the API's, for each of so many parts.

    `unit` says how many of the figure's units a second is: 1e6 for µs.
    """
    between = [seconds for name, seconds in cpu.by_process.items() if name not in ("upstream", "driver")]
    figures = {"cpu_api": cpu.by_process["upstream"] * unit / parts}
    return figures | ({"cpu": sum(between) * unit / parts} if between else {})


def cpu_rows(per: str) -> tuple[Row, ...]:
    """The rows of `costs`."""
    return (Row("cpu", f"CPU {per}: server + agent"), Row("cpu_api", f"CPU {per}: the API"))
