"""Scenarios of the benchmark: one by one, each subject in turn."""

from collections.abc import Sequence

from bench.errors import BenchError
from bench.scenarios import beside, bulk, memory, outages, requests, waits
from bench.scenarios.scene import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    *requests.SCENARIOS,
    *waits.SCENARIOS,
    *bulk.SCENARIOS,
    *beside.SCENARIOS,
    *memory.SCENARIOS,
    *outages.SCENARIOS,
)
"""In the order in which they are shown; those on one ground are run together."""

ALL = "all"


def choose(names: Sequence[str]) -> list[Scenario]:
    """The named scenarios, each once and in their order; BenchError for a name that there is not."""
    known = {scenario.name: scenario for scenario in SCENARIOS}
    for name in names:
        if name != ALL and name not in known:
            raise BenchError(f"no scenario is called {name!r}: choose from {ALL}, {', '.join(known)}")
    return [scenario for scenario in SCENARIOS if ALL in names or scenario.name in names]
