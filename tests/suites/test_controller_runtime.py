"""controller-runtime's client and cache have the same verdicts through argotun as without it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.harness.binaries import Binaries, MissingError

from . import controller_runtime, programs
from .controller_runtime import SUITES
from .site import DIRECT, WAYS, Site, reached
from .verdicts import Outcome, differences, listed, unexplained

EACH = [pytest.param(name, marks=pytest.mark.suite(suite.program)) for name, suite in SUITES.items()]

Run = Callable[[str], dict[str, Outcome]]
Record = Callable[[str, str, dict[str, Outcome]], dict[str, Outcome]]


@pytest.fixture(scope="module", params=EACH)
def run(request: pytest.FixtureRequest, found: Binaries, folder: Path, record: Record) -> Run:
    """Run one of the suites by a way."""
    name: str = request.param
    suite = SUITES[name]
    if absent := found.missing(suite.program):
        pytest.skip(f"no {', '.join(absent)} in {found.folder}")
    try:
        programs.sources(programs.CONTROLLER_RUNTIME)
    except MissingError as e:
        pytest.skip(str(e))

    def run(way: str) -> dict[str, Outcome]:
        site = Site(found, folder / f"{name}-{way}", *controller_runtime.OPTIONS)
        with reached(way, site) as endpoint:
            outcomes = controller_runtime.run(suite, found, endpoint, site.folder / "suite")
        return record(f"controller-runtime-{name}", way, outcomes)

    return run


@pytest.fixture(scope="module")
def direct(run: Run) -> dict[str, Outcome]:
    return run(DIRECT)


@pytest.mark.parametrize("way", WAYS)
def test_every_test_has_the_same_verdict(way: str, direct: dict[str, Outcome], run: Run) -> None:
    found = differences(direct, run(way))
    assert [str(each) for each in unexplained(found, listed(controller_runtime.EXPLAINED.read_text()))] == []
