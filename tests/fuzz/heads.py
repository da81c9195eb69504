"""Requests in a row, as a client's connection brings them: heads, bodies, and what is sent on for them."""

from argotun.errors import HeadError
from argotun.wire.head import CHUNKED, UNTIL_CLOSE, RequestHead, parse_request, rewrite_request
from argotun.wire.relay import BODY, HEAD, Relay
from tests.fuzz.cuts import cuts
from tests.fuzz.steps import Steps
from tests.wire.http_corpus import load
from tests.wire.test_head_fuzz import BEARER, FORBIDDEN
from tests.wire.test_head_oracles import check_request

Reading = tuple[list[bytes], list[bytes], str]


def check(data: bytes) -> None:
    """The same requests whichever way they arrive; each sent on so that it is read as it was."""
    with Steps(len(data)):
        heads, bodies, end = read([data])
    for pieces in cuts(data):
        assert read(pieces) == (heads, bodies, end), pieces
    for raw in heads:
        head = parse_request(raw)
        check_request(raw, head)
        travels(head)


def seeds() -> list[bytes]:
    """Heads of the corpus, with a body where they announce one, and behind one another."""
    heads = [case.data for kind in ("valid", "invalid") for case in load(f"request/{kind}")]
    short = [head for head in heads if len(head) < 700]
    bodies = {b"chunked\r\n": b"3\r\nabc\r\n0\r\n\r\n", b"Content-Length: 2": b"{}"}
    whole = [head + next((body for mark, body in bodies.items() if mark in head), b"") for head in short]
    return [*whole, b"".join(whole[:3])]


def read(pieces: list[bytes]) -> Reading:
    """The heads, the bytes of each body as they came, and how it ended: "", or why it was refused."""
    relay = Relay()
    relay.begin()
    heads: list[bytes] = []
    bodies: list[bytes] = []
    try:
        for piece in pieces:
            at = 0
            while at < len(piece):
                if relay.state == HEAD:
                    raw, at = relay.head(piece, at)
                    if raw is not None:
                        head = parse_request(raw)
                        heads.append(raw)
                        bodies.append(b"")
                        relay.follow(head.length)
                else:
                    passed, used = relay.take(piece[at:])
                    bodies[-1] += passed
                    at += used
                if relay.state not in (HEAD, BODY):
                    relay.begin()
    except HeadError as refusal:
        assert refusal.status in (400, 431, 501, 505)
        assert str(refusal).isprintable()
        # Of a body that is refused, more or less may have passed before: it depends on how it came.
        return heads, bodies[:-1] if relay.state == BODY else bodies, str(refusal)
    return heads, bodies, ""


def travels(head: RequestHead) -> None:
    """What is sent on says the same, and nothing that may not travel."""
    for extra, host in ((b"", None), (b"Audit-ID: 1\r\nAuthorization: Bearer own\r\n", b"kubernetes")):
        sent = rewrite_request(head, head.target, extra, host)
        seen = parse_request(sent)
        assert (seen.method, seen.target, seen.minor) == (head.method, head.target, head.minor)
        assert (seen.length, seen.upgrade) == (head.length, head.upgrade)
        assert seen.host == (host or head.host)
        assert seen.length >= CHUNKED != UNTIL_CLOSE
        check_request(sent, seen)
        others = sent.replace(b"Authorization: Bearer own\r\n", b"") if extra else sent
        assert not FORBIDDEN.search(others), others
        assert not BEARER.search(sent)
