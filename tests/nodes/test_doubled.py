"""Two agents, and then two servers too that share Argo CD's Redis, under a hundred requests a second."""

import re
from collections.abc import Iterator

import pytest

from tests.e2e.harness.waiting import until
from tests.nodes import redis
from tests.nodes.client import Client
from tests.nodes.rig import Pods, Rig, blocks

pytestmark = pytest.mark.last(1)

BESIDE = 5.0
"""Seconds that requests go on at least."""

PKI = "argotun pki --pki-folder pki --pki-server wss://argotun.example.com/connect --pki-replicas"
VALUES = ("-f pki/server.yaml", "-f pki/exposure.yaml", "-f replicas.yaml", "--set=replicas=2")


@pytest.fixture(scope="module")
def agents(rig: Rig) -> Iterator[Pods]:
    """Two agents."""
    rig.upgrade("agent", "--set=replicas=2")
    yield Pods(rig.customer, "agent")
    rig.upgrade("agent", "--set=replicas=1")


@pytest.fixture(scope="module")
def servers(rig: Rig, agents: Pods) -> Pods:
    """Two servers, as the guide says it for three."""
    redis.start(rig.management)
    for block in blocks("Several replicas"):
        rig.operate(block)
    rig.operate(PKI)
    rig.upgrade("server", *VALUES)
    return Pods(rig.management, "server")


# ── one server ─────────────────────────────────────────────────────────────────────────────────────


def test_each_of_two_agents_serves(client: Client, agents: Pods) -> None:
    settle(agents, 1)
    before = [served(agents, name) for name in agents.names()]
    assert client.ask().whole
    assert len(before) == 2
    assert all(
        now > then for now, then in zip([served(agents, n) for n in agents.names()], before, strict=True)
    )


def test_a_rollout_of_two_agents_fails_no_request(client: Client, agents: Pods) -> None:
    settle(agents, 1)
    roll(client, agents)


def test_the_end_of_one_of_two_agents_fails_no_request(client: Client, agents: Pods) -> None:
    settle(agents, 1)
    delete(client, agents)


def test_a_rollout_of_the_server_of_two_agents_fails_no_request(
    client: Client, agents: Pods, server: Pods
) -> None:
    settle(agents, 1)
    roll(client, server)


# ── two servers ────────────────────────────────────────────────────────────────────────────────────


def test_a_rollout_of_two_servers_fails_no_request(client: Client, agents: Pods, servers: Pods) -> None:
    servers.settle()
    settle(agents, 2)
    roll(client, servers)


def test_the_end_of_one_of_two_servers_fails_no_request(client: Client, agents: Pods, servers: Pods) -> None:
    servers.settle()
    settle(agents, 2)
    delete(client, servers)


def test_a_rollout_of_the_agents_of_two_servers_fails_no_request(
    client: Client, agents: Pods, servers: Pods
) -> None:
    servers.settle()
    settle(agents, 2)
    roll(client, agents)


def test_the_end_of_an_agent_of_two_servers_fails_no_request(
    client: Client, agents: Pods, servers: Pods
) -> None:
    servers.settle()
    settle(agents, 2)
    delete(client, agents)


def test_the_end_of_the_registry_fails_no_request(
    rig: Rig, client: Client, agents: Pods, servers: Pods
) -> None:
    servers.settle()
    settle(agents, 2)
    with client.asking(BESIDE) as found:
        redis.restart(rig.management)
    assert found[0].whole, found[0]


def settle(agents: Pods, tunnels: int) -> None:
    """Wait until each agent has so many tunnels, one to each server."""
    agents.settle()
    until(
        f"each agent has {tunnels} tunnels",
        lambda: all(len(agents.status(name)["tunnels"]) == tunnels for name in agents.names()),
        120,
        0.5,
    )


def roll(client: Client, pods: Pods) -> None:
    """Replace all of them while requests go on."""
    before = pods.names()
    with client.asking(BESIDE) as found:
        pods.kubectl("rollout", "restart", "deploy/argotun")
        pods.settle()
    assert not set(pods.names()) & set(before)
    assert found[0].whole, found[0]


def delete(client: Client, pods: Pods) -> None:
    """Delete one of them while requests go on."""
    gone, stays = pods.names()
    with client.asking(BESIDE) as found:
        pods.kubectl("delete", "pod", gone)
        pods.settle()
    assert gone not in pods.names()
    assert stays in pods.names()
    assert found[0].whole, found[0]


def served(agents: Pods, name: str) -> int:
    """How many requests an agent has passed on."""
    found = re.search(r"^agent_upstream_requests_total (\d+)", agents.ask(name, "metrics"), re.M)
    assert found
    return int(found[1])
