"""A status as lines for a terminal: what they say, how wide they are, and that they obey nobody."""

from typing import Any

import pytest

from argotun.status.table import MARKS, MOST, WIDE, lines
from tests import fleet


def text(status: dict[str, Any], width: int = 80, marks: dict[str, str] | None = None) -> str:
    return "\n".join(lines(status, width, marks or {}))


def test_each_cluster_is_a_line() -> None:
    shown = text(fleet.server(2))
    assert "\ncustomer-0001  0.4.1  3 h 5 min  12 ms  1        in 60 d\n" in shown
    assert "\n2 of 2              2       1        2.9 KiB/s    3.8 MiB/s      431\n" in shown
    assert shown.endswith("\n✓ all is well")


def test_a_wide_terminal_has_the_traffic_too() -> None:
    assert "TO IT/S" not in text(fleet.server(1), WIDE - 1)
    assert "1.5 KiB  1.9 MiB" in text(fleet.server(1), WIDE)


def test_a_lost_cluster_comes_first_with_its_last_words() -> None:
    history = {"customer-0001": fleet.past(lastSeenSeconds=60.0, lastRefusal=fleet.refusal("it is wrong", 3))}
    status = fleet.server(2, history=history)
    status["clusters"]["customer-0001"] = []
    shown = text(status)
    assert shown.index("customer-0001  none") < shown.index("customer-0000  0.4.1")
    assert "\n  refused 33 s ago from 203.0.113.9, 3 times: it is wrong\n" in shown
    assert shown.endswith("\n✗ cluster customer-0001 has no agent: the last was here 1 min ago")


def test_replicas_and_strangers_have_tables_of_their_own() -> None:
    shown = text(fleet.server(1, strangers=[fleet.refusal()], **fleet.replicas()))
    assert "\nffee0011  10.0.0.8:8444  up    0.4 ms  3\n" in shown
    assert "\n203.0.113.9             33 s ago  1      the token is not known\n" in shown


def test_a_servers_health_port_has_numbers_only() -> None:
    shown = text({"mode": "server", "clusters": 3, "connected": 2, "agents": 2, "connections": 1})
    assert "\nCLUSTERS CONNECTED  AGENTS  CONNECTIONS\n2 of 3              2       1\n" in shown
    assert shown.endswith("✗ 1 of 3 clusters has no agent here")


def test_an_agent_shows_both_ends_and_its_policy() -> None:
    shown = text(fleet.agent(apiReachable=False, apiProblem="connection refused"))
    assert "\nserver  wss://tunnel.example.com/connect  connected           1 h 5 min\n" in shown
    assert "\nAPI     kubernetes.default.svc:443        no answer, v1.36.3  11 min 40 s\n" in shown
    assert "\nno-secrets          7\n" in shown
    assert "✗ the Kubernetes API cannot be asked for 11 min 40 s: connection refused" in shown


@pytest.mark.parametrize("width", [1, 80, 100, 140])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = "x" * 128
    status = fleet.server(
        1,
        clusters={long: [fleet.agent_of(1, release="y" * 200)], "lost": []},
        history={"lost": fleet.past(lastEnd="words " * 50, lastClaim=fleet.refusal("z" * 200))},
        strangers=[fleet.refusal("w" * 200, peer="2001:db8:1111:2222:3333:4444:5555:6666")],
    )
    for shown in (status, fleet.agent(server="wss://" + long, lastError="e" * 200, connected=False)):
        assert max(map(len, lines(shown, width, {}))) <= max(width, 80)
    assert "y" * MOST not in text(status)


def test_the_totals_of_many_are_one_line_of_80_columns() -> None:
    busy = {"toClusterBytesPerSecond": 999_000_000, "fromClusterBytesPerSecond": 999_000_000, "takeovers": 0}
    status = fleet.server(999, connections=99_999)
    status["traffic"] = dict.fromkeys(status["clusters"], busy)
    assert "\n999 of 999          999     " in text(status)
    heads = next(line for line in lines(status, 80, {}) if line.startswith("CLUSTERS CONNECTED"))
    assert heads.endswith("CONNECTIONS")
    assert len(heads) <= 80


def test_only_a_terminal_has_colours() -> None:
    assert "\x1b" not in text(fleet.server(1, lost=1))
    assert f"{MARKS['bad']}✗ cluster" in text(fleet.server(1, lost=1), marks=MARKS)


@pytest.mark.parametrize("evil", ["\x1b]0;owned\x07", "\x1b[2J", "a\r\nb", "\u202eabc", "\x9b31m", "\x00"])
def test_a_terminal_is_told_nothing_by_the_other_side(evil: str) -> None:
    def said(value: object) -> Any:
        if isinstance(value, dict):
            return {key: said(each) for key, each in value.items()}
        if isinstance(value, list):
            return [said(each) for each in value]
        return value + evil if isinstance(value, str) else value

    history = {
        "customer-0000": fleet.past(lastEnd="e", lastRefusal=fleet.refusal(), lastAttempt=fleet.refusal())
    }
    whole = fleet.server(2, lost=1, history=history, strangers=[fleet.refusal()], **fleet.replicas())
    wild = said(whole) | {"clusters": said(whole["clusters"]) | {f"x{evil}": []}}
    policy = {"file": "f", "rules": 1, "problem": "p", "refusals": {f"rule{evil}": 1}}
    agent = fleet.agent(connected=False, apiReachable=False, apiProblem="p", policy=policy)
    for status in (wild, said(agent), {"clusters": {}, "certificates": {evil: {"ends": evil}}}):
        assert all(line.isprintable() for line in lines(status, 80, {}))


@pytest.mark.parametrize("odd", [None, 1, "x", [], {}, [1], {"a": 1}, {"a": []}, True, float("inf")])
@pytest.mark.parametrize("whole", [fleet.server(1, **fleet.replicas()), fleet.agent()])
def test_a_status_of_other_shapes_has_lines(whole: dict[str, Any], odd: object) -> None:
    for key in whole:
        assert text(whole | {key: odd})
