"""Dial out: every address of a name is tried, in time, with the socket options that long links need."""

from random import randrange
from time import monotonic

from gevent import socket as _socket
from gevent.socket import socket

from argotun.address import host_port
from argotun.errors import DialError, NameLost
from argotun.transport.explain import explain
from argotun.transport.race import AddressInfo, race
from argotun.transport.resolve import Resolver
from argotun.transport.writer import keep_queue_short

# A peer that is gone without a word is noticed after 30 + 3 x 10 s, or up to three times as late, and no NAT
# or load balancer forgets the connection (the strictest in use are at 240 and 350 s).
_KEEPALIVE = {_socket.TCP_KEEPIDLE: 30, _socket.TCP_KEEPINTVL: 10, _socket.TCP_KEEPCNT: 3}


class Destination:
    """A host (a name or an address) and a port that are dialled again and again, `timeout` seconds each time.

    Its errors name every address and what became of it. They are a DialError where no connection could be
    made, the NameLost among them when the name was not resolved: at all, or since its addresses were good.
    """

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self._host = host.strip("[]")
        self._where = host_port(self._host, port)
        self._resolver = Resolver(host, port, timeout)
        self._timeout = timeout

    def dial(self) -> socket:
        """Resolve the name anew, and connect."""
        deadline = monotonic() + self._timeout
        return self.connect(self.resolve(deadline), deadline)

    def resolve(self, deadline: float) -> list[AddressInfo]:
        """The addresses to connect to, by `deadline` (monotonic seconds)."""
        return self._resolver.addresses(deadline)

    def connect(self, addresses: list[AddressInfo], deadline: float) -> socket:
        """A connection to the first of the addresses that answers, by `deadline` (monotonic seconds)."""
        sock, failures = race(addresses, deadline)
        if sock is not None:
            try:
                keep_alive(sock)
            except OSError as error:
                sock.close()
                raise DialError(f"cannot connect to {self._where}: {explain(error)}") from error
            return sock
        # An address that was given as such stands in front already.
        whys = [failure.removeprefix(f"{self._host}: ") for failure in failures]
        problem = f"cannot connect to {self._where}: {'; '.join(whys)}"
        if lost := self._resolver.lost:
            raise NameLost(f"{problem}, as it was before; {lost}")
        raise DialError(problem)


def keep_alive(sock: socket) -> None:
    """Set what a long-lived TCP connection needs: no Nagle delay, a short queue, and keepalive probes."""
    if sock.family == _socket.AF_UNIX:
        return
    sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    keep_queue_short(sock)
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
    for option, least in _KEEPALIVE.items():
        # The probes of thousands that became idle together must not leave together: queues would drop
        # them together too, and living connections would be taken for dead.
        value = least if option == _socket.TCP_KEEPCNT else randrange(least, 3 * least)
        sock.setsockopt(_socket.IPPROTO_TCP, option, value)
