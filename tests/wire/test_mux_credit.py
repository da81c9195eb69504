"""Credit: none is passed, what is read is given back, windows grow while they limit the link."""

import pytest

from argotun.errors import ProtocolError
from argotun.wire.credit import TURN
from argotun.wire.frames import CHUNK, INITIAL_WINDOW, MAX_CREDIT, MAX_WINDOW, MIB
from argotun.wire.hello import Hello
from argotun.wire.outbox import PROVEN
from argotun.wire.streams import Stream
from tests.wire.mux_peers import Ear, Side, in_state, started


def test_a_sender_stays_within_its_credit() -> None:
    server = started(2, "server", Hello(window=100))
    stream = server.mux.open(Ear())
    server.mux.send(stream, bytes(250))
    sizes = lambda: [len(payload) for name, _, payload in server.say() if name == "DATA"]  # noqa: E731
    assert sizes() == [100]
    assert not server.mux.waiting
    assert server.mux.window_exhausted == 1
    server.hear("WINDOW", stream.id, (60).to_bytes(4, "big"))
    assert sizes() == [60]
    server.hear("WINDOW", stream.id, (1000).to_bytes(4, "big"))
    assert sizes() == [90]


def test_a_peer_that_overruns_its_credit_loses_its_tunnel() -> None:
    agent = started(2, "agent", ours=Hello(window=100))
    agent.hear("CONNECT", 1)
    agent.hear("DATA", 1, bytes(100))
    with pytest.raises(ProtocolError, match="went over its credit"):
        agent.hear("DATA", 1, b"x")
    assert len(agent.accepted[0][0].sink.data) == 100  # type: ignore[attr-defined]


def test_version_1_cuts_off_a_stream_whose_reader_is_too_slow() -> None:
    agent = started(1, "agent", budget=100)
    for number in (1, 2):
        agent.hear("CONNECT", number)
        agent.mux.connected(agent.accepted[-1][0])
    agent.hear("DATA", 1, bytes(60))
    agent.mux.consumed(agent.accepted[0][0], 60, 1.0)
    agent.hear("DATA", 1, bytes(100))
    agent.mux.collect()
    agent.hear("DATA", 1, b"x")
    slow, fast = (stream for stream, _ in agent.accepted)
    assert agent.say() == [("ERROR", 1, b"protocol error: reader too slow for a peer without flow control")]
    assert slow.sink.calls[-1] == ("over", "reader too slow for a peer without flow control")  # type: ignore[attr-defined]
    agent.hear("DATA", 2, b"x")
    assert fast.sink.data == b"x"  # type: ignore[attr-defined]


def test_empty_data_does_not_look_like_the_end() -> None:
    agent = started(2, "agent")
    agent.hear("CONNECT", 1)
    agent.hear("DATA", 1)
    assert agent.accepted[0][0].sink.calls == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("payload", [b"", b"\0\0\1", b"\0\0\0\0\1"])
def test_a_window_of_a_wrong_length_is_refused(payload: bytes) -> None:
    side, stream = in_state(2, "server", "OPEN")
    for number in (stream.id, 99):
        with pytest.raises(ProtocolError, match="four bytes"):
            side.hear("WINDOW", number, payload)


@pytest.mark.parametrize("credit", [0, MAX_CREDIT - INITIAL_WINDOW + 1, MAX_CREDIT, 0xFFFFFFFF])
def test_a_window_of_zero_or_an_overflow_is_refused(credit: int) -> None:
    side, stream = in_state(2, "server", "OPEN")
    with pytest.raises(ProtocolError, match="valid credit"):
        side.hear("WINDOW", stream.id, credit.to_bytes(4, "big"))


def test_credit_up_to_the_bound_is_taken() -> None:
    side, stream = in_state(2, "server", "OPEN")
    side.hear("WINDOW", stream.id, (MAX_CREDIT - INITIAL_WINDOW).to_bytes(4, "big"))
    assert stream.send_credit == MAX_CREDIT


def test_credit_is_given_back_when_it_is_due() -> None:
    agent = started(2, "agent", ours=Hello(window=100))
    agent.hear("CONNECT", 1)
    stream, _ = agent.accepted[0]
    agent.hear("DATA", 1, bytes(80))
    agent.mux.consumed(stream, 24, 1.0)
    assert not agent.say()
    agent.mux.consumed(stream, 1, 1.0)
    assert agent.say() == [("WINDOW", 1, (25).to_bytes(4, "big"))]
    assert stream.receive_credit == 45


def test_a_window_of_one_byte_never_gives_credit_of_zero() -> None:
    agent = started(2, "agent", ours=Hello(window=1))
    agent.hear("CONNECT", 1)
    stream, _ = agent.accepted[0]
    agent.mux.consumed(stream, 0, 1.0)
    assert not agent.say()
    agent.hear("DATA", 1, b"x")
    agent.mux.consumed(stream, 1, 1.0)
    assert agent.say() == [("WINDOW", 1, (1).to_bytes(4, "big"))]


@pytest.mark.parametrize("state", ["REMOTE_ENDED", "OPENING_REMOTE", "CLOSED"])
def test_no_credit_is_given_to_a_direction_that_has_ended(state: str) -> None:
    side, stream = in_state(2, "agent", state)
    side.mux.rtt = 100.0
    side.mux.consumed(stream, INITIAL_WINDOW, 1.0)
    assert not side.say()
    assert side.mux.intake.account.used == 0 or state != "CLOSED"


def quarter(side: Side, stream: Stream, now: float) -> tuple[int, int]:
    """Receive and consume a quarter of the window at `now`; credit and growth that are given back."""
    size = stream.window + 3 >> 2
    hear(side, stream, size)
    window = stream.window
    side.mux.consumed(stream, size, now)
    [(name, _, payload)] = side.say()
    assert name == "WINDOW"
    growth = stream.window - window
    assert int.from_bytes(payload, "big") == size + growth
    return size, growth


def hear(side: Side, stream: Stream, size: int) -> None:
    for begin in range(0, size, CHUNK):
        side.hear("DATA", stream.id, bytes(min(CHUNK, size - begin)))


RTT = 0.125


def grower(**options: int) -> tuple[Side, Stream]:
    side = started(2, "agent", **options)
    side.hear("CONNECT", 1)
    side.mux.rtt = RTT
    side.mux.collect()
    return side, side.accepted[0][0]


@pytest.mark.parametrize("part", [0.1, 0.4, 0.5])
def test_a_window_stays_for_a_reader_that_takes_half_of_it_in_a_round_trip(part: float) -> None:
    side, stream = grower()
    for turn in range(20):
        assert quarter(side, stream, 100 + turn * RTT / 4 / part)[1] == 0
    assert stream.window == INITIAL_WINDOW


def test_a_window_becomes_twice_what_a_reader_takes_in_a_round_trip() -> None:
    side, stream = grower()
    quarter(side, stream, 100.0)
    # The link brings a window in each round trip.
    for turn in range(1, 4):
        assert quarter(side, stream, 100 + turn * RTT / 4)[1] == 0
    _, growth = quarter(side, stream, 100 + RTT)
    assert growth == pytest.approx(INITIAL_WINDOW, abs=4)
    # And no more than that from now on, so that it is large enough.
    for turn in range(1, 20):
        assert quarter(side, stream, 100 + RTT + turn * RTT / 2)[1] <= 8
    assert stream.window == pytest.approx(2 * INITIAL_WINDOW, abs=32)


def test_a_window_does_not_shrink_for_a_reader_that_has_become_slow() -> None:
    side, stream = grower()
    for turn in range(9):
        quarter(side, stream, 100 + turn * RTT / 4)
    grown = stream.window
    assert grown > INITIAL_WINDOW
    for turn in range(9):
        quarter(side, stream, 200.0 + turn)
    assert stream.window == grown


def test_what_waited_for_a_reader_that_stopped_says_nothing_of_the_link() -> None:
    side, stream = grower()
    part = INITIAL_WINDOW // 4
    quarter(side, stream, 100.0)
    for second in range(101, 120):
        hear(side, stream, INITIAL_WINDOW)
        # It goes on, and takes all that waited at once; then the link brings half as much as would fill it.
        for _ in range(4):
            side.mux.consumed(stream, part, second)
        for turn in range(1, 4):
            hear(side, stream, part)
            side.mux.consumed(stream, part, second + turn * RTT / 2)
    assert stream.window == INITIAL_WINDOW


def test_a_window_does_not_grow_before_the_round_trip_is_known() -> None:
    side, stream = grower()
    side.mux.rtt = 0.0
    for turn in range(9):
        quarter(side, stream, 100.0 + turn / 100)
    assert stream.window == INITIAL_WINDOW


def test_a_round_trip_in_no_time_lets_a_window_grow() -> None:
    side, stream = grower()
    side.mux.rtt = 1e-6
    for turn in range(9):
        quarter(side, stream, 100 + turn * TURN / 4)
    assert stream.window > INITIAL_WINDOW


def test_a_window_never_grows_over_its_maximum() -> None:
    side, stream = grower()
    for turn in range(50):
        quarter(side, stream, 100 + turn * RTT / 4)
    assert stream.window == MAX_WINDOW


@pytest.mark.parametrize("end", ["reset", "CLOSE", "ERROR", "both ends"])
def test_a_window_grows_only_while_memory_is_not_short(end: str) -> None:
    side, stream = grower(budget=8 * MIB)
    side.hear("CONNECT", 2)
    side.mux.connected(side.accepted[1][0])
    side.hear("CONNECT", 3)
    other = side.accepted[2][0]
    for number in (1, 2):
        for _ in range(INITIAL_WINDOW // CHUNK):
            side.hear("DATA", number, bytes(CHUNK))
    assert side.mux.intake.account.used < side.mux.intake.account.pool // 4
    assert not side.mux.intake.short
    side.mux.collect()
    side.hear("DATA", 3, bytes(CHUNK))
    side.mux.consumed(other, CHUNK, 99.0)
    for _ in range(2):
        side.hear("DATA", 3, bytes(CHUNK))
    assert side.mux.intake.short
    side.mux.collect()
    # What is read goes back early, and nothing is added to it.
    side.mux.consumed(other, 2 * CHUNK, 99.0)
    assert side.say() == [("WINDOW", 3, (2 * CHUNK).to_bytes(4, "big"))]
    assert other.window == INITIAL_WINDOW
    assert stream.window == INITIAL_WINDOW
    for number in (1, 2):
        if end == "reset":
            side.mux.reset(side.mux.streams[number])
        elif end == "both ends":
            side.hear("END", number)
            side.mux.connected(stream)
            side.mux.end(side.mux.streams[number])
        else:
            side.hear(end, number)
    side.mux.collect()
    assert side.mux.intake.account.used == 0
    assert not side.mux.intake.short
    for turn in range(5):
        quarter(side, other, 100 + turn * RTT / 4)
    assert other.window == pytest.approx(2 * INITIAL_WINDOW, abs=4)


def test_a_peer_without_a_pool_fills_no_more_than_ours() -> None:
    agent = started(2, "agent", budget=MIB)
    account = agent.mux.intake.account
    for number in range(1, 10):
        agent.hear("CONNECT", number)
        for _ in range(INITIAL_WINDOW // CHUNK):
            agent.hear("DATA", number, bytes(CHUNK))
            assert account.used <= account.pool
    # The tunnel lives, and streams that went beyond are over: each with a word why.
    assert 1 in agent.mux.streams
    assert 9 not in agent.mux.streams


def test_a_peer_that_goes_over_the_pool_of_all_streams_loses_its_tunnel() -> None:
    agent = started(2, "agent", Hello(pool=1), budget=2 * MIB)
    agent.hear("CONNECT", 1)
    agent.hear("CONNECT", 2)
    agent.hear("CONNECT", 3)
    share = agent.mux.intake.account.share
    for number in (1, 2):
        for _ in range(INITIAL_WINDOW // CHUNK):
            agent.hear("DATA", number, bytes(CHUNK))
    # Both had a share beside what is in the pool, and the third has one yet.
    agent.hear("DATA", 3, bytes(share))
    agent.hear("DATA", 3, bytes(2 * share))
    assert agent.mux.intake.account.used == agent.mux.intake.account.pool
    with pytest.raises(ProtocolError, match="together went over"):
        agent.hear("DATA", 3, b"x")


def under_way(side: Side) -> dict[int, int]:
    """What a sender has said on each stream, as its peer counts it."""
    said: dict[int, int] = {}
    while side.mux.waiting:
        for name, number, payload in side.say():
            if name == "DATA":
                said[number] = said.get(number, 0) + len(payload)
    return said


def crowd(size: int, pool: int, share: int) -> tuple[Side, list[Stream]]:
    """A server with so many streams that have a window to send each, and a peer that bounds them together."""
    server = started(2, "server", Hello(pool=pool, share=share))
    streams = [server.mux.open(Ear()) for _ in range(size)]
    for stream in streams:
        server.mux.send(stream, bytes(INITIAL_WINDOW))
    return server, streams


def test_stalled_streams_leave_the_others_their_share() -> None:
    pool, share = 2 * MIB, 16 * 1024
    server, streams = crowd(200, pool, share)
    said = under_way(server)
    assert len(said) == 200
    assert min(said.values()) >= share
    assert sum(size - share for size in said.values()) <= pool
    # A reader that goes on keeps its stream going, one share after the other.
    stream = streams[77]
    left = INITIAL_WINDOW - said[stream.id]
    server.hear("WINDOW", stream.id, said[stream.id].to_bytes(4, "big"))
    while left:
        more = under_way(server)
        assert more.keys() >= {stream.id}
        left -= more[stream.id]
        server.hear("WINDOW", stream.id, more[stream.id].to_bytes(4, "big"))


def test_streams_that_nobody_reads_leave_something_to_one_that_is_read() -> None:
    pool, share = 16 * MIB, 16 * 1024
    server, stalled = crowd(1000, pool, share)
    assert sum(size - share for size in under_way(server).values()) > pool / 2
    read = server.mux.open(Ear())
    server.mux.send(read, bytes(4 * PROVEN))
    said = under_way(server)[read.id]
    assert said >= share
    # What it gives back is not for those who give nothing back.
    while read.returned < PROVEN:
        server.hear("WINDOW", read.id, said.to_bytes(4, "big"))
        said = under_way(server)[read.id]
    server.hear("WINDOW", read.id, said.to_bytes(4, "big"))
    assert under_way(server)[read.id] == INITIAL_WINDOW
    assert sum(stream.granted - stream.send_credit - share for stream in stalled) <= 0.75 * pool + 1000


def test_few_streams_get_their_whole_window() -> None:
    server, _ = crowd(30, 16 * MIB, 16 * 1024)
    assert set(under_way(server).values()) == {INITIAL_WINDOW}


def test_streams_that_wait_for_the_pool_are_not_forgotten() -> None:
    server = started(2, "server", Hello(pool=MIB, share=4096))
    streams = [server.mux.open(Ear()) for _ in range(40)]
    for stream in streams:
        server.mux.send(stream, bytes(INITIAL_WINDOW))
    under_way(server)
    for stream in streams[:30]:
        server.mux.reset(stream)
    assert under_way(server).keys() == {stream.id for stream in streams[30:]}
    for stream in streams:
        server.mux.reset(stream)
    assert server.mux._out._theirs.free == MIB
    assert not any(server.mux._out._starved)
    assert server.mux.backlog.size == 0


def test_growth_is_told_apart_from_credit_for_what_was_read() -> None:
    server = started(2, "server", Hello(window=1000, pool=MIB, share=500))
    stream = server.mux.open(Ear())
    server.mux.send(stream, bytes(5000))
    assert under_way(server) == {stream.id: 1000}
    assert server.mux._out._theirs.free == MIB - 500
    server.hear("WINDOW", stream.id, (600).to_bytes(4, "big") + (1000).to_bytes(4, "big"))
    assert server.mux._out._theirs.free == MIB
    assert under_way(server) == {stream.id: 1600}
    assert server.mux._out._theirs.free == MIB - 1500


def test_version_1_streams_together_hold_little_more_than_the_buffer() -> None:
    agent = started(1, "agent", budget=100_000)
    for number in range(1, 51):
        agent.hear("CONNECT", number)
        agent.mux.connected(agent.accepted[-1][0])
    for _ in range(100):
        for number in range(1, 51):
            agent.hear("DATA", number, bytes(1000))
    assert agent.mux.unlimited.used <= 2 * 100_000
