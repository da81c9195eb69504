"""Agents with tunnels to two of three servers, processes all, with a real Redis: who dies, who notices."""

import signal
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.balancer import Balancer
from tests.rig import until
from tests.server.test_drain import Process
from tests.survival.fleet import STARTED, Fleet, Replica, Traffic, fleet, redis

__all__ = ["fleet", "redis"]


@pytest.fixture
def balancer(fleet: Fleet) -> Iterator[Balancer]:
    """The load balancer of three servers."""
    replicas = fleet.add(3)
    with Balancer([replica.public for replica in replicas]) as balancer:
        yield balancer


def holders(fleet: Fleet) -> list[Replica]:
    """The servers that have a tunnel."""
    living = [replica for replica in fleet.replicas if replica.process.running]
    return [replica for replica in living if fleet.status(replica)["clusters"]["c1"]]


def spread(fleet: Fleet, balancer: Balancer) -> tuple[Process, list[Replica]]:
    """An agent with two tunnels, of which all servers know; and the servers that have them."""
    agent = fleet.agent(SimpleNamespace(public=("127.0.0.1", balancer.port)))  # type: ignore[arg-type]
    until(lambda: len(holders(fleet)) == 2, "the tunnels", STARTED)
    there = holders(fleet)
    for replica in there:
        fleet.known(replica)
    return agent, there


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_killed_server_leaves_the_cluster_to_the_other_tunnel(
    fleet: Fleet, balancer: Balancer, method: str
) -> None:
    agent, (one, other) = spread(fleet, balancer)
    [third] = [replica for replica in fleet.replicas if replica not in (one, other)]
    # All of the third one's requests may be on the tunnel that is lost.
    with Traffic(third, third, other, other, method=method) as traffic:
        one.process.signal(signal.SIGKILL)
        traffic.more(200)
    if method == "GET":
        assert not traffic.lost
    else:
        # What was in flight on the one that was killed: nobody knows whether it was done.
        assert traffic.lost.total() <= 2
        assert all(why.startswith("502") for why in traffic.lost), traffic.lost
    # The agent finds the third server, and was never without a tunnel.
    until(lambda: len(holders(fleet)) == 2, "a new second tunnel", STARTED)
    # Its own words may come later than the server's.
    until(lambda: agent.log.count(" connected ") >= 3, "the agent's words", explain=lambda: agent.log)


def test_a_rolling_update_is_not_noticed(fleet: Fleet, balancer: Balancer) -> None:
    spread(fleet, balancer)
    for place in range(3):
        [fresh] = fleet.add(1)
        balancer.targets[place] = fresh.public
        old = fleet.replicas.pop(0)
        with Traffic(fresh, *fleet.replicas) as traffic:
            old.process.signal(signal.SIGTERM)
            assert old.process.code() == 0
            traffic.more(60)
        assert not traffic.lost
    until(lambda: len(holders(fleet)) == 2, "two tunnels", STARTED)
