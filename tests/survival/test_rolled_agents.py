"""Agents of a cluster that has two, replaced one after the other while clients ask. Real processes."""

import os
import signal
from collections.abc import Iterator
from itertools import count

import gevent
import pytest

from bench import echo
from tests.processes import Process, RemoteServer
from tests.relay import Relay
from tests.rig import PATIENCE, Api, Peer, Rig, until
from tests.survival.test_deleted_pods import Site
from tests.survival.test_long_links import give, take

ROUNDS = 20 if "ARGOTUN_WHOLE" in os.environ else 2
"""Times that both are replaced."""

CLIENTS = 8
PAUSE = 0.05
"""Seconds between two requests of a client."""

BULK = 900_000
LAST = 16 * 1024

RTT, RATE = 0.1, 3e5
"""Of a long and narrow link: seconds, and bytes a second."""


def script(peer: Peer) -> None:
    """Give BULK bytes to `/bulk`; every other answer says which request it is for."""
    while True:
        head = peer.head()
        if b"/bulk " in head:
            give(peer, BULK)
        else:
            peer.send(echo.echo(head))


@pytest.fixture
def site() -> Iterator[Site]:
    with Rig(Api(script, tls=False), mutual=False, agent=None) as rig:
        site = Site(rig)
        yield site
        site.close()


class Clients:
    """Ask in turns on kept connections while the `with` lasts, and keep what went wrong."""

    def __init__(self, server: RemoteServer) -> None:
        self._server = server
        self._over = False
        self.wrong: list[str] = []
        self.answered = 0

    def __enter__(self) -> "Clients":
        self._greenlets = [gevent.spawn(self._ask, number) for number in range(CLIENTS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        gevent.joinall(self._greenlets, PATIENCE, raise_error=True)

    def more(self, number: int) -> None:
        """Wait until so many more have their answers."""
        enough = self.answered + number
        until(lambda: self.answered >= enough, "answers", explain=lambda: str(self.wrong))

    def _ask(self, number: int) -> None:
        client: Peer | None = None
        for turn in count():
            if self._over:
                return
            method, target = ("GET", "POST")[turn % 2], f"/own/{number}/{turn}"
            length = "Content-Length: 0\r\n" if method == "POST" else ""
            client = client or self._server.client()
            try:
                client.send(f"{method} /tunnel/c1{target} HTTP/1.1\r\nHost: a\r\n{length}\r\n".encode())
                answer = client.response()
            except (OSError, EOFError) as error:
                self.wrong.append(f"{method} {target}: {error!r}")
                client = None
                continue
            if answer.status == 200 and answer.body.endswith(f" {method} {target}".encode()):
                self.answered += 1
            else:
                self.wrong.append(f"{method} {target}: {answer.status} {answer.body!r}")
            if answer.header("connection") == "close":
                client = None
            gevent.sleep(PAUSE)


def test_two_agents_that_are_replaced_one_after_the_other_lose_no_request(site: Site) -> None:
    server = site.start_server()
    names = count()
    agents = [site.start_agent(f"agent-{next(names)}") for _ in range(2)]
    with Clients(server) as clients:
        for _ in range(2 * ROUNDS):
            agents.append(site.start_agent(f"agent-{next(names)}"))
            clients.more(2 * CLIENTS)
            end(agents.pop(0))
            clients.more(2 * CLIENTS)
    assert clients.wrong == []


def test_one_of_two_agents_that_ends_loses_no_request(site: Site) -> None:
    server = site.start_server()
    first, _second = (site.start_agent(name) for name in ("first", "second"))
    with Clients(server) as clients:
        clients.more(2 * CLIENTS)
        end(first)
        clients.more(2 * CLIENTS)
    assert clients.wrong == []


def test_an_agent_ends_when_its_server_has_the_last_answer(site: Site) -> None:
    """A pod's network goes with its last process, and so do the bytes that wait in the kernel."""
    server = site.start_server()
    site.start_agent("stays")
    with Relay(server.public_address, RTT, RATE) as link:
        ends = site.start_agent("ends", "--server", f"ws://127.0.0.1:{link.address[1]}/connect")
        until(lambda: tunnels(server) == 2, "both agents")
        # The newest is asked.
        client = server.client(b"GET /tunnel/c1/bulk HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 200 " in client.head()
        ends.signal(signal.SIGTERM)
        take(client, BULK - LAST)
        assert ends.running
        take(client, LAST)
        assert ends.code() == 0


def tunnels(server: RemoteServer) -> int:
    """How many the server has."""
    client = server.client(b"GET /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    return len(client.response().json()["clusters"]["c1"])


def end(agent: Process) -> None:
    """As the kubelet does."""
    agent.signal(signal.SIGTERM)
    assert agent.code() == 0
