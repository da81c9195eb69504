"""What breaks and how it comes back: each row of the tables of failures, with sockets that really end."""

from collections.abc import Iterator
from contextlib import contextmanager

import gevent
from gevent import socket
from gevent.server import StreamServer

from argotun.agent.backoff import Backoff
from argotun.observe.probes import TEXT
from tests.rig import Api, Gate, Peer, Rig, answers_its_own, until


class Link:
    """The network between agent and server; `frozen` it swallows every byte and says nothing."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.frozen = False
        self._address = address
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.port: int = self._server.server_port

    def _serve(self, near: socket.socket, _peer: object) -> None:
        far = socket.create_connection(self._address)
        ways = [gevent.spawn(self._carry, *way) for way in ((near, far), (far, near))]
        gevent.joinall(ways, count=1)
        gevent.killall(ways)
        far.close()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if not self.frozen:
                    target.sendall(data)
        except OSError:
            pass

    def stop(self) -> None:
        self._server.stop(timeout=0)


@contextmanager
def partitioned(keepalive: float, timeout: float, **options: object) -> Iterator[tuple[Rig, Link]]:
    """A rig whose agent comes by way of a link."""
    times = {"keepalive": keepalive, "keepalive_timeout": timeout}
    with Rig(mutual=False, server=times, agent=None, **options) as rig:  # type: ignore[arg-type]
        link = Link(rig.server.public_address)
        try:
            rig.start_agent(server=f"ws://127.0.0.1:{link.port}/connect", dial_timeout=0.5, **times)
            yield rig, link
        finally:
            link.stop()


def test_no_request_hangs_while_the_network_is_parted() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.rest()

    with partitioned(0.1, 0.4, api=Api(script)) as (rig, link):
        client = rig.client()
        client.send(b"GET /tunnel/c1/api/v1/pods HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: rig.api.connections == 1, "the request at the API")
        link.frozen = True
        lost = client.response()
        assert (lost.status, lost.header("retry-after")) == (502, None)
        until(lambda: not rig.agent.connected.is_set(), "the agent's notice of it")
        assert rig.ask().status == 503
        link.frozen = False
        until(rig.agent.connected.is_set, "the agent's return")
        until(lambda: len(rig.server.registry) == 1, "its session")


def test_an_agent_comes_back_after_the_server_restarted() -> None:
    with Rig(Api(answers_its_own)) as rig:
        assert rig.ask().status == 200
        rig.server.stop()
        until(lambda: not rig.agent.connected.is_set(), "the loss of the tunnel")
        rig.start_server()
        until(lambda: len(rig.server.registry) == 1, "the agent's return")
        assert rig.ask().status == 200


def test_a_cluster_comes_back_after_its_agent_restarted() -> None:
    with Rig(Api(answers_its_own)) as rig:
        rig.agent.stop()
        until(lambda: len(rig.server.registry) == 0, "the end of the session")
        lost = rig.ask()
        assert (lost.status, lost.header("retry-after")) == (503, "1")
        rig.start_agent()
        assert rig.ask().status == 200


def test_one_lost_cluster_takes_no_other_with_it() -> None:
    with Rig(Api(answers_its_own)) as rig:
        rig.write_clusters([{"id": "c1", "token": rig.TOKEN}, {"id": "c2", "token": "token-of-agent-c2"}])
        until(lambda: "c2" in rig.server.clusters.clusters, "the clusters file being read again")
        (rig.folder / "sa-c2").write_text("sa-c2")
        rig.start_agent(token="token-of-agent-c2", sa_token_path=str(rig.folder / "sa-c2"))
        rig.agents[0].stop()
        until(lambda: not rig.server.registry.of("c1"), "the end of the session")
        assert rig.ask("c1").status == 503
        assert rig.ask("c2", account="sa-c2").status == 200


def test_no_running_request_is_cut_when_the_agents_node_is_drained() -> None:
    started, gate = Gate(), Gate()

    def script(peer: Peer) -> None:
        peer.head()
        started.open()
        gate.wait()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        peer.rest()

    with Rig(Api(script)) as rig:
        client = rig.client()
        client.send(b"GET /tunnel/c1/api HTTP/1.1\r\nHost: a\r\n\r\n")
        started.wait()
        draining = gevent.spawn(rig.agent.drain)
        until(lambda: rig.agent.draining, "the drain")
        gate.open()
        assert client.response().body == b"done"
        client.close()
        draining.get(timeout=10)


def test_no_running_request_is_cut_when_the_server_is_updated() -> None:
    started, gate = Gate(), Gate()

    def script(peer: Peer) -> None:
        peer.head()
        started.open()
        gate.wait()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        peer.rest()

    with Rig(Api(script)) as rig:
        client = rig.client()
        client.send(b"GET /tunnel/c1/api HTTP/1.1\r\nHost: a\r\n\r\n")
        started.wait()
        draining = gevent.spawn(rig.server.drain)
        until(lambda: rig.server.draining, "the drain")
        assert rig.server.probes.answer(b"/readyz") == (503, TEXT, b"draining")
        gate.open()
        assert client.response().body == b"done"
        client.close()
        draining.get(timeout=10)


def test_the_wait_between_attempts_stays_within_max_retry() -> None:
    bounds: list[tuple[float, float]] = []
    backoff = Backoff(60.0, jitter=lambda low, high: bounds.append((low, high)) or high)
    waits = [backoff.delay() for _ in range(200)]
    assert waits == sorted(waits)
    assert (waits[0], waits[1], waits[-1]) == (0.5, 0.75, 60.0)
    assert {low for low, _ in bounds} == {0.0}
    backoff.lived(60.0)
    assert backoff.delay() == 0.5
