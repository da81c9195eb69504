"""Kubernetes' own e2e.test has the same verdict on each spec through argotun as without it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.harness.binaries import Binaries

from . import e2e
from .site import DIRECT, WAYS, Site, reached
from .verdicts import PASSED, Outcome, differences, listed, unexplained

OWN = ("e2e.test", "kube-scheduler")
PROGRAMS = (*OWN, "kube-controller-manager", "kwok", "fakekubelet")

pytestmark = pytest.mark.suite(*OWN)

Run = Callable[[str], dict[str, Outcome]]
Record = Callable[[str, str, dict[str, Outcome]], dict[str, Outcome]]


@pytest.fixture(scope="module")
def run(found: Binaries, folder: Path, record: Record) -> Run:
    """Run the specs of the list by a way, or those whose names hold WHAT."""
    if absent := found.missing(*PROGRAMS):
        pytest.skip(f"no {', '.join(absent)} in {found.folder}")
    if not shutil.which("bwrap"):
        pytest.skip("needs bwrap, to keep what specs run in their pods there (Debian: bubblewrap)")
    what = os.environ.get("WHAT", "")
    specs = [name for name in listed(e2e.LIST.read_text()) if what in name]

    def run(way: str) -> dict[str, Outcome]:
        site = Site(found, folder / f"e2e-{way}")
        with reached(way, site, Site.start_nodes) as endpoint:
            return record("e2e", way, e2e.run(found, endpoint, site.folder / "lanes", specs))

    return run


@pytest.fixture(scope="module")
def direct(run: Run) -> dict[str, Outcome]:
    return run(DIRECT)


@pytest.mark.parametrize("way", WAYS)
def test_every_spec_has_the_same_verdict(way: str, direct: dict[str, Outcome], run: Run) -> None:
    found = differences(direct, run(way))
    assert [str(each) for each in unexplained(found, listed(e2e.EXPLAINED.read_text()))] == []


def test_every_spec_that_runs_passes_directly(direct: dict[str, Outcome]) -> None:
    assert [f"{name}: {each.said}" for name, each in direct.items() if each.state != PASSED] == []
