"""What goes out: control first, streams in turns, the end behind the data, waiting senders told."""

import pytest

from argotun.wire.frames import CHUNK, INITIAL_WINDOW, MAX_CREDIT, MAX_ERROR_TEXT, MIB
from argotun.wire.hello import Hello
from argotun.wire.mux import MAX_CONTROL
from argotun.wire.outbox import BATCH, LOW_WATER
from argotun.wire.reasons import DRAINING, FAILED, NONE
from argotun.wire.streams import DISCARD, Stream
from tests.wire.mux_peers import Ear, Side, exchange, in_state, joined, read, started


def opened(side: Side, count: int) -> list[Stream]:
    streams = [side.mux.open(Ear()) for _ in range(count)]
    side.mux.collect()
    return streams


def test_no_stream_gets_a_second_chunk_before_another_its_first() -> None:
    side = started(2, "server")
    streams = opened(side, 5)
    for stream in streams:
        side.mux.send(stream, bytes(3 * CHUNK))
    order = [stream for _, stream, _ in side.say(limit=MIB)]
    assert [order[at : at + 5] for at in (0, 5, 10)] == [[1, 2, 3, 4, 5]] * 3


def crowd(size: int) -> tuple[Side, list[Stream]]:
    """A server with so many streams that have much more to send than one batch takes; all stand in line."""
    server = started(2, "server")
    streams = [server.mux.open(Ear()) for _ in range(size)]
    for stream in streams:
        server.mux.send(stream, bytes(INITIAL_WINDOW))
    while server.mux.collect(CHUNK) and not all(stream.queued < INITIAL_WINDOW for stream in streams):
        pass
    return server, streams


def next_data(server: Side) -> list[tuple[int, int]]:
    """Stream and size of each DATA frame in the next small batch."""
    return [(number, len(payload)) for name, number, payload in server.say(limit=CHUNK) if name == "DATA"]


def test_a_small_answer_does_not_wait_for_a_turn_of_each_large_one() -> None:
    server, _ = crowd(50)
    small = server.mux.open(Ear())
    server.mux.send(small, b"small")
    assert next_data(server)[0] == (small.id, 5)


def test_small_answers_one_after_the_other_do_not_wait_for_large_ones() -> None:
    server, large = crowd(50)
    small = server.mux.open(Ear())
    waits = []
    for _ in range(100):
        server.mux.send(small, bytes(CHUNK // 50))
        turns: list[int] = []
        while small.id not in turns:
            turns += [number for number, _ in next_data(server)]
        waits.append(turns.index(small.id))
    # A turn's worth of them comes first while the others have one turn each.
    assert waits == [0] * 100
    assert all(stream.queued for stream in large)


def test_small_answers_without_end_do_not_hold_up_large_ones() -> None:
    server, large = crowd(3)
    small = [server.mux.open(Ear()) for _ in range(40)]
    said = dict.fromkeys([stream.id for stream in [*large, *small]], 0)
    for _ in range(400):
        for stream in small:
            if not stream.queued:
                server.mux.send(stream, bytes(1024))
        for number, size in next_data(server):
            said[number] += size
    # Nobody has more than twice what a fair share would be.
    assert min(said[stream.id] for stream in large) >= max(said[stream.id] for stream in small) / 2
    assert min(said[stream.id] for stream in large) >= 5 * CHUNK


def test_a_control_frame_does_not_wait_behind_data() -> None:
    side = started(2, "server")
    bulk, small = opened(side, 2)
    side.mux.send(bulk, bytes(200 * 1024))
    side.mux.collect(1)
    side.mux.send(small, b"small")
    side.mux.ping(b"p")
    turns = [[(name, stream) for name, stream, _ in side.say(1)] for _ in range(3)]
    assert turns == [[("PING", 0)], [("DATA", small.id)], [("DATA", bulk.id)]]


@pytest.mark.parametrize("limit", [1, BATCH, 10**9])
def test_no_message_passes_the_peers_limit(limit: int) -> None:
    side = started(2, "server", Hello(window=MAX_CREDIT))
    for stream in opened(side, 20):
        side.mux.send(stream, bytes(MIB // 8))
    for _ in range(MAX_CONTROL // 1000):
        side.mux.ping(bytes(990))
    total = 0
    while side.mux.waiting:
        messages = joined(side.mux.collect(limit))
        assert all(len(message) < side.profile.max_message for message in messages)
        total += sum(len(payload) for name, _, payload in read(side.profile, messages) if name == "DATA")
    assert total == 20 * MIB // 8


def test_version_1_does_not_batch_frames() -> None:
    side = started(1, "server")
    for stream in opened(side, 2):
        side.hear("CONNECTED", stream.id)
        side.mux.send(stream, b"x")
    side.mux.ping()
    messages = joined(side.mux.collect())
    assert len(messages) == 3
    assert [name for name, _, _ in read(side.profile, messages)] == ["PING", "DATA", "DATA"]


def test_pieces_are_not_copied_before_they_are_joined() -> None:
    side = started(2, "server")
    [stream] = opened(side, 1)
    pieces = [b"a" * 10, b"b" * CHUNK, b"c"]
    for piece in pieces:
        side.mux.send(stream, piece)
    [parts] = side.mux.collect(1)
    assert parts[1] is pieces[0]
    assert isinstance(parts[2], memoryview)
    assert parts[2].obj is pieces[1]
    rest = b"".join(payload for _, _, payload in side.say())
    assert b"".join(parts[1:]) + rest == b"".join(pieces)


@pytest.mark.parametrize(
    ("call", "name", "left"), [("end", "END", "LOCAL_ENDED"), ("close", "CLOSE", "CLOSED")]
)
def test_an_end_follows_its_data_and_needs_no_credit_without_any(call: str, name: str, left: str) -> None:
    server = started(2, "server", Hello(window=10))
    [stream] = opened(server, 1)
    server.hear("CONNECTED", stream.id)
    server.mux.send(stream, bytes(15))
    getattr(server.mux, call)(stream)
    getattr(server.mux, call)(stream)
    server.mux.send(stream, b"too late")
    assert [kind for kind, _, _ in server.say()] == ["DATA"]
    assert not server.mux.waiting
    server.hear("WINDOW", stream.id, (5).to_bytes(4, "big"))
    assert [kind for kind, _, _ in server.say()] == ["DATA", name]
    assert server.state(stream.id) == left
    getattr(server.mux, call)(stream)
    assert not server.say()


def test_an_end_does_not_wait_for_credit_that_it_does_not_need() -> None:
    server = started(2, "server", Hello(window=10))
    [stream] = opened(server, 1)
    server.mux.send(stream, bytes(10))
    server.mux.collect()
    server.mux.end(stream)
    assert [name for name, _, _ in server.say()] == ["END"]


def test_close_after_end_is_said() -> None:
    side, stream = in_state(2, "server", "OPEN")
    side.mux.end(stream)
    side.mux.close(stream)
    assert [name for name, _, _ in side.say()] == ["CLOSE"]
    side, stream = in_state(2, "server", "LOCAL_ENDED")
    side.mux.close(stream)
    assert [name for name, _, _ in side.say()] == ["CLOSE"]
    assert not side.mux.streams


@pytest.mark.parametrize(
    ("reason", "text"), [(NONE, ""), (FAILED, "dial failed"), (FAILED, "\udcff" + "x" * 5000)]
)
def test_a_reset_drops_what_is_queued(reason: int, text: str) -> None:
    side, stream = in_state(2, "server", "OPEN")
    side.mux.send(stream, b"queued")
    side.mux.reset(stream, reason, text)
    side.mux.reset(stream, FAILED, "twice")
    [(name, number, payload)] = side.say()
    assert (name, number) == ("CLOSE" if reason == NONE else "ERROR", stream.id)
    assert payload == text.encode("utf-8", "replace")[:MAX_ERROR_TEXT]
    assert (stream.queue, stream.queued) == (None, 0)
    assert not side.mux.streams


def test_a_call_on_a_stream_that_is_over_says_nothing() -> None:
    side, stream = in_state(2, "agent", "CLOSED")
    side.mux.send(stream, b"x")
    side.mux.end(stream)
    side.mux.close(stream)
    side.mux.reset(stream, FAILED, "x")
    side.mux.connected(stream)
    side.mux.consumed(stream, 10**6, 1.0)
    assert not side.mux.waiting


def waiting_sender(size: int, window: int = MAX_CREDIT) -> tuple[Side, Stream, Ear]:
    server = started(2, "server", Hello(window=window))
    ear = Ear()
    stream = server.mux.open(ear)
    server.hear("CONNECTED", stream.id)
    server.mux.collect()
    server.mux.send(stream, bytes(size))
    ear.calls.clear()
    stream.waiter = ear.go_on
    return server, stream, ear


def test_a_waiting_sender_is_told_once_and_in_time() -> None:
    server, stream, ear = waiting_sender(LOW_WATER + CHUNK + 1)
    server.mux.collect(1)
    assert not ear.calls
    server.mux.collect(1)
    assert (ear.calls, stream.waiter) == ([("writable", None)], None)
    server.mux.collect()
    assert ear.calls == [("writable", None)]


def test_a_waiting_sender_goes_on_when_credit_comes() -> None:
    server, stream, ear = waiting_sender(3 * LOW_WATER, window=1)
    server.mux.collect()
    assert not ear.calls
    server.hear("WINDOW", stream.id, (3 * LOW_WATER).to_bytes(4, "big"))
    server.mux.collect()
    assert ear.calls == [("writable", None)]


@pytest.mark.parametrize("end", ["ERROR", "CLOSE", "WINDOW and close", "lost", "violation"])
def test_a_waiting_sender_goes_on_when_the_stream_ends(end: str) -> None:
    server, stream, ear = waiting_sender(3 * LOW_WATER, window=1)
    server.mux.collect()
    if end == "lost":
        server.mux.lost("gone")
    elif end == "violation":
        server.hear("CONNECTED", stream.id)
    elif end == "WINDOW and close":
        server.mux.close(stream)
        server.hear("WINDOW", stream.id, (3 * LOW_WATER).to_bytes(4, "big"))
    else:
        server.hear(end, stream.id)
    server.mux.collect()
    assert sorted(ear.names)[-1] == "writable"
    assert ear.names.count("writable") == 1


@pytest.mark.parametrize("last", ["", "close", "end"])
def test_a_stream_that_a_sender_opens_when_it_goes_on_is_connected_first(last: str) -> None:
    server, agent = started(2, "server"), started(2, "agent")
    stream = server.mux.open(DISCARD)
    if last:
        exchange(server, agent)
        agent.mux.connected(agent.accepted[0][0])
        if last == "end":
            agent.mux.end(agent.accepted[0][0])
        exchange(server, agent)
    server.mux.send(stream, bytes(10))

    def open_another() -> None:
        server.mux.send(server.mux.open(Ear()), b"first words")

    stream.waiter = open_another
    if last:
        getattr(server.mux, last)(stream)
    exchange(server, agent)
    assert [accepted.sink.data for accepted, _ in agent.accepted] == [bytes(10), b"first words"]  # type: ignore[attr-defined]


def test_the_owner_is_woken_when_there_is_something_to_write() -> None:
    server = started(2, "server", Hello(window=1))
    woken: list[int] = []
    server.mux.wake = lambda: woken.append(1)

    def wakes(call: object, *arguments: object) -> bool:
        woken.clear()
        call(*arguments)  # type: ignore[operator]
        awake = bool(woken)
        assert awake == server.mux.waiting
        server.mux.collect()
        return awake

    stream = server.mux.open(Ear())
    assert wakes(server.mux.ping)
    assert wakes(server.mux.send, stream, b"xyz")
    assert not wakes(server.mux.send, stream, b"no credit")
    assert wakes(server.hear, "WINDOW", stream.id, b"\0\0\0\1")
    assert wakes(server.mux.goaway, DRAINING)
    assert wakes(server.mux.reset, stream)
    assert not wakes(server.hear, "CLOSE", stream.id)


def test_a_sender_that_loses_the_tunnel_as_it_goes_on_disturbs_no_other() -> None:
    server = started(2, "server")
    ears = [Ear(), Ear()]
    woken: list[int] = []

    def lose() -> None:
        woken.append(0)
        server.mux.lost("the write failed")

    for ear, waiter in zip(ears, (lose, lambda: woken.append(1)), strict=True):
        stream = server.mux.open(ear)
        server.mux.send(stream, b"x")
        stream.waiter = waiter
    server.mux.collect()
    assert [ear.names for ear in ears] == [["lost"], ["lost"]]
    assert woken == [0, 1]


@pytest.mark.parametrize("version", [1, 2])
def test_what_leaves_the_queue_is_told_as_it_leaves(version: int) -> None:
    side, stream = in_state(version, "server", "OPEN")
    sent: list[int] = []
    stream.on_sent = sent.append
    side.mux.send(stream, bytes(3 * CHUNK + 1))
    side.mux.end(stream)
    while side.mux.waiting:
        side.mux.collect(1)
    assert sent == [CHUNK, CHUNK, CHUNK, 1]


def test_two_streams_are_spliced_without_a_greenlet() -> None:
    """What arrives on one goes out on the other, and its credit goes back as it leaves there."""
    near, far = started(2, "agent"), started(2, "server", Hello(window=CHUNK))
    near.hear("CONNECT", 1)
    stream, _ = near.accepted[0]
    near.mux.connected(stream)
    near.mux.collect()

    class Splice(Ear):
        def on_data(self, payload: bytes) -> None:
            far.mux.send(onward, payload)

    stream.sink = Splice()
    onward = far.mux.open(Ear())
    onward.on_sent = lambda size: near.mux.consumed(stream, size, 1.0)
    far.hear("CONNECTED", onward.id)
    far.mux.collect()
    data = bytes(range(256)) * 512
    for at in range(0, len(data), CHUNK):
        near.hear("DATA", 1, data[at : at + CHUNK])
    passed = b""
    while len(passed) < len(data):
        said = far.say()
        assert said, "the splice stands still"
        passed += b"".join(payload for name, _, payload in said if name == "DATA")
        assert stream.consumed + stream.receive_credit == stream.window - len(data) + len(passed)
        far.hear("WINDOW", onward.id, CHUNK.to_bytes(4, "big"))
    assert passed == data
    assert any(name == "WINDOW" for name, _, _ in near.say())
