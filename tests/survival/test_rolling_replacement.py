"""A server is replaced while clients ask: real processes, and haproxy before both of their ports."""

import os
from collections.abc import Iterator

import pytest

from bench import registry, rolling
from bench.site import Site

RATE = 200.0
DRAIN = "8s"

REQUESTS, REPLICAS_RATE = (10_000, RATE) if "ARGOTUN_WHOLE" in os.environ else (2500, 100.0)
"""Of the three replicas: what the issue asks for, or half a minute of it."""

pytestmark = pytest.mark.skipif(rolling.missing() is not None, reason=f"needs haproxy: {rolling.missing()}")


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


def test_a_rolling_replacement_loses_no_request(site: Site) -> None:
    outcome = rolling.roll(site, 1500, RATE, drain=DRAIN)
    assert (outcome.answered, outcome.lost) == (1500, []), str(outcome)
    assert set(outcome.watches_ended) <= {"in order"}, str(outcome)
    assert outcome.exit_code == 0


def test_clients_that_are_still_sent_to_the_draining_server_are_served(site: Site) -> None:
    """A Kubernetes Service neither asks again nor knows at once."""
    outcome = rolling.roll(site, 1500, RATE, retries=0, drain=DRAIN)
    assert (outcome.answered, outcome.lost) == (1500, []), str(outcome)
    assert not outcome.repeated, str(outcome)
    assert set(outcome.watches_ended) <= {"in order"}, str(outcome)


@pytest.mark.skipif(registry.missing() is not None, reason=f"needs a registry: {registry.missing()}")
def test_three_replicas_replaced_one_after_the_other_lose_no_request(site: Site) -> None:
    outcome = rolling.roll(site, REQUESTS, REPLICAS_RATE, retries=0, drain=DRAIN, replicas=3)
    assert (outcome.answered, outcome.lost) == (REQUESTS, []), str(outcome)
    assert not outcome.repeated, str(outcome)
    assert set(outcome.watches_ended) == {"in order"}, str(outcome)
    assert outcome.exit_code == 0
