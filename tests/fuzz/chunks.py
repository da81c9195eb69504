"""Chunked bodies: their end is the same whichever way they arrive, and the same for h11 and llhttp."""

import h11
import httptools

from argotun.errors import HeadError
from argotun.wire.body import ChunkedBody
from tests.fuzz.cuts import cuts
from tests.fuzz.steps import Steps
from tests.wire.test_body import INVALID, VALID

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
MORE = -1
REFUSED = -2


def check(data: bytes) -> None:
    """The end of one body, and what two other parsers say of it."""
    with Steps(len(data)):
        end = ended([data])
    for pieces in cuts(data):
        assert ended(pieces) == end, pieces
    if end != REFUSED:
        assert end_for_h11(data) in (end, REFUSED)
        assert end_for_llhttp(data, end)


def seeds() -> list[bytes]:
    """The bodies of the tests by example."""
    return [body for body in (*VALID.values(), *INVALID.values()) if len(body) < 600]


def ended(pieces: list[bytes]) -> int:
    """After how many bytes the body was over; MORE or REFUSED."""
    body = ChunkedBody()
    passed = 0
    try:
        for piece in pieces:
            used = body.feed(piece)
            passed += used
            if body.done:
                return passed
            assert used == len(piece)
    except HeadError as refusal:
        assert refusal.status == 400
        return REFUSED
    return MORE


def end_for_h11(data: bytes) -> int:
    """After how many bytes h11 has the body's end; MORE or REFUSED."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(HEAD + data)
    try:
        while (event := connection.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.EndOfMessage):
                return len(data) - len(connection.trailing_data[0])
    except h11.RemoteProtocolError:
        return REFUSED
    return MORE


class _Events:
    complete = False

    def on_message_complete(self) -> None:
        self.complete = True


def end_for_llhttp(data: bytes, end: int) -> bool:
    """Whether llhttp has the end just there, nowhere for MORE, or refuses it."""
    events = _Events()
    parser = httptools.HttpRequestParser(events)
    try:
        if end == MORE:
            parser.feed_data(HEAD + data)
            return not events.complete
        parser.feed_data(HEAD + data[: end - 1])
        early = events.complete
        parser.feed_data(data[end - 1 : end])
    except httptools.HttpParserError:
        return True
    return not early and events.complete
