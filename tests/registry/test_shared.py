"""Replicas that share a real Redis: what they learn of each other while it serves, ails and comes back."""

import json
import logging
from time import monotonic

import pytest

from argotun.replicas.announce import PERIOD
from argotun.replicas.engine import TIMEOUT
from argotun.replicas.records import EXCLUSIVE
from tests.redis_server import RedisServer
from tests.registry.conftest import Member, Party
from tests.rig import until


def test_replicas_learn_of_each_other(party: Party) -> None:
    a, b = party.join("x"), party.join("x", "y")
    party.settle()
    assert a.where("x") == a.where("y") == {b.id}
    assert b.where("x") == {a.id}
    assert a.directory.replicas[b.id].address == "127.0.0.1:8444"
    assert a.shared.replicas == 2
    assert a.shared.routes == 2


def test_a_change_is_known_before_the_next_beat(party: Party) -> None:
    a, b = party.join("x"), party.join()
    party.settle()
    beats, began = a.shared.beats, monotonic()
    a.has("y", flags=EXCLUSIVE)
    until(lambda: b.where("y") == {a.id})
    assert b.route("y").flags == EXCLUSIVE
    a.loses("y")
    until(lambda: not b.where("y"))
    # Two of the changes, and those that the seconds bring.
    assert a.shared.beats - beats <= 3 + (monotonic() - began) / PERIOD


def test_many_changes_are_few_beats(party: Party) -> None:
    a, b = party.join(), party.join()
    party.settle()
    beats, began = a.shared.beats, monotonic()
    for number in range(500):
        a.has(f"c{number}")
    party.settle()
    assert a.shared.beats - beats < 9 + (monotonic() - began) / PERIOD
    assert len(b.directory.replicas[a.id].routes) == 500


def test_a_newcomer_reads_what_was_said_before(party: Party) -> None:
    a = party.join(*(f"c{number}" for number in range(100)))
    until(lambda: a.shared.up)
    b = party.join()
    party.settle()
    assert b.where("c99") == {a.id}


def test_the_order_of_arrival_is_the_same_for_all(party: Party) -> None:
    a, b, c = party.join(), party.join(), party.join()
    party.settle()
    # The later one is announced first. How near each knows Redis' clock depends on how soon it was answered,
    # which is never as late as this.
    b.has("x")
    party.settle()
    a.has("x", since=5 * TIMEOUT)
    party.settle()
    since = dict(c.directory.routes("x"))
    assert since[a.id].since < since[b.id].since
    assert since[a.id] == a.shared.mine("x")
    assert since[b.id] == b.shared.mine("x")


def test_the_time_of_arrival_stays_when_more_is_said(party: Party) -> None:
    a, b = party.join("x"), party.join()
    party.settle()
    before = b.route("x")
    a.claims["x"] = a.claims["x"]._replace(streams=7)
    a.shared.changed("x")
    until(lambda: b.route("x").streams == 7)
    assert b.route("x").since == before.since


def test_one_that_drains_says_so_at_once(party: Party) -> None:
    a, b = party.join("x"), party.join()
    party.settle()
    a.shared.leaving()
    until(lambda: b.directory.replicas[a.id].leaving)
    assert b.where("x") == {a.id}


def test_one_that_ends_is_forgotten_at_once(party: Party, redis_server: RedisServer) -> None:
    a, b = party.join("x"), party.join()
    party.settle()
    b.directory.link_alive(a.id)
    party.leave(a)
    until(lambda: a.id not in b.directory.replicas)
    with redis_server.client() as client:
        assert not client.exists(f"{{argotun}}:routes:{a.id}")
        assert [m.decode() for m in client.zrange("{argotun}:members", 0, -1)] == [b.id]


def test_installations_with_other_prefixes_do_not_meet(party: Party) -> None:
    a = party.join("x")
    b = party.join(registry_prefix="other")
    until(lambda: a.shared.up and b.shared.up)
    assert a.directory.replicas == b.directory.replicas == {}


def test_nothing_of_an_agent_but_its_cluster_stands_in_the_registry(
    party: Party, redis_server: RedisServer
) -> None:
    a = party.join("x")
    party.settle()
    with redis_server.client() as client:
        keys = sorted(key.decode() for key in client.scan_iter())
        assert keys == ["{argotun}:members", f"{{argotun}}:routes:{a.id}"]
        found = client.hgetall(keys[1])
    assert set(found) == {b"", b"x"}
    number, _, record = found[b""].partition(b" ")
    assert int(number) >= 1
    assert set(json.loads(record)) == {"a", "n", "l"}
    assert [type(each) for each in json.loads(found[b"x"])] == [int] * 4


# ── Redis ails ─────────────────────────────────────────────────────────────────────────────────────


def routes_of(a: Member, b: Member) -> set[str]:
    found = a.directory.replicas.get(b.id)
    return set(found.routes) if found else set()


def test_redis_killed_and_restarted_changes_nothing_known(party: Party, redis_server: RedisServer) -> None:
    a, b = party.join("x"), party.join("y")
    party.settle()
    redis_server.kill()
    until(lambda: not a.shared.up and not b.shared.up, "two that notice")
    assert a.where("y") == {b.id}
    a.has("z")
    a.loses("x")
    redis_server.start()
    party.settle()
    assert b.where("z") == {a.id}
    assert a.shared.errors["write"] >= 1
    assert a.shared.errors["read"] >= 1


def test_a_flushed_redis_is_filled_again_and_nothing_is_forgotten(
    party: Party, redis_server: RedisServer
) -> None:
    a, b = party.join("x"), party.join(*(f"c{number}" for number in range(50)))
    party.settle()
    a.changes.clear()
    with redis_server.client() as client:
        client.flushall()
        until(lambda: client.hlen(f"{{argotun}}:routes:{b.id}") == 51, "all of it")
    party.settle()
    assert a.changes == []


@pytest.mark.parametrize("damage", ["delete", "field", "string"])
def test_a_hash_that_was_evicted_or_torn_is_whole_again(
    party: Party, redis_server: RedisServer, damage: str
) -> None:
    party.join("x")
    b = party.join("y", "z")
    party.settle()
    key = f"{{argotun}}:routes:{b.id}"
    with redis_server.client() as client:
        if damage == "field":
            client.hdel(key, "y")
        else:
            client.delete(key)
        if damage == "string":
            client.set(key, "nonsense")
            client.set("{argotun}:members", "nonsense")
        until(lambda: client.type(key) == b"hash" and client.hlen(key) == 3, "the whole hash")
    party.settle()


def test_a_redis_that_stands_still_changes_nothing_known(party: Party, redis_server: RedisServer) -> None:
    a, b = party.join("x"), party.join("y")
    party.settle()
    redis_server.pause()
    until(lambda: not a.shared.up and not b.shared.up, "two that notice")
    assert a.where("y") == {b.id}
    a.has("z")
    # Attempts wait in the socket of a Redis that will carry them out when it goes on.
    until(lambda: a.shared.errors["write"] >= 2)
    a.loses("z")
    redis_server.go_on()
    party.settle()
    assert b.where("z") == set()
    assert a.where("y") == {b.id}


def test_what_was_given_up_is_not_written_later(party: Party, redis_server: RedisServer) -> None:
    a, b = party.join("x"), party.join()
    party.settle()
    redis_server.pause()
    a.has("y")
    until(lambda: a.shared.errors["write"] >= 2)
    a.loses("y")
    b.changes.clear()
    redis_server.go_on()
    party.settle()
    assert "y" not in b.changes


def test_one_that_redis_lost_stays_while_its_link_lives(party: Party, redis_server: RedisServer) -> None:
    a, b = party.join("x"), party.join("y")
    party.settle()
    a.directory.link_alive(b.id)

    # It can be heard no more, as if it alone were cut off from the registry.
    def cut_off(*_: object) -> bool:
        raise OSError("cut off")

    b.shared._announcer._send = cut_off  # type: ignore[method-assign]
    with redis_server.client() as client:
        client.delete(f"{{argotun}}:routes:{b.id}")
        client.zrem("{argotun}:members", b.id)
    until(lambda: b.shared.errors["write"] >= 2)
    silent = a.directory.replicas[b.id].heard
    until(lambda: (a.directory.heard or 0) - silent > 4.0, "four silent seconds")
    assert a.where("y") == {b.id}
    a.directory.link_dead(b.id)
    until(lambda: b.id not in a.directory.replicas)


def test_one_that_was_killed_is_forgotten_by_its_silence(party: Party, redis_server: RedisServer) -> None:
    a, b = party.join("x"), party.join("y")
    party.settle()
    party.members.remove(b)
    # Its goodbye is lost.
    b.shared._announcer._keys = lambda: ["{a}:1", "{a}:2", "{a}:3"]  # type: ignore[method-assign]
    b.shared.stop()
    until(lambda: b.id not in a.directory.replicas)
    assert a.where("y") == set()


def test_a_lost_message_is_read_from_the_hash(party: Party) -> None:
    a, b = party.join("x"), party.join()
    party.settle()
    take = b.shared._feed._take
    lost = []

    def lose(data: bytes, now: float) -> None:
        if b'"c"' in data and not lost:
            lost.append(data)
        else:
            take(data, now)

    b.shared._feed._take = lose  # type: ignore[method-assign]
    a.has("y")
    until(lambda: lost)
    until(lambda: b.where("y") == {a.id})
    assert b.shared.errors["resync"] == 1


def test_a_registry_that_is_away_at_first_is_waited_for(party: Party, redis_server: RedisServer) -> None:
    redis_server.kill()
    a, b = party.join("x"), party.join()
    until(lambda: a.shared.errors["write"] >= 2 and b.shared.errors["read"] >= 2)
    assert not a.shared.up
    redis_server.start()
    party.settle()


def test_trouble_is_one_line_until_it_is_over(
    party: Party, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "argotun.replicas")
    a = party.join("x")
    party.settle()
    redis_server.kill()
    until(lambda: a.shared.errors["write"] >= 3 and a.shared.errors["read"] >= 3)
    redis_server.start()
    party.settle()
    until(lambda: len([r for r in caplog.records if "used again" in r.getMessage()]) == 2)
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(lines) == 2
    assert any(line.startswith("the registry cannot be written; agents that move") for line in lines)
    assert any(
        line.startswith("the registry cannot be followed; the last known table stays") for line in lines
    )
