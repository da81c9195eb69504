"""One direction of HTTP on its way through: heads cut off, bodies followed, the rest left to the caller."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argotun.errors import HeadError
from argotun.wire.head import CHUNKED, UNTIL_CLOSE
from argotun.wire.relay import BODY, HEAD, IDLE, RAW, Relay

LINE = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def in_body(length: int, *, chunking: bool = False) -> Relay:
    relay = Relay()
    relay.begin()
    relay.follow(length, chunking=chunking)
    return relay


def test_nothing_is_taken_before_a_message_begins() -> None:
    assert Relay().take(b"x") == (b"", 0)


def test_a_body_is_not_taken_for_a_head_nor_a_head_for_a_body() -> None:
    relay = Relay()
    relay.begin()
    assert relay.state == HEAD
    assert relay.take(LINE) == (b"", 0)


@pytest.mark.parametrize("cut", range(1, len(LINE)))
def test_a_head_is_whole_wherever_it_was_cut(cut: int) -> None:
    relay = Relay()
    relay.begin()
    assert relay.head(LINE[:cut]) == (None, cut)
    assert relay.held == cut
    assert relay.head(LINE[cut:] + b"rest") == (LINE, len(LINE) - cut)
    assert relay.held == 0


def test_a_head_may_begin_anywhere_in_a_piece() -> None:
    relay = Relay()
    relay.begin()
    data = LINE + LINE + LINE[:5]
    assert relay.head(data, len(LINE)) == (LINE, 2 * len(LINE))
    assert relay.head(data, 2 * len(LINE)) == (None, len(data))
    assert relay.head(LINE[5:]) == (LINE, len(LINE) - 5)


def test_the_rest_of_a_head_may_begin_anywhere_in_a_piece() -> None:
    relay = Relay()
    relay.begin()
    relay.head(LINE[:5])
    assert relay.head(b"before" + LINE[5:9], 6) == (None, 10)
    assert relay.head(b"before" + LINE[9:] + b"behind", 6) == (LINE, 6 + len(LINE) - 9)


def test_a_head_that_can_never_be_right_is_refused_before_its_end() -> None:
    relay = Relay()
    relay.begin()
    with pytest.raises(HeadError):
        relay.head(LINE + b"GET / HTTP/1.1\nHost", len(LINE))


def test_a_message_without_a_body_is_over_with_its_head() -> None:
    assert in_body(0).state == IDLE


@pytest.mark.parametrize(
    ("length", "body"),
    [(5, b"hello"), (CHUNKED, b"3\r\nabc\r\n0\r\n\r\n"), (CHUNKED, b"0\r\nT: x\r\n\r\n")],
)
@pytest.mark.parametrize("more", [b"", b"GET "])
def test_a_body_ends_where_its_framing_says(length: int, body: bytes, more: bytes) -> None:
    relay = in_body(length)
    assert relay.take(body + more) == (body, len(body))
    assert relay.state == IDLE


def test_a_body_until_the_close_takes_everything() -> None:
    relay = in_body(UNTIL_CLOSE)
    assert relay.take(LINE) == (LINE, len(LINE))
    assert relay.state == BODY
    assert relay.body.until_close


def test_a_body_until_the_close_can_go_on_in_chunks() -> None:
    relay = in_body(UNTIL_CLOSE, chunking=True)
    assert relay.take(b"hello") == (b"5\r\nhello\r\n", 5)


def test_nothing_makes_no_chunk() -> None:
    assert in_body(UNTIL_CLOSE, chunking=True).take(b"") == (b"", 0)


def test_after_a_switch_everything_passes() -> None:
    relay = Relay()
    relay.begin()
    relay.switch()
    assert relay.take(b"\0\xff") == (b"\0\xff", 2)
    assert relay.state == RAW


def test_what_was_stopped_takes_nothing_and_holds_nothing() -> None:
    relay = Relay()
    relay.begin()
    relay.head(LINE[:9])
    relay.stop()
    assert (relay.state, relay.held, relay.take(b"x")) == (IDLE, 0, (b"", 0))


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), max_size=6), st.data())
def test_messages_in_a_row_are_told_apart_under_any_split(sizes: list[int], data: st.DataObject) -> None:
    messages = [b"POST /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n + b"b" * n for n in sizes]
    wire = b"".join(messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    relay, found, current = Relay(), [], b""
    relay.begin()
    for begin, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        piece = wire[begin:end]
        while piece:
            if relay.state == HEAD:
                raw, used = relay.head(piece)
                if raw is not None:
                    current = raw
                    relay.follow(int(raw.split(b" ")[1][1:]))
            else:
                out, used = relay.take(piece)
                current += out
            piece = piece[used:]
            if relay.state == IDLE:
                found.append(current)
                relay.begin()
    assert found == messages
