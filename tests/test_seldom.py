"""Lines that others can cause are a few of each kind, and a count; no kind of them fills memory."""

import logging

import pytest

from argotun import seldom
from argotun.seldom import Seldom
from tests.rig import until

LOG = logging.getLogger("argotun.test")


def test_a_flood_is_a_few_lines_and_a_count_and_then_new_lines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> list[str]:
        # Other tests' servers may still sum up.
        return [record.getMessage() for record in caplog.records if record.name == LOG.name]

    now = 100.0
    monkeypatch.setattr(seldom, "monotonic", lambda: now)
    flood = Seldom(LOG, most=3, seconds=0.1)
    for number in range(10):
        flood.say(logging.WARNING, "kind", "line %d", number)
    assert said() == ["line 0", "line 1", "line 2"]
    until(lambda: len(said()) == 4, "the count")
    assert "7 more" in said()[-1]
    now += 0.1
    flood.say(logging.WARNING, "kind", "line %d", 10)
    assert said()[-1] == "line 10"


def test_one_kind_takes_no_lines_from_another(caplog: pytest.LogCaptureFixture) -> None:
    flood = Seldom(LOG, most=1, seconds=60)
    for kind in ("a", "b", "a", "b"):
        flood.say(logging.WARNING, kind, "line of %s", kind)
    assert [record.getMessage() for record in caplog.records] == ["line of a", "line of b"]


def test_many_kinds_are_one(caplog: pytest.LogCaptureFixture) -> None:
    flood = Seldom(LOG, most=1, seconds=60, kinds=4)
    for number in range(100):
        flood.say(logging.WARNING, str(number), "line")
    assert len(caplog.records) == 5
    assert len(flood._kinds) == 5


def test_what_was_left_out_is_counted_when_its_owner_ends(caplog: pytest.LogCaptureFixture) -> None:
    flood = Seldom(LOG, most=1, seconds=60.0)
    for _ in range(3):
        flood.say(logging.WARNING, "kind", "refused")
    flood.close()
    flood.say(logging.WARNING, "kind", "refused")
    assert [each.getMessage() for each in caplog.records if each.name == LOG.name] == [
        "refused",
        "2 more lines like this were left out: kind",
        "refused",
    ]
    assert not flood._timers
