"""One answer, as an API or an agent may give it: what a client gets of it, whichever way it arrives."""

from argotun.errors import HeadError
from argotun.wire.answer import MAX_INTERIM, Answer
from argotun.wire.head import parse_request, parse_response
from argotun.wire.location import is_own_path
from argotun.wire.outcomes import SERVER, Progress
from argotun.wire.relay import HEAD, IDLE
from tests.fuzz.cuts import cuts
from tests.fuzz.steps import Steps
from tests.wire.http_corpus import load

ASKED = [
    parse_request(head)
    for head in (
        b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n",
        b"GET /a HTTP/1.0\r\n\r\n",
    )
]
PREFIX = b"/tunnel/c1"


def check(data: bytes) -> None:
    """The first byte says what was asked."""
    asked = data[0] % len(ASKED) if data else 0
    said = data[1:]
    with Steps(len(said)):
        whole = read(asked, [said])
    sound(whole[0], asked)
    for pieces in cuts(said):
        cut = read(asked, pieces)
        if whole[2]:
            # More of an answer that goes wrong may have passed before it did.
            assert cut[2], pieces
            assert cut[0].startswith(whole[0]) or whole[0].startswith(cut[0]), pieces
        else:
            assert cut == whole, pieces


def seeds() -> list[bytes]:
    """Heads of the corpus, with a body where they announce one."""
    heads = [case.data for kind in ("valid", "invalid") for case in load(f"response/{kind}")]
    short = [head for head in heads if len(head) < 700]
    bodies = [b"3\r\nabc\r\n0\r\n\r\n" if b"chunked\r\n" in head else b"12345" for head in short]
    return [bytes([at % 4]) + head + body for at, (head, body) in enumerate(zip(short, bodies, strict=True))]


def read(asked: int, pieces: list[bytes]) -> tuple[bytes, int, str]:
    """What goes on to the client, the state behind it, and why the answer was refused."""
    answer = Answer(SERVER)
    answer.ask(ASKED[asked], Progress.SENT)
    answer.prefix = PREFIX
    out = b""
    try:
        for piece in pieces:
            rest = piece
            while rest and answer.state != IDLE:
                passed, used = answer.heads(rest) if answer.state == HEAD else answer.take(rest)
                out += passed
                rest = rest[used:]
    except HeadError as refusal:
        assert str(refusal).isprintable()
        return out, -1, str(refusal)
    return out, answer.state, ""


def sound(out: bytes, asked: int) -> None:
    """The heads that a client gets can be read, are few, and lead nowhere but into its cluster."""
    method = ASKED[asked].method
    for _ in range(MAX_INTERIM + 1):
        end = out.find(b"\r\n\r\n")
        if end < 0:
            return
        head = parse_response(out[: end + 4], method)
        if head.location is not None and 300 <= head.status < 400 and head.status != 304:
            assert head.location.startswith(PREFIX + b"/")
            assert is_own_path(head.location)
        if head.status == 101 or head.status >= 200:
            return
        out = out[end + 4 :]
    raise AssertionError("more interim answers than a client takes")
