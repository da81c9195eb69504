"""Heads that nobody wrote by hand: each is read or is a HeadError, and what is read keeps our promises."""

import re
from collections.abc import Callable
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from argotun.errors import HeadError
from argotun.wire.head import (
    UNTIL_CLOSE,
    find_head_end,
    parse_request,
    parse_response,
    rewrite_request,
    rewrite_response,
)
from tests.examples import examples
from tests.wire.http_corpus import load
from tests.wire.test_head_oracles import check_request, check_response

CASES = {
    role: [case.data for case in load(f"{role}/valid") + load(f"{role}/invalid")]
    for role in ("request", "response")
}
# Whole heads of 64 KiB teach the fuzzer nothing.
SHORT = {role: [data for data in cases if len(data) < 2048] for role, cases in CASES.items()}

# Written apart from the table in the code: what may never be in a head that travels.
FORBIDDEN = re.compile(
    rb"(?im)^(authorization|cookie2?|proxy-[^:]*|x-remote-[^:]*|x-forwarded-[^:]*|forwarded|x-real-ip|keep-alive|te"
    rb"|http2-settings):"
)
BEARER = re.compile(rb"(?im)^sec-websocket-protocol:(?:.*[ \t,])?base64url\.bearer\.authorization\.k8s\.io\.")

NAMES = (
    *(b"Content-Length", b"content-length", b"Transfer-Encoding", b"Connection", b"CONNECTION", b"Upgrade"),
    *(b"Authorization", b"AUTHORIZATION", b"Cookie", b"Proxy-X", b"X-Remote-User", b"X_Remote_User", b"TE"),
    *(
        b"Forwarded",
        b"X-Forwarded-For",
        b"X-Real-Ip",
        b"Keep-Alive",
        b"HTTP2-Settings",
        b"Sec-WebSocket-Protocol",
    ),
    *(
        b"Impersonate-User",
        b"Impersonate_User",
        b"Audit-ID",
        b"Audit_ID",
        b"Accept",
        b"Location",
        b"X-A",
        b"x-a",
        b"Content_Length",
        b"Host",
    ),
)
LENGTHS = (b"0", b"5", b" 7\t")
VALUES = (
    *(
        b"a",
        b"b:1",
        b"",
        b" ",
        b"close",
        b"keep-alive",
        b"Upgrade",
        b"upgrade, x-a",
        b"X-A,,close",
        b"websocket",
    ),
    *(
        b"SPDY/3.1",
        b"h2c",
        b"v4.channel.k8s.io",
        b"base64url.bearer.authorization.k8s.io.QQ, v5.channel.k8s.io",
    ),
    *(b"\xff", b"chunked", b"Chunked "),
)
BAD_VALUES = (b"05", b"5, 5", b"+5", b"gzip, chunked", b"host", b"impersonate-user", b"\x00", b"a\x7f")
METHODS = (b"GET", b"POST", b"HEAD", b"PATCH")
TARGETS = (b"/", b"/a", b"//a/../b;c?d=%2F")
CODES = (b"200", b"101", b"100", b"204", b"304", b"302", b"500")
REASONS = (b" OK", b" ", b"", b"  two words", b" \xe9")


@st.composite
def tame_field(draw: st.DrawFn) -> bytes:
    """A field that is well-formed by itself, most often with a value that suits its name."""
    name = draw(st.sampled_from(NAMES))
    usual = {b"content-length": LENGTHS, b"transfer-encoding": (b"chunked", b"CHUNKED")}.get(
        name.lower(), VALUES
    )
    if name.lower() in (b"connection", b"upgrade"):
        usual = (
            (b"Upgrade", b"upgrade, x-a", b"close")
            if name != b"Upgrade"
            else (b"websocket", b"spdy/3.1", b"h2c")
        )
    return name + b": " + draw(st.sampled_from(usual)) + b"\r\n"


names = st.sampled_from((*NAMES, b"", b"X A", b"X\x00")) | st.binary(max_size=4)
values = st.sampled_from(VALUES + LENGTHS + BAD_VALUES) | st.binary(max_size=8)
ends = st.sampled_from([b"\r\n"] * 30 + [b"\n", b"\r", b"\r\n ", b"\r\r\n"])
colons = st.sampled_from([b": "] * 20 + [b":", b":\t", b" : ", b""])
wild_field = st.tuples(names, colons, values, ends).map(b"".join)
tame_fields = st.lists(tame_field(), max_size=5).map(b"".join)
wild_fields = st.lists(wild_field | tame_field(), max_size=5).map(b"".join)

versions = st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0"])
tame_request_lines = st.builds(
    b"%b %b %b\r\n".__mod__, st.tuples(st.sampled_from(METHODS), st.sampled_from(TARGETS), versions)
)
wild_request_lines = st.tuples(
    st.sampled_from((*METHODS, b"get", b"BREW", b"CONNECT", b"")),
    st.just(b" "),
    st.sampled_from((*TARGETS, b"*", b"http://a/", b"", b"/a b", b"/#", b"/\xe9")),
    st.sampled_from((b" HTTP/1.1", b" HTTP/2.0", b" http/1.1", b"", b" ")),
    ends,
).map(b"".join)
tame_status_lines = st.builds(
    b"%b %b%b\r\n".__mod__, st.tuples(versions, st.sampled_from(CODES), st.sampled_from(REASONS))
)
wild_status_lines = st.tuples(
    st.sampled_from((b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2", b"http/1.1")),
    st.just(b" "),
    st.sampled_from((*CODES, b"20", b"2000", b"999")),
    st.sampled_from((*REASONS, b"\x00", b"OK")),
    ends,
).map(b"".join)


@st.composite
def mutated(draw: st.DrawFn, cases: list[bytes]) -> bytes:
    """A head of the corpus with up to four small edits."""
    data = draw(st.sampled_from(cases))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 3))
        put = draw(
            st.sampled_from([b"", b" ", b"\r", b"\n", b"\r\n", b":", b",", b"\x00", b"0", b"A"])
            | st.binary(max_size=2)
        )
        data = data[:at] + put + data[at + cut :]
    return data


def heads(
    role: str, tame_lines: st.SearchStrategy[bytes], wild_lines: st.SearchStrategy[bytes]
) -> st.SearchStrategy[bytes]:
    """Heads of which about half are accepted: built from good parts, from bad ones too, edited, or noise."""
    host = st.just(b"Host: a\r\n" if role == "request" else b"")
    tame = st.tuples(tame_lines, host, tame_fields, st.just(b"\r\n")).map(b"".join)
    wild = st.tuples(tame_lines | wild_lines, host, wild_fields, st.just(b"\r\n")).map(b"".join)
    return tame | tame | wild | mutated(SHORT[role]) | st.binary(max_size=64)


requests = heads("request", tame_request_lines, wild_request_lines)
responses = heads("response", tame_status_lines, wild_status_lines)
T = TypeVar("T")
pieces = st.lists(st.integers(1, 40), max_size=30)


def attempt(call: Callable[[], T]) -> T | HeadError:
    """What a call returns, or how it refused; any other exception is a failure of the test."""
    try:
        return call()
    except HeadError as refusal:
        return refusal


def names_in(head: bytes) -> list[bytes]:
    return [line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:-2]]


@examples(1500)
@given(
    requests,
    st.booleans(),
    st.booleans(),
    st.sampled_from([b"", b"Audit-ID: 1\r\n", b"X: 1\r\nAudit-ID: 1\r\n"]),
)
def test_request_is_refused_or_travels_clean(data: bytes, close: bool, host: bool, extra: bytes) -> None:
    head = attempt(lambda: parse_request(data))
    if isinstance(head, HeadError):
        assert head.status in (400, 431, 501, 505)
        assert str(head).isprintable()
        return
    check_request(data, head)
    own = b"kubernetes" if host else None
    sent = rewrite_request(head, head.target, extra, own, close)
    seen = parse_request(sent)
    check_request(sent, seen)
    assert not FORBIDDEN.search(sent)
    assert not BEARER.search(sent)
    asked_to_close = close and not head.upgrade
    assert (seen.method, seen.target, seen.minor) == (head.method, head.target, head.minor)
    assert (seen.length, seen.upgrade) == (head.length, head.upgrade)
    assert seen.host == (own or head.host)
    assert (b"close" in seen.connection) is asked_to_close
    assert (
        names_in(sent).count(b"upgrade")
        == names_in(sent).count(b"connection") - asked_to_close
        == bool(head.upgrade)
    )
    private = head.connection - {b"close", b"keep-alive", b"upgrade", b"audit-id", b"x"}
    assert not private & set(names_in(sent))
    if extra:
        assert seen.audit_id == b"1"
        assert names_in(sent).count(b"audit-id") == 1
    assert rewrite_request(seen, seen.target, b"", own, close) == sent


@examples(1500)
@given(responses, st.sampled_from([b"GET", b"POST", b"HEAD"]), st.booleans())
def test_response_is_refused_or_travels_clean(data: bytes, method: bytes, close: bool) -> None:
    head = attempt(lambda: parse_response(data, method))
    if isinstance(head, HeadError):
        assert str(head).isprintable()
        return
    check_response(data, head, method)
    sent = rewrite_response(head, close)
    seen = parse_response(sent, method)
    check_response(sent, seen, method)
    assert (seen.status, seen.reason, seen.length) == (head.status, head.reason, head.length)
    assert (seen.upgrade, seen.location) == (head.upgrade, head.location)
    assert seen.keep_alive is not ((close or head.length == UNTIL_CLOSE) and head.status >= 200)
    assert not {b"keep-alive", b"te", b"proxy-x"} & set(names_in(sent))
    assert rewrite_response(seen, close) == sent


@examples(800)
@given(requests | responses, pieces, st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"\x00\xff\n"]))
def test_end_of_a_head_does_not_depend_on_how_it_arrives(data: bytes, sizes: list[int], after: bytes) -> None:
    def read(steps: list[int]) -> bytes | None:
        buf = bytearray()
        stream = data + after
        while stream:
            size = steps.pop() if steps else len(stream)
            seen = len(buf)
            buf += stream[:size]
            stream = stream[size:]
            try:
                end = find_head_end(buf, seen)
                if end >= 0:
                    parse_request(bytes(buf[:end])) if b" HTTP/" in buf[:end] else parse_response(
                        bytes(buf[:end]), b"GET"
                    )
                    return bytes(buf[:end])
            except HeadError:
                return None
        return b"more"

    whole = read([])
    pieced = read(sizes)
    # Bytes that can be no head are refused as soon as they are seen, even if no end of a head follows.
    assert pieced == whole
    assert read([1] * (len(data) + len(after))) == whole


@examples(500)
@given(st.binary(max_size=200), st.integers(0, 210))
def test_search_for_an_end_may_start_anywhere(data: bytes, start: int) -> None:
    end = attempt(lambda: find_head_end(data, start))
    if isinstance(end, HeadError):
        assert end.status == 400
    else:
        assert end == -1 or data[end - 4 : end] == b"\r\n\r\n"
