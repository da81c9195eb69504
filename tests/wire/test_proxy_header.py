"""The PROXY header says whose a connection is, in both versions, and nothing else passes for one."""

from struct import pack

import pytest

from argotun.errors import ProtocolError
from argotun.wire.proxy_header import MOST, SIGNATURE, Origin, missing, parse

V4 = bytes((192, 0, 2, 7)) + bytes((10, 0, 0, 1)) + pack(">HH", 56324, 443)
V6 = bytes.fromhex("20010db8000000000000000000000007") + bytes(16) + pack(">HH", 1, 443)
MAPPED = bytes.fromhex("00000000000000000000ffffc0000207") + bytes(16) + pack(">HH", 1, 443)


def v2(body: bytes, family: int = 0x11, command: int = 0x21) -> bytes:
    return SIGNATURE + bytes((command, family)) + pack(">H", len(body)) + body


GOOD = [
    (v2(V4), ("192.0.2.7", 56324)),
    (v2(V4 + b"\x03\x00\x04abcd"), ("192.0.2.7", 56324)),
    (v2(V6, 0x21), ("2001:db8::7", 1)),
    (v2(MAPPED, 0x21), ("192.0.2.7", 1)),
    (v2(b"", 0x00, 0x20), None),
    (v2(V4, 0x11, 0x20), None),
    (v2(bytes(216), 0x31), None),
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n", ("192.0.2.7", 56324)),
    (b"PROXY TCP6 2001:db8::7 ::1 1 443\r\n", ("2001:db8::7", 1)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
]


@pytest.mark.parametrize(("said", "address"), GOOD)
def test_the_header_says_whose_the_connection_is(said: bytes, address: tuple[str, int] | None) -> None:
    assert parse(said) == Origin(len(said), address)
    assert parse(said + b"\x16\x03\x01") == Origin(len(said), address)


@pytest.mark.parametrize("said", [said for said, _ in GOOD])
def test_all_is_missing_but_what_is_there(said: bytes) -> None:
    for end in range(len(said)):
        assert 0 < missing(said[:end]) <= len(said) - end
    assert missing(said) == 0


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01",
        b"GET / HTTP/1.1\r\n",
        b"PROXY " + b"x" * 200,
        b"\r\n\r\n\x00\r\nQUIX",
        SIGNATURE + b"\x21\x11" + pack(">H", MOST),
    ],
)
def test_what_is_no_header_is_refused_at_once(said: bytes) -> None:
    with pytest.raises(ProtocolError, match="PROXY"):
        missing(said)


@pytest.mark.parametrize(
    "said",
    [
        b"PROXY TCP4 192.0.2.256 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 70000 2\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY tcp4 192.0.2.7 10.0.0.1 1 2\r\n",
        v2(V4, command=0x11),
        v2(V4, command=0x22),
        v2(V4[:8]),
        v2(V4, family=0x21),
    ],
)
def test_a_header_that_is_malformed_is_refused(said: bytes) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        parse(said)
