"""Every head of the corpus, as the server reads it and as the agent reads what the server made of it."""

import pytest

from argotun.errors import HeadError
from argotun.wire.head import parse_request, parse_response, rewrite_request, rewrite_response
from tests.wire.http_corpus import Case, lines_sent_on, load, read_in_pieces

CREDENTIAL = b"Authorization: Bearer agents-own"
PIECES = (1, 7, 65536)

VALID_REQUESTS = load("request/valid")
INVALID_REQUESTS = load("request/invalid")
VALID_RESPONSES = load("response/valid")
INVALID_RESPONSES = load("response/invalid")


def text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def test_corpus_is_not_thinned_out() -> None:
    assert len(VALID_REQUESTS) >= 60
    assert len(INVALID_REQUESTS) >= 60
    assert len(VALID_RESPONSES) >= 30
    assert len(INVALID_RESPONSES) >= 30


@pytest.mark.parametrize("case", VALID_REQUESTS, ids=str)
def test_valid_request_is_read_as_expected(case: Case) -> None:
    head = parse_request(case.data)
    expect = case.expect
    assert text(head.method) == expect["method"]
    assert text(head.target) == expect["target"]
    assert text(head.host) == expect["host"]
    assert head.minor == expect["minor"]
    assert head.length == expect["length"]
    assert head.keep_alive is expect["keep_alive"]
    assert text(head.upgrade) == expect.get("upgrade")
    assert text(head.audit_id) == expect.get("audit_id")
    assert sorted(head.connection) == [name.encode() for name in expect.get("connection", [])]
    assert head.fields == b"".join(line + b"\r\n" for line in case.data.split(b"\r\n")[1:-2])


@pytest.mark.parametrize("case", VALID_REQUESTS, ids=str)
def test_each_line_of_a_field_gives_one_value_in_order(case: Case) -> None:
    head = parse_request(case.data)
    expected: dict[bytes, list[bytes]] = {b"no-such-field": []}
    for line in case.data.split(b"\r\n")[1:-2]:
        name, _, value = line.partition(b":")
        expected.setdefault(name.lower(), []).append(value.strip(b" \t"))
    assert {name: head.values(name) for name in expected} == expected


@pytest.mark.parametrize("case", VALID_REQUESTS, ids=str)
def test_server_sends_on_what_may_travel_and_the_agent_reads_it_alike(case: Case) -> None:
    head = parse_request(case.data)
    sent = rewrite_request(head, head.target)
    start, *lines = sent.split(b"\r\n")
    assert lines == [*lines_sent_on(case), b"", b""]
    assert start == case.data.split(b"\r\n")[0]
    seen = parse_request(sent)
    assert (seen.method, seen.target, seen.minor, seen.host) == (
        head.method,
        head.target,
        head.minor,
        head.host,
    )
    assert (seen.length, seen.upgrade, seen.audit_id) == (head.length, head.upgrade, head.audit_id)
    assert rewrite_request(seen, seen.target) == sent


@pytest.mark.parametrize("case", VALID_REQUESTS, ids=str)
def test_agent_adds_its_own_host_and_credential_only(case: Case) -> None:
    head = parse_request(case.data)
    seen = parse_request(rewrite_request(head, head.target))
    sent = rewrite_request(seen, seen.target, extra=CREDENTIAL + b"\r\n", host=b"kubernetes:6443")
    expected = [line for line in lines_sent_on(case) if not line.lower().startswith(b"host:")]
    hop = expected[-2:] if head.upgrade else []
    expected = [
        b"Host: kubernetes:6443",
        *expected[: len(expected) - len(hop)],
        CREDENTIAL,
        *hop,
        b"",
        b"",
    ]
    assert sent.split(b"\r\n")[1:] == expected


@pytest.mark.parametrize("case", VALID_REQUESTS + VALID_RESPONSES, ids=str)
@pytest.mark.parametrize("size", PIECES)
def test_valid_head_ends_where_it_ends_however_it_arrives(case: Case, size: int) -> None:
    assert read_in_pieces(case.data + b"GET /next HTTP/1.1\r\n\r\n", size) == case.data


@pytest.mark.parametrize("case", INVALID_REQUESTS, ids=str)
@pytest.mark.parametrize("size", PIECES)
def test_invalid_request_is_refused_alike_however_it_arrives(case: Case, size: int) -> None:
    with pytest.raises(HeadError) as refusal:
        parse_request(read_in_pieces(case.data, size))
    assert refusal.value.status == case.expect["status"]
    assert case.expect["says"] in str(refusal.value)


@pytest.mark.parametrize("case", INVALID_REQUESTS, ids=str)
def test_invalid_request_is_refused_by_the_parser_alone(case: Case) -> None:
    with pytest.raises(HeadError) as refusal:
        parse_request(case.data)
    assert refusal.value.status == case.expect["status"]


@pytest.mark.parametrize("case", VALID_RESPONSES, ids=str)
def test_valid_response_is_read_as_expected(case: Case) -> None:
    expect = case.expect
    head = parse_response(case.data, expect["to"].encode())
    assert head.status == expect["status"]
    assert text(head.reason) == expect["reason"]
    assert head.minor == expect["minor"]
    assert head.length == expect["length"]
    assert head.keep_alive is expect["keep_alive"]
    assert text(head.upgrade) == expect.get("upgrade")
    assert (head.location is not None) is expect.get("location", False)
    assert head.fields == b"".join(line + b"\r\n" for line in case.data.split(b"\r\n")[1:-2])


@pytest.mark.parametrize("case", VALID_RESPONSES, ids=str)
@pytest.mark.parametrize("close", [False, True])
def test_response_is_sent_on_without_what_concerns_one_hop(case: Case, close: bool) -> None:
    method = case.expect["to"].encode()
    head = parse_response(case.data, method)
    sent = rewrite_response(head, close)
    start, *lines = sent.split(b"\r\n")
    expected = lines_sent_on(case)
    if close and head.status >= 200 and b"Connection: close" not in expected:
        expected.append(b"Connection: close")
    assert lines == [*expected, b"", b""]
    assert start == f"HTTP/1.1 {case.expect['status']} {case.expect['reason']}".encode("latin-1")
    seen = parse_response(sent, method)
    assert (seen.status, seen.reason, seen.length) == (head.status, head.reason, head.length)
    assert (seen.upgrade, seen.location) == (head.upgrade, head.location)
    assert rewrite_response(seen, close) == sent


@pytest.mark.parametrize("case", INVALID_RESPONSES, ids=str)
@pytest.mark.parametrize("size", PIECES)
def test_invalid_response_is_refused_alike_however_it_arrives(case: Case, size: int) -> None:
    with pytest.raises(HeadError) as refusal:
        parse_response(read_in_pieces(case.data, size), case.expect["to"].encode())
    assert refusal.value.status == case.expect["status"]
    assert case.expect["says"] in str(refusal.value)
