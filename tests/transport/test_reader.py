"""A socket's receiving side: what the end of a connection is, and that nobody reads for ever."""

import ssl
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
import trustme
from gevent import socket
from gevent.ssl import SSLContext

from argotun.transport.reader import BURST, MORE, RECORD, Reader
from tests.rig import PATIENCE

Pair = tuple[Any, Any]


@pytest.fixture(scope="module")
def contexts() -> tuple[SSLContext, SSLContext]:
    authority = trustme.CA()
    client, server = SSLContext(ssl.PROTOCOL_TLS_CLIENT), SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # As argotun's own; which of the two is Python's default depends on its build.
    client.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    authority.configure_trust(client)
    authority.issue_cert("localhost").configure_cert(server)
    return client, server


def tcp() -> Pair:
    listening = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(listening.getsockname())
    theirs, _ = listening.accept()
    listening.close()
    return ours, theirs


def tls(contexts: tuple[SSLContext, SSLContext]) -> Pair:
    ours, theirs = tcp()
    server = gevent.spawn(contexts[1].wrap_socket, theirs, server_side=True)
    ours = contexts[0].wrap_socket(ours, server_hostname="localhost")
    return ours, server.get(timeout=PATIENCE)


@pytest.fixture(params=["plain", "TLS"])
def pair(request: pytest.FixtureRequest, contexts: tuple[SSLContext, SSLContext]) -> Iterator[Pair]:
    """Two connected sockets: ours, which reads, and the peer's."""
    ours, theirs = tcp() if request.param == "plain" else tls(contexts)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_bytes_come_as_they_were_sent(pair: Pair) -> None:
    data = bytes(range(256)) * 4096
    sending = gevent.spawn(pair[1].sendall, data)
    reader = Reader(pair[0])
    got = b""
    while len(got) < len(data):
        got += reader.recv()
    assert got == data
    sending.get(timeout=PATIENCE)


def test_many_small_records_in_one_packet_do_not_wait_for_the_next(pair: Pair) -> None:
    for n in range(50):
        pair[1].sendall(b"%02d" % n)
    reader = Reader(pair[0])
    got = b""
    with gevent.Timeout(PATIENCE, AssertionError("bytes that had arrived were not read")):
        while len(got) < 100:
            got += reader.recv()
    assert got == b"".join(b"%02d" % n for n in range(50))


@pytest.mark.parametrize("size", [1, MORE - 1, MORE, RECORD, RECORD + 1, 5 * RECORD])
def test_a_burst_of_any_size_is_followed_by_waiting_not_by_an_end(pair: Pair, size: int) -> None:
    reader = Reader(pair[0])
    for _ in range(3):
        pair[1].sendall(bytes(size))
        got = 0
        with gevent.Timeout(PATIENCE, AssertionError("bytes that had arrived were not read")):
            while got < size:
                got += len(reader.recv())
        assert got == size


def test_an_end_in_order_is_no_bytes(contexts: tuple[SSLContext, SSLContext]) -> None:
    for ours, theirs in (tcp(), tls(contexts)):
        if hasattr(theirs, "unwrap"):
            gevent.spawn(theirs.unwrap)
        else:
            theirs.shutdown(socket.SHUT_WR)
        assert Reader(ours).recv() == b""
        ours.close()
        theirs.close()


def test_tls_that_is_cut_is_an_error(contexts: tuple[SSLContext, SSLContext]) -> None:
    ours, theirs = tls(contexts)
    theirs.sendall(b"half of it")
    reader = Reader(ours)
    assert reader.recv() == b"half of it"
    theirs.shutdown(socket.SHUT_RDWR)
    with pytest.raises(OSError):
        reader.recv()
    ours.close()
    theirs.close()


def test_a_reset_is_an_error(pair: Pair) -> None:
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair[1].close()
    with pytest.raises(OSError):
        Reader(pair[0]).recv()


def test_a_socket_that_another_greenlet_closes_is_an_error(pair: Pair) -> None:
    reader = Reader(pair[0])
    reading = gevent.spawn(reader.recv)
    gevent.sleep(0)
    pair[0].close()
    with pytest.raises(OSError):
        reading.get(timeout=PATIENCE)
    with pytest.raises(OSError):
        reader.recv()


def test_a_flood_on_one_socket_does_not_starve_another(pair: Pair) -> None:
    """The next read of a peer that sends without pause comes after a turn of the event loop."""
    quiet, other = tcp()
    flooding = gevent.spawn(lambda: [pair[1].sendall(bytes(1 << 20)) for _ in range(64)])
    order: list[str] = []

    def flooded() -> None:
        reader = Reader(pair[0])
        for _ in range(40 * BURST):
            reader.recv()
            order.append("flood")

    def small() -> None:
        assert Reader(quiet).recv() == b"small"
        order.append("small")

    other.sendall(b"small")
    first = gevent.spawn(flooded)
    gevent.spawn(small).join(PATIENCE)
    assert order[-1:] == ["small"]
    assert len(order) <= 3 * BURST + 1
    first.kill()
    flooding.kill()
    quiet.close()
    other.close()
