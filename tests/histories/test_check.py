"""The checker of histories finds each kind of fault, and none in a run without one."""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.histories.check import History, Outcome, Revision, Watching, Write, faults

ACKNOWLEDGED, CONFLICT = Outcome.ACKNOWLEDGED, Outcome.CONFLICT
NEVER_SENT, UNKNOWN = Outcome.NEVER_SENT, Outcome.UNKNOWN

# What is at 10, 20 … 50; other objects have the versions between.
TRUTH = [Revision(10 * number, number, f"t{number}") for number in range(1, 6)]


def good() -> History:
    """Five writes that are in, one of them without an answer; three that are not; a watch and a reader."""
    return History(
        revisions=list(TRUTH),
        writes=[
            Write("a", "t1", 0, ACKNOWLEDGED, 10),
            Write("a", "t2", 10, ACKNOWLEDGED, 20),
            Write("b", "late", 10, CONFLICT),
            Write("b", "t3", 20, UNKNOWN),
            Write("b", "refused", 30, NEVER_SENT),
            Write("b", "cut", 30, UNKNOWN),
            Write("a", "t4", 30, ACKNOWLEDGED, 40),
            Write("b", "t5", 40, ACKNOWLEDGED, 50),
        ],
        watches=[Watching("a", 10, TRUTH[1:]), Watching("b", 30, TRUTH[3:])],
        reads={"a": [TRUTH[0], TRUTH[1], TRUTH[1], TRUTH[3]], "b": []},
        delivered=Counter(["t1", "t2", "t3", "t4", "t5", "late"]),
    )


def test_a_run_without_a_fault_has_none() -> None:
    assert faults(good()) == []


def test_a_watch_that_the_api_forgot_need_not_reach_the_end() -> None:
    history = good()
    history.watches.append(Watching("c", 10, TRUTH[1:3], to_the_end=False))
    assert faults(history) == []


def lose_a_write(history: History) -> None:
    history.writes.append(Write("c", "gone", 20, ACKNOWLEDGED, 25))


def apply_twice(history: History) -> None:
    history.revisions.append(Revision(60, 6, "t3"))


def apply_what_conflicted(history: History) -> None:
    history.writes[1] = Write("a", "t2", 10, CONFLICT)


def apply_what_was_never_sent(history: History) -> None:
    history.writes[1] = Write("a", "t2", 10, NEVER_SENT)


def tell_another_version(history: History) -> None:
    history.writes[1] = Write("a", "t2", 10, ACKNOWLEDGED, 30)


def invent_a_write(history: History) -> None:
    history.revisions.append(Revision(60, 6, "nobody's"))


def skip_a_count(history: History) -> None:
    history.revisions[-1] = Revision(50, 6, "t5")


def replace_another_revision(history: History) -> None:
    history.writes[-1] = Write("b", "t5", 30, ACKNOWLEDGED, 50)


def turn_the_truth_round(history: History) -> None:
    history.revisions[3], history.revisions[4] = TRUTH[4], TRUTH[3]


def deliver_twice(history: History) -> None:
    history.delivered["late"] += 1


def deliver_what_was_never_sent(history: History) -> None:
    history.delivered["refused"] += 1


def miss_an_event(history: History) -> None:
    del history.watches[0].events[1]


def miss_the_last_event(history: History) -> None:
    del history.watches[0].events[-1]


def hear_nothing(history: History) -> None:
    history.watches[0].events.clear()


def double_an_event(history: History) -> None:
    history.watches[0].events.insert(2, TRUTH[2])


def turn_events_round(history: History) -> None:
    events = history.watches[0].events
    events[0], events[1] = events[1], events[0]


def hear_what_was_before(history: History) -> None:
    history.watches[0].events.insert(0, TRUTH[0])


def invent_an_event(history: History) -> None:
    history.watches[0].events.insert(1, Revision(25, 2, "t2"))


def alter_an_event(history: History) -> None:
    history.watches[0].events[1] = Revision(30, 3, "t2")


def tear_an_event(history: History) -> None:
    history.watches[0].torn = 1


def read_what_was_before(history: History) -> None:
    history.reads["a"].append(TRUTH[2])


def read_what_never_was(history: History) -> None:
    history.reads["b"].append(Revision(45, 4, "t4"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lose_a_write, "lost write: gone"),
        (apply_twice, "doubled write: t3"),
        (apply_what_conflicted, "t2 (conflict) made revision 20"),
        (apply_what_was_never_sent, "t2 (never sent) made revision 20"),
        (tell_another_version, "t2 (acknowledged) was told version 30, and made [20]"),
        (invent_a_write, "phantom write: revision 60"),
        (skip_a_count, "revision 50 counts 6 behind 4"),
        (replace_another_revision, "t5 was to replace 30, and replaced 40"),
        (turn_the_truth_round, "etcd's revisions are out of order: 40 behind 50"),
        (deliver_twice, "doubled delivery: the API was asked for late 2 times"),
        (deliver_what_was_never_sent, "refused (never sent) reached the API"),
        (miss_an_event, "missing event: watch of a from 10 did not hear 30"),
        (miss_the_last_event, "missing event: watch of a from 10 did not hear 50"),
        (hear_nothing, "missing event: watch of a from 10 did not hear 20"),
        (double_an_event, "doubled event: watch of a from 10 heard 30 2 times"),
        (turn_events_round, "event out of order: watch of a from 10 heard 20 behind 30"),
        (hear_what_was_before, "event out of order: watch of a from 10 began with 10"),
        (invent_an_event, "phantom event: watch of a from 10 heard Revision(version=25"),
        (alter_an_event, "phantom event: watch of a from 10 heard Revision(version=30"),
        (tear_an_event, "torn event: watch of a from 10"),
        (read_what_was_before, "stale read: a saw 30 behind 40"),
        (read_what_never_was, "phantom read: b saw Revision(version=45"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_fault_is_found_and_named(damage: Callable[[History], None], words: str) -> None:
    history = good()
    damage(history)
    assert any(fault.startswith(words) for fault in faults(history)), faults(history)
