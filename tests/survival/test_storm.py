"""Many agents come at once: the benchmark's storms in small, with real processes over mutual TLS."""

import shutil
from collections.abc import Iterator

import pytest

from bench import storm
from bench.site import Site

AGENTS = 60
SLOW = 30

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl program")


@pytest.fixture(scope="module")
def outcome() -> Iterator[storm.Outcome]:
    with Site() as site:
        yield storm.run(site, AGENTS, processes=2, slow=SLOW, calm=0.5)


@pytest.mark.parametrize("name", ["cut", f"beside {SLOW} slow clients", "restart"])
def test_no_agent_is_starved_in_a_storm(outcome: storm.Outcome, name: str) -> None:
    (seen,) = (each for each in outcome.storms if each.name == name)
    assert (seen.back, seen.agents) == (AGENTS, AGENTS), str(outcome)


def test_a_live_tunnel_loses_no_request_in_a_storm(outcome: storm.Outcome) -> None:
    """In a restart it is lost itself: only the other storms count."""
    assert outcome.calm.count > 0
    for seen in outcome.storms[:2]:
        assert seen.live.count > 0
        assert not seen.live.failed, str(outcome)


def test_an_agent_that_was_let_in_dials_once(outcome: storm.Outcome) -> None:
    assert [seen.most_dials for seen in outcome.storms[:2]] == [1, 1], str(outcome)
