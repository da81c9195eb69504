"""Dial out: every address of a name is tried, in time, with the socket options that long links need."""

import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from itertools import chain, zip_longest
from random import randrange
from typing import Any

import gevent
from gevent import socket as _socket
from gevent.monkey import get_original
from gevent.queue import Empty, SimpleQueue
from gevent.socket import socket

from argotun.address import host_port
from argotun.errors import DialError, NameLost
from argotun.transport.explain import explain
from argotun.transport.writer import keep_queue_short

STAGGER = 0.25
"""Seconds until the next address is tried beside one that has not answered, RFC 8305 §5."""

# A peer that is gone without a word is noticed after 30 + 3 x 10 s, or up to three times as late, and no NAT
# or load balancer forgets the connection (the strictest in use are at 240 and 350 s).
_KEEPALIVE = {_socket.TCP_KEEPIDLE: 30, _socket.TCP_KEEPINTVL: 10, _socket.TCP_KEEPCNT: 3}

# The standard library's own, which works in the calling thread.
_getaddrinfo = get_original("socket", "getaddrinfo")

Address = tuple[Any, ...]
"""Family, type, protocol, canonical name and address, as getaddrinfo gives them."""


def dial(host: str, port: int, timeout: float) -> socket:
    """Connect to `host` (a name or an address) within `timeout` seconds.

    The name is resolved anew each time, without blocking the event loop. Addresses are tried with
    the families in turn, the next one when one has failed or STAGGER seconds have passed; the first
    connection wins.

    Raises DialError when no connection could be made, naming every address and what became of it, the
    NameLost among them when there was none.
    """
    deadline = time.monotonic() + timeout
    return connect_any(resolve(host, port, deadline), host, port, deadline)


def keep_alive(sock: socket) -> None:
    """Set what a long-lived TCP connection needs: no Nagle delay, a short queue, and keepalive probes."""
    sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    keep_queue_short(sock)
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
    for option, least in _KEEPALIVE.items():
        # The probes of thousands that became idle together must not leave together: queues would drop
        # them together too, and living connections would be taken for dead.
        value = least if option == _socket.TCP_KEEPCNT else randrange(least, 3 * least)
        sock.setsockopt(_socket.IPPROTO_TCP, option, value)


def connect_any(addresses: list[Address], host: str, port: int, deadline: float) -> socket:
    """A connection to one of the addresses of `host` by `deadline` (monotonic seconds); DialError."""
    if len(addresses) == 1:
        sock, why = _attempt(addresses[0], deadline)
        failures = [f"{addresses[0][4][0]}: {why}"]
    else:
        sock, failures = _race(addresses, deadline)
    if sock is None:
        where = host_port(host.strip("[]"), port)
        raise DialError(f"cannot connect to {where}: {'; '.join(failures)}")
    return sock


def resolve(host: str, port: int, deadline: float) -> list[Address]:
    """The addresses of `host`, a name or an address itself, by `deadline` (monotonic seconds); DialError."""
    name, where = host.strip("[]"), host_port(host.strip("[]"), port)
    if not 0 < port < 65536 or not _can_be_asked(name):
        # The resolver would take such a port modulo 65536, and log a traceback for such a name.
        raise DialError(f"cannot connect to {where}: not a name and port that can be dialled")
    timer = gevent.Timeout.start_new(max(deadline - time.monotonic(), 0.001))
    try:
        found = (_read if _is_address(name) else _ask)(name, port)
    except gevent.Timeout as fired:
        if fired is not timer:
            raise
        raise NameLost(f"cannot connect to {where}: the name was not resolved in time") from None
    except OSError as error:
        raise NameLost(f"cannot connect to {where}: {explain(error)}") from error
    finally:
        timer.close()
    if not found:
        raise NameLost(f"cannot connect to {where}: the name has no address")
    return _in_turn(found)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _read(address: str, port: int) -> list[Address]:
    """An address asks nobody: it must not queue for the resolver's threads, which may all be waiting."""
    found: list[Address] = _getaddrinfo(address, port, type=_socket.SOCK_STREAM, flags=_socket.AI_NUMERICHOST)
    return found


def _ask(name: str, port: int) -> list[Address]:
    """A name is resolved in a thread of gevent's pool."""
    found: list[Address] = _socket.getaddrinfo(name, port, type=_socket.SOCK_STREAM)
    return found


def _can_be_asked(name: str) -> bool:
    try:
        return bool(name) and b"\0" not in name.encode("idna")
    except UnicodeError:
        return False


def _in_turn(addresses: Sequence[Address]) -> list[Address]:
    """Order addresses with the families in turn, the resolver's first choice first (RFC 8305 §4)."""
    first = addresses[0][0]
    same = [address for address in addresses if address[0] == first]
    other = [address for address in addresses if address[0] != first]
    return [address for address in chain(*zip_longest(same, other)) if address is not None]


def _attempt(address: Address, deadline: float) -> tuple[socket | None, str]:
    """Connect to one address: the socket, or None and why."""
    sock = None
    try:
        sock = socket(*address[:3])
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        sock.connect(address[4])
        sock.settimeout(None)
        keep_alive(sock)
    except OSError as error:
        if sock is not None:
            sock.close()
        return None, explain(error)
    except BaseException:
        if sock is not None:
            sock.close()
        raise
    return sock, ""


def _race(addresses: list[Address], deadline: float) -> tuple[socket | None, list[str]]:
    """Try addresses until one connects: its socket, or None and what became of each."""
    ended: SimpleQueue = SimpleQueue()
    failures: list[str] = []
    waiting = list(reversed(addresses))
    racing: list[gevent.Greenlet] = []
    try:
        while waiting or len(failures) < len(racing):
            if waiting:
                address = waiting.pop()
                racing.append(gevent.spawn(_run, address, deadline, ended.put))
            try:
                # Behind the last one there is nothing to start; each attempt ends by the deadline.
                address, sock, why = ended.get(timeout=STAGGER if waiting else None)
            except Empty:
                continue
            if sock is not None:
                return sock, failures
            failures.append(f"{address[4][0]}: {why}")
        return None, failures
    finally:
        gevent.killall(racing, block=False)
        while not ended.empty():
            _, late, _ = ended.get()
            if late is not None:
                late.close()


def _run(address: Address, deadline: float, put: Callable[[object], object]) -> None:
    put((address, *_attempt(address, deadline)))
