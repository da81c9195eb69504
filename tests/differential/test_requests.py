"""What argotun passes, other parsers read as it does, to the end of each body: or they refuse it.

They may refuse more, and argotun may; none may read the same bytes as another request, or as more of them.
"""

import hashlib
import random
from collections.abc import Iterator

import pytest
from gevent import socket

from argotun.errors import HeadError
from argotun.wire.body import ChunkedBody
from argotun.wire.head import CHUNKED, parse_request, rewrite_request
from tests.differential.readers import READERS
from tests.fuzz.heads import read
from tests.rig import Peer
from tests.wire.http_corpus import load
from tests.wire.test_body import INVALID, VALID

FIELDS = (b"impersonate-user", b"impersonate-group", b"accept", b"content-type", b"x-mark")
SECOND = b"GET /second HTTP/1.1\r\nHost: a\r\nX-Mark: second\r\nConnection: close\r\n\r\n"
CHUNKED_POST = b"POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
PATIENCE = 3.0
"""Seconds without an answer after which a reader is said to wait."""
LONGEST = 4096
"""Bytes of a body that is sent; a head that announces more is left out."""
EDITS = (b" ", b"\t", b"\r\n", b"\r", b"\n", b":", b",", b";", b"\0", b"0", b"A", b"_", b"chunked", b"\xa0")


class Waits(Exception):
    """The reader waits for more of a request than there is."""


@pytest.fixture(scope="module", params=READERS)
def reader(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """One of them: its name and its port."""
    with READERS[request.param]() as port:
        yield request.param, port


def streams() -> dict[str, bytes]:
    """Connections' worth of bytes that argotun passes, each with a second request behind."""
    cases = {str(case): case.data for case in load("request/valid")}
    found = {}
    for name, data in cases.items():
        found[name] = followed(data)
        head = parse_request(data)
        found[f"{name}, sent on"] = followed(rewrite_request(head, head.target))
    for name, body in VALID.items():
        found[f"chunks: {name}"] = CHUNKED_POST + body + SECOND
    for name, data in edited([*cases.values(), *(case.data for case in load("request/invalid"))], 120):
        found[f"head {name}"] = followed(data)
    bodies = [*VALID.values(), *INVALID.values()]
    for name, data in edited([body for body in bodies if len(body) < 300], 80, CHUNKED_POST):
        found[f"body {name}"] = CHUNKED_POST + data + SECOND
    return {name: data for name, data in found.items() if data}


def followed(data: bytes) -> bytes:
    """A head with a body as it announces it, and another request where the connection lives on."""
    head = parse_request(data)
    if head.length > LONGEST:
        return b""
    body = b"3\r\nabc\r\n0\r\n\r\n" if head.length == CHUNKED else b"x" * head.length
    # For llhttp any Upgrade ends the connection's HTTP; one that argotun does not know is not sent on.
    alone = not head.keep_alive or b"upgrade" in head.connection
    return data + body + (b"" if alone else SECOND)


def edited(cases: list[bytes], count: int, before: bytes = b"") -> Iterator[tuple[str, bytes]]:
    """Cases with a few small edits, as many as are asked for of those that argotun still passes."""
    chance = random.Random(7)
    made = 0
    while made < count:
        data = chance.choice(cases)
        if len(data) > 2000:
            continue
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(data) + 1)
            data = data[:at] + chance.choice(EDITS) + data[at + chance.randrange(2) :]
        if passes(before + data):
            made += 1
            yield f"{made}: {data!r}", data


def passes(data: bytes) -> bool:
    """Whether argotun reads exactly one request in this."""
    if not data.startswith(CHUNKED_POST):
        try:
            parse_request(data)
        except HeadError:
            return False
        return True
    body = ChunkedBody()
    try:
        return body.feed(data, len(CHUNKED_POST)) == len(data) and body.done
    except HeadError:
        return False


def ours(data: bytes) -> list[str]:
    """What argotun reads, in the terms of X-Read."""
    heads, bodies, refusal = read([data])
    assert not refusal
    found = []
    for raw, body in zip(heads, bodies, strict=True):
        head = parse_request(raw)
        content = dechunked(body) if head.length == CHUNKED else body
        values = [b",".join(head.values(name)).hex() for name in FIELDS]
        start = f"{head.method.decode()} {head.target.decode()} {hashlib.sha256(content).hexdigest()}"
        found.append(" ".join([start, *values]))
        if not head.keep_alive or head.upgrade:
            break
    return found


def dechunked(body: bytes) -> bytes:
    """The content of a chunked body that argotun has passed."""
    content = b""
    while size := int(body.partition(b"\r\n")[0].partition(b";")[0], 16):
        rest = body.partition(b"\r\n")[2]
        content += rest[:size]
        body = rest[size + 2 :]
    return content


def theirs(port: int, data: bytes, count: int) -> list[str]:
    """What the reader reads, up to what it refuses; raises Waits."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        peer = Peer(sock)
        found: list[str] = []
        try:
            peer.send(data)
            while len(found) <= count:
                sock.settimeout(PATIENCE if len(found) < count else 0.2)
                response = peer.response("HEAD")
                if response.status != 200:
                    break
                found.append((response.header("x-read") or "").rstrip())
        except TimeoutError:
            if len(found) < count:
                raise Waits(found) from None
        except (OSError, EOFError):
            pass
    return found


STREAMS = streams()


def test_nobody_reads_another_request(reader: tuple[str, int]) -> None:
    name, port = reader
    agreed = 0
    for what, data in STREAMS.items():
        expected = ours(data)
        found = theirs(port, data, len(expected))
        assert found == [each.rstrip() for each in expected[: len(found)]], (name, what, data)
        agreed += len(found) == len(expected)
    # One that refused everything would agree with everybody.
    assert agreed > 0.6 * len(STREAMS), (agreed, len(STREAMS))


def test_a_difference_would_be_seen(reader: tuple[str, int]) -> None:
    _, port = reader
    data = b"GET /a HTTP/1.1\r\nHost: a\r\nX-Mark: one\r\n\r\n" + SECOND
    expected = ours(data)
    assert theirs(port, data, 2) == [each.rstrip() for each in expected]
    assert theirs(port, data.replace(b"one", b"two"), 2) != [each.rstrip() for each in expected]
    with pytest.raises(Waits):
        theirs(port, b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx", 1)
