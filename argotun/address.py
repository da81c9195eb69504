"""A host and a port as people write them."""

from typing import Any


def host_port(host: str, port: int | str) -> str:
    """`host:port`, with brackets round an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def socket_name(address: Any) -> str:
    """A socket's address as the system gives it, as `host:port`."""
    if isinstance(address, tuple) and len(address) >= 2:
        return host_port(address[0], address[1])
    return str(address)
