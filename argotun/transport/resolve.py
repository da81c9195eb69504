"""From a host to its addresses: a name is looked up anew each time, and its last addresses stand in.

There is one lookup of a name at a time, in a thread of gevent's pool; those that want the name meanwhile
share it. It lasts `patience` seconds at most: then it has failed, and the next who wants the name begins
another. A name that was resolved before keeps its addresses until a lookup brings others: they are given
where the lookup fails, and after MOMENT seconds where it has not ended, so that what still runs can be
reached, and be repaired, while a cluster's DNS is down. The lookup goes on meanwhile.
"""

import logging
import time
from collections.abc import Sequence
from itertools import chain, zip_longest

import gevent
from gevent import socket as _socket
from gevent.monkey import get_original

from argotun.address import can_be_named, host_port, ip_of
from argotun.errors import DialError, NameLost
from argotun.transport.explain import explain
from argotun.transport.race import AddressInfo

_log = logging.getLogger(__name__)

MOMENT = 0.5
"""Seconds that a lookup may take where addresses are at hand: a cluster's DNS answers within a tenth."""

_LATE = "the name was not resolved in time"

# The standard library's own, which works in the calling thread.
_getaddrinfo = get_original("socket", "getaddrinfo")


class Resolver:
    """The addresses of one host, a name or an address itself; `patience` in seconds is that of a lookup."""

    def __init__(self, host: str, port: int, patience: float) -> None:
        self._name, self._port = host.strip("[]"), port
        self._where = host_port(self._name, port)
        self._patience = patience
        self._literal = ip_of(self._name) is not None
        self._found: list[AddressInfo] = []
        self._problem = ""
        self._told = False
        self._began = 0.0
        self._lookup: gevent.Greenlet | None = None

    @property
    def lost(self) -> str:
        """Why the addresses that were given last are those of before; "" where they are fresh."""
        late = self._lookup is not None and time.monotonic() - self._began >= MOMENT
        return self._problem or (_LATE if late else "")

    def addresses(self, deadline: float) -> list[AddressInfo]:
        """Its addresses in the order of RFC 8305 §4, by `deadline` (monotonic seconds).

        Raises DialError for what cannot be asked for, NameLost when it is not resolved and never was.
        """
        if not 0 < self._port < 65536 or not (self._name and can_be_named(self._name)):
            # The resolver would take such a port modulo 65536, and log a traceback for such a name.
            raise DialError(f"cannot connect to {self._where}: not a name and port that can be dialled")
        if self._literal:
            return self._read()
        if self._lookup is None:
            self._began = time.monotonic()
            self._lookup = gevent.spawn(self._look)
        enough = min(deadline, self._began + MOMENT) if self._found else deadline
        if (seconds := enough - time.monotonic()) > 0:
            self._lookup.join(seconds)
        if not self._found:
            raise NameLost(f"cannot connect to {self._where}: {self._problem or _LATE}")
        return self._found

    def _read(self) -> list[AddressInfo]:
        """An address asks nobody: it must not queue for the resolver's threads, which may all be waiting."""
        flags = _socket.AI_NUMERICHOST
        try:
            found: list[AddressInfo] = _getaddrinfo(
                self._name, self._port, type=_socket.SOCK_STREAM, flags=flags
            )
        except OSError as error:
            raise DialError(f"cannot connect to {self._where}: {explain(error)}") from error
        return found

    def _look(self) -> None:
        """Ask once, and keep what is answered."""
        problem, found = _LATE, []
        timer = gevent.Timeout.start_new(self._patience)
        try:
            found = _socket.getaddrinfo(self._name, self._port, type=_socket.SOCK_STREAM)
            problem = "" if found else "the name has no address"
        except gevent.Timeout as fired:
            if fired is not timer:
                raise
        except OSError as error:
            problem = explain(error)
        finally:
            timer.close()
            self._lookup = None
        self._problem = problem
        if found:
            self._found = _in_turn(found)
        self._tell()

    def _tell(self) -> None:
        """Say once that old addresses are used, and once that they are not."""
        if self._problem and self._found and not self._told:
            last = ", ".join(dict.fromkeys(address[4][0] for address in self._found))
            _log.warning("%s: %s; its last addresses are used: %s", self._where, self._problem, last)
            self._told = True
        elif not self._problem and self._told:
            _log.info("%s: the name is resolved again", self._where)
            self._told = False


def _in_turn(addresses: Sequence[AddressInfo]) -> list[AddressInfo]:
    """Order addresses with the families in turn, the resolver's first choice first (RFC 8305 §4)."""
    first = addresses[0][0]
    same = [address for address in addresses if address[0] == first]
    other = [address for address in addresses if address[0] != first]
    return [address for address in chain(*zip_longest(same, other)) if address is not None]
