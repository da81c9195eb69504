"""What leaves next when the socket is full: control frames, then every stream in its turn."""

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket

from argotun.transport import MessageSocket
from argotun.tunnel.channel import HIGH_WATER, Channel
from argotun.tunnel.tunnel import Tunnel
from argotun.wire.frames import CHUNK, V1, V2, Profile
from argotun.wire.hello import Hello
from argotun.wire.mux import BATCH, Multiplexer
from argotun.wire.streams import DISCARD
from tests import v1_peers, v2_peers
from tests.raw_websocket import RawWebSocket
from tests.rig import PATIENCE, Peer, until
from tests.v2_peers import CLOSE, DATA, ERROR, PING, hello
from tests.wire.mux_peers import take_in

BULK = 1 << 20
CONNECT, CONNECTED = 1, 2


class Link:
    """The server's side of a tunnel over small socket buffers, and a scripted peer that reads when told."""

    def __init__(self, profile: Profile = V2) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        theirs = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
        listening.close()
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
        ws = RawWebSocket(Peer(theirs), True, b"")
        self.peer: Any = (v2_peers.V2 if profile is V2 else v1_peers.V1)(ws)
        self.mux = Multiplexer(profile, opener=True, ours=Hello(), budget=64 << 20)
        self.collected: list[bytes] = []
        collect = self.mux.collect

        def remember(limit: int = BATCH) -> Any:
            messages = collect(limit)
            self.collected += [b"".join(parts) for parts in messages]
            return messages

        self.mux.collect = remember  # type: ignore[method-assign]
        self.tunnel = Tunnel(
            MessageSocket(ours, None, b"", client=False),
            self.mux,
            keepalive=3600,
            keepalive_timeout=7200,
            hello_timeout=3600,
        )
        self.running = gevent.spawn(self.tunnel.run)
        if profile is V2:
            ws.send(hello(window=0x7FFFFFFF))
            until(lambda: self.mux.theirs is not None, "HELLO")

    def open(self, data: bytes) -> int:
        """A new stream with so much to say; its number."""
        stream = self.mux.open(DISCARD, "")
        self.mux.send(stream, data)
        return stream.id

    def fill(self) -> list[int]:
        """Three streams with megabytes each, and a socket that takes no more."""
        streams = [self.open(bytes(BULK)) for _ in range(3)]
        until(lambda: self.tunnel._writer.pending, "a full socket")
        # An ACK may come 200 ms late, and makes room again.
        last, still = None, 0
        while still < 4:
            gevent.sleep(0.1)
            now = len(self.collected), self.tunnel._writer.pending
            last, still = now, still + 1 if now == last else 0
        return streams

    def close(self) -> None:
        self.tunnel.end("the test ends")
        self.peer.ws.close()
        self.running.join(PATIENCE)


@pytest.fixture
def link() -> Iterator[Link]:
    link = Link()
    yield link
    link.close()


def test_nothing_is_collected_while_the_socket_is_full(link: Link) -> None:
    link.fill()
    before = len(link.collected)
    assert link.tunnel._writer.pending <= BATCH + 1000
    for _ in range(10):
        link.open(bytes(BULK))
        gevent.sleep(0)
    assert len(link.collected) == before
    assert link.tunnel.unsent


def test_a_small_stream_does_not_wait_for_a_turn_of_each_large_one(link: Link) -> None:
    bulk = link.fill()
    before = len(link.collected)
    small = link.open(b"small")
    reading = gevent.spawn(lambda: [link.peer.raw() for _ in range(200)])
    until(lambda: len(link.collected) > before + 1, "the next batches")
    reading.kill()
    following = link.collected[before]
    assert len(following) <= 2 * CHUNK
    assert next(stream for kind, stream in _split(following) if kind == DATA) == small
    assert [stream for kind, stream in _split(following) if kind == DATA and stream in bulk] != []


def test_a_ping_leaves_before_any_data_that_waits(link: Link) -> None:
    link.fill()
    before = len(link.collected)
    link.mux.ping(b"first")
    reading = gevent.spawn(lambda: [link.peer.raw() for _ in range(200)])
    until(lambda: len(link.collected) > before, "the next batch")
    reading.kill()
    assert _split(link.collected[before])[0] == (PING, 0)


def test_large_streams_take_turns(link: Link) -> None:
    bulk = link.fill()
    reading = gevent.spawn(lambda: [link.peer.raw() for _ in range(100)])
    until(lambda: len(link.collected) > 12, "more batches")
    reading.kill()
    turns = [stream for message in link.collected[3:12] for kind, stream in _split(message) if kind == DATA]
    for start in range(len(turns) - 3):
        assert set(turns[start : start + 3]) == set(bulk)


def test_everything_arrives_in_the_end(link: Link) -> None:
    bulk = link.fill()
    small = link.open(b"small")
    left = {**dict.fromkeys(bulk, BULK), small: 5}
    while any(left.values()):
        frame = link.peer.receive()
        if frame.kind == DATA:
            left[frame.stream] -= len(frame.payload)
            assert left[frame.stream] >= 0
    until(lambda: not link.tunnel.unsent, "an empty queue")


def test_version_1_takes_turns_too() -> None:
    link = Link(V1)
    try:
        streams = [link.mux.open(DISCARD, "x:1") for _ in range(4)]
        for stream in streams:
            link.mux.send(stream, bytes(BULK) if stream is not streams[3] else b"small")
        gevent.sleep(0)
        for stream in streams[:3]:
            link.peer.send(CONNECTED, stream.id)
        until(lambda: link.tunnel._writer.pending, "a full socket")
        link.peer.send(CONNECTED, streams[3].id)
        before = len(link.collected)
        until(lambda: streams[3].ready, "the small stream's turn")
        data = 0
        while (frame := link.peer.raw()).stream != streams[3].id or frame.kind != DATA:
            data += len(frame.payload)
        assert frame.payload == b"small"
        later = link.collected[before:]
        assert sum(map(len, later[: [b"small" in m for m in later].index(True)])) <= BATCH + 32 * 1024
    finally:
        link.close()


class Ignorant:
    """A sink that hears nothing of what happens to its stream."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_: None


def test_a_sender_waits_and_goes_on_when_its_queue_is_short(link: Link) -> None:
    stream = link.mux.open(Ignorant(), "")
    channel = Channel(link.tunnel, stream)
    sent = []

    def feed() -> None:
        for _ in range(40):
            channel.send(bytes(64 * 1024))
            sent.append(1)
            channel.wait()

    feeding = gevent.spawn(feed)
    gevent.sleep(0.05)
    assert len(sent) < 40
    assert stream.queued <= HIGH_WATER + 64 * 1024
    got = 0
    while got < 40 * 64 * 1024:
        frame = link.peer.receive()
        got += len(frame.payload) if frame.kind == DATA else 0
    feeding.join(PATIENCE)
    assert feeding.ready()


@pytest.mark.parametrize(
    "end",
    [
        lambda link, channel: link.tunnel.end("lost"),
        lambda link, channel: channel.abort(),
        lambda link, channel: take_in(link.mux, V2.pack(CLOSE, channel.id)),
        lambda link, channel: take_in(link.mux, V2.pack(ERROR, channel.id, b"no")),
    ],
    ids=["the tunnel is lost", "reset here", "CLOSE", "ERROR"],
)
def test_a_sender_that_waits_goes_on_however_the_stream_ends(
    link: Link, end: Callable[[Link, Channel], None]
) -> None:
    channel = Channel(link.tunnel, link.mux.open(Ignorant(), ""))
    channel.send(bytes(BULK))
    waiting = gevent.spawn(channel.wait)
    gevent.sleep(0)
    assert channel.waiting
    end(link, channel)
    waiting.join(PATIENCE)
    assert waiting.ready()


def _split(message: bytes) -> list[tuple[int, int]]:
    """The types and streams of the frames in a message of version 2."""
    return [(kind, stream) for kind, stream, _ in V2.split(message)]
