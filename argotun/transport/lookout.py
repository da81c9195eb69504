"""A lookout for machines that are gone: a connection ends whose bytes nobody acknowledges.

A machine that loses its power, or a cable that is cut, says no goodbye. What is on its way then is repeated
for 15 minutes (net.ipv4.tcp_retries2 of tcp(7)), and TCP's keepalive is silent meanwhile. So one greenlet
looks about once a second at what the kernel knows of each connection. One ends where for `limit` seconds

    an answer is due        to bytes that nobody has acknowledged, or to a probe of a closed window
    and nothing was heard   no ACK at all, not even one that acknowledges nothing new
    for all that was tried  TRIES times and more

A reader that is merely slow has closed its window. It answers each probe of it (RFC 9293 §3.8.6.1), and each
repetition of bytes that it had no room for: it is never silent, and may take its time, of which
`stall_timeout` is the limit. The kernel's own TCP_USER_TIMEOUT does not tell the two apart. A single lost
probe looks like a long silence, since the pauses between probes grow: hence TRIES. Linux 6.15 and newer is
told to pause for half of `limit` at most, so that a machine which goes while its window is closed is known
for gone after one and a half; an older one pauses for up to two minutes.

Only Linux tells; elsewhere nobody is given up.
"""

import logging
import sys
from collections.abc import Callable
from fcntl import ioctl
from math import inf
from socket import IPPROTO_TCP
from struct import Struct
from termios import TIOCOUTQ
from time import monotonic
from typing import Any, NamedTuple

import gevent

from argotun.turns import NEXT_TURN

log = logging.getLogger("argotun.transport")

LOOK = 1.0
"""Seconds between two looks."""

AT_ONCE = 250
"""Connections that are looked at in one turn of the event loop: less than half a millisecond's work."""

TRIES = 3
"""Repetitions or probes in a row without an answer, of which a living peer's network does not lose all."""

TCP_INFO = 11
"""Linux's option number (linux/tcp.h); the socket module has no name for it everywhere."""

TCP_RTO_MAX_MS = 44
"""The same: the longest pause before a repetition or a probe, milliseconds, of 1,000 to 120,000."""

# Of struct tcp_info (linux/tcp.h): retransmits, probes; unacked; last_data_sent; last_ack_recv;
# total_retrans; notsent_bytes, which Linux has since 4.6.
_FIELDS = Struct("=2xBB20xI16xI8xI40xI40xI")


class Info(NamedTuple):
    """What the kernel knows of a connection."""

    timeouts: int
    """Times in a row that an acknowledgement did not come in time."""
    probes: int
    """Probes of a closed window since anything was heard."""
    unacked: int
    """Packets under way."""
    sent: int
    """Milliseconds since data was sent last, or repeated."""
    heard: int
    """Milliseconds since an ACK came last."""
    repeated: int
    """Packets that were repeated in the connection's whole life."""
    unsent: int
    """Bytes that the window has no room for."""

    @property
    def settled(self) -> bool:
        """Whether the peer has all that was written."""
        return not (self.unacked or self.unsent or self.probes)

    @property
    def due(self) -> bool:
        """Whether the peer owes an answer to what was sent last."""
        return self.probes > 0 or (self.unacked > 0 and self.heard > self.sent)


class Silence:
    """How long a peer has owed an answer, from one look to the next."""

    __slots__ = ("_repeated", "_since", "_timeouts")

    def __init__(self) -> None:
        self._since = inf
        self._timeouts = self._repeated = 0

    def seconds(self, info: Info, now: float) -> float:
        """The silence until `now` (monotonic seconds); 0.0 while nothing is due, or too little was tried."""
        if not info.due:
            self._since = inf
            return 0.0
        if now - info.heard / 1000 > self._since or self._since == inf:
            self._since, self._timeouts, self._repeated = now, info.timeouts, info.repeated
        # A packet that cannot even leave is a timeout, and a repetition into a closed window is none.
        tries = max(info.probes, info.timeouts - self._timeouts, info.repeated - self._repeated)
        return now - self._since if tries >= TRIES else 0.0


class _Connection:
    """One connection that is looked at; `settled` is the mark under which the peer had everything."""

    __slots__ = ("settled", "silence", "unheard", "written")

    def __init__(self, unheard: Callable[[str], None], written: Callable[[], object] | None) -> None:
        self.unheard = unheard
        self.written = written
        self.settled: object = None
        self.silence = Silence()


class Lookout:
    """Looks after the connections of a process; `limit` is in seconds, 0 for none.

    It costs a request nothing, and a connection about a microsecond for each look.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit if sys.platform == "linux" else 0.0
        self._kept: dict[Any, _Connection] = {}
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        """Begin to look."""
        if self._limit:
            self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Look no more."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)

    def keep(
        self, sock: Any, unheard: Callable[[str], None], written: Callable[[], object] | None = None
    ) -> None:
        """Look after a connected socket until it is dropped.

        `unheard(why)` is called, with words for people, once the peer is gone; it ends the connection, and
        must not wait. `written()` gives a mark that is another one once more was written: a connection whose
        peer has everything is not looked at while it stays the same.
        """
        if self._limit:
            try:
                sock.setsockopt(IPPROTO_TCP, TCP_RTO_MAX_MS, max(1000, int(self._limit * 500)))
            except OSError:
                # Not TCP, an older kernel, or more than its own limit.
                pass
            self._kept[sock] = _Connection(unheard, written)

    def drop(self, sock: Any) -> None:
        """Look no more after this one."""
        self._kept.pop(sock, None)

    def _run(self) -> None:
        while True:
            gevent.sleep(LOOK)
            self._look_at_each()

    def _look_at_each(self) -> None:
        """One round, in a frame of its own: the one that sleeps between would keep a connection."""
        for done, (sock, connection) in enumerate(list(self._kept.items()), 1):
            # It may have been dropped, and be looked after for somebody else by now.
            if self._kept.get(sock) is connection:
                try:
                    self._look(sock, connection)
                except Exception:
                    # A lookout that has ended would be missed by nobody.
                    log.exception("a fault in argotun")
            if not done % AT_ONCE:
                gevent.sleep(NEXT_TURN)

    def _look(self, sock: Any, connection: _Connection) -> None:
        mark = connection.written() if connection.written is not None else None
        if mark is not None and mark == connection.settled:
            return
        info = read(sock)
        if info is None or info.settled:
            connection.settled = mark
        if info is None:
            return
        seconds = connection.silence.seconds(info, monotonic())
        if seconds >= self._limit:
            size = unacknowledged(sock)
            self.drop(sock)
            connection.unheard(f"nobody acknowledged {size} byte{'s' * (size != 1)} for {seconds:.0f} s")


def read(sock: Any) -> Info | None:
    """What the kernel knows of a socket's connection; None where it has none, or tells nothing."""
    try:
        known = sock.getsockopt(IPPROTO_TCP, TCP_INFO, _FIELDS.size)
    except OSError:
        return None
    return Info._make(_FIELDS.unpack(known)) if len(known) == _FIELDS.size else None


def settled(sock: Any) -> bool:
    """Whether the peer's machine has all that was written; where the kernel does not tell, it has."""
    info = read(sock)
    return info is None or info.settled


def unacknowledged(sock: Any) -> int:
    """Bytes that were written to a socket and that its peer has not acknowledged."""
    return int.from_bytes(ioctl(sock.fileno(), TIOCOUTQ, bytes(4)), sys.byteorder)
