"""HELLO: what is said is understood, what is unknown is ignored, what is unusable is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argotun.errors import ProtocolError
from argotun.wire.frames import INITIAL_WINDOW, MAX_CREDIT
from argotun.wire.hello import MAX_HELLO, MAX_TEXT, Hello, decode
from tests.wire.mux_peers import QUICK

TEXT = st.text(max_size=50).filter(str.isprintable)


@QUICK
@given(st.builds(Hello, TEXT, st.integers(1, MAX_CREDIT), st.integers(0, MAX_CREDIT), TEXT, TEXT))
def test_what_was_said_is_what_is_understood(said: Hello) -> None:
    assert decode(said.encode()) == said


def test_the_keys_on_the_wire_stay() -> None:
    assert json.loads(Hello("1.2", 4096, 7, "api:443", "c1", 65536, 8192).encode()) == {
        "version": 2,
        "release": "1.2",
        "window": 4096,
        "maxStreams": 7,
        "target": "api:443",
        "cluster": "c1",
        "pool": 65536,
        "share": 8192,
        "reasons": False,
        "callers": False,
        "instance": "",
        "replica": "",
        "replicas": 0,
        "lingers": False,
    }


def test_an_empty_object_is_the_defaults() -> None:
    assert decode(b"{}") == Hello(release="", window=INITIAL_WINDOW, max_streams=0, target="")


def test_a_later_releases_keys_are_ignored() -> None:
    said = {**json.loads(Hello(target="api:443").encode()), "version": 3, "compress": {"a": [1, None]}}
    assert decode(json.dumps(said).encode()) == Hello(target="api:443")


BAD = {
    "empty": b"",
    "not JSON": b"hello",
    "not UTF-8": b'{"release":"\xff"}',
    "cut": b'{"release":"x',
    "trailing text": b"{} {}",
    "an array": b"[]",
    "null": b"null",
    "a string": b'"x"',
    "a number": b"2",
    "not a number": b"NaN",
    "deep arrays": b"[" * 8000,
    "deep objects": b'{"a":' * 3000,
    "release of a wrong type": b'{"release":1}',
    "release null": b'{"release":null}',
    "release too long": json.dumps({"release": "x" * (MAX_TEXT + 1)}).encode(),
    "release with a line break": b'{"release":"a\\nb"}',
    "release with half a surrogate": b'{"release":"\\ud800"}',
    "target a list": b'{"target":["a"]}',
    "target with NUL": b'{"target":"a\\u0000"}',
    "window zero": b'{"window":0}',
    "window negative": b'{"window":-1}',
    "window over 31 bits": b'{"window":2147483648}',
    "window a text": b'{"window":"1"}',
    "window a fraction": b'{"window":1.5}',
    "window true": b'{"window":true}',
    "window null": b'{"window":null}',
    "window infinite": b'{"window":Infinity}',
    "window with more digits than Python reads": b'{"window":' + b"9" * 9000 + b"}",
    "maxStreams negative": b'{"maxStreams":-1}',
    "replicas negative": b'{"replicas":-1}',
    "replica a number": b'{"replica":1}',
    "maxStreams an object": b'{"maxStreams":{}}',
}


def test_deep_nesting_is_a_protocol_error() -> None:
    # Interpreters differ in how deep they read; none may answer with an error of its own.
    try:
        assert decode(b'{"a":' + b"[" * 8000 + b"]" * 8000 + b"}") == Hello()
    except ProtocolError:
        pass


@pytest.mark.parametrize("payload", BAD.values(), ids=BAD.keys())
def test_an_unusable_hello_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="HELLO"):
        decode(payload)


def test_a_huge_hello_is_refused() -> None:
    assert decode(b"{}".ljust(MAX_HELLO)) == Hello()
    with pytest.raises(ProtocolError, match="over"):
        decode(b"{}".ljust(MAX_HELLO + 1))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@QUICK
@given(
    st.binary(max_size=60)
    | JSON.map(json.dumps).map(str.encode)
    | st.dictionaries(st.sampled_from(["release", "window", "maxStreams", "target", "x"]), JSON)
    .map(json.dumps)
    .map(str.encode)
)
def test_noise_raises_a_protocol_error_or_nothing(payload: bytes) -> None:
    try:
        said = decode(payload)
    except ProtocolError:
        return
    assert 1 <= said.window <= MAX_CREDIT
    assert 0 <= said.max_streams <= MAX_CREDIT
    assert len(said.release) <= MAX_TEXT
    assert len(said.target) <= MAX_TEXT
