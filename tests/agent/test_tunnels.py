"""An agent with tunnels to several replicas behind a load balancer: how it finds them, when it gives up."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest

from argotun.agent import backoff, spread
from argotun.agent.app import Agent
from argotun.agent.backoff import Search
from argotun.agent.spread import Spread
from tests.balancer import Balancer, Choice, always, round_robin
from tests.replicas import Replicas
from tests.rig import Api, Gate, Peer, Rig, answers_its_own, until

SETTLED = "every dial leads to a replica where this agent is already"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A further tunnel is dialled soon; the waits between dials that lead nowhere are a few milliseconds."""
    monkeypatch.setattr(backoff, "BESIDE", 0.05)
    searching(monkeypatch, lambda low, high: high if high > 60 else 0.001)


def searching(monkeypatch: pytest.MonkeyPatch, jitter: Callable[[float, float], float]) -> None:
    monkeypatch.setattr(Search, "__init__", lambda self: vars(self).update(_jitter=jitter, _times=0))


@contextmanager
def spreading(
    count: int, choose: Choice = round_robin, api: Api | None = None
) -> Iterator[tuple[Replicas, Balancer]]:
    """So many replicas behind a load balancer."""
    with Replicas(count, api=api or Api(answers_its_own)) as replicas:
        targets = [server.public_address for server in replicas.servers]
        with Balancer(targets, choose) as balancer:
            yield replicas, balancer


def dial(replicas: Rig, balancer: Balancer, **options: Any) -> Agent:
    agent = replicas.make_agent(server=f"wss://127.0.0.1:{balancer.port}/connect", **options)
    agent.start()
    until(agent.connected.is_set, "a tunnel")
    return agent


def at(agent: Agent) -> list[str]:
    """The replicas that the agent has tunnels to, by its own word."""
    return sorted(tunnel["replica"] for tunnel in agent._status()["tunnels"])  # type: ignore[attr-defined, index]


def sessions(replicas: Replicas) -> list[int]:
    """How many tunnels each replica has."""
    return [len(server.registry) for server in replicas.servers]


def log_of(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [each.getMessage() for each in caplog.records if words in each.getMessage()]


# ── finding replicas ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("most", [2, 3])
def test_each_tunnel_is_at_another_replica(most: int) -> None:
    with spreading(3) as (replicas, balancer):
        agent = dial(replicas, balancer, tunnels=most)
        until(lambda: sum(sessions(replicas)) == most, "the tunnels")
        assert max(sessions(replicas)) == 1
        assert len(set(at(agent))) == most
        assert agent._status()["tunnelsWanted"] == most


def test_no_more_tunnels_than_there_are_replicas() -> None:
    with spreading(2) as (replicas, balancer):
        agent = dial(replicas, balancer, tunnels=5)
        until(lambda: sessions(replicas) == [1, 1], "the tunnels")
        assert agent._status()["tunnelsWanted"] == 2
        gevent.sleep(0.2)
        assert balancer.connections == 2


def test_a_server_by_itself_gets_one_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "LOOK_AGAIN", (0.01, 0.01))
    with Rig(agent={"tunnels": 3}) as rig:
        gevent.sleep(0.2)
        assert len(rig.server.registry) == 1
        assert rig.agent.metrics.reconnects == 1


def test_a_cluster_with_one_agent_only_gets_one_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "LOOK_AGAIN", (0.01, 0.01))
    with spreading(3) as (replicas, balancer):
        replicas.write_clusters([{"id": "c1", "token": replicas.TOKEN, "agents": 1}])
        until(lambda: all(each.clusters.clusters["c1"].agents == 1 for each in replicas.servers), "the file")
        agent = dial(replicas, balancer)
        gevent.sleep(0.2)
        assert sum(sessions(replicas)) == 1
        assert agent.metrics.reconnects == 1


def test_a_replica_that_leads_back_is_no_refusal(caplog: pytest.LogCaptureFixture) -> None:
    with spreading(3, lambda number: max(0, number - 3)) as (replicas, balancer):
        dial(replicas, balancer)
        until(lambda: sum(sessions(replicas)) == 2, "the tunnels")
        first = replicas.servers[0]
        assert first.metrics.same_replica == 3
        assert sum(first.metrics._auth_failures.values()) == 0
        assert first.metrics.cluster("c1").takeovers == 0
        assert not log_of(caplog, "refused")


def test_behind_affinity_it_settles_for_one_tunnel_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "argotun.agent")
    with spreading(3, always(1)) as (replicas, balancer):
        agent = dial(replicas, balancer)
        until(lambda: agent.connectors[1].settled, "the end of the search")
        assert balancer.given == [0, 1 + Search.QUICK + Search.SLOW, 0]
        assert len(log_of(caplog, SETTLED)) == 1
        status = agent._status()
        assert (status["settledForFewer"], status["tunnelsWanted"], status["lastError"]) == (True, 2, "")
        assert replicas.get_from(0).status == 503
        replicas.known("c1", 1)
        assert replicas.get_from(0).status == 200
        # It looks again when another tunnel is new: then replicas may have come.
        balancer.choose = round_robin
        agent.tunnels[0].end("lost")
        until(lambda: sum(sessions(replicas)) == 2, "the tunnels", explain=lambda: sessions(replicas))
        assert len(log_of(caplog, SETTLED)) == 1
        assert not agent._status()["settledForFewer"]


def test_a_replica_that_comes_later_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "LOOK_AGAIN", (0.01, 0.01))
    with spreading(2) as (replicas, balancer):
        other = replicas.directories[0].replicas.pop(replicas.ids[1])
        balancer.choose = always(0)
        agent = dial(replicas, balancer)
        assert agent._status()["tunnelsWanted"] == 1
        replicas.directories[0].replicas[replicas.ids[1]] = other
        balancer.choose = always(1)
        until(lambda: sessions(replicas) == [1, 1], "the second tunnel")


def test_a_server_that_has_lost_the_tunnel_lets_the_agent_in_again() -> None:
    with spreading(2, always(0)) as (replicas, balancer):
        agent = dial(replicas, balancer, tunnels=1)
        second = replicas.make_agent(server=f"wss://127.0.0.1:{balancer.port}/connect", tunnels=1)
        # It believes that it is there.
        second.connector.spread._living[agent.tunnels[0]] = replicas.ids[0]
        agent.stop()
        until(lambda: not len(replicas.servers[0].registry), "the end of the session")
        agent.tunnels.clear()
        second.start()
        until(second.connected.is_set, "the tunnel")


# ── losing them ────────────────────────────────────────────────────────────────────────────────────


def test_one_that_is_lost_leaves_the_agent_ready_and_is_made_anew() -> None:
    with spreading(3) as (replicas, balancer):
        agent = dial(replicas, balancer)
        until(lambda: len(agent.tunnels) == 2, "the tunnels")
        lost = agent.tunnels[0]
        lost.end("lost")
        assert agent.connected.is_set()
        until(lambda: len(agent.tunnels) == 2 and lost not in agent.tunnels, "the tunnels")
        assert len(set(at(agent))) == 2


def test_a_replica_that_drains_leaves_the_other_tunnel_alone() -> None:
    with spreading(3) as (replicas, balancer):
        agent = dial(replicas, balancer)
        until(lambda: len(agent.tunnels) == 2, "the tunnels")
        gone, other = agent.tunnels
        left = agent.connector.spread.replica(gone)
        number = replicas.ids.index(left)
        draining = gevent.spawn(replicas.servers[number].drain)
        until(lambda: left not in at(agent) and len(agent.tunnels) == 2, "a tunnel to the third replica")
        assert other in agent.tunnels
        assert not other.mux.away
        draining.join(10)


def test_the_first_dials_at_once_when_the_last_tunnel_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    with spreading(2) as (replicas, balancer):
        agent = dial(replicas, balancer)
        until(lambda: len(agent.tunnels) == 2, "the tunnels")
        monkeypatch.setattr(backoff, "BESIDE", 3600.0)
        agent.connector._backoff._jitter = lambda low, high: high
        first, last = agent.tunnels
        first.end("lost")
        until(lambda: agent.connector.next_try > 60, "a long wait beside the other one")
        last.end("lost")
        until(lambda: agent.tunnels, "a tunnel")


def test_tunnels_share_the_limit_of_streams() -> None:
    gate = Gate()

    def hangs(peer: Peer) -> None:
        peer.head()
        gate.wait()

    with spreading(2, api=Api(hangs)) as (replicas, balancer):
        agent = dial(replicas, balancer, max_conns=3)
        until(lambda: sessions(replicas) == [1, 1], "the tunnels")
        for number in (0, 1, 0):
            replicas.client_of(number).send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: agent._streams == 3, "the streams")
        assert replicas.get_from(1).status == 429
        gate.open()


# ── who may dial ───────────────────────────────────────────────────────────────────────────────────


class Standing:
    """A tunnel, as the spread looks at one."""

    def __init__(self, needed: bool = True) -> None:
        self.needed = needed
        self.ended = gevent.event.Event()


@pytest.mark.parametrize(
    ("replicas", "standing", "may"),
    [
        (0, (), [True, False, False]),
        (3, (), [True, False, False]),
        (0, (0,), [True, False, False]),
        (1, (0,), [True, False, False]),
        (1, (1,), [False, False, False]),
        (2, (0,), [True, True, True]),
        (3, (0, 1), [True, True, True]),
        (2, (0, 1), [True, True, False]),
        (9, (0, 1, 2), [True, True, True]),
    ],
)
def test_who_may_dial(replicas: int, standing: tuple[int, ...], may: list[bool]) -> None:
    it = Spread(3)
    it.replicas = replicas
    it._standing = {number: Standing() for number in standing}  # type: ignore[misc]
    assert [it.may_dial(number) for number in range(3)] == may
