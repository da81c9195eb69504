"""Agents and servers come and go under kept connections: each client gets the answers to its own requests.

Two clusters share the server and the connections, as with Argo CD. A connection that was refused is used
again: that is where an answer too many would be taken for the next one.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from argotun.agent.app import Agent
from bench.echo import echo
from tests.rig import PATIENCE, Api, Peer, Rig, until

ACCOUNTS = {"c1": "sa-c1", "c2": "sa-c2"}
CLIENTS = 8


def takes_a_moment(peer: Peer) -> None:
    """Answers that say whose they are, so late that something is in flight whenever something ends."""
    while True:
        head = peer.head()
        gevent.sleep(0.005)
        peer.send(echo(head))


class Clients:
    """They ask both clusters in turn, each on one connection for as long as that lasts."""

    def __init__(self, rig: Rig) -> None:
        self.seen: Counter[tuple[str, int]] = Counter()
        self._rig = rig
        self._over = Event()
        self._greenlets = [gevent.spawn(self._follow) for _ in range(CLIENTS)]

    def see(self, cluster: str, status: int, more: int) -> None:
        """Wait for so many more answers of this kind, from now on."""
        wanted = self.seen[cluster, status] + more
        until(
            lambda: self.seen[cluster, status] >= wanted or any(each.ready() for each in self._greenlets),
            f"{more} answers of {cluster} with {status}",
            explain=lambda: str(self.seen),
        )
        self._raise()

    def end(self) -> None:
        """Let each have its last answer; AssertionError where one was not its own."""
        self._over.set()
        gevent.joinall(self._greenlets, timeout=PATIENCE)
        self._raise()
        assert all(each.ready() for each in self._greenlets)

    def kill(self) -> None:
        """Ask no more, at once."""
        gevent.killall(self._greenlets)

    def _raise(self) -> None:
        for each in self._greenlets:
            if each.exception is not None:
                raise each.exception

    def _follow(self) -> None:
        client: Peer | None = None
        while not self._over.is_set():
            for cluster, account in ACCOUNTS.items():
                try:
                    client = client or self._rig.client()
                    answer = self._rig.ask(cluster, client, account)
                except (OSError, EOFError):
                    # The server has ended, and the next one does not listen yet.
                    client = None
                    gevent.sleep(0.01)
                    continue
                self.seen[cluster, answer.status] += 1
                if answer.header("connection") == "close":
                    client = None


def start_agent(rig: Rig, cluster: str) -> Agent:
    """One more agent of the cluster, known to the server when this returns."""
    before = rig.server.registry.of(cluster)
    agent = rig.make_agent(
        token=f"token-of-agent-{cluster}", sa_token_path=str(rig.folder / ACCOUNTS[cluster])
    )
    agent.start()
    until(lambda: any(each not in before for each in rig.server.registry.of(cluster)), "the session")
    return agent


def drains(rig: Rig, clients: Clients) -> None:
    """The next one comes only when those who waited for it have been refused."""
    rig.agents[0].drain()
    clients.see("c1", 503, CLIENTS)
    start_agent(rig, "c1")


def ends(rig: Rig, clients: Clients) -> None:
    rig.agents[0].stop()
    clients.see("c1", 503, CLIENTS)
    start_agent(rig, "c1")


def is_cut(rig: Rig, clients: Clients) -> None:
    """It comes back by itself, while those who ask wait for it."""
    for _ in range(5):
        tunnel = rig.agents[0].tunnels[0]
        tunnel.end("the test cuts the tunnel")
        until(lambda tunnel=tunnel: rig.agents[0].tunnels not in ([], [tunnel]), "another tunnel")  # type: ignore[misc]
        clients.see("c1", 200, CLIENTS)


def is_replaced(rig: Rig, clients: Clients) -> None:
    """The newer one takes over while the older one still has requests."""
    old = rig.agents[0]
    for _ in range(3):
        new = start_agent(rig, "c1")
        clients.see("c1", 200, CLIENTS)
        old.stop()
        old = new


def goes_with_its_server(rig: Rig, clients: Clients) -> None:
    rig.server.drain()
    rig.start_server()
    until(lambda: len(rig.server.registry) == len(ACCOUNTS), "both agents' return")


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(Api(takes_a_moment, tls=False), mutual=False, agent=None) as rig:
        rig.write_clusters([{"id": name, "token": f"token-of-agent-{name}"} for name in ACCOUNTS])
        until(lambda: "c2" in rig.server.clusters.clusters, "the clusters file being read again")
        for name, account in ACCOUNTS.items():
            (rig.folder / account).write_text(account)
            start_agent(rig, name)
        # The one that comes and goes is the first; its cluster is c1.
        yield rig


EVENTS = {
    "an agent drains": drains,
    "an agent ends": ends,
    "a tunnel is cut": is_cut,
    "an agent is replaced": is_replaced,
    "the server drains": goes_with_its_server,
}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_each_client_gets_the_answers_to_its_own_requests(
    rig: Rig, event: Callable[[Rig, Clients], Any]
) -> None:
    clients = Clients(rig)
    try:
        for name in ACCOUNTS:
            clients.see(name, 200, CLIENTS)
        event(rig, clients)
        for name in ACCOUNTS:
            clients.see(name, 200, 5 * CLIENTS)
        clients.end()
    finally:
        clients.kill()
