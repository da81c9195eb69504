"""A field that a hop replaces goes on no more, and nothing beside it changes."""

from argotun.wire.head import parse_request, rewrite_request

FIELDS = frozenset((b"traceparent", b"tracestate"))


def sent_on(lines: bytes) -> bytes:
    head = parse_request(b"GET /api HTTP/1.1\r\nHost: x\r\n%b\r\n" % lines)
    head.leave_out(FIELDS)
    return rewrite_request(head, head.target)


def test_each_line_of_it_goes_whatever_its_case() -> None:
    lines = b"A: 1\r\nTraceParent: x\r\nB: 2\r\ntracestate: y\r\nTRACESTATE:\r\nC: 3\r\n"
    assert sent_on(lines) == b"GET /api HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n"


def test_what_only_resembles_it_stays() -> None:
    lines = b"X-Traceparent: 1\r\nTraceparents: 2\r\nTrace-Parent: 3\r\nA: traceparent: 4\r\n"
    assert sent_on(lines) == b"GET /api HTTP/1.1\r\nHost: x\r\n%b\r\n" % lines


def test_what_else_may_not_travel_is_cut_as_before() -> None:
    lines = b"Traceparent: x\r\nAuthorization: Bearer abcdef\r\nConnection: close, a\r\nA: 1\r\nB: 2\r\n"
    assert sent_on(lines) == b"GET /api HTTP/1.1\r\nHost: x\r\nB: 2\r\n\r\n"
