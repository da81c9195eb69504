"""Servers with a real Redis, of which some have too many tunnels: agents move, and nobody notices."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import pytest

from argotun.agent import backoff
from argotun.agent.app import Agent
from argotun.server import balance, membership
from argotun.wire.reasons import REPLACED, WORDS
from tests.balancer import Balancer, always, round_robin
from tests.redis_server import RedisServer
from tests.replicas import Joined
from tests.rig import Api, answers_its_own, until

CLUSTERS = [f"c{number}" for number in range(1, 9)]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is quiet a moment after all have come, however long that takes."""
    monkeypatch.setattr(backoff, "BESIDE", 0.05)
    monkeypatch.setattr(balance, "QUIET", 3600.0)
    # Two replicas may ask the same agent, which has one place to go.
    monkeypatch.setattr(balance, "PATIENCE", 2.0)
    monkeypatch.setattr(membership, "LOOK", 0.05)


@pytest.fixture
def joined(redis_server: RedisServer) -> Iterator[Joined]:
    with Joined(redis_server.url, 3, api=Api(answers_its_own)) as joined:
        joined.write_clusters(
            [{"id": each, "token": f"token-of-agent-{each}", "certNames": ["c1"]} for each in CLUSTERS]
        )
        until(lambda: all(len(each.clusters.clusters) == 8 for each in joined.servers), "the clusters")
        yield joined


def sessions(joined: Joined) -> list[int]:
    return [sum(each.usable for each in server.registry.all()) for server in joined.servers]


def agents(joined: Joined, balancer: Balancer, tunnels: int) -> list[Agent]:
    """An agent for each cluster, with all its tunnels."""
    made = [
        joined.make_agent(
            server=f"wss://127.0.0.1:{balancer.port}/connect",
            token=f"token-of-agent-{each}",
            tunnels=tunnels,
        )
        for each in CLUSTERS
    ]
    for started, agent in enumerate(made, 1):
        agent.start()
        # One after the other, so that who goes round meets both.
        until(lambda many=started * tunnels: sum(sessions(joined)) == many, "the tunnels")  # type: ignore[misc]
    until(lambda: sum(sessions(joined)) == tunnels * 8, "the tunnels", explain=lambda: sessions(joined))
    return made


def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on agents are asked to move."""
    monkeypatch.setattr(balance, "QUIET", 0.2)


@contextmanager
def traffic(joined: Joined) -> Iterator[Counter[int]]:
    """Requests for all clusters at all replicas; the statuses."""
    statuses: Counter[int] = Counter()
    over = []

    def ask(number: int) -> None:
        client = joined.client_of(number)
        while not over:
            for cluster in CLUSTERS:
                statuses[joined.get(f"/tunnel/{cluster}/api/v1/pods", client=client).status] += 1
                gevent.sleep(0.01)

    asking = [gevent.spawn(ask, number) for number in range(3)]
    try:
        yield statuses
    finally:
        over.append(True)
        gevent.joinall(asking, timeout=30, raise_error=True)


def test_agents_with_two_tunnels_move_one_to_the_replica_that_has_few(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Balancer([each.public_address for each in joined.servers], lambda number: number % 2) as balancer:
        agents(joined, balancer, 2)
        assert sessions(joined) == [8, 8, 0]
        with traffic(joined) as statuses:
            balancer.choose = round_robin
            quiet(monkeypatch)
            until(lambda: sessions(joined)[2] >= 2, "tunnels there", explain=lambda: sessions(joined))
            until(lambda: sum(sessions(joined)) == 16, "all of them", explain=lambda: sessions(joined))
        assert set(statuses) == {200}


def test_agents_with_one_tunnel_move_without_a_gap(joined: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    with Balancer([each.public_address for each in joined.servers], always(0)) as balancer:
        agents(joined, balancer, 1)
        before = joined.servers[0].registry.all()
        with traffic(joined) as statuses:
            balancer.choose = lambda number: 1 + number % 2
            quiet(monkeypatch)
            until(lambda: sessions(joined)[0] <= 5, "fewer here", explain=lambda: sessions(joined))
            until(lambda: sum(sessions(joined)) == 8, "the others", explain=lambda: sessions(joined))
        assert set(statuses) == {200}
        # Long before --drain, which is all that they would have otherwise.
        moved = [each.tunnel for each in before if not each.usable]
        until(lambda: all(each.ended.is_set() for each in moved), "the end of what is idle")
        assert {each.reason for each in moved} == {WORDS[REPLACED]}


def test_an_agent_that_finds_no_other_replica_is_served_as_ever(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = {"_jitter": lambda low, high: high if high > 60 else 0.01, "_times": 0}
    monkeypatch.setattr(backoff.Search, "__init__", lambda self: vars(self).update(searches))
    with Balancer([each.public_address for each in joined.servers], always(0)) as balancer:
        made = agents(joined, balancer, 1)
        quiet(monkeypatch)
        with traffic(joined) as statuses:
            until(lambda: any(agent.connector.settled for agent in made), "the end of a search")
            more = statuses.total() + 48
            until(lambda: statuses.total() > more, "more requests")
        assert set(statuses) == {200}
        assert sessions(joined) == [8, 0, 0]
        # Local requests take no hop because of it.
        assert all(server.metrics.cluster("c1").hops == 0 for server in joined.servers[:1])
        # A server that drains is heard all the same.
        balancer.choose = lambda number: 1 + number % 2
        draining = gevent.spawn(joined.servers[0].drain)
        until(lambda: sum(sessions(joined)[1:]) == 8, "all at the others", explain=lambda: sessions(joined))
        draining.join(30)
