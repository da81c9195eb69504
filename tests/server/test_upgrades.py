"""Upgraded connections: raw both ways after a 101, whole to the last byte, and over when a side dies."""

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent import socket

from argotun.server.connection import FLUSH
from argotun.transport.writer import Writer
from tests.rig import Api, Gate, Peer, Rig, send_what_is_taken, until

ASK = (
    b"POST /tunnel/c1/api/v1/namespaces/d/pods/p/exec?command=id HTTP/1.1\r\nHost: a\r\n"
    b"Connection: Upgrade\r\nUpgrade: %b\r\nX-Stream-Protocol-Version: v5.channel.k8s.io\r\n"
    b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n"
)
SPDY = ASK % b"SPDY/3.1"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
BULK = bytes(range(256)) * 12_000


@pytest.fixture(scope="module")
def shared() -> Iterator[Rig]:
    """One rig; each test brings its own script and its own client."""
    with Rig() as rig:
        yield rig


@pytest.fixture
def rig(shared: Rig) -> Iterator[Rig]:
    shared.api.connections = 0
    yield shared
    shared.settle()


def upgraded(rig: Rig, script: Callable[[Peer], object], buffer: int = 0) -> Peer:
    """A client whose connection speaks raw bytes with `script`."""

    def switch(peer: Peer) -> None:
        peer.head()
        peer.send(SWITCH)
        script(peer)

    rig.api.script = switch
    client = rig.client(buffer)
    client.send(SPDY)
    assert client.response().status == 101
    return client


def echo(peer: Peer) -> None:
    while True:
        peer._more()
        data, peer.buffer = peer.buffer, b""
        peer.send(data)


# ── the handshake ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("protocol", [b"websocket", b"SPDY/3.1", b"spdy/3.1"])
def test_a_switch_keeps_what_belongs_to_it_and_then_passes_raw_bytes(rig: Rig, protocol: bytes) -> None:
    heads: list[bytes] = []
    canonical = b"websocket" if protocol == b"websocket" else b"SPDY/3.1"

    def script(peer: Peer) -> None:
        heads.append(peer.head())
        peer.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: %b\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: x\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n" % canonical
        )
        echo(peer)

    rig.api.script = script
    client = rig.client()
    client.send(ASK % protocol)
    response = client.response()
    assert response.status == 101
    assert response.header("connection") == "Upgrade"
    assert response.header("upgrade") == canonical.decode()
    assert response.header("sec-websocket-accept") == "x"
    assert response.header("x-stream-protocol-version") == "v4.channel.k8s.io"
    assert heads[0].count(b"X-Stream-Protocol-Version: ") == 2
    assert heads[0].endswith(b"Connection: Upgrade\r\nUpgrade: " + canonical + b"\r\n\r\n")
    for data in (b"\x00\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n", b"\xff" * 70_000):
        client.send(data)
        assert client.read(len(data)) == data


def test_the_head_of_a_switch_is_written_apart_from_the_bytes_that_came_with_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    write = Writer.write

    def noting(self: Writer, data: Any) -> bool:
        written.append(bytes(data))
        return write(self, data)

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(SWITCH + b"first bytes")
        peer.rest()

    rig.api.script = script
    client = rig.client()
    monkeypatch.setattr(Writer, "write", noting)
    client.send(SPDY)
    assert client.response().status == 101
    assert client.read(11) == b"first bytes"
    assert b"first bytes" in written
    assert [data for data in written if data.startswith(b"HTTP/1.1 101")][-1].endswith(b"\r\n\r\n")


def test_bytes_before_the_switch_are_held_back_from_the_api(rig: Rig) -> None:
    early: list[object] = []

    def script(peer: Peer) -> None:
        peer.head()
        early.append(gevent.with_timeout(0.05, peer.sock.recv, 100, timeout_value=b""))
        peer.send(SWITCH)
        early.append(peer.read(5))
        peer.send(b"heard")
        peer.rest()

    rig.api.script = script
    client = rig.client()
    client.send(SPDY + b"ear")
    client.send(b"ly")
    assert client.response().status == 101
    assert client.read(5) == b"heard"
    assert early == [b"", b"early"]


@pytest.mark.parametrize("status", ["400 Bad Request", "403 Forbidden", "500 Oops", "200 OK"])
def test_any_other_answer_is_relayed_and_both_connections_are_closed(rig: Rig, status: str) -> None:
    seen: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 %b\r\nContent-Length: 6\r\n\r\nreason" % status.encode())
        seen.append(peer.rest())

    rig.api.script = script
    client = rig.client()
    client.send(SPDY + b"GET /tunnel/c1/secrets HTTP/1.1\r\nHost: a\r\n\r\n")
    response = client.response()
    assert (response.status, response.body) == (int(status[:3]), b"reason")
    assert response.header("connection") == "close"
    assert client.rest() == b""
    until(lambda: not rig.api.live, "the end of the connection to the API")
    assert seen in ([b""], [])


def test_an_upgrade_to_anything_else_is_dropped_from_the_request(rig: Rig) -> None:
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        while True:
            heads.append(peer.head())
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    rig.api.script = script
    client = rig.client()
    for _ in range(2):
        response = rig.get(
            extra=b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n",
            client=client,
        )
        assert response.body == b"ok"
    for head in heads:
        for word in (b"upgrade", b"h2c", b"http2-settings"):
            assert word not in head.lower()
    assert rig.api.connections == 1


def test_a_connection_can_be_upgraded_after_other_requests(rig: Rig) -> None:
    def script(peer: Peer) -> None:
        while b"Upgrade" not in peer.head():
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        peer.send(SWITCH)
        echo(peer)

    rig.api.script = script
    client = rig.client()
    assert rig.get(client=client).body == b"ok"
    client.send(SPDY)
    assert client.response().status == 101
    client.send(b"hello")
    assert client.read(5) == b"hello"
    assert rig.api.connections == 1


# ── bytes ──────────────────────────────────────────────────────────────────────────────────────


def test_large_transfers_both_ways_at_once_arrive_whole(rig: Rig) -> None:
    received: list[bytes] = []

    def script(peer: Peer) -> None:
        sending = gevent.spawn(peer.send, BULK)
        received.append(peer.read(len(BULK)))
        sending.join()
        peer.rest()

    client = upgraded(rig, script)
    sending = gevent.spawn(client.send, BULK)
    assert client.read(len(BULK)) == BULK
    sending.join()
    until(lambda: received, "the upload")
    assert received == [BULK]


def test_a_side_that_does_not_read_stops_its_sender_and_not_the_other_direction(rig: Rig) -> None:
    stop = Gate()

    def script(peer: Peer) -> None:
        for _ in range(50):
            peer.send(b"tick")
            gevent.sleep(0)
        stop.wait()

    client = upgraded(rig, script)
    sending = gevent.spawn(send_what_is_taken, client, b"x" * 40_000_000, 1 << 20)
    until(lambda: any(stream.waiter for stream in rig.streams()), "the stall")
    assert client.read(200) == b"tick" * 50
    for stream in rig.streams():
        assert stream.queued < 1 << 20
    sending.kill()
    stop.open()


# ── ends ───────────────────────────────────────────────────────────────────────────────────────


def test_what_the_api_says_before_it_ends_reaches_a_client_that_reads_late(rig: Rig) -> None:
    go = Gate()
    # More than kernels keep for a reader, less than the window.
    late = BULK[:200_000] + b"exit status 3"

    def script(peer: Peer) -> None:
        go.wait()
        peer.send(late)
        peer.finish()
        peer.rest()

    client = upgraded(rig, script, buffer=4096)
    (connection,) = rig.server.clients.connections
    # As if it had been upgraded long ago.
    connection._since -= 10 * FLUSH
    go.open()
    until(lambda: connection.exchange.answer.half, "the API's end")
    assert connection.pending
    connection.sweep(monotonic())
    assert client.rest() == late


def test_what_the_client_says_before_it_ends_reaches_the_api_and_is_answered(rig: Rig) -> None:
    received: list[bytes] = []

    def script(peer: Peer) -> None:
        received.append(peer.rest())
        peer.send(b"%d bytes" % len(received[0]))
        peer.finish()

    client = upgraded(rig, script)
    client.send(BULK)
    client.finish()
    assert client.rest() == b"%d bytes" % len(BULK)
    assert received == [BULK]


def test_a_half_close_loses_nothing_of_what_the_api_is_just_saying(rig: Rig) -> None:
    def script(peer: Peer) -> None:
        for _ in range(2):
            peer.send(BULK)
        heard.append(peer.rest())
        peer.send(b"the end")
        peer.finish()

    heard: list[bytes] = []
    client = upgraded(rig, script)
    client.send(b"that is all")
    client.finish()
    assert client.rest() == BULK * 2 + b"the end"
    assert heard == [b"that is all"]


def test_an_upload_goes_on_after_the_api_has_said_all(rig: Rig) -> None:
    received: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.send(b"go on")
        peer.finish()
        received.append(peer.rest())

    client = upgraded(rig, script)
    assert client.rest() == b"go on"
    client.send(BULK)
    client.finish()
    until(lambda: received, "the upload")
    assert received == [BULK]


def test_an_api_that_resets_behind_its_half_close_ends_the_stream(rig: Rig) -> None:
    go = Gate()

    def script(peer: Peer) -> None:
        peer.finish()
        go.wait()
        peer.abort()

    client = upgraded(rig, script)
    (connection,) = rig.server.clients.connections
    until(lambda: connection.exchange.answer.half, "the API's end")
    go.open()

    def over() -> bool:
        client.send(b"more")
        return not rig.streams()

    until(over, "the end of the stream")


def test_an_upload_after_the_api_has_said_all_lives_while_bytes_move(
    pass_time: Callable[[Rig, float], None],
) -> None:
    received: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.finish()
        while True:
            received.append(peer.read(4))

    with Rig() as rig:
        client = upgraded(rig, script)
        (connection,) = rig.server.clients.connections
        until(lambda: connection.exchange.answer.half, "the API's end")
        for count in range(1, 6):
            client.send(b"more")
            until(lambda count=count: len(received) == count, "the upload")  # type: ignore[misc]
            pass_time(rig, 0.6 * FLUSH)
        assert not connection.exchange.idle
        pass_time(rig, 1.1 * FLUSH)
        rig.settle()


def test_a_client_that_reads_slowly_gets_all_that_an_api_said_before_its_end(
    pass_time: Callable[[Rig, float], None],
) -> None:
    go = Gate()
    late = BULK[:200_000]

    def script(peer: Peer) -> None:
        go.wait()
        peer.send(late)
        peer.finish()
        peer.rest()

    with Rig() as rig:
        client = upgraded(rig, script, buffer=4096)
        (connection,) = rig.server.clients.connections
        connection._outlet._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        go.open()
        until(lambda: connection.exchange.answer.half, "the API's end")
        taken = b""
        for _ in range(4):
            before = connection.pending
            assert before, "the sockets took it all: this shows nothing"
            while connection.pending == before:
                taken += client.read(1000)
                gevent.sleep(0)
            pass_time(rig, 0.6 * FLUSH)
        assert taken + client.rest() == late


def test_a_client_that_closes_at_once_still_delivers_what_it_said(rig: Rig) -> None:
    received: list[bytes] = []
    client = upgraded(rig, lambda peer: received.append(peer.rest()))
    client.send(BULK)
    client.close()
    until(lambda: received, "the upload")
    assert received == [BULK]


@pytest.mark.parametrize("then", ["finish", "close", "abort"])
def test_an_api_that_dies_ends_the_clients_connection_behind_its_last_words(rig: Rig, then: str) -> None:
    go = Gate()

    def script(peer: Peer) -> None:
        peer.send(b"last words")
        go.wait()
        getattr(peer, then)()

    client = upgraded(rig, script)
    assert client.read(10) == b"last words"
    go.open()
    assert client.rest() == b""


def test_a_client_that_dies_ends_the_connection_to_the_api(rig: Rig) -> None:
    client = upgraded(rig, echo)
    client.send(b"x")
    client.read(1)
    client.abort()
    until(lambda: not rig.api.live, "the end of the connection to the API")


def test_a_client_that_dies_after_its_half_close_is_noticed_while_the_api_is_silent(
    rig: Rig, impatient: None
) -> None:
    stop = Gate()
    client = upgraded(rig, lambda peer: stop.wait())
    client.finish()
    (connection,) = rig.server.clients.connections
    until(lambda: connection.exchange.answer.half, "the half-close")
    client.abort()
    stop.open()
    rig.settle()


def test_a_client_that_dies_after_its_half_close_does_not_leave_a_flooding_api(rig: Rig) -> None:
    def script(peer: Peer) -> None:
        while True:
            peer.send(b"x" * 100_000)

    client = upgraded(rig, script, buffer=4096)
    client.finish()
    (connection,) = rig.server.clients.connections
    until(lambda: connection.exchange.answer.half and connection.pending, "the half-close")
    client.abort()
    rig.settle()


@pytest.mark.parametrize("side", ["server", "agent"])
def test_a_tunnel_that_is_lost_ends_both_connections(side: str) -> None:
    ended: list[str] = []

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(SWITCH)
        ended.append(peer.ended())

    with Rig(Api(script)) as rig:
        client = rig.client()
        client.send(SPDY)
        assert client.response().status == 101
        if side == "agent":
            rig.agent.tunnels[0].end("lost")
        else:
            rig.session.tunnel.end("lost")
        assert client.ended() == "reset"
        until(lambda: ended, "the end of the connection to the API")


def test_a_request_for_an_upgrade_is_not_timed_out(impatient: None) -> None:
    go = Gate()

    def script(peer: Peer) -> None:
        peer.head()
        go.wait()
        peer.send(SWITCH)
        peer.rest()

    with Rig(Api(script), server={"response_timeout": 0.1}) as rig:
        client = rig.client()
        client.send(SPDY)
        gevent.sleep(0.25)
        go.open()
        assert client.response().status == 101


def test_an_upgrade_without_an_agent_is_refused_and_the_connection_ends() -> None:
    with Rig(agent=None, server={"reconnect_grace": 0.0}) as rig:
        client = rig.client()
        client.send(SPDY)
        refused = client.response()
        assert (refused.status, refused.header("connection")) == (503, "close")
        assert client.ended() == "closed"


def test_nothing_of_a_half_closed_plain_connection_is_lost() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(SWITCH)
        data = peer.rest()
        peer.send(data[::-1])

    with Rig(Api(script, tls=False), mutual=False) as rig:
        client = rig.client()
        client.send(SPDY)
        assert client.response().status == 101
        client.send(BULK)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == BULK[::-1]
