"""Reading from a socket in one greenlet: waits first where nothing can be there yet, and takes turns.

After a short answer the next read would only find an empty socket, so the reader waits for the
event loop before it tries; after a full one it tries at once, but not for ever: a peer that sends
without pause would otherwise keep every other greenlet from running.
"""

import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

from gevent import get_hub

from argotun.wire.streams import Backlog

SIZE = 64 * 1024
"""Bytes asked of a plain socket at once."""

RECORD = 16 * 1024
"""Bytes asked of TLS at once: OpenSSL gives no more than one record (RFC 8446 §5.1). And of a plain socket
where memory is scarce."""

MORE = 4096
"""A read of so many bytes was probably not the last of its burst."""

BURST = 8
"""Reads in a row before the event loop gets its turn."""

# TCP's own states (linux/tcp_states.h): all is over, and the peer has sent its FIN.
TCP_CLOSE, TCP_CLOSE_WAIT = 7, 8


class Reader:
    """The reading side of one gevent socket, plain or TLS.

    `backlog` is where the bytes go, if anywhere: while that is full, they are read in small pieces.
    """

    __slots__ = ("_hub", "_left", "_read", "_size", "_sock", "backlog")

    def __init__(self, sock: Any, backlog: Backlog | None = None) -> None:
        tls = getattr(sock, "_sslobj", None)
        self._sock = sock
        self.backlog = backlog
        self._hub = get_hub()
        self._size = SIZE if tls is None else RECORD
        self._left = BURST
        self._read: Callable[[int], bytes] = sock._sock.recv if tls is None else tls.read

    def recv(self) -> bytes:
        """The next bytes, b"" once the peer has ended in order; OSError when the connection is gone.

        TLS that ends without close_notify is an OSError: somebody else may have cut it.
        """
        left = self._left
        while True:
            if left <= 0:
                self._wait(self._sock._read_event)
                left = BURST
            try:
                backlog = self.backlog
                scarce = backlog is not None and backlog.size > backlog.limit
                data = self._read(RECORD if scarce else self._size)
            except (BlockingIOError, ssl.SSLWantReadError):
                left = 0
            except ssl.SSLWantWriteError:
                self._wait(self._sock._write_event)
            except ssl.SSLZeroReturnError:
                return b""
            else:
                self._left = left - 1 if len(data) >= MORE else 0
                return data

    def peer_left(self, *, halves: bool) -> bool:
        """Whether the peer has ended the connection, told without reading what it said before.

        `halves` says that a peer which has ended its own direction is still there.
        """
        try:
            state = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        except (OSError, AttributeError):
            # Not TCP, or not Linux: the next read tells.
            return False
        return state == TCP_CLOSE or (state == TCP_CLOSE_WAIT and not halves)

    def _wait(self, event: Any) -> None:
        if event is None:
            # Closed by another greenlet before this one came back.
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._hub.wait(event)
