"""The header rules one by one: what goes, what stays, and that only whole names count."""

import pytest

from argotun.wire import fields
from argotun.wire.fields import (
    BEARER_SUBPROTOCOL,
    DROPPED_FROM_REQUESTS,
    DROPPED_FROM_RESPONSES,
    ESSENTIAL,
    NOT_IN_TRAILERS,
    READ,
    cutter,
    disguised,
    elements,
    names,
    reader,
    without,
    without_bearer,
)

BETWEEN = b"\nFirst: 1\r%b\nLast: 2\r"
KEPT = b"\nFirst: 1\r\nLast: 2\r"


def examples(table: tuple[str, ...]) -> list[bytes]:
    """Each name of a table in the cases that clients write; `*` stands for nothing and for something."""
    full = [
        name.replace("*", ending) for name in table for ending in (("", "user") if "*" in name else ("",))
    ]
    return [style(name).encode() for name in full for style in (str.lower, str.upper, str.title)]


@pytest.mark.parametrize("name", examples(DROPPED_FROM_REQUESTS))
def test_request_header_of_the_drop_list_is_cut_in_any_case(name: bytes) -> None:
    cut = cutter(DROPPED_FROM_REQUESTS)
    for line in (b"\n%b: x\r", b"\n%b:\r", b"\n%b:x: y\r"):
        assert cut.sub(b"", BETWEEN % (line % name)) == KEPT
    twice = b"\n%b: x\r" % name
    assert cut.sub(b"", twice + KEPT + twice + twice) == KEPT


@pytest.mark.parametrize("name", examples(DROPPED_FROM_REQUESTS))
def test_underscore_in_a_name_of_the_drop_list_does_not_hide_it(name: bytes) -> None:
    line = b"\n%b: x\r" % name.replace(b"-", b"_")
    assert cutter(DROPPED_FROM_REQUESTS).sub(b"", BETWEEN % line) == KEPT


@pytest.mark.parametrize("name", examples(DROPPED_FROM_RESPONSES))
def test_response_header_of_the_drop_list_is_cut_in_any_case(name: bytes) -> None:
    assert cutter(DROPPED_FROM_RESPONSES).sub(b"", BETWEEN % b"\n%b: x\r" % name) == KEPT


@pytest.mark.parametrize(
    "name",
    [
        *(
            b"Accept",
            b"Content-Length",
            b"Transfer-Encoding",
            b"Trailer",
            b"Host",
            b"Impersonate-User",
            b"Expect",
        ),
        *(
            b"XAuthorization",
            b"Authorizations",
            b"Cookie3",
            b"Set-Cookie",
            b"Proxy",
            b"Proxyx-A",
            b"X-Remote",
            b"X-Remoted",
        ),
        *(
            b"X-Forwarded",
            b"Forwarded-For",
            b"X-Real",
            b"X-Real-IPs",
            b"Keep-Alive2",
            b"TEX",
            b"Upgrades",
            b"Connections",
        ),
        *(
            b"Traceparent",
            b"X-Stream-Protocol-Version",
            b"Sec-WebSocket-Key",
            b"Kubectl-Command",
            b"Content_Length",
        ),
    ],
)
def test_other_header_is_never_cut(name: bytes) -> None:
    lines = BETWEEN % b"\n%b: authorization: x\r" % name
    assert cutter(DROPPED_FROM_REQUESTS).sub(b"", lines) == lines


def test_reader_gives_names_as_written_and_marks_what_must_go() -> None:
    read = reader(("host", "connection"), ("connection", "proxy-*"))
    lines = b"\nHOST:  a \r\nAccept: host: b\r\nProxy-A: c\r\nproxy_b: d\r\nConnection: e\r\nHostess: f\r"
    assert read.findall(lines) == [(b"HOST", b"  a "), (b"", b""), (b"", b""), (b"Connection", b" e")]


@pytest.mark.parametrize("name", examples(ESSENTIAL))
def test_essential_name_is_known_in_any_case(name: bytes) -> None:
    assert names(ESSENTIAL).fullmatch(name)
    assert names(ESSENTIAL).fullmatch(name.replace(b"-", b"_"))
    assert not names(ESSENTIAL).fullmatch(name + b" ")
    assert not names(ESSENTIAL).fullmatch(b"x" + name)


@pytest.mark.parametrize("table", [ESSENTIAL, DROPPED_FROM_REQUESTS, READ])
def test_what_may_not_travel_in_a_head_may_not_follow_in_a_trailer(table: tuple[str, ...]) -> None:
    assert set(table) <= set(NOT_IN_TRAILERS)


@pytest.mark.parametrize("name", [name for name in examples(ESSENTIAL + READ) if b"-" in name])
def test_underscore_disguises_no_name_that_matters(name: bytes) -> None:
    found = disguised(ESSENTIAL + READ)
    assert found.sub(b"", BETWEEN % b"\n%b: x\r" % name.replace(b"-", b"_")) == KEPT
    assert found.sub(b"", BETWEEN % b"\n%b: x\r" % name.replace(b"-", b"_", 1)) == KEPT
    for other in (name, b"x_" + name.replace(b"-", b"_"), b"A: " + name.replace(b"-", b"_")):
        lines = BETWEEN % b"\n%b: x\r" % other
        assert found.sub(b"", lines) == lines


def test_without_cuts_named_lines_only() -> None:
    lines = b"\nA: 1\r\nb: 2\r\nAB: 3\r\na:4\r"
    assert without(lines, {b"a"}) == b"\nb: 2\r\nAB: 3\r"
    assert without(lines, {b"a", b"b", b"ab"}) == b""
    assert without(b"", {b"a"}) == b""
    assert without(b"\nX_A: 1\r\nx-a: 2\r\nxa: 3\r", {b"x_a"}) == b"\nxa: 3\r"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b" a, b", b"\nSec-WebSocket-Protocol: a, b\r"),
        (b"a,,b ,", b"\nSec-WebSocket-Protocol:a,,b ,\r"),
        (b" a,T.x,b", b"\nSec-WebSocket-Protocol: a, b\r"),
        (b" T.x", b""),
        (b" T.", b""),
        (b" T.x , T.y", b""),
        (b" aT.x", b"\nSec-WebSocket-Protocol: aT.x\r"),
        (b" a T.x, b\tT.y ,c", b"\nSec-WebSocket-Protocol: c\r"),
        (b"", b"\nSec-WebSocket-Protocol:\r"),
    ],
)
def test_bearer_entries_leave_the_others_in_place(value: bytes, kept: bytes) -> None:
    token = BEARER_SUBPROTOCOL[:-1]
    value, kept = value.replace(b"T", token), kept.replace(b"T", token)
    assert without_bearer(BETWEEN % (b"\nSec-WebSocket-Protocol:" + value + b"\r")) == BETWEEN % kept


def test_elements_are_trimmed_and_empty_ones_left_out() -> None:
    assert elements(b"a, b ,,\tc\t, ,") == [b"a", b"b", b"c"]
    assert elements(b" ") == []


def test_tables_are_in_lower_case_with_dashes() -> None:
    for table in (DROPPED_FROM_REQUESTS, DROPPED_FROM_RESPONSES, ESSENTIAL, NOT_IN_TRAILERS):
        for name in table:
            assert fields.names((name,)).fullmatch(name.replace("*", "x").encode())
            assert name == name.lower()
            assert "_" not in name
