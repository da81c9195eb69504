"""Clients that send bad or too large bodies, that leave in the middle, or that do not read."""

import gevent
import pytest
from gevent import socket

from tests.rig import PATIENCE, Api, Gate, Peer, Rig, answer, send_what_is_taken, until

GET = b"GET /tunnel/c1/api HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST /tunnel/c1/api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


# ── bodies ─────────────────────────────────────────────────────────────────────────────────────


def upload_then(received: list[bytes]) -> Api:
    """An API that notes what comes until the connection ends, and never answers."""

    def script(peer: Peer) -> None:
        try:
            while True:
                peer._more()
        finally:
            received.append(peer.buffer)

    return Api(script)


@pytest.mark.parametrize(
    "bad",
    [b"zz\r\n", b"-1\r\n", b"5\nabcde\r\n", b"5\r\nabcdeX", b"0x5\r\n", b"1" * 300, b"0\r\nHost: b\r\n\r\n"],
)
def test_a_bad_chunk_in_the_middle_of_an_upload_is_a_400_and_never_ends_at_the_api(bad: bytes) -> None:
    received: list[bytes] = []
    with Rig(upload_then(received)) as rig:
        client = rig.client()
        client.send(CHUNKED + b"5\r\nhello\r\n" + bad)
        response = client.response()
        assert response.status == 400
        assert response.header("connection") == "close"
        assert client.ended() == "closed"
        rig.settle()
    assert b"0\r\n\r\n" not in b"".join(received)


def test_a_bad_chunk_one_byte_at_a_time_is_a_400() -> None:
    received: list[bytes] = []
    with Rig(upload_then(received)) as rig:
        client = rig.client()
        send_what_is_taken(client, CHUNKED + b"5\r\nhello\r\nzz\r\n", 1)
        assert client.response().status == 400
        rig.settle()


def test_a_bad_chunk_while_the_answer_is_on_its_way_aborts_the_answer() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        peer.rest()

    with Rig(Api(script)) as rig:
        client = rig.client()
        client.send(CHUNKED)
        client.until(b"half")
        client.send(b"zz\r\n")
        assert client.ended() == "reset"
        rig.settle()


def test_a_body_over_the_limit_is_a_413_before_it_is_sent() -> None:
    with Rig(server={"max_body": 1000}) as rig:
        client = rig.client()
        client.send(b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n")
        assert client.response().status == 413
        assert client.ended() == "closed"
        assert rig.api.connections == 0


def test_a_body_of_just_the_limit_passes_whatever_its_head_weighs() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.read(1000)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        peer.rest()

    with Rig(Api(script), server={"max_body": 1000}) as rig:
        client = rig.client()
        client.send(
            b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nX-Long: %b\r\nContent-Length: 1000\r\n\r\n"
            % (b"x" * 5000)
        )
        client.send(b"y" * 1000)
        assert client.response().status == 200


def test_chunks_over_the_limit_are_a_413_and_never_end_at_the_api() -> None:
    received: list[bytes] = []
    with Rig(upload_then(received), server={"max_body": 1000}) as rig:
        client = rig.client()
        client.send(CHUNKED)
        for _ in range(20):
            client.send(b"64\r\n" + b"x" * 100 + b"\r\n")
            gevent.sleep(0)
        response = client.response()
        assert response.status == 413
        assert client.ended() == "closed"
        rig.settle()
    assert b"0\r\n\r\n" not in b"".join(received)


def test_chunks_over_the_limit_while_the_answer_is_on_its_way_abort_it() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        peer.rest()

    with Rig(Api(script), server={"max_body": 100}) as rig:
        client = rig.client()
        client.send(CHUNKED)
        client.until(b"half")
        client.send(b"ff\r\n" + b"x" * 255 + b"\r\n")
        with pytest.raises(ConnectionResetError):
            client.rest()
        assert client.buffer == b""


# ── clients that send no more, and read on ─────────────────────────────────────────────────────


def until_close(peer: Peer) -> None:
    """Part of an answer that a client of HTTP/1.0 gets without a mark of its end."""
    peer.head()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
    peer.rest()


@pytest.mark.parametrize("held", [b"", b"GET /next"], ids=["nothing held", "bytes held"])
def test_a_half_close_makes_no_part_pass_for_the_whole(impatient: None, held: bytes) -> None:
    with Rig(Api(until_close)) as rig:
        client = rig.client()
        client.send(b"GET /tunnel/c1/x HTTP/1.0\r\n\r\n" + held)
        client.until(b"half")
        client.finish()
        assert client.ended() == "reset"
        rig.settle()


def slow_reader(rig: Rig, ask: bytes) -> Peer:
    """A client with a part of its answer, and more queued for it in the server."""
    client = rig.client(4096)
    until(lambda: rig.server.clients.connections, "the connection")
    (connection,) = rig.server.clients.connections
    connection._outlet._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client.send(ask)
    until(lambda: connection.exchange.request.ended and connection.pending, "the answer's end, and a queue")
    return client


BODY = bytes(range(256)) * 800


@pytest.mark.parametrize("ask", [GET, b"GET /tunnel/c1/x HTTP/1.0\r\n\r\n"], ids=["HTTP/1.1", "HTTP/1.0"])
def test_a_client_that_sends_no_more_gets_what_is_queued_for_it(ask: bytes) -> None:
    with Rig(Api(answer(body=BODY))) as rig:
        client = slow_reader(rig, ask)
        client.finish()
        assert client.rest().endswith(b"\r\n\r\n" + BODY)
        rig.settle()


def test_a_server_that_ends_makes_no_queued_part_pass_for_the_whole() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)
        peer.finish()

    with Rig(Api(script)) as rig:
        client = slow_reader(rig, b"GET /tunnel/c1/x HTTP/1.0\r\n\r\n")
        rig.server.stop()
        assert client.ended() == "reset"


# ── clients that leave ─────────────────────────────────────────────────────────────────────────


def test_a_client_that_leaves_within_its_head_leaves_nothing() -> None:
    with Rig() as rig:
        client = rig.client()
        client.send(b"GET /tunnel/c1/api HTTP/1.1\r\nHo")
        until(lambda: rig.server.clients.connections, "the connection")
        client.close()
        rig.settle()
        assert rig.api.connections == 0


@pytest.mark.parametrize("sent", [b"", b"abc"], ids=["before", "within"])
def test_a_client_that_leaves_at_its_body_ends_the_apis_connection(sent: bytes) -> None:
    received: list[bytes] = []
    with Rig(upload_then(received)) as rig:
        client = rig.client()
        client.send(b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n" + sent)
        until(lambda: rig.api.live and rig.api.live[0].buffer.endswith(b"\r\n\r\n" + sent), "the request")
        client.close()
        rig.settle()


def test_a_client_that_leaves_before_the_answer_ends_the_apis_connection() -> None:
    received: list[bytes] = []
    with Rig(upload_then(received)) as rig:
        client = rig.client()
        client.send(GET)
        until(lambda: rig.api.live and rig.api.live[0].buffer, "the request")
        client.close()
        rig.settle()


def watch(peer: Peer) -> None:
    peer.head()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcd\n\r\n")
    peer.rest()


def test_a_client_that_leaves_within_the_answer_ends_the_apis_connection() -> None:
    with Rig(Api(watch)) as rig:
        client = rig.client()
        client.send(GET)
        client.until(b"abcd\n\r\n")
        client.close()
        rig.settle()


def test_a_client_that_leaves_a_quiet_watch_and_a_request_behind_it_is_noticed(
    impatient: None,
) -> None:
    with Rig(Api(watch)) as rig:
        client = rig.client()
        client.send(GET)
        client.until(b"abcd\n\r\n")
        client.send(GET)
        gevent.sleep(0.02)
        client.close()
        rig.settle()


def test_a_client_that_leaves_an_upload_that_the_api_does_not_read_is_noticed(impatient: None) -> None:
    stop = Gate()

    def script(peer: Peer) -> None:
        peer.head()
        stop.wait()

    with Rig(Api(script)) as rig:
        client = rig.client()
        client.send(b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 900000000\r\n\r\n")
        sending = gevent.spawn(send_what_is_taken, client, b"x" * 30_000_000, 1 << 20)
        until(lambda: rig.session.tunnel.mux.streams and rig.streams()[0].waiter, "the stall")
        sending.kill()
        # A FIN would have to wait behind what nobody takes.
        client.abort()
        until(lambda: not rig.server.clients.connections, "the end of the client's connection")
        until(lambda: not rig.streams(), "the end of the stream")
        stop.open()
        rig.settle()


def test_a_client_that_leaves_while_no_agent_is_there_leaves_nothing_and_asks_nothing() -> None:
    with Rig(server={"reconnect_grace": PATIENCE}) as rig:
        rig.agent.stop()
        until(lambda: not len(rig.server.registry), "the end of the session")
        client = rig.client()
        client.send(GET)
        until(lambda: any(not c.idle for c in rig.server.clients.connections), "the request")
        client.close()
        rig.start_agent()
        rig.settle()
        assert rig.api.connections <= 1


def test_clients_that_come_and_go_leave_no_stream() -> None:
    with Rig(Api(watch)) as rig:
        clients = [rig.client() for _ in range(50)]
        for number, client in enumerate(clients):
            client.send(GET[: 1 + number * len(GET) // 49])
        gevent.sleep(0.05)
        for client in clients:
            client.close()
        rig.settle()


# ── memory ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", [b"/metrics", b"/nowhere", b"/tunnel/unknown/api"])
def test_a_client_that_asks_without_reading_does_not_grow_the_answers(path: bytes) -> None:
    with Rig(server={"reconnect_grace": 0.0}) as rig:
        client = rig.client(buffer=4096)
        flood = (b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path) * 1000
        sending = gevent.spawn(send_what_is_taken, client, flood * 100, 1 << 20)
        until(lambda: rig.server.clients.connections, "the connection")
        (connection,) = rig.server.clients.connections
        until(lambda: connection.pending, "a full socket")
        for _ in range(20):
            gevent.sleep(0.01)
            assert connection.pending < 1 << 20
        sending.kill()
        client.close()
        rig.settle()


def test_requests_in_a_row_are_answered_in_order() -> None:
    def script(peer: Peer) -> None:
        while True:
            path = peer.head().split(b" ")[1]
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    with Rig(Api(script)) as rig:
        client = rig.client()
        client.send(b"".join(b"GET /tunnel/c1/%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(100)))
        assert [client.response().body for _ in range(100)] == [b"/%d" % n for n in range(100)]
        assert rig.api.connections == 1


def test_what_comes_behind_an_aborted_answer_is_not_sent_to_the_api() -> None:
    stop = Gate()
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        heads.append(peer.head())
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        stop.wait()

    with Rig(Api(script)) as rig:
        client = rig.client()
        client.send(GET + b"DELETE /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n")
        client.until(b"half")
        stop.open()
        assert client.ended() == "reset"
        rig.settle()
    assert [head.split(b" ")[0] for head in heads] == [b"GET"]


def test_an_error_of_the_server_keeps_the_connection_for_the_next_request() -> None:
    with Rig(Api(answer()), server={"reconnect_grace": 0.0}) as rig:
        client = rig.client()
        assert rig.get("/tunnel/nobody/x", client=client).status == 503
        assert rig.get("/nowhere", client=client).status == 400
        assert rig.get(client=client).status == 200
