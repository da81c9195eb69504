"""Whatever arrives is accepted or is a ProtocolError; what is left of the tunnel can always be ended."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argotun.errors import ProtocolError
from argotun.wire.frames import MAX_ERROR_TEXT, MAX_WINDOW, MIB, TUNNEL_TYPES, V1, V2, Profile
from argotun.wire.hello import Hello
from argotun.wire.streams import Stream
from tests.wire.mux_peers import QUICK, Ear, Side, joined, started, take_in

BUSY = pytest.mark.parametrize("version", [1, 2])
ROLE = pytest.mark.parametrize("role", ["server", "agent"])


def busy(version: int, role: str) -> Side:
    """A side in the middle of its work: streams of several states, data queued, a reader that consumes."""
    side = started(version, role, Hello(window=1000), ours=Hello(window=5000, max_streams=20), budget=MIB)
    side.mux.rtt = 1.0
    for number in range(1, 6):
        if role == "server":
            stream = side.mux.open(Ear(), "api:443")
            if number > 1:
                side.hear("CONNECTED", number)
        else:
            side.hear("CONNECT", number, b"api:443")
            stream, _ = side.accepted[-1]
            if number > 1:
                side.mux.connected(stream)
        side.mux.send(stream, bytes(number * 500))
        _read_along(side, stream)
    side.mux.end(side.mux.streams[3])
    side.mux.collect()
    if version == 2:
        side.hear("END", 4)
    side.mux.reset(side.mux.streams[5])
    return side


def _read_along(side: Side, stream: Stream) -> None:
    ear = stream.sink
    assert isinstance(ear, Ear)
    heard = ear.on_data

    def on_data(payload: bytes) -> None:
        heard(payload)
        ear.calls.clear()
        side.mux.consumed(stream, len(payload), 1.0)

    ear.on_data = on_data  # type: ignore[method-assign]


def survives(side: Side, messages: list[bytes]) -> None:
    """The oracle."""
    broken: ProtocolError | None = None
    try:
        for message in messages:
            take_in(side.mux, message)
    except ProtocolError as error:
        broken = error
    assert broken is None or (broken.close_code in (1002, 1009) and len(str(broken)) < 200)
    assert len(side.mux.streams) <= 20
    for stream in side.mux.streams.values():
        assert stream.send_credit >= 0
        assert stream.window <= MAX_WINDOW
    size = 0
    for _ in range(50):
        for message in joined(side.mux.collect()):
            assert 0 < len(message) <= side.profile.max_message
            assert list(side.profile.split(message))
            size += len(message)
    assert not side.mux.waiting
    assert size < 2 * MIB
    side.mux.lost("over")
    assert not side.mux.streams
    assert not side.mux.waiting
    take_in(side.mux, messages[-1])
    assert side.mux.collect() == []


NUMBERS = st.integers(0, 8) | st.sampled_from([0x7FFFFFFF, 0xFFFFFFFF])
PAYLOADS = (
    st.binary(max_size=12)
    | st.integers(0, 6000).map(bytes)
    | st.integers(0, 0xFFFFFFFF).map(lambda credit: credit.to_bytes(4, "big"))
    | st.just(Hello().encode())
)


def frames_of(profile: Profile) -> st.SearchStrategy[bytes]:
    """Frames that are well formed and mostly make no sense."""
    known = st.sampled_from(sorted(profile.types)).flatmap(
        lambda kind: st.builds(
            profile.pack, st.just(kind), st.just(0) if kind in TUNNEL_TYPES else NUMBERS, PAYLOADS
        )
    )
    return known | st.builds(profile.pack, st.integers(0, 255), NUMBERS, PAYLOADS)


@BUSY
@ROLE
@QUICK
@given(data=st.data())
def test_noise_ends_in_a_protocol_error(version: int, role: str, data: st.DataObject) -> None:
    survives(busy(version, role), data.draw(st.lists(st.binary(max_size=40), min_size=1, max_size=5)))


@BUSY
@ROLE
@QUICK
@given(data=st.data())
def test_frames_without_sense_end_in_a_protocol_error(version: int, role: str, data: st.DataObject) -> None:
    profile = V1 if version == 1 else V2
    survives(busy(version, role), data.draw(st.lists(frames_of(profile), min_size=1, max_size=30)))


def conversation(version: int, role: str) -> list[bytes]:
    """What a well-behaved peer says to `busy`, a frame at a time."""
    profile = V1 if version == 1 else V2
    said = [("PING", 0, b"now"), ("PONG", 0, b""), ("DATA", 2, b"some bytes")]
    if role == "agent":
        said += [("CONNECT", 6, b"api:443"), ("DATA", 6, bytes(400)), ("CONNECT", 7, b""), ("CLOSE", 7, b"")]
    else:
        said += [("CONNECTED", 1, b""), ("DATA", 1, bytes(2000)), ("ERROR", 1, b"dial failed")]
    if version == 2:
        said += [("WINDOW", 2, b"\0\0\1\0"), ("END", 2, b""), ("GOAWAY", 0, b"draining"), ("END", 3, b"")]
    said += [("CLOSE", 4, b""), ("DATA", 5, b"late"), ("CLOSE", 5, b"")]
    kinds = {"CONNECT": 1, "CONNECTED": 2, "DATA": 3, "ERROR": 4, "CLOSE": 5, "PING": 6, "PONG": 7}
    kinds |= {"WINDOW": 8, "GOAWAY": 10, "END": 11}
    return [profile.pack(kinds[name], number, payload) for name, number, payload in said]


@BUSY
@ROLE
def test_the_conversation_that_is_damaged_below_is_sound(version: int, role: str) -> None:
    side = busy(version, role)
    for message in conversation(version, role):
        take_in(side.mux, message)


@BUSY
@ROLE
@QUICK
@given(seed=st.integers(0, 2**32), count=st.integers(1, 4))
def test_a_damaged_conversation_ends_in_a_protocol_error(
    version: int, role: str, seed: int, count: int
) -> None:
    chance = random.Random(seed)
    messages = conversation(version, role)
    for _ in range(count):
        at = chance.randrange(len(messages))
        message = bytearray(messages[at])
        where = chance.randrange(len(message) or 1)
        damage = chance.randrange(6)
        if damage == 0 and message:
            message[where] ^= 1 << chance.randrange(8)
        elif damage == 1:
            del message[where:]
        elif damage == 2:
            message[where:where] = chance.randbytes(chance.randrange(1, 9))
        elif damage == 3:
            messages.insert(chance.randrange(len(messages)), bytes(message))
        elif damage == 4:
            other = chance.randrange(len(messages))
            messages[at], messages[other] = messages[other], messages[at]
            continue
        elif version == 2:
            message += messages[chance.randrange(len(messages))]
        messages[at] = bytes(message)
    survives(busy(version, role), messages)


@ROLE
@QUICK
@given(data=st.data())
def test_a_broken_beginning_ends_in_a_protocol_error(role: str, data: st.DataObject) -> None:
    side = Side(2, role)
    payload = data.draw(st.binary(max_size=60) | st.just(Hello(window=7).encode()))
    survives(side, [V2.pack(9, 0, payload), *data.draw(st.lists(frames_of(V2), max_size=5))])


# ── bad frames by name ─────────────────────────────────────────────────────────────────────────

WORD = b"\0\0\0\1"
DATA, END, WINDOW = 3, 11, 8

FATAL_2 = {
    "unknown type": V2.pack(0x0C, 1),
    "type zero": V2.pack(0, 0),
    "DATA on stream 0": V2.pack(DATA, 0, b"x"),
    "CONNECT on stream 0": V2.pack(1, 0),
    "WINDOW on stream 0": V2.pack(WINDOW, 0, WORD),
    "PING on a stream": V2.pack(6, 2),
    "HELLO on a stream": V2.pack(9, 2, b"{}"),
    "GOAWAY on a stream": V2.pack(10, 2),
    "DATA for a stream never opened": V2.pack(DATA, 99, b"x"),
    "CLOSE for a stream never opened": V2.pack(5, 99),
    "ERROR for a stream never opened": V2.pack(4, 99),
    "WINDOW for a stream never opened": V2.pack(WINDOW, 99, WORD),
    "END for a stream never opened": V2.pack(END, 99),
    "WINDOW of zero": V2.pack(WINDOW, 2, bytes(4)),
    "WINDOW that overflows": V2.pack(WINDOW, 2, b"\x7f\xff\xff\xff") + V2.pack(WINDOW, 2, WORD),
    "WINDOW of 32 bits": V2.pack(WINDOW, 2, b"\xff\xff\xff\xff"),
    "WINDOW too short": V2.pack(WINDOW, 2, b"\0\0\1"),
    "WINDOW too long": V2.pack(WINDOW, 2, WORD + b"\0"),
    "credit overrun": V2.pack(DATA, 2, bytes(5001)),
    "second HELLO": V2.pack(9, 0, b"{}"),
    "length beyond the message": V2.pack(DATA, 2, b"xyz")[:-1],
    "truncated header": V2.pack(DATA, 2)[:8],
    "truncated second header": V2.pack(DATA, 2, b"x") + b"\3\0",
    "empty message": b"",
    "message over the limit": bytes(V2.max_message + 1),
}

FATAL_1 = {
    "unknown type": V1.pack(0x08, 1),
    "DATA on stream 0": V1.pack(DATA, 0, b"x"),
    "PING on a stream": V1.pack(6, 2),
    "truncated header": b"\3\0\0\0",
    "empty message": b"",
    "message over the limit": bytes(V1.max_message + 1),
}


@ROLE
@pytest.mark.parametrize(
    ("version", "message"),
    [
        pytest.param(version, message, id=f"v{version} {name}")
        for version, bad in ((1, FATAL_1), (2, FATAL_2))
        for name, message in bad.items()
    ],
)
def test_a_fatal_frame_is_refused(version: int, role: str, message: bytes) -> None:
    side = busy(version, role)
    with pytest.raises(ProtocolError) as caught:
        take_in(side.mux, message)
    assert caught.value.close_code == (1009 if len(message) > MIB else 1002)
    survives(side, [message, message])


@ROLE
@pytest.mark.parametrize("kind", [1, 3, 4, 5, 6, 7, 8, 10, 11])
def test_a_frame_before_hello_is_refused(role: str, kind: int) -> None:
    side = Side(2, role)
    with pytest.raises(ProtocolError, match="before HELLO"):
        take_in(side.mux, V2.pack(kind, 0 if kind in TUNNEL_TYPES else 1, WORD))
    survives(side, [V2.pack(kind, 0)])


@BUSY
@ROLE
@pytest.mark.parametrize("kind", [2, 3, 4, 5])
def test_a_frame_for_a_stream_that_is_over_is_not_answered(version: int, role: str, kind: int) -> None:
    side = busy(version, role)
    side.mux.collect()
    for _ in range(3):
        take_in(side.mux, side.profile.pack(kind, 5, b"late"))
    assert not side.mux.waiting
    assert 5 not in side.mux.streams


@BUSY
@ROLE
def test_a_long_error_text_is_cut(version: int, role: str) -> None:
    side = busy(version, role)
    ear = side.mux.streams[2].sink
    assert isinstance(ear, Ear)
    take_in(side.mux, side.profile.pack(4, 2, b"\xff" * 100_000))
    assert ear.calls[-1] == ("over", "\ufffd" * MAX_ERROR_TEXT)


@BUSY
def test_streams_that_come_and_go_leave_nothing_behind(version: int) -> None:
    agent = busy(version, "agent")
    for number in range(100, 3000):
        agent.hear("CONNECT", number)
        agent.mux.connected(agent.accepted.pop()[0])
        agent.hear("DATA", number, b"x")
        agent.hear("CLOSE", number)
        agent.mux.collect()
    assert len(agent.mux.streams) <= 5
    assert not agent.mux._out._ready
    assert agent.mux.intake.account.used == agent.mux.unlimited.used == 0
