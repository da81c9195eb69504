"""A ClientHello is complete when its last byte is there, however its records are cut; and it is bounded."""

import ssl

import pytest

from argotun.errors import ProtocolError
from argotun.wire.client_hello import MOST, RECORDS, missing, speaks_http


@pytest.fixture(scope="module")
def hello() -> bytes:
    """What OpenSSL says first: one record."""
    said = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), said, server_hostname="a").do_handshake()
    return said.read()


def records(message: bytes, size: int) -> bytes:
    """The same message in records of so many bytes."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece for piece in pieces)


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n"])
def test_plain_http_is_told_from_a_hello(hello: bytes, said: bytes) -> None:
    assert speaks_http(said)
    assert not speaks_http(hello)
    assert not any(speaks_http(other) for other in (b"", b"GET", b"SSH-2.0-x\r\n", b"\x16GET / "))


@pytest.mark.parametrize("pieces", [1, 3, RECORDS])
def test_all_is_missing_but_what_is_there(hello: bytes, pieces: int) -> None:
    # How long it is depends on OpenSSL: since 3.5 it holds a key of ML-KEM, a kilobyte more.
    said = records(hello[5:], -(-len(hello) // pieces))
    for end in range(len(said)):
        assert 0 < missing(said[:end]) <= len(said) - end
    assert missing(said) == 0
    assert missing(said + b"more") == 0


def test_one_look_behind_the_head_is_enough(hello: bytes) -> None:
    assert missing(hello[:9]) == len(hello) - 9


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n", b"\x15\x03\x01\x00\x02\x01\x00", b"\x16\x03\x01\x00\x00", b"\x00"]
)
def test_what_is_no_hello_is_left_to_openssl(said: bytes) -> None:
    assert missing(said) == 0


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x00\x04\x01" + (MOST + 1).to_bytes(3),
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        records(b"\x01\x00\x40\x00" + bytes(100), 1)[: 6 * (RECORDS + 1)],
    ],
    ids=["long", "longest", "in many records"],
)
def test_a_hello_that_no_client_says_is_refused(said: bytes) -> None:
    with pytest.raises(ProtocolError, match="ClientHello"):
        missing(said)
