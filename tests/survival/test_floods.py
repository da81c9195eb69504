"""Floods: streams that send all they can, and readers that take little of it or nothing."""

import array
import fcntl
import resource
from collections.abc import Iterator
from statistics import median

import gevent
import pytest
from gevent import socket

from argotun.transport.writer import UNSENT
from argotun.wire.frames import CHUNK, MIB
from argotun.wire.streams import Stream
from tests.relay import Relay
from tests.rig import Api, Peer, Rig, until

FLOOD = b"%x\r\n%b\r\n" % (CHUNK, bytes(CHUNK))
BUFFER = 64 * MIB
SIOCOUTQNSD = 0x894B
"""Asks Linux for the bytes of a socket that were never sent (linux/sockios.h)."""


def script(peer: Peer) -> None:
    """Floods whoever asks for /log, never reads the body of /swallow, and is short with all else."""
    while True:
        head = peer.head()
        if b" /log " in head:
            # A thousand full buffers of the API's own would leave the machine's TCP no memory.
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHUNK)
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                peer.send(FLOOD)
                # As any API, it serves the others as well.
                gevent.sleep(0)
        elif b" /swallow " in head:
            gevent.sleep(3600)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(Api(script)) as rig:
        yield rig
        for peer in rig.api.live:
            peer.abort()
        rig.settle()


@pytest.fixture
def many() -> Iterator[Rig]:
    """For a thousand streams: their API without TLS, whose handshakes are not the point."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 6000:
        pytest.skip("a thousand streams need 6,000 descriptors in one process")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 6000), hard))
    limits = {"tunnel_buffer": BUFFER}
    # On a busy machine hundreds of clients are slow to say the first word, which is not the point either.
    patient = {"head_timeout": 600.0, "body_timeout": 600.0}
    try:
        with Rig(Api(script, tls=False), server=limits | patient, agent=limits) as rig:
            yield rig
            for peer in rig.api.live:
                peer.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def ask(rig: Rig, path: str, count: int) -> list[Peer]:
    """Clients whose kernel keeps little, and that have not read anything yet."""
    clients = []
    for _ in range(count):
        # One that has not asked anything yet has its own time limit.
        clients.append(client := rig.client(buffer=4096))
        client.send(f"GET /tunnel/c1{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return clients


def stall(rig: Rig, senders: dict[int, Stream], count: int) -> None:
    """Return once so many senders wait and nothing has moved for a while."""

    def waiting() -> int:
        return sum(stream.waiter is not None for stream in senders.values())

    until(lambda: waiting() == count, "the stall", 300.0, lambda: f"{waiting()} of {len(senders)} wait")
    tunnels = [rig.session.tunnel, rig.agent.tunnels[0]]
    moved = None
    while moved != (moved := [tunnel.heard for tunnel in tunnels]):
        gevent.sleep(0.3)


def read_for_ever(client: Peer, size: int, pause: float, taken: list[int]) -> None:
    """Take `size` bytes at a time and count them."""
    while data := client.sock.recv(size):
        taken[0] += len(data)
        gevent.sleep(pause)


def held_by_server(rig: Rig) -> int:
    """What the server keeps of answers, bytes."""
    return sum(each.pending for each in rig.server.clients.connections)


def test_flooding_log_stream_does_not_delay_small_requests() -> None:
    """Three logs that are hardly read, and one stream that takes all that the link can carry.

    How long a request takes on a crowded machine says little. What passed before it does: with turns
    that is what the link and the kernel hold, without them the windows of the others.
    """
    with Rig(Api(script), agent=None) as rig, Relay(rig.server.public_address, rtt=0.02, rate=10e6) as link:
        rig.start_agent(server=f"wss://127.0.0.1:{link.address[1]}/connect")
        ask(rig, "/log", 1)
        slow, fast = ask(rig, "/log", 2), rig.client()
        fast.send(b"GET /tunnel/c1/log HTTP/1.1\r\nHost: a\r\n\r\n")
        trickle, passed = [0], [0]
        readers = [gevent.spawn(read_for_ever, client, 100, 0.1, trickle) for client in slow]
        readers.append(gevent.spawn(read_for_ever, fast, 65536, 0, passed))
        client = rig.client()
        until(lambda: passed[0] > 10 * MIB and trickle[0] > 500, "the flood", 30.0)
        before_each = []
        for _ in range(15):
            before = passed[0]
            assert rig.get(client=client).body == b"ok"
            before_each.append(passed[0] - before)
        more = passed[0] + 4 * MIB
        until(lambda: passed[0] > more, "the flood's going on", 30.0)
        gevent.killall(readers)
        for peer in rig.api.live:
            peer.abort()
    assert median(before_each) < 2 * MIB


def test_a_thousand_stalled_streams_hold_no_more_than_the_buffer(many: Rig) -> None:
    stalled = ask(many, "/log", 1000)
    mux = many.session.tunnel.mux
    agents = many.agent.tunnels[0].mux

    def full() -> bool:
        """Whether there is no room any more; the bounds hold on the way as well."""
        assert held_by_server(many) + mux.backlog.size <= BUFFER / 2 + CHUNK
        assert agents.backlog.size <= BUFFER / 2 + CHUNK
        waiting = sum(stream.waiter is not None for stream in agents.streams.values())
        return waiting == 1000 and mux.intake.account.used > 0.6 * mux.intake.account.pool

    until(full, "the stall", 300.0)
    assert many.get().body == b"ok"
    # It waited, and was not given up.
    taken = [0]
    stalled[500].sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
    reading = gevent.spawn(read_for_ever, stalled[500], 65536, 0, taken)
    until(lambda: taken[0] > 2 * MIB, "the flood of the one that reads again", 60.0)
    reading.kill()


def test_unread_uploads_hold_no_more_than_the_buffer(many: Rig) -> None:
    head = b"POST /tunnel/c1/swallow HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n"
    clients = [many.client() for _ in range(200)]
    body = bytes(MIB)

    def send(client: Peer) -> None:
        client.send(head)
        while True:
            client.send(body)

    sending = [gevent.spawn(send, client) for client in clients]
    mux = many.session.tunnel.mux
    agents = many.agent.tunnels[0].mux
    stall(many, mux.streams, 200)
    upstreams = [stream.sink._leg.upstream for stream in agents.streams.values()]
    held = [upstream.outlet.pending for upstream in upstreams if upstream]
    assert sum(held) + agents.backlog.size <= BUFFER / 2 + CHUNK
    assert mux.backlog.size <= BUFFER / 2 + CHUNK
    assert many.get().body == b"ok"
    gevent.killall(sending)


def test_the_kernel_keeps_little_for_a_client_that_does_not_read(rig: Rig) -> None:
    """Unsent bytes are the container's memory as well as what the process keeps itself."""
    ask(rig, "/log", 20)
    stall(rig, rig.agent.tunnels[0].mux.streams, 20)
    for connection in rig.server.clients.connections:
        unsent = array.array("i", [0])
        fcntl.ioctl(connection._outlet._sock.fileno(), SIOCOUTQNSD, unsent)
        assert unsent[0] <= UNSENT + 2 * CHUNK
