"""WebSocket frames: the same messages and the same end whichever way they arrive, and for another library."""

from argotun.errors import ProtocolError
from argotun.wire.websocket import OP_BINARY, OP_CLOSE, OP_PING, FrameReader, pack
from tests.fuzz.cuts import cuts
from tests.fuzz.steps import Steps

LIMIT = 300
KEY = b"\x01\x02\x03\x04"


def check(data: bytes) -> None:
    """The first byte chooses the end: a server, which wants masks, or a client, which takes none."""
    mask = not data or data[0] % 2 == 0
    said = data[1:]
    with Steps(len(said)):
        whole = read([said], mask)
    assert sum(map(len, whole[0])) <= len(said)
    for pieces in cuts(said):
        assert read(pieces, mask) == whole, pieces
    for message in whole[0]:
        assert read([pack(OP_BINARY, [message], KEY if mask else None)], mask) == ([message], None, None)


def seeds() -> list[bytes]:
    """Whole messages, fragments, control frames, and lengths that are not the shortest."""
    found = []
    for first, key in ((b"\0", KEY), (b"\1", None)):
        binary = pack(OP_BINARY, [b"a message"], key)
        found += [
            first + binary + binary,
            first + b"\x02" + binary[1:] + b"\x89" + pack(OP_PING, [b"x"], key)[1:] + b"\x80" + binary[1:],
            first + pack(OP_CLOSE, [b"\x03\xe8bye"], key) + binary,
            first + pack(OP_BINARY, [bytes(200)], key),
            first + pack(OP_BINARY, [bytes(301)], key),
            first + b"\x82" + bytes([0x7E | (0x80 if key else 0)]) + b"\0\5" + bytes(20),
            first + b"\x82" + bytes([0x7F | (0x80 if key else 0)]) + b"\xff" * 8,
            first + b"\x81" + binary[1:],
            first + b"\xc2" + binary[1:],
        ]
    return found


def read(pieces: list[bytes], mask: bool) -> tuple[list[bytes], int | None, bytes | None]:
    """The messages, the close code in the end (None: it goes on), and the ping that waits."""
    reader = FrameReader(mask, LIMIT)
    messages = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (message := reader.next_message()) is not None:
                assert len(message) <= LIMIT
                messages.append(message)
    except ProtocolError as error:
        assert error.close_code in (1002, 1003, 1007, 1009)
        assert str(error).isprintable()
        return messages, error.close_code, None
    return messages, reader.close_code if reader.closed else None, reader.ping
