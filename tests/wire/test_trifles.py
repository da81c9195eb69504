"""Trifles: what an honest peer says of streams that we have ended is none, however many end; a flood is."""

import pytest

from argotun.errors import ProtocolError
from argotun.wire.frames import INITIAL_WINDOW
from argotun.wire.hello import Hello
from argotun.wire.trifles import BANK, BURST, CROSSING, RATE, SMALL_CREDIT, Crossing, Patience
from tests.wire.mux_peers import Ear, Side, started

ROLES = [(1, "server"), (1, "agent"), (2, "server"), (2, "agent")]
GIVEN_UP = 3000
"""Streams: more than a tunnel's trifles in a second."""


def opened(side: Side, number: int) -> int:
    """One more stream that may carry data, and its number."""
    if side.mux.opener:
        stream = side.mux.open(Ear()).id
        side.hear("CONNECTED", stream)
        return stream
    side.hear("CONNECT", number)
    side.mux.connected(side.accepted[-1][0])
    return number


def given_up(side: Side, count: int) -> list[int]:
    """So many streams that this side has ended while their peer did not know."""
    numbers = [opened(side, number) for number in range(1, count + 1)]
    for number in numbers:
        side.mux.reset(side.mux.streams[number])
    side.mux.collect()
    side.mux.trifles = 0
    return numbers


@pytest.mark.parametrize(("version", "role"), ROLES)
def test_what_was_on_its_way_to_clients_that_gave_up_is_no_trifle(version: int, role: str) -> None:
    side = started(version, role)
    for number in given_up(side, GIVEN_UP):
        for _ in range(10):
            side.hear("DATA", number, b"an event")
        if version == 2:
            side.hear("END", number)
        side.hear("CLOSE", number)
    assert side.mux.trifles == 0


def test_a_farewell_that_crosses_the_end_of_an_unconnected_stream_is_no_trifle() -> None:
    side = started(2, "server")
    streams = [side.mux.open(Ear()) for _ in range(GIVEN_UP)]
    for stream in streams:
        side.mux.reset(stream)
    side.mux.collect()
    for stream in streams:
        side.hear("CONNECTED", stream.id)
        side.hear("DATA", stream.id, b"HTTP/1.1 200 OK")
        side.hear("CLOSE", stream.id)
    assert side.mux.trifles == 0


@pytest.mark.parametrize("role", ["server", "agent"])
def test_one_stream_given_up_is_good_for_no_flood_of_bytes(role: str) -> None:
    side = started(2, role)
    (number,) = given_up(side, 1)
    for _ in range(2000):
        side.hear("DATA", number, b"x")
    assert 1000 < side.mux.trifles < 2000


@pytest.mark.parametrize("role", ["server", "agent"])
def test_credit_that_comes_back_for_a_stream_given_up_is_no_trifle(role: str) -> None:
    side = started(2, role, Hello(window=SMALL_CREDIT * 100))
    number = opened(side, 1)
    stream = side.mux.streams[number]
    side.mux.send(stream, bytes(SMALL_CREDIT * 100))
    side.mux.collect()
    side.mux.reset(stream)
    side.mux.trifles = 0
    for _ in range(100):
        side.hear("WINDOW", number, SMALL_CREDIT.to_bytes(4, "big"))
    assert side.mux.trifles == 0


@pytest.mark.parametrize(("version", "role"), ROLES)
def test_a_flood_for_a_stream_that_is_over_goes_beyond_its_credit(version: int, role: str) -> None:
    side = started(version, role)
    (number,) = given_up(side, 1)
    for _ in range(INITIAL_WINDOW // 1000 + 100):
        side.hear("DATA", number, bytes(1000))
    assert side.mux.trifles > 90


@pytest.mark.parametrize(("version", "role"), ROLES)
def test_who_knows_of_the_end_and_goes_on_sends_trifles(version: int, role: str) -> None:
    """Its PONG was said after it had read all that we had said before our PING."""
    side = started(version, role)
    first, second = given_up(side, 2)
    side.mux.ping(b"1")
    side.hear("DATA", first, b"x")
    assert side.mux.trifles == 0
    side.hear("PONG", 0, b"1")
    side.mux.trifles = 0
    side.hear("DATA", first, b"x")
    side.hear("CLOSE", second)
    assert side.mux.trifles == 2


@pytest.mark.parametrize("payload", [b"", b"1"])
def test_only_the_answer_to_the_last_ping_speaks_for_what_ended_before_it(payload: bytes) -> None:
    side = started(2, "server")
    side.mux.ping(b"1")
    (number,) = given_up(side, 1)
    side.mux.ping(b"2")
    side.hear("PONG", 0, payload)
    side.mux.trifles = 0
    side.hear("DATA", number, b"x")
    assert side.mux.trifles == 0


def test_what_ended_after_the_ping_is_not_spoken_for() -> None:
    side = started(2, "server")
    side.mux.ping(b"1")
    (number,) = given_up(side, 1)
    side.hear("PONG", 0, b"1")
    side.mux.trifles = 0
    side.hear("DATA", number, b"x")
    assert side.mux.trifles == 0


def test_who_had_said_end_may_send_nothing_more() -> None:
    side = started(2, "server")
    number = opened(side, 1)
    side.hear("END", number)
    side.mux.reset(side.mux.streams[number])
    side.mux.collect()
    for _ in range(CROSSING + 4):
        side.hear("DATA", number, b"x")
    assert side.mux.trifles == 4


def test_patience_has_a_store_and_a_rate() -> None:
    patience = Patience()
    patience.spend(BURST, 1000.0)
    patience.spend(int(RATE), 1001.0)
    with pytest.raises(ProtocolError, match="flood"):
        patience.spend(1, 1001.0)


def borne(crossing: Crossing) -> int:
    """How many of the smallest frames are borne, until one is a trifle."""
    count = 0
    while crossing.bears():
        count += 1
    return count


def test_who_answers_no_ping_has_what_ended_since_the_last_one_only() -> None:
    crossing = Crossing()
    for number in range(100):
        crossing.ended(INITIAL_WINDOW, 0)
        crossing.asked(b"%d" % number)
    assert borne(crossing) == INITIAL_WINDOW // SMALL_CREDIT + CROSSING


def test_what_may_be_to_come_has_a_bound_however_many_end() -> None:
    crossing = Crossing()
    for _ in range(10_000):
        crossing.ended(INITIAL_WINDOW, INITIAL_WINDOW)
    assert borne(crossing) == BANK // SMALL_CREDIT
