"""Reading from a socket in one greenlet, without reads in vain and without keeping others from running.

A read that finds nothing costs a system call and an exception, and a turn of the event loop costs more than a
read. So the size of a read decides what comes next:

    fewer than MORE bytes   the burst is probably over: wait for the event loop, then read
    more                    there is probably more: read again at once, BURST times at most

The limit is for the others: a peer that sends without pause would never let another greenlet run.
"""

import socket
import ssl
from typing import Any

from gevent import get_hub

from argotun.transport._private import is_tls, peek, raw_recv, readable, writable
from argotun.wire.streams import Backlog

SIZE = 64 * 1024
"""Bytes asked of a plain socket at once."""

RECORD = 16 * 1024
"""Bytes asked of TLS at once: OpenSSL gives no more than one record (RFC 8446 §5.1). And of a plain socket
while memory is scarce."""

MORE = 4096
"""A read of at least this many bytes was probably not the last of its burst."""

BURST = 8
"""Reads in a row before the event loop gets its turn."""

# States of TCP (linux/tcp_states.h): closed in both directions, and closed by the peer's FIN.
TCP_CLOSE, TCP_CLOSE_WAIT = 7, 8


class Reader:
    """The reading side of one gevent socket, plain or TLS.

    `backlog` is where the bytes go, if anywhere: while it is over its limit, reads are small. `waited` says
    that others have had their turn since it was last set to False. `torn` says that something came, behind
    the last bytes, that gave none: TLS may have a part of a record.
    """

    __slots__ = ("_hub", "_left", "_read", "_size", "_sock", "backlog", "torn", "waited")

    def __init__(self, sock: Any, backlog: Backlog | None = None) -> None:
        self._sock = sock
        self.backlog = backlog
        self._hub = get_hub()
        self._size = RECORD if is_tls(sock) else SIZE
        self._left = BURST
        self.waited = True
        self.torn = False
        self._read = raw_recv(sock)

    def recv(self) -> bytes:
        """The next bytes, b"" once the peer has ended gracefully; OSError when the connection is gone.

        TLS that ends without close_notify is an OSError: anyone on the way may have cut it.
        """
        left = self._left
        woken = False
        while True:
            if left <= 0:
                self._hub.wait(readable(self._sock))
                self.waited = woken = True
                left = BURST
            try:
                backlog = self.backlog
                scarce = backlog is not None and backlog.size > backlog.limit
                data = self._read(RECORD if scarce else self._size)
            except (BlockingIOError, ssl.SSLWantReadError):
                self.torn = self.torn or woken
                left = 0
            except ssl.SSLWantWriteError:
                self.torn = True
                self._hub.wait(writable(self._sock))
            except ssl.SSLZeroReturnError:
                return b""
            else:
                self.torn = False
                self._left = left - 1 if len(data) >= MORE else 0
                return data

    def pause(self) -> None:
        """Let the next read wait for the event loop: the last one has brought all that is expected."""
        self._left = 0

    def stop(self) -> None:
        """Take in no more, also where `recv` waits: what comes is for another reader of the socket."""
        readable(self._sock).stop()
        writable(self._sock).stop()

    def peer_left(self, *, halves: bool) -> bool:
        """As `peer_left` of this module."""
        return peer_left(self._sock, halves=halves)


def peer_left(sock: Any, *, halves: bool) -> bool:
    """Whether the peer has ended the connection, without reading what it sent before.

    With `halves`, a peer that has ended only its own direction is still there.
    """
    try:
        state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    except (OSError, AttributeError):
        # Not TCP, or not Linux: the next read shows it.
        return False
    return bool(state == TCP_CLOSE or (state == TCP_CLOSE_WAIT and not halves))


def untouched(sock: Any) -> bool:
    """Whether nothing has come on a socket that was read to its end, neither bytes nor the peer's end."""
    try:
        if is_tls(sock) and sock.pending():
            return False
        peek(sock, 1)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
