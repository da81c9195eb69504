"""Whoever can write to the registry can write anything: it is bounded, passed over and logged, and no more.

What such a one may achieve at most is that a route leads to a replica that has not the agent, which then says
so on its link. A stream's target is the cluster's id, so it can reach no other cluster's agent.
"""

import json
import logging
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from argotun.replicas.directory import MOST_REPLICAS, Directory
from argotun.replicas.engine import LARGEST_ANSWER
from argotun.replicas.feed import Feed
from argotun.replicas.records import LARGEST, MOST_FIELDS, Wrong, read_hash, read_message
from argotun.replicas.shared import new_id
from tests.redis_server import RedisServer
from tests.registry.conftest import Member, Party
from tests.rig import until

A = "a" * 16
GOOD: dict[str, Any] = {
    "r": A,
    "s": 1,
    "f": True,
    "a": "h:1",
    "n": "1.2",
    "l": False,
    "c": {"x": [1, 1, 0, 0]},
}

BAD_MESSAGES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"\xff\x00{",
    "no object": b"[]",
    "a number": b"7",
    "deep": b"[" * 100_000,
    "a huge number": b'{"s": ' + b"9" * 5000 + b"}",
    "huge": b'"' + b"x" * LARGEST + b'"',
    **{
        f"{key} {value!r:.40}": json.dumps(GOOD | {key: value}).encode()
        for key, values in {
            "r": (None, 7, "", "A" * 16, "a" * 15, "a" * 17, "../../etc/pass", ["a" * 16]),
            "s": (None, -1, 1.5, "1", 1 << 60, True, [1]),
            "a": (None, 7, "", "h 1", "h\n1", "h:1" * 100, "hé:1"),
            "n": (None, 7, "x" * 65, "1\n2"),
            "c": (
                *(None, 7, [], "x", {"": [1, 1, 0, 0]}, {"../y": [1, 1, 0, 0]}, {"x" * 129: [1, 1, 0, 0]}),
                *({"x": bad} for bad in (7, "", [], {}, [1, 1, 0], [1, 1, 0, "0"], [1, 1, 0, 1.0], [1] * 17)),
                *({"x": [-1, 1, 0, 0]}, {"x": [1 << 60, 1, 0, 0]}, {"x": [None] * 4}, {"x": [[1]] * 4}),
                {f"c{number}": None for number in range(MOST_FIELDS + 1)},
            ),
        }.items()
        for value in values
    },
}


def test_a_good_message_is_read() -> None:
    message = read_message(json.dumps(GOOD).encode())
    assert message.replica == A


def test_what_a_later_release_adds_is_passed_over() -> None:
    later = GOOD | {"zone": "a", "c": {"x": [1, 1, 8, 0, "zone"]}}
    assert read_message(json.dumps(later).encode()).changes["x"] == (1, 1, 8, 0)  # type: ignore[union-attr]


@pytest.mark.parametrize("data", BAD_MESSAGES.values(), ids=BAD_MESSAGES.keys())
def test_a_bad_message_is_wrong_and_nothing_else(data: bytes) -> None:
    with pytest.raises(Wrong):
        read_message(data)


ENTRY = b'1 {"a": "h:1", "n": "", "l": false}'


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {b"x": b"[1,1,0,0]"},
        {b"": b""},
        {b"": b"1"},
        {b"": b"1 []"},
        {b"": b"x" + ENTRY},
        {b"": b"9" * 16 + ENTRY},
        {b"": b'1 {"a": ""}'},
        {b"": ENTRY, b"x": b""},
        {b"": ENTRY, b"x": b"{}"},
        {b"": ENTRY, b"x": b"[1,1,0,0"},
        {b"": ENTRY, b"x": b"[" * 100_000},
        {b"": ENTRY, b"\xff": b"[1,1,0,0]"},
        {b"": ENTRY, b"a/b": b"[1,1,0,0]"},
    ],
    ids=str,
)
def test_a_bad_hash_is_wrong_and_nothing_else(fields: dict[bytes, bytes]) -> None:
    with pytest.raises(ValueError):
        read_hash(fields)


# ── with a real Redis ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def two(party: Party) -> tuple[Member, Member]:
    a, b = party.join("x"), party.join("y")
    party.settle()
    a.changes.clear()
    return a, b


def test_garbage_on_the_feed_is_counted_and_said_a_few_times(
    two: tuple[Member, Member], party: Party, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    a, _ = two
    errors = dict(a.shared.errors)
    with redis_server.client() as client:
        for data in BAD_MESSAGES.values():
            client.publish("{argotun}:feed", data)
    until(lambda: a.shared.errors["resync"] - errors["resync"] >= len(BAD_MESSAGES))
    party.settle()
    assert a.changes == []
    assert a.shared.errors["read"] == errors["read"]
    lines = [
        r for r in caplog.records if "no replica wrote" in r.getMessage() and r.levelno == logging.WARNING
    ]
    # Three each, of the two of them.
    assert len(lines) <= 6


def test_a_fake_replica_is_one_more_route_and_takes_none_away(
    two: tuple[Member, Member], redis_server: RedisServer
) -> None:
    a, b = two
    fake = new_id()
    newest = 1 << 52
    with redis_server.client() as client:
        message = GOOD | {"r": fake, "a": "6.6.6.6:666", "c": {"y": [newest, 1, 1, 0]}}
        client.publish("{argotun}:feed", json.dumps(message))
        until(lambda: a.where("y") == {b.id, fake})
        # Nobody vouches for it: it goes as it came.
        until(lambda: a.where("y") == {b.id})


def test_a_false_word_for_a_replica_holds_until_its_next_beat(
    two: tuple[Member, Member], party: Party, redis_server: RedisServer
) -> None:
    _, b = two
    false: list[dict[str, Any]] = [
        {"r": b.id, "gone": True},
        GOOD | {"r": b.id, "s": 1 << 40, "c": {}},
        GOOD | {"r": b.id, "s": 1 << 40, "c": {"z": [1, 1, 0, 0]}},
        GOOD | {"r": b.id, "s": 3, "f": False, "c": {"y": None}},
    ]
    with redis_server.client() as client:
        for message in false:
            client.publish("{argotun}:feed", json.dumps(message))
            party.settle()


def test_a_hash_that_was_tampered_with_is_set_right(
    two: tuple[Member, Member], party: Party, redis_server: RedisServer
) -> None:
    a, b = two
    key = f"{{argotun}}:routes:{b.id}"
    tampering: list[dict[str, str]] = [
        {"": '99999999999 {"a": "6.6.6.6:666"}'},
        {"z": "[1,1,0,0]"},
        {"z": "x" * 10_000_000},
        {f"c{number}": "[1,1,0,0]" for number in range(100_000)},
    ]
    with redis_server.client() as client:
        for fields in tampering:
            client.hset(key, mapping=fields)
            a.shared._feed._unread.add(b.id)
            until(lambda: client.hlen(key) == 2, "two fields again")
            party.settle()
            assert a.directory.replicas[b.id].address == "127.0.0.1:8444"


def test_a_hash_larger_than_ours_could_be_is_not_read(
    two: tuple[Member, Member], redis_server: RedisServer
) -> None:
    a, _ = two
    large, long, string = new_id(), new_id(), new_id()
    with redis_server.client() as client:
        client.hset(
            f"{{argotun}}:routes:{large}",
            mapping={"": ENTRY} | {f"c{n}": "[1,1,0,0]" for n in range(MOST_FIELDS + 1)},
        )
        client.hset(f"{{argotun}}:routes:{long}", mapping={"": ENTRY, "x": "y" * (LARGEST + 1)})
        client.set(f"{{argotun}}:routes:{string}", "nonsense")
        errors = a.shared.errors["resync"]
        for replica in (large, long, string):
            client.publish("{argotun}:feed", json.dumps(GOOD | {"r": replica, "f": False, "c": {}}))
    # Each is a gap and then unsound.
    until(lambda: a.shared.errors["resync"] - errors >= 6)
    assert not {large, long, string} & set(a.directory.replicas)


def test_a_flood_of_strangers_is_taken_in_and_over(
    two: tuple[Member, Member], party: Party, redis_server: RedisServer
) -> None:
    a, b = two
    with redis_server.client() as client:
        pipe = client.pipeline(transaction=False)
        for _ in range(5000):
            pipe.publish("{argotun}:feed", json.dumps(GOOD | {"r": new_id(), "f": False, "c": {}}))
        pipe.execute()
        b.has("z")
        until(lambda: b.id in a.where("z"), "a change behind a flood")
    party.settle()
    assert len(a.directory.replicas) == 1
    assert len(a.shared._feed._unread) <= MOST_REPLICAS


def test_a_message_that_is_larger_than_any_of_ours_is_not_read_to_its_end(
    two: tuple[Member, Member], party: Party, redis_server: RedisServer
) -> None:
    a, b = two
    errors, unsound = a.shared._feed.errors, a.shared._feed.gaps
    with redis_server.client() as client:
        client.publish("{argotun}:feed", b"x" * (LARGEST_ANSWER + (1 << 20)))
    until(lambda: a.shared._feed.errors > errors, "the end of the connection")
    assert a.shared._feed.gaps == unsound
    assert b.id in a.directory.replicas
    party.settle()


class Flood:
    """A feed that always has one more message, until `feed` is told to end."""

    def __init__(self, feed: Feed, messages: int) -> None:
        self._feed = feed
        self._left = messages
        self.connection = SimpleNamespace(can_read=lambda timeout: True)

    def get_message(self, timeout: float) -> dict[str, object]:
        self._left -= 1
        if not self._left:
            self._feed.stop()
        return {"type": "message", "data": json.dumps(GOOD | {"r": new_id()}).encode()}


def test_messages_that_never_end_leave_others_their_turns() -> None:
    engine: Any = SimpleNamespace(keys="{argotun}")
    feed = Feed(engine, Directory(new_id()))
    turns = 0

    def take_turns() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0)
            turns += 1

    other = gevent.spawn(take_turns)
    feed._follow(None, Flood(feed, 1000))
    other.kill()
    assert turns > 1
    assert len(feed._directory.replicas) == MOST_REPLICAS


def test_members_of_no_sense_are_passed_over(
    two: tuple[Member, Member], party: Party, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.zadd("{argotun}:members", {"../x": 1e17, "\xff": 1e17, "a" * 16: 1e17})
    c = party.join("z")
    party.settle()
    assert c.shared.errors["read"] == 0
