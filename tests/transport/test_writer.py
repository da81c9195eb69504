"""A socket's sending side: at once where it can be, in order always, and how it ends."""

import ssl
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
import trustme
from gevent import socket
from gevent.ssl import SSLContext

from argotun.transport import writer as module
from argotun.transport.reader import Reader
from argotun.transport.writer import Writer
from tests.rig import PATIENCE, Peer, until

Pair = tuple[Any, Any]

BIG = bytes(range(256)) * 8192
"""2 MiB: more than any socket's buffer here takes at once."""


def tcp() -> Pair:
    listening = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(listening.getsockname())
    theirs, _ = listening.accept()
    listening.close()
    for sock in (ours, theirs):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    return ours, theirs


@pytest.fixture(scope="module")
def contexts() -> tuple[SSLContext, SSLContext]:
    authority = trustme.CA()
    client, server = SSLContext(ssl.PROTOCOL_TLS_CLIENT), SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(client)
    authority.issue_cert("localhost").configure_cert(server)
    return client, server


@pytest.fixture(params=["plain", "TLS"])
def pair(request: pytest.FixtureRequest, contexts: tuple[SSLContext, SSLContext]) -> Iterator[Pair]:
    """Two connected sockets with small buffers: ours, which writes, and the peer's."""
    ours, theirs = tcp()
    if request.param == "TLS":
        server = gevent.spawn(contexts[1].wrap_socket, theirs, server_side=True, suppress_ragged_eofs=False)
        ours = contexts[0].wrap_socket(ours, server_hostname="localhost")
        theirs = server.get(timeout=PATIENCE)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def errors() -> list[str]:
    return []


@pytest.fixture
def writer(pair: Pair, errors: list[str]) -> Writer:
    return Writer(pair[0], errors.append, stall=0.0)


def test_what_fits_leaves_at_once(pair: Pair, writer: Writer) -> None:
    assert writer.write(b"hello")
    assert writer.pending == 0
    assert Peer(pair[1]).read(5) == b"hello"


def test_short_writes_lose_nothing_and_keep_the_order(pair: Pair, writer: Writer) -> None:
    sent = b""
    for size in (1, 300_000, 5, 1_000_000, 0, 70_000, 3):
        data = (b"%d," % size) + BIG[:size]
        writer.write(data)
        sent += data
    assert writer.pending > 0
    assert Peer(pair[1]).read(len(sent)) == sent
    until(lambda: writer.pending == 0, "the end of the queue")
    assert writer.write(b"at once again")


def test_a_buffer_that_is_a_view_is_sent_as_it_is(pair: Pair, writer: Writer) -> None:
    writer.write(memoryview(BIG)[100:1_000_000])
    assert Peer(pair[1]).read(999_900) == BIG[100:1_000_000]


def test_a_write_never_waits(pair: Pair, writer: Writer) -> None:
    switched: list[int] = []
    gevent.spawn(switched.append, 1)
    for _ in range(20):
        writer.write(BIG)
    assert not switched, "another greenlet ran while writing"
    assert writer.pending > 19 * len(BIG)


def test_every_queued_byte_is_told_once_and_the_drain_last(pair: Pair, writer: Writer) -> None:
    told: list[Any] = []
    writer.on_sent = told.append
    writer.on_drained = lambda: told.append("drained")
    writer.write(BIG)
    queued = writer.pending
    writer.write(b"behind")
    Peer(pair[1]).read(len(BIG) + 6)
    until(lambda: "drained" in told, "the drain")
    assert told.count("drained") == 1
    assert told.pop() == "drained"
    assert sum(told) == queued + 6
    assert all(size > 0 for size in told)


def test_what_is_written_while_the_queue_drains_comes_behind_it(pair: Pair, writer: Writer) -> None:
    more = [b"one ", b"two ", b"three"]

    def add(_size: int) -> None:
        if more:
            writer.write(more.pop(0))

    writer.on_sent = add
    writer.write(BIG)
    assert Peer(pair[1]).read(len(BIG) + 13) == BIG + b"one two three"


def test_a_writer_that_writes_on_drained_is_drained_again(pair: Pair, writer: Writer) -> None:
    rounds: list[int] = []

    def again() -> None:
        rounds.append(1)
        if len(rounds) < 3:
            writer.write(BIG)

    writer.on_drained = again
    writer.write(BIG)
    Peer(pair[1]).read(3 * len(BIG))
    until(lambda: len(rounds) == 3, "three drains")


def test_finish_ends_in_order_behind_what_is_queued(pair: Pair, writer: Writer) -> None:
    writer.write(BIG)
    writer.finish()
    assert not writer.write(b"too late")
    assert Peer(pair[1]).rest() == BIG
    # The other direction lives on.
    pair[1].sendall(b"answer")
    assert Reader(pair[0]).recv() == b"answer"


def test_finish_sends_close_notify(contexts: tuple[SSLContext, SSLContext]) -> None:
    """Without it a peer cannot tell the end from a cut."""
    ours, theirs = tcp()
    server = gevent.spawn(contexts[1].wrap_socket, theirs, server_side=True, suppress_ragged_eofs=False)
    ours = contexts[0].wrap_socket(ours, server_hostname="localhost")
    theirs = server.get(timeout=PATIENCE)
    writer = Writer(ours, pytest.fail, stall=0.0)
    writer.write(b"last words")
    writer.finish()
    assert theirs.recv(100) == b"last words"
    assert theirs.recv(100) == b""
    ours.close()
    theirs.close()


def test_finish_while_reading_loses_nothing_of_the_other_direction(pair: Pair, writer: Writer) -> None:
    """OpenSSL by itself would look for the peer's close_notify, and drop the data that it finds instead."""
    pair[1].sendall(b"on its way")
    writer.write(b"last words")
    writer.finish()
    assert Peer(pair[1]).rest() == b"last words"
    reader = Reader(pair[0])
    assert reader.recv() == b"on its way"
    reading = gevent.spawn(reader.recv)
    gevent.sleep(0)
    pair[1].sendall(b"and after it")
    assert reading.get(timeout=PATIENCE) == b"and after it"


def test_finish_ends_gracefully_although_the_socket_is_full(
    pair: Pair, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A close_notify that finds no room and is forgotten makes a complete answer look cut."""
    refusals = [BlockingIOError(), BlockingIOError()]
    tcp_send = module.tcp_send

    def sender(sock: Any) -> Any:
        def send(data: Any) -> int:
            if refusals:
                raise refusals.pop()
            return tcp_send(sock)(data)

        return send

    monkeypatch.setattr(module, "tcp_send", sender)
    writer.on_sent = lambda size: pytest.fail(f"{size} bytes of nobody's were told")
    writer.write(b"last words")
    writer.finish()
    assert Peer(pair[1]).rest() == b"last words"


def test_finish_is_silent_about_a_peer_that_is_gone(pair: Pair, writer: Writer, errors: list[str]) -> None:
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair[1].close()
    with pytest.raises(OSError):
        Reader(pair[0]).recv()
    writer.finish()
    gevent.sleep(0)
    assert errors == []


def test_abort_is_no_end_in_order(pair: Pair, writer: Writer, errors: list[str]) -> None:
    writer.write(BIG)
    writer.abort()
    assert Peer(pair[1]).ended() == "reset"
    assert (errors, writer.pending, writer.closed) == ([], 0, True)


def test_close_wakes_the_reader(pair: Pair, writer: Writer) -> None:
    def read() -> str:
        try:
            return repr(Reader(pair[0]).recv())
        except OSError as error:
            return type(error).__name__

    reading = gevent.spawn(read)
    gevent.sleep(0)
    writer.close()
    assert reading.get(timeout=PATIENCE) != ""


def test_close_drops_the_queue_and_its_greenlet(pair: Pair, writer: Writer) -> None:
    writer.write(BIG)
    drainer = writer._drainer
    writer.close()
    assert writer.pending == 0
    drainer.join(PATIENCE)  # type: ignore[union-attr]
    assert drainer.ready()  # type: ignore[union-attr]
    assert not writer.write(b"x")
    writer.close()
    writer.finish()
    writer.abort()
    writer.lingering_close(1)


def test_a_peer_that_resets_is_told_once(pair: Pair, writer: Writer, errors: list[str]) -> None:
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair[1].close()
    until(lambda: writer.write(b"x") is False or writer.closed, "the failure")
    until(lambda: errors, "the reason")
    writer.write(b"y")
    gevent.sleep(0)
    assert len(errors) == 1
    assert errors[0]


def test_a_peer_that_resets_under_a_queue_is_told_once(pair: Pair, writer: Writer, errors: list[str]) -> None:
    writer.write(BIG)
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair[1].close()
    until(lambda: errors, "the reason")
    assert (len(errors), writer.pending, writer.closed) == (1, 0, True)


@pytest.mark.parametrize("readable", [False, True])
def test_a_peer_that_takes_nothing_is_given_up(pair: Pair, errors: list[str], readable: bool) -> None:
    writer = Writer(pair[0], errors.append, readable=readable, stall=0.2)
    writer.write(BIG)
    until(lambda: errors, "the limit")
    assert errors == ["took nothing for 0.2 s"]
    assert (writer.stalled, writer.pending, writer.closed) == (True, 0, not readable)
    assert not writer.write(b"x")
    if readable:
        pair[1].sendall(b"still there")
        assert Peer(pair[0]).read(11) == b"still there"
    else:
        with pytest.raises(OSError, match=r"reset|EOF"):
            Peer(pair[1]).read(len(BIG))


def test_a_peer_that_takes_little_is_not_given_up(pair: Pair, errors: list[str]) -> None:
    writer = Writer(pair[0], errors.append, stall=3.0)
    writer.write(BIG)
    reader = Peer(pair[1])
    for _ in range(10):
        gevent.sleep(0.35)
        reader.read(100_000)
    assert writer.pending
    assert not errors
    writer.close()


def test_flush_waits_no_longer_than_it_was_told(pair: Pair, writer: Writer) -> None:
    writer.write(BIG)
    writer.flush(0.05)
    assert writer.pending > 0
    reading = gevent.spawn(Peer(pair[1]).read, len(BIG))
    writer.flush(PATIENCE)
    assert writer.pending == 0
    reading.get(timeout=PATIENCE)
    writer.flush(0)


def test_leave_lets_the_last_words_arrive_however_much_was_not_read(pair: Pair, writer: Writer) -> None:
    """A plain close with bytes unread is a reset; the peer, still sending, would never hear why."""
    pair[1].sendall(bytes(20_000))
    writer.write(b"last words")
    writer.lingering_close(2.0)
    assert writer.closed
    assert Peer(pair[1]).rest() == b"last words"


def test_leave_ends_although_the_peer_sends_for_ever(pair: Pair, writer: Writer) -> None:
    def flood() -> str:
        try:
            while True:
                pair[1].sendall(bytes(100_000))
        except OSError as error:
            return type(error).__name__

    flooding = gevent.spawn(flood)
    writer.lingering_close(0.1)
    assert flooding.get(timeout=PATIENCE)


def test_leave_with_a_queue_closes(pair: Pair, writer: Writer) -> None:
    writer.write(BIG)
    writer.lingering_close(1.0)
    assert writer.closed
    assert Peer(pair[1]).ended() in ("closed", "reset")


def test_a_peer_that_never_reads_costs_what_was_written_and_no_more(pair: Pair, writer: Writer) -> None:
    """The queue keeps the buffers that it was given, uncopied: whoever writes decides how much that is."""
    chunk = bytes(1 << 20)
    for _ in range(64):
        writer.write(chunk)
    assert writer._queue is not None
    assert sum(len(item) for item in writer._queue) == writer.pending <= 64 << 20
    assert sum(item is chunk for item in writer._queue) >= 62
    writer.close()
    assert writer._queue is None


def test_small_pieces_that_wait_are_joined(pair: Pair, errors: list[str]) -> None:
    ours, theirs = pair
    writer = Writer(ours, errors.append, stall=0.0)
    writer.write(BIG)
    for number in range(10_000):
        writer.write(b"%04d" % number)
    assert writer._queue is not None
    assert len(writer._queue) < 20
    got = b""
    while len(got) < len(BIG) + 40_000:
        got += theirs.recv(1 << 20)
    assert got == BIG + b"".join(b"%04d" % number for number in range(10_000))
    writer.close()
