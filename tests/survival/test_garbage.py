"""Connections that have ended: all of their objects go at once, none is left to the garbage collector.

With 15,000 clients that leave together the collector had a quarter of a million objects to look through,
and everybody else waited for it.
"""

import gc
from collections import Counter
from collections.abc import Iterator

import pytest

from argotun.agent.forwarder import Forwarder
from argotun.agent.leg import Leg
from argotun.agent.upstream import Upstream
from argotun.observe.request import Request
from argotun.server.connection import Connection
from argotun.server.exchange import Exchange
from argotun.transport.writer import Writer
from argotun.tunnel.channel import Channel
from argotun.wire.relay import Relay
from argotun.wire.streams import Stream
from tests.rig import Api, Peer, Rig, until

KINDS = (Connection, Exchange, Request, Forwarder, Leg, Upstream, Channel, Relay, Writer, Stream)
COUNT = 20

GET = b"GET /tunnel/c1/%b HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = b"GET /tunnel/c1/upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


def script(peer: Peer) -> None:
    """Short answers, an answer that lasts, one that nobody reads, and an upgrade."""
    while True:
        head = peer.head()
        if b"/short " in head:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        elif b"/watch " in head:
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        elif b"/large " in head:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + bytes(9_000_000))
        else:
            peer.send(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nok"
            )
            peer.sock.recv(1)
            return


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(Api(script)) as rig:
        yield rig
        rig.settle()


@pytest.fixture
def uncollected() -> Iterator[None]:
    """The collector rests."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def found() -> Counter[str]:
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, KINDS))


def assert_gone(rig: Rig, before: Counter[str]) -> None:
    rig.settle()
    until(lambda: not found() - before, "the end of all", explain=lambda: str(found() - before))


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("request_", [GET % b"short", GET % b"watch", GET % b"large", UPGRADE])
@pytest.mark.parametrize("end", ["the client", "the API", "the tunnel"])
def test_a_connection_leaves_nothing_to_the_garbage_collector(rig: Rig, request_: bytes, end: str) -> None:
    before = found()
    clients = []
    for _ in range(COUNT):
        # One that has not asked anything yet has its own time limit.
        clients.append(client := rig.client(buffer=4096))
        client.send(request_)
        client.head()
    until(lambda: len(rig.api.live) == COUNT, "the connections to the API")
    assert found()["Exchange"] >= COUNT
    if end == "the API":
        for peer in list(rig.api.live):
            peer.close()
    elif end == "the tunnel":
        rig.session.tunnel.end("the test ends it")
    for client in clients:
        client.close()
    assert_gone(rig, before)


@pytest.mark.usefixtures("uncollected")
def test_a_failed_dial_leaves_nothing_to_the_garbage_collector(rig: Rig) -> None:
    rig.api.stop()
    before = found()
    for _ in range(COUNT):
        client = rig.client()
        assert rig.get("/tunnel/c1/short", client=client).status == 503
        client.close()
    assert_gone(rig, before)
