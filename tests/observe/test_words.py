"""Numbers as people read them, and what a status has that is not as it should be."""

from typing import Any

import pytest

from argotun.observe.words import ago, ending, milliseconds, size, span, troubles
from tests import fleet
from tests.fleet import DAY


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3661, "1 h 1 min"),
        (3600, "1 h"),
        (DAY + 59, "1 d"),
        (400 * DAY, "1 y 35 d"),
        (None, "–"),
        ("soon", "–"),
    ],
)
def test_a_time_is_its_two_largest_units(seconds: object, words: str) -> None:
    assert span(seconds) == words


def test_what_never_was_is_never() -> None:
    assert (ago(None), ago(5)) == ("never", "5 s ago")


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1536, "1.5 KiB"), (20 << 20, "20 MiB"), (3 << 50, "3072 TiB"), (None, "–")],
)
def test_bytes_have_units(count: object, words: str) -> None:
    assert size(count) == words


def test_a_round_trip_is_milliseconds() -> None:
    assert [milliseconds(value) for value in (0, None, 0.0004, 0.25)] == ["–", "–", "0.4 ms", "250 ms"]


def test_a_certificate_ends_or_has_ended() -> None:
    assert [ending(value) for value in (None, 60, -60)] == ["–", "in 1 min", "1 min ago"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (fleet.server(3), []),
        (fleet.server(0), []),
        (fleet.server(2, lost=1), ["cluster customer-0000 has no agent: the last was here 0 s ago"]),
        (
            fleet.server(1, lost=1, history={"customer-0000": fleet.past(lastSeenSeconds=None)}),
            ["cluster customer-0000 has no agent: none was here since the server started"],
        ),
        (fleet.server(1, lost=1, **fleet.replicas(elsewhere={"customer-0000": ["ffee0011"]})), []),
        (fleet.server(1, draining=True), ["it drains: it is about to end"]),
        (
            fleet.server(1, certificates={"ca": {"ends": "", "secondsLeft": -3 * DAY}}),
            ["its ca ended 3 d ago"],
        ),
        (
            fleet.server(0, clusters={"c1": [fleet.agent_of(1, certificateSeconds=9 * DAY)]}),
            ["the certificate of c1's agent ends in 9 d"],
        ),
        (
            fleet.server(0, **fleet.replicas(registry={"up": False})),
            ["the registry of replicas is down: what is known of the others stays in use"],
        ),
        (
            fleet.server(0, **fleet.replicas(links=[{"address": "a:1", "up": False, "problem": "refused"}])),
            ["there is no link to replica a:1: refused"],
        ),
        (
            {"clusters": 3, "connected": 1, "agents": 1},
            ["2 of 3 clusters have no agent here"],
        ),
        (fleet.agent(), []),
        (
            fleet.agent(connected=False, lastError="no route to the host", attempts=14, nextTrySeconds=41),
            ["there is no tunnel to the server: no route to the host (14 attempts, next in 41 s)"],
        ),
        (
            fleet.agent(apiReachable=False, apiProblem="connection refused"),
            ["the Kubernetes API cannot be asked for 11 min 40 s: connection refused"],
        ),
        (fleet.agent(apiReachable=None), []),
        (
            fleet.agent(policy={"problem": "no such verb"}),
            ["the policy file cannot be used, the one before stays in force: no such verb"],
        ),
    ],
)
def test_each_trouble_is_a_sentence(status: dict[str, Any], words: list[str]) -> None:
    assert troubles(status) == words


@pytest.mark.parametrize("odd", [None, 1, "x", [], {}, [1], {"a": 1}, True, 1e400])
@pytest.mark.parametrize("whole", [fleet.server(1, **fleet.replicas()), fleet.agent()])
def test_a_status_of_other_shapes_is_read_all_the_same(whole: dict[str, Any], odd: object) -> None:
    for key in whole:
        troubles(whole | {key: odd})
        troubles({key: odd})
