"""Histories that nobody could wait for: a Redis that loses, doubles, reorders, forgets and goes back in time.

The real writers and readers run on a model of Redis, without a clock or a socket. All replicas live, and
every link vouches for its replica. Two things hold: what a replica has, and another one knew, is never
forgotten meanwhile; and once all is quiet, everybody's table is the truth.
"""

from itertools import count
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from argotun.replicas.announce import Announcer
from argotun.replicas.directory import Directory
from argotun.replicas.feed import READ_AGAIN, Feed
from argotun.replicas.records import Claim, Record, Route

REPLICAS = 3
CLUSTERS = ("x", "y", "z")
some_replica = st.integers(0, REPLICAS - 1)
some_cluster = st.sampled_from(CLUSTERS)


class Redis:
    """What Redis does for replicas: BEAT and READ of `engine`, in Python."""

    def __init__(self) -> None:
        self.hashes: dict[str, dict[bytes, bytes]] = {}
        self.backup: dict[str, dict[bytes, bytes]] = {}
        self.queues: list[list[bytes]] = []
        self.away = False
        self.lose_answer = False

    def beat(self, keys: list[str], args: list[str | int]) -> tuple[bytes, bytes]:
        if self.away:
            raise ConnectionError
        stamp = b"%d" % (monotonic() * 1e6)
        key, entry, before, fields, whole = keys[0], args[1], str(args[2]).encode(), args[3], args[4]
        if whole:
            self.hashes.pop(key, None)
        elif key not in self.hashes:
            return stamp, b"gone"
        elif len(self.hashes[key]) != fields or self.hashes[key].get(b"") != before:
            return stamp, b"lost"
        found = self.hashes.setdefault(key, {})
        for cluster, value in zip(args[9::2], args[10::2], strict=True):
            if value:
                found[str(cluster).encode()] = str(value).encode()
            else:
                found.pop(str(cluster).encode(), None)
        found[b""] = str(entry).encode()
        for queue in self.queues:
            queue.append(str(args[8]).encode())
        if self.lose_answer:
            self.lose_answer = False
            raise ConnectionError
        return stamp, b"written"

    def register_script(self, _: str) -> Any:
        def read(keys: list[str], args: list[Any]) -> list[bytes] | bytes:
            found = self.hashes.get(keys[0], {})
            if found.get(b"", b"").partition(b" ")[0] == args[2].encode():
                return b"known"
            return [each for pair in found.items() for each in pair]

        return read


class Peer:
    def __init__(self, redis: Redis, number: int) -> None:
        self.claims: dict[str, Claim] = {}
        self.directory = Directory(f"{number:016x}")
        engine: Any = SimpleNamespace(keys="{p}")
        self.feed = Feed(engine, self.directory)
        self.announcer = Announcer(engine, self.directory.me, Record("h:1"), self.claims)
        self.queue: list[bytes] = []
        redis.queues.append(self.queue)

    def routes(self, other: "Peer") -> dict[str, Route]:
        found = self.directory.replicas.get(other.directory.me)
        return found.routes if found else {}


class Histories(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.redis = Redis()
        self.now = 0.0
        # No two claims are the same, nor is one what a link says.
        self.numbers = count(2)
        self.peers = [Peer(self.redis, number) for number in range(REPLICAS)]
        # What each knew of each other one and that has stayed there since.
        self.vouched: dict[tuple[int, int], set[str]] = {}
        for one in self.peers:
            for other in self.peers:
                one.directory.link_alive(other.directory.me)

    @rule(who=some_replica, cluster=some_cluster)
    def an_agent_comes(self, who: int, cluster: str) -> None:
        peer = self.peers[who]
        peer.claims[cluster] = Claim(monotonic(), next(self.numbers))
        peer.announcer.changed(cluster)

    @rule(who=some_replica, cluster=some_cluster)
    def an_agent_goes(self, who: int, cluster: str) -> None:
        peer = self.peers[who]
        if peer.claims.pop(cluster, None):
            peer.announcer.changed(cluster)
            for (_, whose), clusters in self.vouched.items():
                if whose == who:
                    clusters.discard(cluster)

    @rule(who=some_replica, cluster=some_cluster, comes=st.booleans())
    def a_change_is_known_to_all(self, who: int, cluster: str, comes: bool) -> None:
        (self.an_agent_comes if comes else self.an_agent_goes)(who, cluster)
        self.beat(who)
        for each in range(REPLICAS):
            self.all_messages_arrive(each)

    @rule(who=some_replica)
    def beat(self, who: int) -> None:
        try:
            self.peers[who].announcer._beat(self.redis.beat)
        except ConnectionError:
            pass

    @rule(who=some_replica)
    def a_beat_is_written_and_its_answer_lost(self, who: int) -> None:
        self.redis.lose_answer = True
        self.beat(who)
        self.redis.lose_answer = False

    @rule(who=some_replica, at=st.integers(0, 3), what=st.sampled_from(("take", "lose", "double")))
    def a_message_arrives(self, who: int, at: int, what: str) -> None:
        peer = self.peers[who]
        if not peer.queue:
            return
        at = min(at, len(peer.queue) - 1)
        data = peer.queue[at] if what == "double" else peer.queue.pop(at)
        if what != "lose":
            peer.feed._take(data, self.now)

    @rule(who=some_replica)
    def all_messages_arrive(self, who: int) -> None:
        peer = self.peers[who]
        while peer.queue:
            peer.feed._take(peer.queue.pop(0), self.now)

    @precondition(lambda self: not self.redis.away)
    @rule(who=some_replica)
    def hashes_are_read_where_there_are_gaps(self, who: int) -> None:
        self.now += READ_AGAIN
        self.peers[who].feed._read_due(self.redis, self.now)

    @precondition(lambda self: not self.redis.away)
    @rule(who=some_replica)
    def a_feed_begins_anew(self, who: int) -> None:
        peer = self.peers[who]
        peer.queue.clear()
        for key in list(self.redis.hashes):
            replica = key.rpartition(":")[2]
            peer.feed._read(self.redis, replica, peer.directory.known(replica))

    @rule(away=st.booleans())
    def redis_goes_or_comes(self, away: bool) -> None:
        self.redis.away = away

    @rule()
    def redis_is_flushed(self) -> None:
        self.redis.hashes.clear()

    @rule(who=some_replica)
    def a_hash_is_evicted(self, who: int) -> None:
        self.redis.hashes.pop(f"{{p}}:routes:{self.peers[who].directory.me}", None)

    @rule()
    def redis_saves(self) -> None:
        self.redis.backup = {key: dict(found) for key, found in self.redis.hashes.items()}

    @rule()
    def redis_restarts_with_what_it_saved(self) -> None:
        self.redis.hashes = {key: dict(found) for key, found in self.redis.backup.items()}

    @rule(seconds=st.sampled_from((0.1, 1.0, 4.0, 60.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(who=some_replica, whose=some_replica, cluster=some_cluster)
    def a_request_finds_nobody(self, who: int, whose: int, cluster: str) -> None:
        self.peers[who].directory.forget(cluster, self.peers[whose].directory.me, self.now + 0.25)

    @rule(who=some_replica, whose=some_replica)
    def a_peer_says_have(self, who: int, whose: int) -> None:
        for cluster in self.peers[whose].claims if who != whose else ():
            self.peers[who].directory.have(cluster, self.peers[whose].directory.me, Route(0, 1), self.now)

    @rule()
    def all_is_quiet(self) -> None:
        self.redis.away = False
        for _ in range(3):
            self.now += 1.0
            for who in range(REPLICAS):
                self.beat(who)
            for peer in self.peers:
                while peer.queue:
                    peer.feed._take(peer.queue.pop(0), self.now)
                peer.feed._read_due(self.redis, self.now)
                peer.directory.tick(self.now)
        for one in self.peers:
            for other in self.peers:
                if one is not other:
                    assert one.routes(other).keys() == other.claims.keys()
                    for cluster in other.claims:
                        route = other.announcer.mine(cluster)
                        assert (other.directory.me, route) in one.directory.routes(cluster)

    @invariant()
    def nothing_that_a_link_vouches_for_is_forgotten(self) -> None:
        for who, peer in enumerate(getattr(self, "peers", ())):
            for whose, other in enumerate(self.peers):
                known = peer.routes(other)
                vouched = self.vouched.setdefault((who, whose), set())
                assert vouched <= known.keys()
                # Neither what is left of an agent that has gone meanwhile, nor what only a link has said.
                vouched |= {
                    cluster
                    for cluster, claim in other.claims.items()
                    if cluster in known and known[cluster].sessions == claim.sessions
                }


TestHistories = Histories.TestCase
TestHistories.settings = settings(stateful_step_count=60, deadline=None)


@pytest.fixture
def history() -> Histories:
    made = Histories()
    made.begin()
    made.a_change_is_known_to_all(0, "x", comes=True)
    return made


def test_the_last_agent_that_goes_while_redis_is_away_is_told(history: Histories) -> None:
    history.redis_goes_or_comes(away=True)
    history.beat(0)
    history.an_agent_goes(0, "x")
    history.all_is_quiet()


def test_a_feed_that_begins_in_an_older_redis_forgets_nothing(history: Histories) -> None:
    history.redis_saves()
    history.a_change_is_known_to_all(0, "y", comes=True)
    history.nothing_that_a_link_vouches_for_is_forgotten()
    history.redis_restarts_with_what_it_saved()
    history.a_feed_begins_anew(1)
    history.nothing_that_a_link_vouches_for_is_forgotten()
    history.all_is_quiet()


def test_a_redis_that_went_back_by_as_many_fields_is_noticed(history: Histories) -> None:
    history.redis_saves()
    history.a_change_is_known_to_all(0, "x", comes=False)
    history.a_change_is_known_to_all(0, "y", comes=True)
    history.redis_restarts_with_what_it_saved()
    history.beat(0)
    history.a_feed_begins_anew(1)
    history.all_is_quiet()


def test_what_a_link_says_of_one_cluster_makes_no_older_hash_count(history: Histories) -> None:
    history.redis_saves()
    history.a_change_is_known_to_all(0, "y", comes=True)
    history.nothing_that_a_link_vouches_for_is_forgotten()
    history.redis_restarts_with_what_it_saved()
    history.an_agent_comes(0, "z")
    history.a_peer_says_have(1, 0)
    history.a_feed_begins_anew(1)
    history.nothing_that_a_link_vouches_for_is_forgotten()
    history.all_is_quiet()


def test_a_hash_that_is_gone_is_written_whole_but_told_in_part(history: Histories) -> None:
    history.redis_is_flushed()
    history.an_agent_comes(0, "y")
    history.beat(0)
    [fields] = history.redis.hashes.values()
    assert set(fields) == {b"", b"x", b"y"}
    [message] = history.peers[1].queue
    assert b'"y"' in message
    assert b'"x"' not in message
    history.all_is_quiet()


def test_an_answer_that_is_lost_after_a_flush_leaves_no_doubt(history: Histories) -> None:
    history.redis_is_flushed()
    history.an_agent_comes(0, "y")
    history.a_beat_is_written_and_its_answer_lost(0)
    history.an_agent_goes(0, "y")
    history.an_agent_comes(0, "z")
    history.all_is_quiet()


def test_a_feed_that_begins_anew_reads_no_hash_that_it_knows(
    history: Histories, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    directory = history.peers[1].directory
    snapshot = directory.snapshot
    monkeypatch.setattr(directory, "snapshot", lambda who, *rest: (read.append(who), snapshot(who, *rest)))
    history.a_feed_begins_anew(1)
    assert not read
    history.an_agent_comes(0, "y")
    history.beat(0)
    history.a_feed_begins_anew(1)
    assert read == [history.peers[0].directory.me]
    history.all_is_quiet()


@pytest.fixture
def gone_back() -> Histories:
    """All have seen a beat of the first whose answer was lost, and Redis is at what was before that."""
    made = Histories()
    made.begin()
    made.all_is_quiet()
    made.redis_saves()
    made.an_agent_comes(who=0, cluster="x")
    made.a_beat_is_written_and_its_answer_lost(who=0)
    for who in range(REPLICAS):
        made.all_messages_arrive(who)
    made.redis_restarts_with_what_it_saved()
    return made


@pytest.mark.parametrize("cluster", CLUSTERS[:2])
def test_a_number_that_a_lost_answer_used_is_no_other_beats(gone_back: Histories, cluster: str) -> None:
    gone_back.an_agent_comes(who=0, cluster=cluster)
    gone_back.all_is_quiet()


def test_what_has_gone_meanwhile_is_forgotten_behind_a_lost_answer(gone_back: Histories) -> None:
    gone_back.an_agent_goes(who=0, cluster="x")
    gone_back.all_is_quiet()
