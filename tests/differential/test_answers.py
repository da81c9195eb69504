"""An answer that argotun passes, gateways read as it does, to the end of its body: or they refuse it."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from gevent import socket
from gevent.server import StreamServer

from argotun.errors import HeadError
from argotun.wire.answer import Answer
from argotun.wire.head import CHUNKED as CHUNKED_BODY
from argotun.wire.head import parse_response
from argotun.wire.outcomes import SERVER, Progress
from argotun.wire.relay import HEAD, IDLE
from tests.differential.readers import GATEWAYS
from tests.differential.test_requests import EDITS, LONGEST, PATIENCE
from tests.fuzz.answers import ASKED
from tests.rig import Peer
from tests.wire.http_corpus import load
from tests.wire.test_body import VALID

GET = b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
REFUSED = (502, b"")


class Origin:
    """An API that gives one raw answer to each connection, and ends it."""

    def __init__(self) -> None:
        self.said = b""
        self.server = StreamServer(("127.0.0.1", 0), self._serve)

    def _serve(self, sock: Any, _peer: Any) -> None:
        try:
            peer = Peer(sock)
            peer.head()
            peer.send(self.said)
            peer.finish()
            peer.rest()
        except (OSError, EOFError):
            # A gateway that has enough of it hangs up.
            pass


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    made = Origin()
    made.server.start()
    yield made
    made.server.stop(timeout=0)


@pytest.fixture(scope="module", params=GATEWAYS)
def port(request: pytest.FixtureRequest, origin: Origin) -> Iterator[int]:
    """A gateway before that origin."""
    with GATEWAYS[request.param](origin.server.server_port) as port:
        yield port


def answers() -> dict[str, bytes]:
    """Answers to a GET that argotun passes and that are whole: of the corpus, and some with small edits."""
    found = {str(case): with_body(case.data) for case in load("response/valid")}
    found |= {f"chunks: {name}": CHUNKED + body for name, body in VALID.items()}
    chance = random.Random(11)
    cases = [data for data in found.values() if len(data) < 1000]
    cases += [data for case in load("response/invalid") if len(data := with_body(case.data)) < 1000]
    for _ in range(1500):
        data = chance.choice(cases)
        for _ in range(chance.randint(1, 2)):
            at = chance.randrange(len(data) + 1)
            data = data[:at] + chance.choice(EDITS) + data[at + chance.randrange(2) :]
        found[f"edited: {data!r}"] = data
    return {name: data for name, data in found.items() if ours(data)}


def with_body(data: bytes) -> bytes:
    """A head with the body that it announces, or five bytes where nobody can say."""
    try:
        head = parse_response(data, b"GET")
    except HeadError:
        return data + b"12345"
    if head.length == CHUNKED_BODY:
        return data + b"3\r\nabc\r\n0\r\n\r\n"
    return data + (b"x" * min(head.length, LONGEST) if head.length >= 0 else b"12345")


def ours(data: bytes) -> tuple[int, bytes] | None:
    """Status and body as argotun reads them; None where it refuses the answer or waits for more."""
    answer = Answer(SERVER, chunks=True)
    answer.ask(ASKED[0], Progress.SENT)
    out = b""
    try:
        while data and answer.state != IDLE:
            passed, used = answer.heads(data) if answer.state == HEAD else answer.take(data)
            out += passed
            data = data[used:]
    except HeadError:
        return None
    if answer.progress == Progress.UNTIL_CLOSE:
        out += answer.final
    elif answer.state != IDLE:
        return None
    left, right = socket.socketpair()
    with left, right:
        left.sendall(out)
        left.shutdown(socket.SHUT_WR)
        response = Peer(right).response()
    return response.status, response.body


def theirs(port: int) -> tuple[int, bytes]:
    """Status and body as a client gets them through the gateway; REFUSED for what is cut or refused."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.settimeout(PATIENCE)
        peer = Peer(sock)
        peer.send(GET)
        try:
            response = peer.response()
        except (OSError, EOFError):
            return REFUSED
        if response.status == 502:
            return REFUSED
        return response.status, response.body


def test_nobody_reads_another_answer(port: int, origin: Origin) -> None:
    agreed = 0
    found = answers()
    assert len(found) > 100
    for what, data in found.items():
        origin.said = data
        read = theirs(port)
        assert read in (ours(data), REFUSED), (what, data, read, ours(data))
        agreed += read != REFUSED
    assert agreed > 0.5 * len(found), (agreed, len(found))


def test_a_difference_would_be_seen(port: int, origin: Origin) -> None:
    origin.said = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    assert theirs(port) == ours(origin.said) == (200, b"abc")
    assert ours(origin.said.replace(b"abc", b"abd")) != theirs(port)
    origin.said = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc"
    assert theirs(port) == REFUSED
    assert ours(origin.said) is None
