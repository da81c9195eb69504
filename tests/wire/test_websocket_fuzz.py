"""The oracle for arbitrary bytes: messages, a close, or the protocol's own error; nothing else."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from websockets.protocol import State
from websockets.server import ServerProtocol

from argotun.errors import ProtocolError
from argotun.wire.websocket import OP_BINARY, FrameReader, pack

LIMIT = 300
KEYS = st.binary(min_size=4, max_size=4)

frames = st.builds(
    lambda first, payload, key, masked: (
        bytes([first]) + pack(OP_BINARY, [payload], key if masked else None)[1:]
    ),
    st.sampled_from([0x82, 0x82, 0x82, 0x02, 0x00, 0x80, 0x89, 0x8A, 0x88, 0x81, 0xC2, 0x83, 0x09]),
    st.binary(max_size=400),
    KEYS,
    st.sampled_from([True] * 9 + [False]),
)
noise = st.binary(max_size=60)
streams = st.lists(frames | noise, max_size=8).map(b"".join)


def outcome(data, cuts, mask=True):
    """What a reader makes of `data` fed in pieces: its messages, and how it ended."""
    reader = FrameReader(mask, LIMIT)
    messages = []
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    try:
        for start, end in pairwise(edges):
            reader.feed(data[start:end])
            while (message := reader.next_message()) is not None:
                assert len(message) <= LIMIT
                messages.append(message)
    except ProtocolError as error:
        return messages, error.close_code
    return messages, reader.close_code if reader.closed else None


@given(streams, st.lists(st.integers(0, 5000), max_size=20), st.booleans())
def test_any_bytes_end_in_messages_or_the_protocols_own_error(data, cuts, mask):
    assert outcome(data, cuts, mask) == outcome(data, [], mask)


@given(streams)
def test_another_implementation_reads_the_same_messages(data):
    messages, end = outcome(data, [])
    theirs = ServerProtocol(max_size=LIMIT)
    theirs.state = State.OPEN  # OPEN: its handshake is not the matter here
    theirs.parser = theirs.parse()
    next(theirs.parser)
    theirs.receive_data(data)
    parts, read = [], []
    for event in theirs.events_received():
        if event.opcode in (0, 2):
            parts.append(bytes(event.data))
            if event.fin:
                read.append(b"".join(parts))
                parts = []
        elif event.opcode == 1:
            break
    # It judges a frame when the frame is whole, so it may have read less at the end, never more or else.
    assert messages[: len(read)] == read
    if end in (None, 1000):
        assert messages == read


@given(st.lists(st.binary(max_size=200), max_size=4), st.none() | KEYS)
def test_what_is_packed_is_read_back(parts, key):
    reader = FrameReader(key is not None, 1000)
    reader.feed(pack(OP_BINARY, parts, key))
    assert reader.next_message() == b"".join(parts)
    assert reader.next_message() is None
