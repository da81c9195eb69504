"""A host and a port as people write them, and what a host may be."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any


def ip_of(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address that a host is, without brackets; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def can_be_named(host: str) -> bool:
    """Whether a host can be given to a resolver or to OpenSSL, which log a traceback or raise otherwise."""
    try:
        return b"\0" not in host.encode("idna")
    except UnicodeError:
        return False


def bracketed(host: str) -> str:
    """A host as a URL has it: with brackets round an IPv6 address."""
    return f"[{host}]" if ":" in host else host


def host_port(host: str, port: int | str) -> str:
    """`host:port`, with brackets round an IPv6 address."""
    return f"{bracketed(host)}:{port}"


def socket_name(address: Any) -> str:
    """A socket's address as the system gives it, as `host:port`."""
    if isinstance(address, tuple) and len(address) >= 2:
        return host_port(address[0], address[1])
    return str(address)
