"""No head, however it is built, takes more than linear time: eight times the bytes, eight times as long.

Quadratic work would take 64 times as long. The bound lies well between, and the best of several runs is
compared, in time of this process alone, so that a busy machine does not decide.
"""

from collections.abc import Callable
from time import process_time

import pytest

from argotun.errors import HeadError
from argotun.wire.body import ChunkedBody
from argotun.wire.head import find_head_end, parse_request, parse_response, rewrite_request, rewrite_response

SMALL = 7_500
FACTOR = 8
BOUND = 24

START = b"GET / HTTP/1.1\r\nHost: a\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


def repeated(before: bytes, unit: bytes, after: bytes) -> Callable[[int], bytes]:
    return lambda size: before + unit * (size // len(unit)) + after


REQUESTS = {
    "a name without an end": repeated(START, b"a", b"\r\n\r\n"),
    "a name and a bad byte": repeated(START, b"a", b"\x80: b\r\n\r\n"),
    "a value and a bad byte": repeated(START + b"X: ", b"a", b"\x00\r\n\r\n"),
    "whitespace before a bad byte": repeated(START + b"X:", b" \t", b"\x00\r\n\r\n"),
    "whitespace before the colon": repeated(START + b"X", b" ", b":\r\n\r\n"),
    "whitespace after a length": repeated(START + b"Content-Length: 1", b" ", b"x\r\n\r\n"),
    "digits": repeated(START + b"Content-Length: ", b"1", b"\r\n\r\n"),
    "colons": repeated(START + b"X", b":", b"\x00\r\n\r\n"),
    "fields and a bad one": repeated(START, b"A: b\r\n", b"X\r\n\r\n"),
    "shortest fields": repeated(START, b"a:\r\n", b"\r\n"),
    "a target and a bad byte": repeated(b"GET /", b"a", b"\x80 HTTP/1.1\r\n\r\n"),
    "a target that is long": repeated(b"GET /", b"a", b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "spaces in the request line": repeated(b"GET", b" ", b"/ HTTP/1.1\r\n\r\n"),
    "words in the request line": repeated(b"GET", b" a", b" HTTP/1.1\r\n\r\n"),
    "a method that is long": repeated(b"", b"A", b" / HTTP/1.1\r\n\r\n"),
    "connection options": repeated(START + b"Connection: ", b"a,", b"\r\n\r\n"),
    "connection options that are empty": repeated(START + b"Connection: a", b" ,", b"\r\n\r\n"),
    "a connection option of dashes": repeated(START + b"Connection: ", b"x-", b"\r\n\r\n"),
    "transfer codings": repeated(START + b"Transfer-Encoding: ", b"a,", b"chunked\r\n\r\n"),
    "subprotocols": repeated(
        START + b"Sec-WebSocket-Protocol: ", b"base64url.bearer.authorization.k8s.io.a,", b"b\r\n\r\n"
    ),
    "dropped name without an end": repeated(START + b"Proxy-", b"a", b"\r\n\r\n"),
    "dropped names nested": repeated(START, b"proxy-", b": a\r\n\r\n"),
    "a host that is long": repeated(START[:-2] + b"Host: ", b"a.", b"\r\n\r\n"),
}
RESPONSES = {
    "a reason and a bad byte": repeated(b"HTTP/1.1 200 ", b"a", b"\x00\r\n\r\n"),
    "fields and a bad one": repeated(OK, b"A: b\r\n", b" x\r\n\r\n"),
    "connection options": repeated(OK + b"Connection: ", b"a,", b"\r\n\r\n"),
    "a status that is long": repeated(b"HTTP/1.1 2", b"0", b"\r\n\r\n"),
}
UNFINISHED = {
    "lines": repeated(b"", b"a\r\n", b""),
    "carriage returns after line ends": repeated(b"GET", b"\r\n\t", b"\r"),
    "letters": repeated(b"", b"a", b""),
}
CHUNKED = {
    "an extension": repeated(b"5", b";a", b""),
    "an extension's quoted string": repeated(b'5;a="', b'\\"', b""),
    "chunks": repeated(b"", b"1\r\na\r\n", b""),
    "zeros": repeated(b"", b"0", b""),
    "trailers": repeated(b"0\r\n", b"a:b\r\n", b""),
    "a trailer's name": repeated(b"0\r\n", b"a", b""),
}


def read_request(data: bytes) -> None:
    head = parse_request(data)
    rewrite_request(head, head.target, b"Audit-ID: 1\r\n", b"k")


def read_response(data: bytes) -> None:
    rewrite_response(parse_response(data, b"GET"), close=True)


def follow_body(data: bytes) -> None:
    ChunkedBody().feed(data)


def seconds(call: Callable[[bytes], object], data: bytes) -> float:
    """The best of several runs, each of several calls."""
    best = float("inf")
    for _ in range(5):
        begun = process_time()
        for _ in range(5):
            try:
                call(data)
            except HeadError:
                pass
        best = min(best, process_time() - begun)
    return best


CASES = [
    pytest.param(call, build, id=f"{call.__name__}-{name}".replace(" ", "_"))
    for call, builds in (
        (read_request, REQUESTS),
        (read_response, RESPONSES),
        (find_head_end, UNFINISHED),
        (follow_body, CHUNKED),
    )
    for name, build in builds.items()
]


def growth(call: Callable[[bytes], object], build: Callable[[int], bytes]) -> float:
    """How many times as long FACTOR times the bytes take: the first measurement under BOUND, or the least."""
    short, long = build(SMALL), build(FACTOR * SMALL)
    least = float("inf")
    for _ in range(4):
        least = min(least, seconds(call, long) / seconds(call, short))
        if least < BOUND:
            break
    return least


@pytest.mark.parametrize(("call", "build"), CASES)
def test_time_is_linear_in_the_bytes(call: Callable[[bytes], object], build: Callable[[int], bytes]) -> None:
    assert growth(call, build) < BOUND


def test_measure_itself_sees_quadratic_work() -> None:
    def quadratic(data: bytes) -> None:
        for _ in range(len(data) // 300):
            data.count(b"\n")

    assert growth(quadratic, repeated(b"", b"a", b"")) > BOUND
