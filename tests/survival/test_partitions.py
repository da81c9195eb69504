"""Replicas that cannot hear each other, or are heard and hear nothing; and a Redis that moves."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.ports import free_port
from tests.redis_server import RedisServer, Sentinel
from tests.relay import Lane, Relay
from tests.rig import until
from tests.survival.fleet import STARTED, Fleet, Replica, Traffic, fleet, redis

__all__ = ["fleet", "redis"]

DIRECTIONS: dict[str, Callable[[Relay], tuple[Lane, ...]]] = {
    "both directions": lambda relay: (),
    "what it hears": lambda relay: (relay.forth,),
    "what it says": lambda relay: (relay.back,),
}


@pytest.fixture
def relay() -> Iterator[Relay]:
    """In front of the port for links that `behind` gives to a replica."""
    with Relay(("127.0.0.1", free_port())) as relay:
        yield relay
        relay.thaw()


def behind(fleet: Fleet, relay: Relay) -> Replica:
    """A replica whose links come in by the relay."""
    port, seen = relay.target[1], relay.address[1]
    [replica] = fleet.add(1, "--peer-addr", f"127.0.0.1:{port}", "--advertise", f"127.0.0.1:{seen}")
    return replica


def up(replica: Replica, fleet: Fleet) -> dict[str, bool]:
    """To which other replicas one has a link."""
    return {link["replica"]: link["up"] for link in fleet.status(replica)["links"]}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_replica_that_cannot_be_reached_is_passed_over(direction: str, fleet: Fleet, relay: Relay) -> None:
    """Its machine has vanished, or the network between two: no reset says so."""
    here, other = fleet.add(2)
    lost = behind(fleet, relay)
    fleet.agent(lost)
    fleet.known(lost)
    get = fleet.ask(here, "/waiting")
    post = fleet.ask(here, "/waiting", "POST", "Content-Length: 0\r\n")
    watch = fleet.ask(here, "/api/v1/pods?watch=1")
    watch.until(b"event\r\n")
    fleet.waiting(2)
    fleet.agent(other)
    fleet.known(other)
    relay.freeze(*DIRECTIONS[direction](relay))
    # New requests pass it over as soon as it is in doubt, whatever becomes of those on their way.
    with Traffic(here, here) as traffic:
        answer = post.response()
        assert (answer.status, answer.header("retry-after")) == (502, None)
        # The GET has been asked again of the other agent.
        fleet.waiting(3)
        assert watch.ended() == "reset"
        assert not up(here, fleet)[lost.id]
        traffic.more(20)
        relay.thaw()
        until(lambda: up(here, fleet)[lost.id], "the link", STARTED)
        traffic.more(20)
    assert not traffic.lost
    get.close()


def test_a_cluster_behind_a_cut_link_only_is_back_with_it(fleet: Fleet, relay: Relay) -> None:
    """The registry goes on saying where its agents are, and no other replica is asked for them."""
    [here] = fleet.add(1)
    there = behind(fleet, relay)
    fleet.agent(there)
    fleet.known(there)
    relay.freeze()
    until(lambda: not up(here, fleet)[there.id], "the end of the link", STARTED)
    answer = fleet.ask(here, "/ok/1").response()
    assert (answer.status, answer.header("retry-after")) == (503, "1")
    waiting = fleet.ask(here, "/ok/2")
    relay.thaw()
    assert waiting.response().status in (200, 503)
    until(lambda: up(here, fleet)[there.id], "the link", STARTED)
    assert fleet.ask(here, "/ok/3").response().status == 200


def test_nothing_that_runs_notices_that_redis_fails_over(tmp_path: Path) -> None:
    with ExitStack() as stack:

        def make(kind: type[RedisServer], name: str, *arguments: object, **options: object) -> RedisServer:
            server = kind(tmp_path / name, *arguments, **options)  # type: ignore[arg-type]
            stack.callback(server.close)
            return server

        master = make(RedisServer, "master")
        heir = make(RedisServer, "heir", "--replicaof", "127.0.0.1", str(master.port))
        sentinels = [make(Sentinel, f"sentinel{number}", master, quorum=2) for number in range(2)]

        def all_know() -> bool:
            states = []
            for sentinel in sentinels:
                with sentinel.client() as client:
                    states.append(client.info("sentinel")["master0"])
            return all((state["slaves"], state["sentinels"]) == (1, 2) for state in states)

        until(all_know, "Sentinels that know all", STARTED)
        fleet = Fleet(tmp_path, master)
        stack.callback(fleet.close)
        fleet.url = f"redis+sentinel://{','.join(f'127.0.0.1:{each.port}' for each in sentinels)}/main"
        here, one, other = fleet.add(3)
        fleet.agent(one)
        fleet.known(one)
        with Traffic(here, other) as traffic:
            master.kill()

            def followed() -> bool:
                with heir.client() as client:
                    return client.hexists(f"{{argotun}}:routes:{one.id}", "c1") is True

            def taken() -> bool:
                with heir.client() as client:
                    return bool(client.info("replication")["role"] == "master")

            until(taken, "the failover", STARTED)
            for replica in (here, one, other):
                fleet.wait(replica, lambda status: status["registry"]["up"])
            until(followed, "the route at the next master", STARTED)
            # What comes from now on is known by it.
            fleet.agent(other)
            fleet.known(other)
            traffic.more(20)
        assert not traffic.lost
