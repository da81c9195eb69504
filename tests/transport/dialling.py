"""Dial as an agent does: its API, and through a proxy its server."""

from time import monotonic

from gevent.socket import socket

from argotun.config.proxies import Proxy
from argotun.transport.dial import Destination
from argotun.transport.proxy import tunnel


def dial(host: str, port: int, timeout: float) -> socket:
    """A connection to `host`, which was never dialled before, within `timeout` seconds."""
    return Destination(host, port, timeout).dial()


def dial_through(host: str, port: int, timeout: float, proxy: Proxy) -> socket:
    """A connection to `host` through `proxy` within `timeout` seconds."""
    deadline = monotonic() + timeout
    return tunnel(dial(proxy.host, proxy.port, timeout), proxy, host, port, deadline)
