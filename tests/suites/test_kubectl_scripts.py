"""kubectl's own scripts have the same verdict on each case through argotun as without it."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.harness.binaries import Binaries, MissingError

from . import kubectl_scripts
from .site import DIRECT, WAYS, reached
from .verdicts import Outcome, differences, listed, unexplained

pytestmark = pytest.mark.suite("kubectl-convert")

Run = Callable[[str], dict[str, Outcome]]
Record = Callable[[str, str, dict[str, Outcome]], dict[str, Outcome]]


@pytest.fixture(scope="module")
def run(found: Binaries, folder: Path, record: Record) -> Run:
    """Run all cases by a way, or those of WHAT, which Kubernetes knows as well."""
    if absent := [name for name in kubectl_scripts.NEEDED if not shutil.which(name)]:
        pytest.skip(f"test/cmd needs {', '.join(absent)}")
    if absent := found.missing("kubectl-convert", "kube-controller-manager"):
        pytest.skip(f"no {', '.join(absent)} in {found.folder}")

    def run(way: str) -> dict[str, Outcome]:
        copied = folder / f"kubernetes-{way}"
        try:
            kubectl_scripts.copy(copied, found)
        except MissingError as e:
            pytest.skip(str(e))
        site = kubectl_scripts.site(found, folder / f"kubectl-scripts-{way}", copied)
        with reached(way, site, partial(kubectl_scripts.begin, copied=copied)) as endpoint:
            outcomes = kubectl_scripts.run(
                endpoint, site.api_port, copied, site.folder / "cases", os.environ.get("WHAT", "")
            )
        return record("kubectl-scripts", way, outcomes)

    return run


@pytest.fixture(scope="module")
def direct(run: Run) -> dict[str, Outcome]:
    return run(DIRECT)


@pytest.mark.parametrize("way", WAYS)
def test_every_case_has_the_same_verdict(way: str, direct: dict[str, Outcome], run: Run) -> None:
    found = differences(direct, run(way))
    assert [str(each) for each in unexplained(found, listed(kubectl_scripts.EXPLAINED.read_text()))] == []
