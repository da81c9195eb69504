"""Chunked bodies: where they end, however they arrive, and what is refused before the next hop sees it."""

import h11
import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from argotun.errors import HeadError
from argotun.wire.body import MAX_SIZE_LINE, MAX_TRAILERS, ChunkedBody
from tests.examples import examples

REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def follow(data: bytes, size: int) -> tuple[int | None, bool]:
    """Where the body ends when `data` comes `size` bytes at a time (None: refused), and if it is done."""
    body = ChunkedBody()
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        try:
            past = body.feed(piece)
        except HeadError:
            return None, False
        assert past == len(piece) or body.done
        if body.done:
            return at + past, True
    return len(data), False


VALID = {
    "empty": LAST,
    "one chunk": b"5\r\nhello\r\n" + LAST,
    "several chunks": b"1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n" + LAST,
    "line ends within a chunk": b"6\r\n\r\n0\r\n\r\r\n" + LAST,
    "capitals and leading zeros": b"00000000000000A\r\n0123456789\r\n1b\r\n" + b"x" * 27 + b"\r\n" + LAST,
    "last chunk of many zeros": b"000000000000000\r\n\r\n",
    "extension": b"3;a\r\nabc\r\n" + LAST,
    "extensions with values": b'3;a=b;c="d; \\"e\\"";f=""\r\nabc\r\n0;g\r\n\r\n',
    "extension as long as allowed": b"3;" + b"a" * (MAX_SIZE_LINE - 4) + b"\r\nabc\r\n" + LAST,
    "trailers": b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nGrpc-Status:0\r\nEmpty:\r\n\r\n",
    "trailers as long as allowed": b"0\r\nX: " + b"a" * (MAX_TRAILERS - 7) + b"\r\n\r\n",
    "trailer with obs-text": b"0\r\nX: \xff\t\r\n\r\n",
}
INVALID = {
    "no size": b"\r\n",
    "size not hexadecimal": b"g\r\n",
    "size signed": b"+5\r\nhello\r\n",
    "size negative": b"-1\r\n",
    "size with prefix": b"0x5\r\nhello\r\n",
    "size with underscore": b"1_0\r\n",
    "size with a space before": b" 5\r\nhello\r\n",
    "size with a space after": b"5 \r\nhello\r\n",
    "size with a tab after": b"5\t\r\nhello\r\n",
    "size of 16 digits": b"0000000000000005\r\nhello\r\n",
    "size of 64 bits": b"ffffffffffffffff\r\n",
    "size beyond 64 bits": b"10000000000000005\r\nhello\r\n",
    "size line ends in LF": b"5\nhello\r\n",
    "size line ends in CR": b"5\rhello\r\n",
    "size line ends in CR CR LF": b"5\r\r\nhello\r\n",
    "chunk ends in LF": b"5\r\nhello\n" + LAST,
    "chunk ends in CR": b"5\r\nhello\r" + LAST,
    "chunk longer than announced": b"5\r\nhello!\r\n" + LAST,
    "chunk shorter than announced": b"5\r\nhell\r\n" + LAST,
    "extension with a control byte": b"5;a\x00\r\nhello\r\n",
    "extension with a bare LF": b"5;a\nhello\r\n",
    "extension with a bare CR": b"5;a\rb\r\nhello\r\n",
    "extension without a name": b"5;\r\nhello\r\n",
    "extension with a space": b"5; a\r\nhello\r\n",
    "extension without a value": b"5;a=\r\nhello\r\n",
    "extension's quoted string without an end": b'5;a="b\r\nhello\r\n',
    "extension in obs-text": b"5;\xe9\r\nhello\r\n",
    "extension too long": b"5;" + b"a" * (MAX_SIZE_LINE - 3) + b"\r\nhello\r\n",
    "extension without an end": b"5;" + b"a" * MAX_SIZE_LINE,
    "quoted line end": b'5;a="\r\n"\r\nhello\r\n',
    "last chunk ends in LF": b"0\n\r\n",
    "blank line of LF": b"0\r\n\n",
    "blank line of CR": b"0\r\n\rGET",
    "trailer folded": b"0\r\nX: a\r\n b\r\n\r\n",
    "trailer without colon": b"0\r\nX\r\n\r\n",
    "trailer without name": b"0\r\n: x\r\n\r\n",
    "trailer with space before colon": b"0\r\nX : a\r\n\r\n",
    "trailer ends in LF": b"0\r\nX: a\n\r\n",
    "trailer with NUL": b"0\r\nX: \x00\r\n\r\n",
    "trailers too long": b"0\r\nX: " + b"a" * (MAX_TRAILERS - 6) + b"\r\n\r\n",
    "trailers too many": b"0\r\n" + b"X: a\r\n" * (MAX_TRAILERS // 6 + 1) + b"\r\n\r\n",
    "trailer without an end": b"0\r\nX: " + b"a" * MAX_TRAILERS,
    "trailer that frames": b"0\r\nContent-Length: 5\r\n\r\n",
    "trailer that frames in capitals": b"0\r\nTRANSFER-ENCODING: chunked\r\n\r\n",
    "trailer that routes": b"0\r\nHost: a\r\n\r\n",
    "trailer that authenticates": b"0\r\nauthorization: Bearer a\r\n\r\n",
    "trailer that impersonates": b"0\r\nX: a\r\nImpersonate-User: a\r\n\r\n",
    "trailer that claims an identity": b"0\r\nX-Remote-User: a\r\n\r\n",
    "trailer that claims an identity with _": b"0\r\nX_Remote_User: a\r\n\r\n",
    "trailer that impersonates with _": b"0\r\nImpersonate_User: a\r\n\r\n",
    "trailer that frames with _": b"0\r\nContent_Length: 5\r\n\r\n",
    "trailer that names the audit's id": b"0\r\nAudit-ID: a\r\n\r\n",
    "trailer that is hop-by-hop": b"0\r\nConnection: close\r\n\r\n",
}
SIZES = pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 20])


@pytest.mark.parametrize("data", VALID.values(), ids=VALID)
@SIZES
def test_body_ends_with_its_blank_line(data: bytes, size: int) -> None:
    assert follow(data, size) == (len(data), True)
    assert follow(data + b"GET / HTTP/1.1\r\n", size) == (len(data), True)
    for cut in range(len(data)):
        if cut < 300 or cut > len(data) - 5:
            assert follow(data[:cut], size) == (cut, False)


@pytest.mark.parametrize("data", INVALID.values(), ids=INVALID)
@SIZES
def test_bad_framing_is_refused_however_it_arrives(data: bytes, size: int) -> None:
    assert follow(data + b"\r\n" * 4, size) == (None, False)


@pytest.mark.parametrize(
    "begun",
    [
        b"5\n",
        b"5x",
        b"5 ",
        b"5\rx",
        b"\r",
        b"5;a\x00",
        b"1\r\naX",
        b"1\r\na\n",
        b"1\r\na\rX",
        b"0\r\n\n",
        b"0\r\nX ",
    ],
)
def test_byte_that_cannot_belong_is_refused_when_it_comes(begun: bytes) -> None:
    body = ChunkedBody()
    for at in range(len(begun) - 1):
        body.feed(begun[at : at + 1])
    with pytest.raises(HeadError):
        body.feed(begun[-1:])


def test_feeding_goes_on_from_start_and_stops_at_the_end() -> None:
    body = ChunkedBody()
    data = b"headerbytes3\r\nabc\r\n0\r\n\r\nGET"
    assert body.feed(data, 11) == len(data) - 3
    assert body.done
    assert body.feed(data, 4) == 4
    assert body.feed(b"") == 0


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_buffer_is_read(kind: type[bytes] | type[bytearray] | type[memoryview]) -> None:
    data = b"3\r\nabc\r\n0\r\n\r\n"
    for cut in range(len(data)):
        body = ChunkedBody()
        assert body.feed(kind(data[:cut])) == cut
        assert body.feed(kind(data[cut:] + b"x")) == len(data) - cut
        assert body.done


def test_boundary_is_where_a_last_chunk_would_end_the_body() -> None:
    data = b"3\r\nabc\r\n10;a\r\n0123456789abcdef\r\n0\r\nX: a\r\n\r\n"
    for cut in range(len(data) + 1):
        body = ChunkedBody()
        body.feed(data[:cut])
        assert body.at_boundary is (cut in (0, 8, 32)), cut
        if body.at_boundary:
            assert body.feed(LAST) == len(LAST)
            assert body.done


def test_chunk_that_fills_the_buffer_exactly_leaves_the_body_between_its_lines() -> None:
    body = ChunkedBody()
    seen = []
    for piece in (b"3\r\nabc", b"\r", b"\n", b"0"):
        body.feed(piece)
        seen.append(body.at_boundary)
    assert seen == [False, False, True, False]


def test_nothing_of_a_large_chunk_is_kept() -> None:
    body = ChunkedBody()
    body.feed(b"fffffff\r\n")
    for _ in range(4):
        body.feed(bytes(1 << 20))
    assert not body.done
    assert body._begun == b""


chunks = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
extensions = st.sampled_from([b"", b"", b"", b";a", b";a=b", b';a="b;c"'])
trailers = st.lists(st.sampled_from([b"X: a\r\n", b"Y:\r\n", b"Grpc-Status: 0\r\n"]), max_size=3).map(
    b"".join
)


@st.composite
def encoded(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A body, and the same in chunks."""
    parts = draw(chunks)
    size = draw(st.sampled_from([b"%x", b"%X", b"%04x"]))
    framed = [b"%b%b\r\n%b\r\n" % (size % len(part), draw(extensions), part) for part in parts]
    return b"".join(parts), b"".join([*framed, b"0", draw(extensions), b"\r\n", draw(trailers), b"\r\n"])


def h11_reads(data: bytes) -> tuple[bytes, int] | None:
    """The body and its length on the wire as h11 reads them; None: refused, length -1: it goes on."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(REQUEST + data)
    body = b""
    try:
        server.next_event()
        while isinstance(event := server.next_event(), h11.Data):
            body += event.data
    except h11.RemoteProtocolError:
        return None
    if isinstance(event, h11.EndOfMessage):
        return body, len(data) - len(server.trailing_data[0])
    return body, -1


class LlhttpBody:
    """What llhttp calls back for a body."""

    def __init__(self) -> None:
        self.body = b""
        self.complete = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


def llhttp_reads(data: bytes) -> tuple[bytes, int] | None:
    """The same by llhttp, which is fed byte by byte because it does not say where a message ended."""
    events = LlhttpBody()
    parser = httptools.HttpRequestParser(events)
    parser.feed_data(REQUEST)
    for at in range(len(data)):
        try:
            parser.feed_data(data[at : at + 1])
        except httptools.HttpParserError:
            return None
        if events.complete:
            return events.body, at + 1
    return events.body, -1


@examples(400)
@given(encoded(), st.lists(st.integers(1, 30), max_size=20))
def test_body_ends_where_other_parsers_end_it_under_any_split(
    body: tuple[bytes, bytes], sizes: list[int]
) -> None:
    plain, data = body
    assert h11_reads(data + b"GET") == (plain, len(data))
    assert llhttp_reads(data + b"GET") == (plain, len(data))
    reader = ChunkedBody()
    stream = data + b"GET"
    at = 0
    while not reader.done:
        size = sizes.pop() if sizes else len(stream)
        piece = stream[at : at + size]
        at += reader.feed(piece)
    assert at == len(data)


@examples(800)
@given(encoded(), st.data())
def test_damaged_body_is_never_read_differently(body: tuple[bytes, bytes], data: st.DataObject) -> None:
    stream = body[1]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(stream)))
        put = data.draw(st.sampled_from([b"", b"\r", b"\n", b"\r\n", b"0", b";", b" ", b"f", b"\x00", b":"]))
        stream = stream[:at] + put + stream[at + data.draw(st.integers(0, 2)) :]
    past, done = follow(stream, 1 << 20)
    assert follow(stream, 1) == (past, done)
    if past is None:
        return
    expected = past if done else -1
    for theirs in (h11_reads(stream), llhttp_reads(stream)):
        assert theirs is None or theirs[1] == expected


@examples(500)
@given(
    st.lists(
        st.binary(max_size=20) | st.sampled_from([b"5\r\n", b"hello\r\n", LAST, b"\r\n", b"1;a"]), max_size=8
    )
)
def test_noise_is_a_body_or_a_head_error(pieces: list[bytes]) -> None:
    body = ChunkedBody()
    for piece in pieces:
        try:
            past = body.feed(piece)
        except HeadError:
            return
        assert 0 <= past <= len(piece)
        assert len(body._begun) <= max(MAX_SIZE_LINE, MAX_TRAILERS)
