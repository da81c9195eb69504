"""Wrong credentials: slower and quieter from an address that shows many, and a right one at once."""

import logging
import ssl
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from argotun.server import agents, guesses
from argotun.server.guesses import Guesses
from tests.raw_websocket import Refused, dial
from tests.rig import Gate, Rig, until
from tests.v2_peers import SUBPROTOCOL, V2Agent


def waits(known: Guesses, host: str, count: int, now: float = 0.0) -> list[float]:
    return [known.refused(host, now)[0] for _ in range(count)]


def test_the_first_refusals_come_at_once_and_later_ones_one_by_one() -> None:
    known = Guesses()
    assert waits(known, "192.0.2.1", guesses.BURST + 3) == [0.0] * guesses.BURST + [1.0, 2.0, 3.0]


def test_no_refusal_waits_longer_than_an_agent_does() -> None:
    known = Guesses()
    assert max(waits(known, "192.0.2.1", 1000)) == guesses.LONGEST
    # And a flood is forgotten as soon as a short one.
    assert known.refused("192.0.2.1", guesses.BURST + guesses.LONGEST) == (0.0, True)


def test_each_address_has_its_own_count() -> None:
    known = Guesses()
    waits(known, "192.0.2.1", 100)
    assert known.refused("192.0.2.2", 0.0) == (0.0, True)


def test_one_network_of_ipv6_counts_as_one_address() -> None:
    known = Guesses()
    found = [known.refused(f"2001:db8::{number:x}", 0.0)[0] for number in range(guesses.BURST + 1)]
    assert found[-1] == 1.0
    assert known.refused("2001:db8:0:1::1", 0.0)[0] == 0.0
    assert known.refused("fe80::1%eth0", 0.0)[0] == 0.0


def test_a_flood_is_logged_when_it_begins() -> None:
    known = Guesses()
    told = [known.refused("192.0.2.1", 0.0)[1] for _ in range(guesses.BURST + 5)]
    assert told == [True] * (guesses.BURST + 1) + [False] * 4


@pytest.mark.parametrize(("limit", "value"), [("HELD", 1), ("HELD_IN_ALL", 1)])
def test_where_enough_wait_the_next_is_not_held(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(guesses, limit, value)
    known = Guesses()
    waits(known, "192.0.2.1", guesses.BURST)
    assert known.refused("192.0.2.1", 0.0)[0] > 0
    known.hold("192.0.2.1", 1)
    assert known.refused("192.0.2.1", 0.0)[0] < 0
    known.hold("192.0.2.1", -1)
    assert known.refused("192.0.2.1", 0.0)[0] > 0


def test_addresses_are_remembered_in_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "ADDRESSES", 10)
    known = Guesses()
    for number in range(1000):
        known.refused(f"192.0.{number // 250}.{number % 250}", 0.0)
    assert len(known._addresses) == 10


@pytest.fixture
def held() -> Gate:
    """What refusals wait for that are held back."""
    return Gate()


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch, held: Gate) -> Iterator[Rig]:
    """However long a test takes, no guess is forgotten meanwhile."""
    monkeypatch.setattr(guesses, "BURST", 3)
    monkeypatch.setattr(guesses, "INTERVAL", 600.0)
    monkeypatch.setattr(guesses, "LONGEST", 600.0)
    monkeypatch.setattr(guesses, "HELD", 4)
    slept = SimpleNamespace(sleep=lambda seconds: held.wait(), Timeout=gevent.Timeout)
    monkeypatch.setattr(agents, "gevent", slept)
    with Rig(mutual=False, agent=None) as rig:
        yield rig
        held.open()


def guess(rig: Rig) -> int:
    with pytest.raises(Refused) as caught:
        dial(rig.server.public_address, SUBPROTOCOL + b"Authorization: Bearer a-guess-of-sixteen\r\n")
    return caught.value.status


def test_a_right_token_is_let_in_at_once_behind_the_address_that_guesses(rig: Rig, held: Gate) -> None:
    flood = [gevent.spawn(guess, rig) for _ in range(30)]
    V2Agent(rig)
    # Those that are held have no answer yet.
    until(lambda: sum(each.dead for each in flood) == 26, "the others' answers")
    held.open()
    gevent.joinall(flood)
    assert Counter(each.value for each in flood) == {401: 3 + 4, 429: 23}


def test_a_429_says_when_to_try_again(rig: Rig) -> None:
    flood = [gevent.spawn(refusal, rig) for _ in range(20)]
    until(lambda: sum(each.dead for each in flood) == 16, "the answers")
    late = next(each.value for each in flood if each.dead and each.value.status == 429)
    assert b"Retry-After: " in late.head


def refusal(rig: Rig) -> Refused:
    with pytest.raises(Refused) as caught:
        dial(rig.server.public_address, SUBPROTOCOL + b"Authorization: Bearer a-guess-of-sixteen\r\n")
    return caught.value


def test_each_refused_cluster_has_its_line(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """As when the CA of all of them has ended: more clusters than a kind of line may have lines."""
    monkeypatch.setattr(guesses, "BURST", 1000)
    names = [f"c{number}" for number in range(30)]
    rig = Rig(agent=None)
    rig.write_clusters(
        [{"id": name, "token": f"token-of-agent-{name}", "certNames": ["x"]} for name in names]
    )
    caplog.set_level(logging.INFO)
    with rig:
        context = ssl.create_default_context(cafile=rig.authority.path("ca.pem"))
        context.load_cert_chain(rig.authority.path("agent.pem"), rig.authority.path("agent.key"))
        for name in names * 4:
            with pytest.raises(Refused):
                dial(
                    rig.server.public_address,
                    SUBPROTOCOL + f"Authorization: Bearer token-of-agent-{name}\r\n".encode(),
                    context=context,
                )
    lines = [each for each in caplog.records if "an agent was refused" in each.message]
    assert {each.fields["cluster"] for each in lines} == set(names)


def test_a_flood_of_guesses_is_few_lines_and_all_are_counted(rig: Rig, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    flood = [gevent.spawn(guess, rig) for _ in range(30)]
    until(lambda: sum(each.dead for each in flood) == 26, "the answers")
    assert len([each for each in caplog.records if "refused" in each.message]) == 4
    assert rig.server.metrics._auth_failures["unknown_token"] == 30
