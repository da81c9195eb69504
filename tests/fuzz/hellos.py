"""HELLO: it is read or refused, within bounds, and says the same when it is said again."""

import json

from argotun.errors import ProtocolError
from argotun.wire.frames import MAX_CREDIT
from argotun.wire.hello import MAX_TEXT, Hello, decode
from tests.fuzz.steps import Steps


def check(data: bytes) -> None:
    """One payload."""
    try:
        with Steps(len(data)):
            hello = decode(data)
    except ProtocolError as error:
        assert str(error).isprintable()
        return
    assert decode(hello.encode()) == hello
    for text in (hello.release, hello.target, hello.cluster):
        assert len(text) <= MAX_TEXT
        assert text.isprintable()
    for number in (hello.window, hello.max_streams, hello.pool, hello.share):
        assert type(number) is int
        assert 0 <= number <= MAX_CREDIT
    assert isinstance(json.loads(data), dict)


def seeds() -> list[bytes]:
    """Sound ones, and some that are not."""
    return [
        Hello().encode(),
        Hello(release="1.2", target="api.example:443", cluster="c1", pool=1 << 24, reasons=True).encode(),
        b'{"window": 1e3, "share": -1, "new": [1, {"a": null}]}',
        b'{"target": "\\ud800\\u202e", "window": NaN}',
        b"[" * 300,
        b'{"reasons": "yes"}',
        b'{"a":1,"a":2,"pool":' + b"9" * 40 + b"}",
    ]
