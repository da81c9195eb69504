"""The directory: beats in any order, lost, doubled; hashes; links; rests; and who is forgotten when."""

from collections.abc import Callable

import pytest

from argotun.replicas import directory as module
from argotun.replicas.directory import FOLLOWED, SILENCE, Directory
from argotun.replicas.records import Beat, Record, Route

ME, A, B = "0" * 16, "a" * 16, "b" * 16
RECORD = Record("10.0.0.7:8444", "1.2.3")
OLD, NEW = Route(1, 1), Route(2, 2)


class Seen(Directory):
    """A directory that remembers what it told."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        self.times = 0
        super().__init__(ME, self.changes.append, self.count)

    def count(self) -> None:
        self.times += 1

    def say(
        self,
        seq: int,
        changes: dict[str, Route | None] | None = None,
        *,
        full: bool = False,
        replica: str = A,
        record: Record = RECORD,
        now: float = 0.0,
    ) -> bool:
        return self.beat(Beat(replica, seq, record, full, changes or {}), now)

    def own(self, now: float) -> None:
        self.say(1, replica=ME, now=now)

    def table(self, replica: str = A) -> dict[str, Route]:
        found = self.replicas.get(replica)
        routes = found.routes if found else {}
        for cluster, route in routes.items():
            assert (replica, route) in self._where[cluster].items()
        return routes


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def full(seen: Seen) -> Seen:
    """Knows A with clusters x and y, at number 5."""
    assert seen.say(5, {"x": OLD, "y": OLD}, full=True)
    seen.changes.clear()
    seen.times = 0
    return seen


def test_nobody_has_a_cluster_that_was_never_heard_of(seen: Seen) -> None:
    assert seen.routes("x") == ()
    assert seen.clusters == 0


def test_a_full_beat_makes_a_replica_known(full: Seen) -> None:
    assert full.routes("x") == [(A, OLD)]
    replica = full.replicas[A]
    assert (replica.address, replica.release, replica.leaving) == ("10.0.0.7:8444", "1.2.3", False)


def test_any_other_beat_of_a_stranger_is_a_gap(seen: Seen) -> None:
    assert not seen.say(5)
    assert not seen.say(6, {"x": OLD})
    assert seen.replicas == {}


BEATS: list[tuple[str, int, dict[str, Route | None], bool, bool, dict[str, Route]]] = [
    # what comes, its number, changes, full; whether it is whole, and the table after it
    ("quiet", 5, {}, False, True, {"x": OLD, "y": OLD}),
    ("the next change", 6, {"x": NEW}, False, True, {"x": NEW, "y": OLD}),
    ("the next end", 6, {"x": None}, False, True, {"y": OLD}),
    ("an end of what was not there", 6, {"z": None}, False, True, {"x": OLD, "y": OLD}),
    ("a later change", 7, {"x": NEW}, False, False, {"x": OLD, "y": OLD}),
    ("a quiet one after a lost change", 6, {}, False, False, {"x": OLD, "y": OLD}),
    ("a doubled change", 5, {"x": NEW}, False, True, {"x": OLD, "y": OLD}),
    ("an old change", 4, {"x": NEW}, False, True, {"x": OLD, "y": OLD}),
    ("an old quiet one", 4, {}, False, False, {"x": OLD, "y": OLD}),
    ("all anew", 6, {"z": NEW}, True, True, {"z": NEW}),
    ("all anew after a gap", 9, {"z": NEW}, True, True, {"z": NEW}),
    ("nothing anew", 6, {}, True, True, {}),
    ("all, doubled", 5, {"z": NEW}, True, True, {"x": OLD, "y": OLD}),
    ("all, late", 4, {"z": NEW}, True, False, {"x": OLD, "y": OLD}),
]


@pytest.mark.parametrize(
    ("seq", "changes", "all_of_it", "whole", "after"),
    [row[1:] for row in BEATS],
    ids=[row[0] for row in BEATS],
)
def test_what_a_beat_does(
    full: Seen,
    seq: int,
    changes: dict[str, Route | None],
    all_of_it: bool,
    whole: bool,
    after: dict[str, Route],
) -> None:
    before = dict(full.table())
    assert full.say(seq, changes, full=all_of_it, now=7.0) is whole
    assert full.table() == after
    assert full.replicas[A].heard == 7.0
    assert sorted(full.changes) == sorted(k for k in {*before, *after} if before.get(k) != after.get(k))


def test_a_hash_fills_a_gap(full: Seen) -> None:
    assert not full.say(8, {"x": NEW})
    full.snapshot(A, 8, RECORD, {"x": NEW}, 1.0)
    assert full.table() == {"x": NEW}
    assert full.say(9, {"y": NEW})
    assert full.table() == {"x": NEW, "y": NEW}


def test_a_hash_older_than_the_feed_is_passed_over(full: Seen) -> None:
    full.snapshot(A, 4, RECORD, {}, 1.0)
    assert full.table() == {"x": OLD, "y": OLD}
    assert full.replicas[A].heard == 1.0


def test_a_number_that_was_a_lie_is_unlearned(full: Seen) -> None:
    full.snapshot(A, 1 << 50, RECORD, {"z": NEW}, 1.0)
    # The replica itself says another number: it is asked, and believed.
    assert not full.say(5)
    full.snapshot(A, 5, RECORD, {"x": OLD}, 2.0)
    assert full.table() == {"x": OLD}
    assert full.say(6, {"y": NEW})


def test_while_a_number_is_in_doubt_only_the_hash_counts(full: Seen) -> None:
    assert not full.say(4)
    assert not full.say(3, {"z": NEW}, full=True)
    assert not full.say(6, {"x": None})
    assert full.table() == {"x": OLD, "y": OLD}
    full.snapshot(A, 6, RECORD, {"y": OLD}, 1.0)
    assert full.table() == {"y": OLD}


def test_our_own_hash_is_no_other_replica(seen: Seen) -> None:
    seen.snapshot(ME, 5, RECORD, {"x": OLD}, 0.0)
    assert seen.replicas == {}


def test_two_replicas_may_have_one_cluster(full: Seen) -> None:
    full.say(1, {"x": NEW}, full=True, replica=B)
    assert full.routes("x") == [(A, OLD), (B, NEW)]
    full.gone(A)
    assert full.routes("x") == [(B, NEW)]


def test_gone_takes_all_routes_and_says_so(full: Seen) -> None:
    full.gone(A)
    assert full.routes("x") == ()
    assert sorted(full.changes) == ["x", "y"]
    assert full.times == 1
    full.gone(A)
    assert full.times == 1


def test_what_a_replica_says_of_itself_is_told(full: Seen) -> None:
    full.say(5, record=RECORD._replace(leaving=True))
    assert full.replicas[A].leaving
    assert full.times == 1
    full.say(5, record=RECORD._replace(leaving=True))
    assert full.times == 1


def test_callbacks_see_the_table_after_the_whole_message(full: Seen) -> None:
    tables = []
    full.on_change = lambda cluster: tables.append(dict(full.table()))
    full.say(6, {"x": None, "z": NEW})
    assert tables == [{"y": OLD, "z": NEW}] * 2


# ── liveness ───────────────────────────────────────────────────────────────────────────────────────


def pass_time(seen: Seen, begin: float, end: float, *others: str) -> None:
    """Our own beats, and perhaps others', each second."""
    now = begin
    while now <= end:
        seen.own(now)
        for other in others:
            seen.say(seen.replicas[other].seq, replica=other, now=now)
        now += 1.0


def linked(seen: Seen) -> None:
    seen.link_alive(A)


def cut(seen: Seen) -> None:
    seen.link_alive(A)
    seen.link_dead(A)


@pytest.mark.parametrize(("link", "stays"), [(linked, True), (cut, False), (lambda seen: None, False)])
def test_silence_of_the_registry_forgets_whom_no_link_vouches_for(
    full: Seen, link: Callable[[Seen], None], stays: bool
) -> None:
    link(full)
    pass_time(full, 0.0, SILENCE + 2)
    assert (A in full.replicas) is stays


def test_who_beats_stays_without_a_link(full: Seen) -> None:
    pass_time(full, 0.0, 20.0, A)
    assert A in full.replicas


def test_a_dead_link_alone_forgets_nobody(full: Seen) -> None:
    full.link_alive(A)
    pass_time(full, 0.0, 2.0, A)
    full.link_dead(A)
    pass_time(full, 3.0, 20.0, A)
    assert A in full.replicas


def test_a_link_that_dies_later_lets_the_silent_one_go(full: Seen) -> None:
    full.link_alive(A)
    pass_time(full, 0.0, 20.0)
    assert A in full.replicas
    full.link_dead(A)
    full.own(21.0)
    assert A not in full.replicas


def test_while_our_own_beats_are_away_nobody_is_forgotten(full: Seen) -> None:
    full.own(0.0)
    full.tick(600.0)
    # The registry is back: the others get their time to be heard.
    full.own(600.0)
    full.own(601.0)
    assert A in full.replicas
    pass_time(full, 602.0, 600.0 + SILENCE + 1)
    assert A not in full.replicas


def test_a_table_is_current_while_our_own_beats_are_heard(seen: Seen) -> None:
    assert not seen.follows(0.0)
    seen.own(0.0)
    assert seen.follows(FOLLOWED)
    assert not seen.follows(FOLLOWED + 0.1)


# ── rests, and what links know ─────────────────────────────────────────────────────────────────────


def test_a_route_that_was_wrong_rests_for_its_time(full: Seen) -> None:
    full.say(1, {"x": NEW}, full=True, replica=B)
    full.changes.clear()
    full.forget("x", A, 0.25)
    assert full.routes("x") == [(B, NEW)]
    full.tick(0.24)
    assert full.routes("x") == [(B, NEW)]
    full.tick(0.25)
    assert full.routes("x") == [(A, OLD), (B, NEW)]
    assert full.changes == ["x", "x"]


@pytest.mark.parametrize(
    "say",
    [
        lambda seen: seen.say(6, {"x": OLD}),
        lambda seen: seen.say(6, {"x": OLD}, full=True),
        lambda seen: seen.snapshot(A, 5, RECORD, {"x": OLD}, 0.0),
        lambda seen: seen.have("x", A, OLD, 0.0),
    ],
    ids=["changed", "full", "hash", "have"],
)
def test_a_route_that_is_said_anew_rests_no_more(full: Seen, say: Callable[[Seen], None]) -> None:
    full.forget("x", A, 0.25)
    say(full)
    assert full.routes("x") == [(A, OLD)]
    assert full.changes.count("x") == 2


def test_a_rest_of_what_is_not_there_is_nothing(full: Seen) -> None:
    full.forget("z", A, 0.25)
    full.forget("x", B, 0.25)
    assert full.changes == []
    assert full.routes("x") == [(A, OLD)]


def test_a_rest_ends_with_its_route(full: Seen) -> None:
    full.forget("x", A, 9.0)
    full.gone(A)
    assert full.say(1, {"x": NEW}, full=True)
    assert full.routes("x") == [(A, NEW)]


def test_have_enters_a_route_until_the_registry_says_more(full: Seen) -> None:
    full.have("z", A, OLD, 3.0)
    assert [replica for replica, _ in full.routes("z")] == [A]
    # Its next beat is a reason to read all that it has.
    assert not full.say(5)
    full.snapshot(A, 5, RECORD, {"x": NEW}, 3.0)
    assert full.routes("z") == ()


def test_have_of_a_stranger_is_nothing(seen: Seen) -> None:
    seen.have("x", A, OLD, 0.0)
    assert seen.routes("x") == ()


# ── whom a seed has named ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def found(seen: Seen) -> Seen:
    """Has met A at a seed, which has said on its link that it has x."""
    seen.met(A, "10.0.0.9:8444", 1.0)
    seen.link_alive(A)
    seen.have("x", A, OLD, 2.0)
    return seen


def test_who_was_met_is_a_replica_with_what_its_link_says(found: Seen) -> None:
    assert found.times == 1
    assert found.replicas[A].address == "10.0.0.9:8444"
    assert found.replicas[A].seed
    assert found.routes("x") == [(A, OLD)]


def test_who_was_met_goes_with_its_link(found: Seen) -> None:
    found.link_dead(A)
    assert A not in found.replicas
    assert found.routes("x") == ()
    assert found.times == 2
    found.link_dead(A)
    assert found.times == 2


def test_who_was_met_stays_while_its_link_is_up_whatever_the_registry_does_not_say(found: Seen) -> None:
    pass_time(found, 3.0, 20.0)
    assert A in found.replicas


@pytest.mark.parametrize(
    "name",
    [
        lambda seen: seen.say(5, now=3.0),
        lambda seen: seen.say(5, {"x": NEW}, full=True, now=3.0),
        lambda seen: seen.snapshot(A, 5, RECORD, {"x": NEW}, 3.0),
    ],
    ids=["quiet", "full", "hash"],
)
def test_whom_the_registry_has_named_a_dead_link_forgets_no_more(
    found: Seen, name: Callable[[Seen], None]
) -> None:
    name(found)
    found.link_dead(A)
    assert found.replicas[A].address == RECORD.address
    assert not found.replicas[A].seed


@pytest.mark.parametrize("seq", [0, 1, 5])
def test_of_who_was_met_the_hash_is_read_at_its_first_beat_whatever_its_number(found: Seen, seq: int) -> None:
    assert not found.say(seq, {"y": NEW})
    found.snapshot(A, seq, RECORD, {"y": NEW}, 3.0)
    assert found.table() == {"y": NEW}
    assert found.say(seq + 1, {"z": NEW})


def test_who_is_known_keeps_what_the_registry_says_of_it(full: Seen) -> None:
    full.met(A, "10.0.0.9:8444", 1.0)
    full.link_dead(A)
    assert full.replicas[A].address == RECORD.address
    assert full.table() == {"x": OLD, "y": OLD}
    assert full.times == 0


def test_nobody_meets_itself(seen: Seen) -> None:
    seen.met(ME, "10.0.0.9:8444", 1.0)
    assert seen.replicas == {}


# ── bounds ─────────────────────────────────────────────────────────────────────────────────────────


def test_more_replicas_than_there_may_be_are_passed_over(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REPLICAS", 3)
    for number in range(5):
        assert seen.say(1, {"x": OLD}, full=True, replica=f"{number + 1:016x}")
    assert len(seen.replicas) == len(seen.routes("x")) == 3
    seen.met("f" * 16, "10.0.0.9:8444", 0.0)
    assert len(seen.replicas) == 3
    assert seen.refused == 3


def test_more_routes_than_there_may_be_are_passed_over(full: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROUTES", 3)
    assert full.say(6, {f"c{number}": NEW for number in range(5)})
    assert full.clusters == 3
    assert full.say(7, {"x": NEW, "y": None})
    assert full.say(8, {"c4": NEW})
    assert full.clusters == 3
