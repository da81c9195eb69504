"""Dial through a proxy, as an agent does on its way to the server."""

from time import monotonic

from gevent.socket import socket

from argotun.config.proxies import Proxy
from argotun.transport.dial import connect_any, resolve
from argotun.transport.proxy import tunnel


def dial(host: str, port: int, timeout: float, proxy: Proxy) -> socket:
    """A connection to `host` through `proxy` within `timeout` seconds."""
    deadline = monotonic() + timeout
    first = (proxy.host, proxy.port)
    return tunnel(connect_any(resolve(*first, deadline), *first, deadline), proxy, host, port, deadline)
