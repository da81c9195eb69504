"""The frame codec: bytes of both versions, limits, and every way a message can be malformed."""

import json
import struct
from itertools import takewhile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argotun.errors import ProtocolError
from argotun.wire import credit, frames, hello, mux, outbox, reasons
from argotun.wire.frames import MIB, NAMES, PEER, TUNNEL_TYPES, V1, V2, Profile
from argotun.wire.streams import ACCEPTOR, EVENTS, ILLEGAL, OPENER, STATES
from tests.wire.mux_peers import QUICK

BOTH = pytest.mark.parametrize("profile", [V1, V2], ids=["v1", "v2"])


def split(profile: Profile, message: bytes) -> list[tuple[int, int, bytes]]:
    return list(profile.split(message))


def stream_of(kind: int) -> int:
    return 0 if kind in TUNNEL_TYPES else 0x01020304


@pytest.mark.parametrize("kind", sorted(V1.types))
def test_version_1_bytes_are_type_stream_payload(kind: int) -> None:
    stream = stream_of(kind)
    wire = bytes([kind]) + stream.to_bytes(4, "big") + b"payload"
    assert V1.pack(kind, stream, b"payload") == V1.head(kind, stream, 7) + b"payload" == wire
    assert split(V1, wire) == [(kind, stream, b"payload")]


@pytest.mark.parametrize("kind", sorted(V2.types))
def test_version_2_bytes_are_type_stream_length_payload(kind: int) -> None:
    stream = stream_of(kind)
    wire = bytes([kind]) + stream.to_bytes(4, "big") + b"\0\0\0\x07payload"
    assert V2.pack(kind, stream, b"payload") == V2.head(kind, stream, 7) + b"payload" == wire
    assert split(V2, wire) == [(kind, stream, b"payload")]


def test_the_numbers_of_the_types_stay() -> None:
    assert {name: kind for kind, name in NAMES.items()} == {
        "CONNECT": 1,
        "CONNECTED": 2,
        "DATA": 3,
        "ERROR": 4,
        "CLOSE": 5,
        "PING": 6,
        "PONG": 7,
        "WINDOW": 8,
        "HELLO": 9,
        "GOAWAY": 10,
        "END": 11,
        "LEAVE": 12,
        "ASK": 13,
        "HAVE": 14,
    }
    assert set(NAMES) == PEER.types
    assert PEER.types - V2.types == {frames.LEAVE, frames.ASK, frames.HAVE}
    assert V2.types - V1.types == {frames.WINDOW, frames.HELLO, frames.GOAWAY, frames.END}


FRAME = st.sampled_from(sorted(V2.types)).flatmap(
    lambda kind: st.tuples(
        st.just(kind),
        st.just(0) if kind in TUNNEL_TYPES else st.integers(1, 0xFFFFFFFF),
        st.binary(max_size=40),
    )
)


@QUICK
@given(st.lists(FRAME, min_size=1, max_size=20))
def test_a_batch_is_read_as_it_was_packed(batch: list[tuple[int, int, bytes]]) -> None:
    assert split(V2, b"".join(V2.pack(*frame) for frame in batch)) == batch


@QUICK
@given(st.lists(FRAME, min_size=1, max_size=3), st.data())
def test_a_cut_batch_is_refused(batch: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
    packed = [V2.pack(*frame) for frame in batch]
    edges = {sum(map(len, packed[:count])) for count in range(1, len(packed) + 1)}
    message = b"".join(packed)
    cut = data.draw(st.integers(0, len(message)).filter(lambda at: at not in edges))
    with pytest.raises(ProtocolError, match=r"too short|ends inside"):
        split(V2, message[:cut])


@BOTH
@QUICK
@given(st.binary(max_size=64))
def test_noise_raises_a_protocol_error_or_nothing(profile: Profile, noise: bytes) -> None:
    try:
        read = split(profile, noise)
    except ProtocolError:
        return
    assert b"".join(profile.pack(*frame) for frame in read) == noise


@BOTH
def test_an_empty_message_is_refused(profile: Profile) -> None:
    with pytest.raises(ProtocolError, match="too short"):
        split(profile, b"")


@BOTH
def test_a_truncated_header_is_refused(profile: Profile) -> None:
    whole = profile.pack(frames.DATA, 1)
    for length in range(len(whole)):
        with pytest.raises(ProtocolError, match="too short"):
            split(profile, whole[:length])


def test_a_truncated_second_header_is_refused() -> None:
    first = V2.pack(frames.DATA, 1, b"x")
    for length in range(1, 9):
        with pytest.raises(ProtocolError, match="inside a frame's header"):
            split(V2, first + V2.pack(frames.DATA, 1)[:length])


@pytest.mark.parametrize("length", [1, 2**16, 2**31, 2**32 - 1])
def test_a_length_beyond_the_message_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError, match="inside a frame's payload"):
        split(V2, struct.pack(">BII", frames.DATA, 1, length))


@BOTH
def test_a_message_over_the_limit_is_refused(profile: Profile) -> None:
    exact = profile.pack(frames.DATA, 1, bytes(profile.max_message - profile.header.size))
    assert len(exact) == profile.max_message
    assert len(split(profile, exact)) == 1
    with pytest.raises(ProtocolError, match="over") as caught:
        split(profile, exact + b"\0")
    assert caught.value.close_code == 1009


def test_the_message_limits_stay() -> None:
    assert (V1.max_message, V2.max_message) == (16 * MIB, 1 * MIB)


@BOTH
def test_an_unknown_type_is_refused(profile: Profile) -> None:
    for kind in set(range(256)) - profile.types:
        for stream in (0, 1):
            with pytest.raises(ProtocolError, match=f"unknown frame type 0x{kind:02x}"):
                split(profile, profile.pack(kind, stream))


@BOTH
def test_a_type_is_refused_on_a_stream_where_it_has_no_place(profile: Profile) -> None:
    for kind in profile.types:
        wrong = 1 if kind in TUNNEL_TYPES else 0
        with pytest.raises(ProtocolError, match=f"{NAMES[kind]} on stream {wrong}"):
            split(profile, profile.pack(kind, wrong))


def test_a_bad_frame_does_not_hide_the_good_ones_before_it() -> None:
    reading = V2.split(V2.pack(frames.DATA, 1, b"good") + b"\xff" * 9)
    assert next(reading) == (frames.DATA, 1, b"good")
    with pytest.raises(ProtocolError):
        next(reading)


# ── docs/protocol.md says what the code does ───────────────────────────────────────────────────

PROTOCOL = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under the header line that begins with `heading`."""
    lines = PROTOCOL.splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith(heading)) + 2
    table = takewhile(lambda line: line.startswith("|"), lines[first:])
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_documents_frame_table_is_the_codes() -> None:
    said = {name: (kind, versions, stream) for kind, name, versions, stream, *_ in rows("| type | name |")}
    assert said == {
        name: (
            f"0x{kind:02X}",
            "1, 2" if kind in V1.types else "2" if kind in V2.types else "peer",
            "0" if kind in TUNNEL_TYPES else "its own",
        )
        for kind, name in NAMES.items()
    }


def test_the_documents_limits_are_the_codes() -> None:
    code = {"V1.max_message": V1.max_message, "V2.max_message": V2.max_message}
    code |= {name: getattr(frames, name) for name in ("CHUNK", "INITIAL_WINDOW", "MAX_WINDOW", "MAX_CREDIT")}
    code |= {name: getattr(frames, name) for name in ("MAX_ERROR_TEXT", "MAX_PING")}
    code |= {
        name: getattr(outbox, name) for name in ("BATCH", "MAX_BATCH", "LOW_WATER", "MIN_TURN", "PROVEN")
    }
    code["MAX_CONTROL"] = mux.MAX_CONTROL
    code["MIN_SHARE"] = hello.MIN_SHARE
    code["MAX_HELLO"] = hello.MAX_HELLO
    assert {name.strip("`"): int(value) for name, value, _ in rows("| limit | bytes |")} == code


def test_the_documents_hello_keys_are_the_codes() -> None:
    keys = {cells[0].strip("`") for cells in rows("| key | type |")}
    assert keys == set(json.loads(hello.Hello().encode()))


def test_the_documents_words_are_the_codes() -> None:
    said = {int(cells[0]): cells[1].strip("`") for cells in rows("| code | text | sent when |")}
    assert said == reasons.WORDS
    assert f"`{frames.SUBPROTOCOL}`" in PROTOCOL
    assert credit.GAIN == 2
    assert "twice what the reader takes" in PROTOCOL
    assert f"counts as {1000 * credit.TURN:.0f} ms at least" in PROTOCOL


@pytest.mark.parametrize(("role", "table"), [("server", OPENER), ("agent", ACCEPTOR)])
def test_the_documents_states_are_the_codes(role: str, table: tuple[tuple[int, ...], ...]) -> None:
    said = {}
    for state, _, *cells in rows("| state | means |"):
        name, _, only = state.partition(" ")
        if not only or role in only:
            said[name] = [name if cell == "stays" else cell or "-" for cell in cells]
    events = ("GOT_CONNECTED", "GOT_DATA", "GOT_END", "GOT_WINDOW", "GOT_OVER")
    moves = {name: [table[STATES.index(name)][EVENTS.index(event)] for event in events] for name in STATES}
    assert said == {
        name: ["-" if move == ILLEGAL else STATES[move] for move in move_row]
        for name, move_row in moves.items()
        if any(move != ILLEGAL for move in move_row)
    }
