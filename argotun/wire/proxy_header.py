"""The PROXY protocol, versions 1 and 2: what a proxy says in front of a connection about whose it is.

haproxy's proxy-protocol.txt. Version 2 is a signature of twelve bytes, a byte of version and command, one of
family and protocol, two of the size of what follows: addresses, ports, and fields that are skipped here.
Version 1 is a line: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443`.
"""

import ipaddress
import re
from typing import NamedTuple

from argotun.errors import ProtocolError

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
"""The first twelve bytes of version 2."""

HEAD = 16
"""Bytes of version 2 before the addresses."""

MOST = 4096
"""The longest header, bytes: addresses, and what clouds put behind them."""

LONGEST_LINE = 107
"""Bytes of version 1, with its end (proxy-protocol.txt §2.1)."""

_LINE = re.compile(rb"PROXY (?:UNKNOWN[^\r\n]*|(?:TCP4|TCP6) (\S+) (\S+) (\d{1,5}) (\d{1,5}))\r\n")
_SIZES = {0x11: 4, 0x21: 16}


class Origin(NamedTuple):
    """The header's size, and the client's address; None where the proxy speaks for itself."""

    size: int
    address: tuple[str, int] | None


def missing(seen: bytes) -> int:
    """How many bytes, at least, the header still lacks. ProtocolError when there is none."""
    if seen.startswith(b"PROXY "[: len(seen)]):
        if b"\n" in seen:
            return 0
        if len(seen) < LONGEST_LINE:
            # The shortest line is `PROXY UNKNOWN\r\n`.
            return max(1, 15 - len(seen))
    elif seen.startswith(SIGNATURE[: len(seen)]):
        return max(0, _size(seen) - len(seen))
    raise ProtocolError("no PROXY header, which is expected of this address (--trusted-proxies)")


def _size(seen: bytes) -> int:
    if len(seen) < HEAD:
        return HEAD
    size = HEAD + int.from_bytes(seen[14:16])
    if size > MOST:
        raise ProtocolError(f"a PROXY header of {size} bytes, over {MOST}")
    return size


def parse(seen: bytes) -> Origin:
    """What a complete header says; behind it `seen` may go on. ProtocolError when it cannot be used."""
    return _binary(seen) if seen.startswith(SIGNATURE) else _line(seen)


def _line(seen: bytes) -> Origin:
    found = _LINE.match(seen[:LONGEST_LINE])
    if found is None:
        raise ProtocolError("a malformed PROXY header")
    if found[1] is None:
        return Origin(found.end(), None)
    return Origin(found.end(), (_address(found[1].decode("ascii", "replace")), _port(int(found[3]))))


def _binary(seen: bytes) -> Origin:
    size = _size(seen)
    version, command = seen[12] >> 4, seen[12] & 15
    if version != 2 or command > 1:
        raise ProtocolError("a malformed PROXY header")
    length = _SIZES.get(seen[13])
    if command == 0 or length is None:
        return Origin(size, None)
    if size < HEAD + 2 * length + 4:
        raise ProtocolError("a malformed PROXY header")
    source = seen[HEAD : HEAD + length]
    port = int.from_bytes(seen[HEAD + 2 * length : HEAD + 2 * length + 2])
    return Origin(size, (_address(source), port))


def _address(said: str | bytes) -> str:
    """An address as text; an IPv4 address in an IPv6 one by itself, as the listener has it."""
    try:
        found = ipaddress.ip_address(said)
        return str(getattr(found, "ipv4_mapped", None) or found)
    except ValueError:
        raise ProtocolError("a malformed PROXY header") from None


def _port(number: int) -> int:
    if number > 65535:
        raise ProtocolError("a malformed PROXY header")
    return number
