"""WebSocket framing: what is read, what is refused and when, what is sent."""

import random

import pytest
from websockets.frames import Frame, Opcode

from argotun.errors import ProtocolError
from argotun.wire.websocket import (
    NO_STATUS,
    OP_BINARY,
    OP_CLOSE,
    OP_PING,
    OP_PONG,
    FrameReader,
    pack,
    pack_close,
)

KEY = b"\x37\xfa\x21\x3d"
LIMIT = 100_000


def client(opcode, payload=b"", first=None):
    """A masked frame; `first` replaces its first byte."""
    frame = pack(opcode, [payload], KEY)
    return frame if first is None else bytes([first]) + frame[1:]


def server(opcode, payload=b"", first=None):
    frame = pack(opcode, [payload])
    return frame if first is None else bytes([first]) + frame[1:]


SIDES = [pytest.param(client, True, id="client"), pytest.param(server, False, id="server")]


def read(reader, data):
    """All messages that `data` completes."""
    reader.feed(data)
    messages = []
    while (message := reader.next_message()) is not None:
        messages.append(message)
    return messages


def refused(data, require_mask=True, limit=LIMIT):
    """The error that `data` raises, the same whether it comes at once or byte by byte."""

    def read_all(pieces):
        reader = FrameReader(require_mask, limit)
        for piece in pieces:
            read(reader, piece)

    with pytest.raises(ProtocolError) as caught:
        read_all([data])
    with pytest.raises(ProtocolError) as again:
        read_all(data[i : i + 1] for i in range(len(data)))
    assert str(again.value) == str(caught.value)
    return caught.value


@pytest.mark.parametrize(("frame", "mask"), SIDES)
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 2047, 2048, 65535, 65536, LIMIT])
@pytest.mark.parametrize("step", [1, 2, 3, 7, 16384, 10**9])
def test_a_message_arrives_whole_however_it_is_cut(frame, mask, size, step):
    if size > 2048 and step < 7:
        step += size // 50
    body = random.Random(size).randbytes(size)
    data = frame(OP_BINARY, body) + frame(OP_BINARY, b"next")
    reader = FrameReader(mask, LIMIT)
    messages = []
    for i in range(0, len(data), step):
        messages += read(reader, data[i : i + step])
    assert messages == [body, b"next"]
    assert all(type(message) is bytes for message in messages)
    assert not reader.midway


@pytest.mark.parametrize(("frame", "mask"), SIDES)
def test_many_messages_in_one_read_all_arrive_in_order(frame, mask):
    bodies = [b"%d" % i * (i % 300) for i in range(500)]
    assert read(FrameReader(mask, LIMIT), b"".join(frame(OP_BINARY, body) for body in bodies)) == bodies


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 200_000])
@pytest.mark.parametrize("key", [None, KEY])
def test_packing_agrees_with_another_implementation(size, key):
    body = random.Random(size).randbytes(size)
    ours = pack(
        OP_BINARY,
        [body[: size // 3], bytearray(body[size // 3 : size // 2]), memoryview(body)[size // 2 :]],
        key,
    )
    theirs = Frame(Opcode.BINARY, body).serialize(mask=False)
    if key is None:
        assert ours == theirs
    else:
        head = len(theirs) - size
        assert ours[0] == theirs[0]
        assert ours[1] == theirs[1] | 0x80
        assert ours[2:head] == theirs[2:head]
        assert ours[head : head + 4] == KEY
        assert read(FrameReader(True, 10**6), ours) == [body]


def test_the_example_of_the_rfc():
    # RFC 6455 §5.7: a masked "Hello", here as a binary message.
    assert client(OP_BINARY, b"Hello") == bytes.fromhex("828537fa213d7f9f4d5158")


@pytest.mark.parametrize("mask", [True, False])
def test_eight_gibibytes_announced_are_refused_before_any_payload(mask):
    head = bytes([0x82, 0x80 * mask | 127]) + (8 << 30).to_bytes(8, "big")
    error = refused(head, mask)
    assert error.close_code == 1009
    assert str(8 << 30) in str(error)


def test_a_length_with_the_top_bit_set_is_refused():
    assert refused(bytes([0x82, 0xFF]) + b"\xff" * 8).close_code == 1009


def test_the_limit_itself_is_allowed_and_one_more_is_not():
    assert read(FrameReader(True, 1000), client(OP_BINARY, bytes(1000))) == [bytes(1000)]
    assert refused(client(OP_BINARY, bytes(1001)), limit=1000).close_code == 1009


def test_the_limit_may_be_raised_later():
    reader = FrameReader(True, 10)
    reader.max_message = 20
    assert read(reader, client(OP_BINARY, bytes(20))) == [bytes(20)]


def test_fragments_are_joined_with_control_frames_between_them():
    data = (
        client(OP_BINARY, b"ab", 0x02)
        + client(OP_PING, b"?")
        + client(OP_BINARY, b"", 0x00)
        + client(OP_BINARY, b"cd", 0x80)
    )
    reader = FrameReader(True, LIMIT)
    assert read(reader, data) == [b"abcd"]
    assert reader.ping == b"?"


def test_the_limit_counts_the_sum_of_the_fragments():
    first, more = client(OP_BINARY, bytes(600), 0x02), client(OP_BINARY, bytes(401), 0x00)
    # Judged by the second frame's head alone: none of its payload is there.
    assert refused(first + more[:4], limit=1000).close_code == 1009
    whole = first + client(OP_BINARY, bytes(400), 0x80)
    assert read(FrameReader(True, 1000), whole) == [bytes(1000)]


def test_control_frames_do_not_count_against_the_limit():
    reader = FrameReader(True, 4)
    assert read(reader, client(OP_PING, bytes(125)) + client(OP_BINARY, b"1234")) == [b"1234"]


WRONG = {
    "unmasked client frame": (True, server(OP_BINARY, b"x"), 1002, "not masked"),
    "unmasked client control frame": (True, server(OP_PING), 1002, "not masked"),
    "masked server frame": (False, client(OP_BINARY, b"x"), 1002, "masked frame"),
    "masked empty server frame": (False, client(OP_BINARY), 1002, "masked frame"),
    "first reserved bit": (True, client(OP_BINARY, b"", 0xC2), 1002, "reserved bit"),
    "second reserved bit": (True, client(OP_BINARY, b"", 0xA2), 1002, "reserved bit"),
    "third reserved bit": (True, client(OP_BINARY, b"", 0x92), 1002, "reserved bit"),
    "reserved bit of a ping": (True, client(OP_PING, b"", 0xC9), 1002, "reserved bit"),
    "unknown data opcode": (True, client(OP_BINARY, b"", 0x83), 1002, "opcode 0x3"),
    "unknown control opcode": (True, client(OP_BINARY, b"", 0x8B), 1002, "opcode 0xb"),
    "text message": (True, client(0x1, b"hi"), 1003, "text"),
    "first part of a text message": (True, client(OP_BINARY, b"hi", 0x01), 1003, "text"),
    "long ping": (True, client(OP_PING, bytes(126)), 1002, "125"),
    "very long ping": (True, client(OP_PING, bytes(70000)), 1002, "125"),
    "fragmented ping": (True, client(OP_BINARY, b"", 0x09), 1002, "fragmented"),
    "fragmented close": (True, client(OP_BINARY, b"", 0x08), 1002, "fragmented"),
    "continuation of nothing": (True, client(OP_BINARY, b"x", 0x80), 1002, "had not begun"),
    "part of nothing": (True, client(OP_BINARY, b"x", 0x00), 1002, "had not begun"),
    "message inside a message": (True, client(OP_BINARY, b"", 0x02) + client(OP_BINARY), 1002, "inside"),
    "new parts inside a message": (True, client(OP_BINARY, b"", 0x02) * 2, 1002, "inside"),
    "text inside a message": (True, client(OP_BINARY, b"", 0x02) + client(1, b""), 1003, "text"),
    "16-bit length for 125": (True, b"\x82\xfe\x00\x7d", 1002, "shortest"),
    "64-bit length for 65535": (True, b"\x82\xff" + (65535).to_bytes(8, "big"), 1002, "shortest"),
    "close with half a code": (True, client(OP_CLOSE, b"\x03"), 1002, "code"),
    "close reason that is not UTF-8": (True, client(OP_CLOSE, b"\x03\xe8\xff"), 1007, "UTF-8"),
}


@pytest.mark.parametrize(("mask", "data", "code", "words"), WRONG.values(), ids=WRONG)
def test_a_broken_rule_is_refused_with_its_close_code(mask, data, code, words):
    error = refused(data, mask)
    assert error.close_code == code
    assert words in str(error)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
def test_a_close_code_that_must_not_be_sent_is_refused(code):
    assert refused(client(OP_CLOSE, code.to_bytes(2, "big"))).close_code == 1002


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1009, 1011, 1012, 1013, 3000, 4999])
def test_a_close_code_arrives_as_it_was_sent(code):
    reader = FrameReader(True, LIMIT)
    assert read(reader, pack_close(code, "so long", KEY) + client(OP_BINARY, b"late")) == []
    assert (reader.closed, reader.close_code) == (True, code)


def test_a_close_without_a_code_is_told_as_no_status():
    reader = FrameReader(False, LIMIT)
    assert read(reader, server(OP_BINARY, b"last") + server(OP_CLOSE)) == [b"last"]
    assert (reader.closed, reader.close_code) == (True, NO_STATUS)


def test_messages_before_an_error_are_delivered_and_the_error_stays():
    reader = FrameReader(True, LIMIT)
    reader.feed(client(OP_BINARY, b"good") + client(0x1, b"bad") + client(OP_BINARY, b"lost"))
    assert reader.next_message() == b"good"
    for _ in range(3):
        with pytest.raises(ProtocolError):
            reader.next_message()
        reader.feed(client(OP_BINARY, b"more"))


def test_the_last_of_many_pings_is_kept_and_pongs_are_ignored():
    reader = FrameReader(True, LIMIT)
    assert read(reader, client(OP_PING, b"1") + client(OP_PONG, b"x") + client(OP_PING, b"2")) == []
    assert reader.ping == b"2"


def test_a_frame_two_bytes_at_a_time_costs_no_more_than_the_frame():
    import tracemalloc

    frame = client(OP_BINARY, bytes(100_000))
    reader = FrameReader(True, 10**6)
    tracemalloc.start()
    try:
        for i in range(0, len(frame) - 2, 2):
            reader.feed(frame[i : i + 2])
            reader.next_message()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * len(frame)


def test_a_long_close_reason_is_cut_between_characters():
    frame = pack_close(1002, "é" * 100)
    reader = FrameReader(False, LIMIT)
    read(reader, frame)
    assert reader.close_code == 1002
    assert frame[4:].decode() == "é" * 61


@pytest.mark.parametrize("code", [1005, 1006, 1015, 0, 70000])
def test_a_code_that_must_not_be_sent_is_not_sent(code):
    assert pack_close(code, "x") == b"\x88\x00"
