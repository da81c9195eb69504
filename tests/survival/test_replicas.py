"""Several servers with a real Redis, agents and clients at different ones: who dies, and who notices.

All are processes; the API is in this one. A request is lost when its client gets anything but its own answer.
"""

import os
import re
import signal
from time import monotonic

import pytest
from gevent import socket

from bench.echo import said
from bench.ports import free_port
from tests.rig import until
from tests.survival.fleet import Fleet, Traffic, fleet, redis

__all__ = ["fleet", "redis"]

AWAY = 600.0 if "ARGOTUN_WHOLE" in os.environ else 5.0
"""Seconds that Redis is away: longer than the time limits of those who talk to it."""


def test_every_kind_of_request_finds_an_agent_at_another_replica(fleet: Fleet) -> None:
    here, there = fleet.add(2)
    fleet.agent(there)
    fleet.known(there)
    answer = fleet.ask(here, "/ok/1").response()
    assert (answer.status, answer.body) == (200, said("sa-token", "GET", "/ok/1"))
    answer = fleet.ask(here, "/ok/2", "POST", "Content-Length: 0\r\n").response()
    assert answer.body == said("sa-token", "POST", "/ok/2")
    watch = fleet.ask(here, "/api/v1/pods?watch=1")
    watch.until(b"event\r\n")
    upgraded = fleet.ask(here, "/upgrade", extra="Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n")
    assert upgraded.response().status == 101
    upgraded.send(b"said and done" * 10_000)
    upgraded.sock.shutdown(socket.SHUT_WR)
    assert upgraded.rest() == b"said and done" * 10_000 + b"!"


def test_a_killed_replica_takes_only_what_was_in_flight_on_it(fleet: Fleet) -> None:
    here, one, other = fleet.add(3)
    fleet.agent(one)
    fleet.known(one)
    post = fleet.ask(here, "/waiting", "POST", "Content-Length: 0\r\n")
    watch = fleet.ask(here, "/api/v1/pods?watch=1")
    watch.until(b"event\r\n")
    fleet.waiting(1)
    fleet.agent(other)
    fleet.known(other)
    with Traffic(here, other) as traffic:
        one.process.signal(signal.SIGKILL)
        answer = post.response()
        assert (answer.status, answer.header("retry-after")) == (502, None)
        assert watch.ended() == "reset"
        traffic.more(100)
    assert not traffic.lost
    fleet.wait(here, lambda status: one.id not in status["registry"]["replicas"])


def test_a_replica_that_stands_still_is_passed_over(fleet: Fleet) -> None:
    here, one, other = fleet.add(3)
    fleet.agent(one)
    fleet.known(one)
    waiting = fleet.ask(here, "/waiting")
    fleet.waiting(1)
    fleet.agent(other)
    fleet.known(other)
    one.process.signal(signal.SIGSTOP)
    try:
        # A GET without an answer is asked again of the other agent, once the link is dead.
        fleet.waiting(2)
        with Traffic(here) as traffic:
            traffic.more(50)
        assert not traffic.lost
    finally:
        one.process.signal(signal.SIGCONT)
    waiting.close()


def test_a_replica_that_drains_loses_nothing(fleet: Fleet) -> None:
    here, one, other = fleet.add(3)
    fleet.agent(one)
    fleet.known(one)
    watch = fleet.ask(here, "/api/v1/pods?watch=1")
    watch.until(b"event\r\n")
    with Traffic(here, here, here) as traffic:
        fleet.agent(other)
        fleet.known(other)
        one.process.signal(signal.SIGTERM)
        assert one.process.code() == 0
        traffic.more(50)
    assert not traffic.lost
    assert watch.rest() == b"0\r\n\r\n"
    fleet.wait(here, lambda status: one.id not in status["registry"]["replicas"])


@pytest.mark.parametrize("what", ["killed", "restarted", "flushed", "paused"])
def test_nothing_that_runs_notices_that_redis_is(what: str, fleet: Fleet) -> None:
    here, there = fleet.add(2)
    fleet.agent(there)
    fleet.known(there)
    watch = fleet.ask(here, "/api/v1/pods?watch=1")
    watch.until(b"event\r\n")
    with Traffic(here, here) as traffic:
        if what == "flushed":
            with fleet.redis.client() as client:
                client.flushall()
        elif what == "paused":
            fleet.redis.pause()
        else:
            fleet.redis.kill()
        if what == "restarted":
            fleet.redis.start()
        until_over = monotonic() + AWAY
        while monotonic() < until_over:
            traffic.more(20)
        if what == "killed":
            fleet.redis.start()
        elif what == "paused":
            fleet.redis.go_on()
        fleet.wait(here, lambda status: status["registry"]["up"])
        fleet.known(there)
    assert not traffic.lost
    assert watch.buffer == b""
    with fleet.redis.client() as client:
        until(lambda: client.hexists(f"{{argotun}}:routes:{there.id}", "c1"), "the route in Redis")


def test_an_agent_that_moves_while_redis_is_away_is_found_by_asking(fleet: Fleet) -> None:
    here, one, other = fleet.add(3)
    agent = fleet.agent(one)
    fleet.known(one)
    fleet.redis.kill()
    fleet.wait(here, lambda status: not status["registry"]["up"])
    agent.signal(signal.SIGKILL)
    fleet.wait(one, lambda status: not status["clusters"]["c1"])
    fleet.agent(other)
    answer = fleet.ask(here, "/ok/1").response()
    assert (answer.status, answer.body) == (200, said("sa-token", "GET", "/ok/1"))


def at(port: int, seed: int) -> tuple[str, ...]:
    """Options of a replica that listens at one port, and looks for another one at the addresses of a name."""
    return "--peer-addr", f"127.0.0.1:{port}", "--peer-seeds", f"localhost:{seed}"


def test_a_new_replica_finds_the_old_one_while_redis_is_away_and_is_found(fleet: Fleet) -> None:
    ports = free_port(), free_port()
    [old] = fleet.add(1, *at(ports[0], ports[1]))
    agent = fleet.agent(old)
    fleet.wait(old, lambda status: status["registry"]["up"])
    fleet.redis.kill()
    [new] = fleet.add(1, *at(ports[1], ports[0]))
    answer = fleet.ask(new, "/ok/1").response()
    assert (answer.status, answer.body) == (200, said("sa-token", "GET", "/ok/1"))
    # From here on the only agent is at the new one.
    agent.signal(signal.SIGKILL)
    fleet.wait(old, lambda status: not status["clusters"]["c1"])
    fleet.agent(new)
    answer = fleet.ask(old, "/ok/2").response()
    assert (answer.status, answer.body) == (200, said("sa-token", "GET", "/ok/2"))
    for replica, other in ((old, new), (new, old)):
        [link] = fleet.status(replica)["links"]
        assert (link["replica"], link["up"], link["seed"]) == (other.id, True, True)
    with Traffic(old) as traffic:
        fleet.redis.start()
        for replica in (old, new):
            fleet.wait(replica, lambda status: not any(link["seed"] for link in status["links"]))
        fleet.known(new)
        traffic.more(50)
    assert not traffic.lost
    for replica, other in ((old, new), (new, old)):
        [link] = fleet.status(replica)["links"]
        assert (link["replica"], link["up"]) == (other.id, True)
        assert replica.process.log.count("the link is up") == 1


def test_without_seeds_a_new_replica_is_alone_until_redis_is_back(fleet: Fleet) -> None:
    [old] = fleet.add()
    fleet.agent(old)
    fleet.redis.kill()
    fleet.replicas.clear()
    [new] = fleet.add()
    answer = fleet.ask(new, "/ok/1").response()
    assert answer.status == 503
    fleet.redis.start()
    fleet.wait(new, lambda status: status["elsewhere"].get("c1") == [old.id])
    assert fleet.ask(new, "/ok/2").response().status == 200


def test_a_replica_that_comes_later_serves_everything_at_once(fleet: Fleet) -> None:
    [first] = fleet.add()
    fleet.agent(first)
    [later] = fleet.add()
    fleet.known(first)
    assert fleet.ask(later, "/ok/1").response().status == 200


def test_of_agents_that_stand_alone_the_newest_stays_over_replicas(fleet: Fleet) -> None:
    here, there = fleet.add(2, agents=1)
    # Half of that is how long it stays away when it has been replaced.
    fleet.agent(here, retry="60s")
    fleet.known(here)
    fleet.agent(there)
    here.process.says("a newer agent is at another replica")
    fleet.wait(here, lambda status: status["elsewhere"].get("c1") == [there.id])
    answer = fleet.ask(here, "/ok/1").response()
    assert answer.status == 200
    assert not re.search("a newer agent", there.process.log)
