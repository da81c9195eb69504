"""Readers that stall: their streams wait within their windows, and nobody else notices."""

from collections.abc import Iterator

import gevent
import pytest

from argotun.transport.reader import SIZE
from argotun.tunnel.channel import HIGH_WATER
from argotun.wire.frames import INITIAL_WINDOW, MAX_WINDOW
from tests.rig import Api, Gate, Peer, Rig, send_what_is_taken, until

BIG = 24_000_000
PIECE = b"x" * 240_000
SMALL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

QUEUED = HIGH_WATER + SIZE
"""What one stream may have in its queue, bytes: a sender waits once it is over the mark."""


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Its API answers /big at length, never reads the body of /swallow, and is short with all else."""
    end = Gate()

    def script(peer: Peer) -> None:
        while True:
            head = peer.head()
            if b" /big " in head:
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG)
                for _ in range(BIG // len(PIECE)):
                    peer.send(PIECE)
            elif b" /swallow " in head:
                end.wait()
                return
            else:
                peer.send(SMALL)

    with Rig(Api(script)) as rig:
        yield rig
        end.open()
        rig.settle()


def stall(rig: Rig, count: int = 1) -> list[Peer]:
    """Clients that have asked for much and read nothing; returns once nothing moves any more."""
    clients = [rig.client(buffer=4096) for _ in range(count)]
    for client in clients:
        client.send(b"GET /tunnel/c1/big HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: sum(stream.waiter is not None for stream in rig.streams()) == count, "the stall")
    return clients


def read_all(client: Peer, pause: float = 0.0) -> None:
    """The whole long answer, a piece at a time."""
    for _ in range(BIG // len(PIECE)):
        assert client.read(len(PIECE)) == PIECE
        gevent.sleep(pause)


def held(rig: Rig) -> int:
    """Bytes that both sides keep for their clients and APIs."""
    return sum(c.pending for c in rig.server.clients.connections) + sum(
        stream.queued for stream in rig.streams()
    )


def test_small_requests_pass_a_client_that_does_not_read(rig: Rig) -> None:
    (stalled,) = stall(rig)
    other = rig.client()
    for _ in range(20):
        assert rig.get(client=other).body == b"ok"
    (connection,) = [c for c in rig.server.clients.connections if c.pending]
    assert connection.exchange.channel is not None
    stream = rig.session.tunnel.mux.streams[connection.exchange.channel.id]
    assert connection.pending <= stream.window <= MAX_WINDOW
    assert max(stream.queued for stream in rig.streams()) <= QUEUED
    # It was only waiting: now that the client reads, all of it comes.
    stalled.head()
    read_all(stalled)


def test_fifty_clients_that_do_not_read_hold_no_more_than_their_windows(rig: Rig) -> None:
    stall(rig, 50)
    other = rig.client()
    for _ in range(20):
        assert rig.get(client=other).body == b"ok"
    grown = 64 * 1024 * 1024
    assert held(rig) <= 50 * (INITIAL_WINDOW + QUEUED) + grown
    for connection in rig.server.clients.connections:
        assert connection.exchange.channel is not None
        stream = rig.session.tunnel.mux.streams[connection.exchange.channel.id]
        assert connection.pending <= stream.window


def test_stalled_clients_that_leave_free_everything(rig: Rig) -> None:
    for client in stall(rig, 10):
        client.close()
    rig.settle()
    assert held(rig) == 0


def test_a_stalled_client_gets_an_abort_when_the_tunnel_is_lost(rig: Rig) -> None:
    (stalled,) = stall(rig)
    rig.session.tunnel.end("lost")
    assert stalled.ended() == "reset"


def test_small_requests_pass_an_upload_that_the_api_does_not_read(rig: Rig) -> None:
    client = rig.client()
    client.send(b"POST /tunnel/c1/swallow HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % BIG)
    sending = gevent.spawn(send_what_is_taken, client, b"x" * BIG, 1 << 20)
    until(lambda: any(stream.waiter for stream in rig.streams()), "the stall")
    other = rig.client()
    for _ in range(20):
        assert rig.get(client=other).body == b"ok"
    assert held(rig) <= QUEUED
    (stream,) = [stream for stream in rig.agent.tunnels[0].mux.streams.values() if stream.sink.busy]
    assert stream.sink._leg.upstream.outlet.pending <= stream.window
    sending.kill()


def test_a_client_that_reads_slowly_gets_everything(rig: Rig) -> None:
    client = rig.client(buffer=4096)
    client.send(b"GET /tunnel/c1/big HTTP/1.1\r\nHost: a\r\n\r\n")
    client.head()
    read_all(client, pause=0.001)
    assert rig.get(client=client).body == b"ok"
