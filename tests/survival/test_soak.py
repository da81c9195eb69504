"""Ten seconds of what `make soak` does for ten minutes: real processes, mixed load, kills at random."""

import shutil
from collections.abc import Iterator

import pytest

from bench import soak
from bench.site import Site

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl for certificates")


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


def test_kills_under_load_leave_nothing_and_change_no_answer(site: Site) -> None:
    outcome = soak.Soak(site, 10.0, seed=7).run()
    assert not outcome.faults, str(outcome)
    # How many there are in ten seconds depends on who is away for how much of them.
    assert outcome.seen["watch", "done"] + outcome.seen["watch", "cut"] > 0, str(outcome)
