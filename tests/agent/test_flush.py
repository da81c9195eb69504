"""The last bytes of an upgraded connection reach the API, whatever comes behind the end of the stream."""

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket

from argotun.agent import app
from argotun.agent.app import Agent
from argotun.agent.upstream import Upstream
from argotun.transport.reader import TCP_CLOSE
from argotun.wire.frames import CLOSE, CONNECTED, DATA
from tests.raw_websocket import Listening
from tests.rig import Api, Gate, Peer, Rig, until
from tests.v1_peers import V1Server
from tests.v2_peers import V2Server

ASK = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
# More than sockets take, less than a window.
PIECE, PIECES = bytes(16 * 1024), 15


@pytest.fixture
def listening() -> Iterator[Listening]:
    with Listening() as listening:
        yield listening


def asked_v1(listening: Listening, target: str) -> tuple[V1Server, int]:
    server = V1Server(listening)
    return server, server.ask(target, ASK)


def asked_v2(listening: Listening, target: str) -> tuple[V2Server, int]:
    server = V2Server(listening)
    stream = server.connect()
    server.send(DATA, stream, ASK)
    server.expect(CONNECTED, stream)
    return server, stream


@pytest.mark.parametrize("asked", [asked_v1, asked_v2])
def test_an_api_that_ends_its_half_behind_the_stream_gets_the_rest(
    listening: Listening, monkeypatch: pytest.MonkeyPatch, asked: Callable[..., tuple[Any, int]]
) -> None:
    over, heard, received = Gate(), Gate(), []
    ends: list[object] = []
    read = Upstream.read

    def watched(upstream: Upstream, *arguments: Any) -> object:
        ends.append(read(upstream, *arguments))
        return ends[-1]

    monkeypatch.setattr(Upstream, "read", watched)

    def script(peer: Peer) -> None:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.head()
        peer.send(SWITCH)
        over.wait()
        peer.sock.shutdown(socket.SHUT_WR)
        heard.wait()
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        received.append(peer.rest())

    with Rig(Api(script, tls=False), mutual=False, agent=None) as rig:
        agent = Agent(rig.agent_config(server=f"ws://127.0.0.1:{listening.address[1]}/connect"))
        rig.agents.append(agent)
        agent.start()
        server, stream = asked(listening, f"127.0.0.1:{rig.api.port}")
        server.until(b"\r\n\r\n", stream)
        streams = agent.tunnels[0].mux.streams
        outlet = streams[stream].sink._leg.upstream.outlet  # type: ignore[attr-defined]
        for _ in range(PIECES):
            server.send(DATA, stream, PIECE)
        server.send(CLOSE, stream)
        until(lambda: not streams, "the end of the stream")
        assert outlet.pending, "the sockets took it all: this shows nothing"
        over.open()
        until(lambda: ends, "the agent's news of the API's end")
        heard.open()
        until(lambda: received, "the rest")
    assert received[0] == PIECE * PIECES


class Sink:
    """An API that switches, reads nothing until told to, and notes what it got; None when it was cut off."""

    def __init__(self) -> None:
        self.go = Gate()
        self.got: list[bytes | None] = []

    def __call__(self, peer: Peer) -> None:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.head()
        peer.send(SWITCH)
        self.go.wait()
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        try:
            self.got.append(peer.rest())
        except OSError:
            self.got.append(None)


def leave(server: V2Server) -> None:
    """One more stream of `server` that ends with bytes queued for the API."""
    stream = server.connect()
    server.send(DATA, stream, ASK)
    server.expect(CONNECTED, stream)
    server.until(b"\r\n\r\n", stream)
    for _ in range(PIECES):
        server.send(DATA, stream, PIECE)
    server.send(CLOSE, stream)


def connected_to(rig: Rig, listening: Listening, **options: Any) -> tuple[Agent, V2Server]:
    agent = rig.make_agent(server=f"ws://127.0.0.1:{listening.address[1]}/connect", **options)
    agent.start()
    return agent, V2Server(listening)


def test_no_more_connections_than_streams_wait_for_their_last_bytes(listening: Listening) -> None:
    sink = Sink()
    with Rig(Api(sink, tls=False), mutual=False, agent=None) as rig:

        def open_connections() -> int:
            states = [
                peer.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] for peer in rig.api.live
            ]
            return len(states) - states.count(TCP_CLOSE)

        agent, server = connected_to(rig, listening, max_conns=2)
        for count in range(1, 7):
            leave(server)
            until(lambda: not agent.tunnels[0].mux.streams, "the end of the stream")
            assert len(agent.api.flushing) == min(count, 2)
            until(lambda: open_connections() <= 2, "the end of those over the bound")
        sink.go.open()
        until(lambda: len(sink.got) == 6, "the rest")
        until(lambda: not agent.api.flushing, "the end of the last connections")
    assert sink.got.count(None) == 4
    assert sink.got.count(PIECE * PIECES) == 2


def test_a_drain_waits_for_the_last_bytes(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "SETTLE", 0.0)
    sink = Sink()
    with Rig(Api(sink, tls=False), mutual=False, agent=None) as rig:
        agent, server = connected_to(rig, listening, drain=60.0)
        leave(server)
        until(lambda: agent.tunnels and not agent.tunnels[0].mux.streams, "the end of the stream")
        drained = gevent.spawn(agent.drain)
        # Long enough for a drain that waits for nothing.
        drained.join(1.0)
        sink.go.open()
        drained.join()
        until(lambda: sink.got, "the rest")
    assert sink.got == [PIECE * PIECES]


def test_an_agent_that_ends_cuts_the_last_bytes_off(listening: Listening) -> None:
    sink = Sink()
    with Rig(Api(sink, tls=False), mutual=False, agent=None) as rig:
        agent, server = connected_to(rig, listening)
        leave(server)
        until(lambda: agent.api.flushing, "the queue")
        agent.stop()
        sink.go.open()
        until(lambda: sink.got, "the end")
    assert sink.got == [None]
