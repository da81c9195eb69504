"""Writing to a socket at once where it can take it, in order and in the background where it cannot.

A `Writer` is the only one that writes to its socket. `write` never blocks, so the reader of a
tunnel can answer a client from where the bytes are; what the socket refuses is queued, and a
greenlet that drains the queue exists only as long as there is one.
"""

import os
import socket as _socket
import ssl
from collections import deque
from collections.abc import Callable
from struct import pack
from typing import Any

import gevent
from gevent.socket import socket, wait_read, wait_write

Buffer = bytes | memoryview

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError)

DISCARD = 64 * 1024
"""Bytes read at once where they are only thrown away."""

TCP_NOTSENT_LOWAT = 25
"""Linux's option number (linux/tcp.h); the socket module has no name for it."""

UNSENT = 64 * 1024
"""What the kernel keeps of one socket beyond what is in flight, bytes: two chunks. Its own limit is 4 MiB,
which a thousand readers that stall would fill: more than the tunnel's whole buffer, and counted with it
where a container's memory is limited."""


class Writer:
    """The sending side of one gevent socket, plain or TLS.

    `pending` counts the bytes that are queued. `on_sent(size)` is called as queued bytes leave,
    `on_drained()` when the queue is empty again, `on_error(reason)` once when the socket fails;
    all three are called in the hub or the draining greenlet and must not block. A socket that
    fails is closed, except where it is `readable`: a peer that takes no more may have said why.

    A peer that takes nothing for `stall` seconds (0 = no limit) is a failure too, and `stalled`
    tells it from others: the socket is reset, so that the peer cannot take what it has for complete.
    """

    __slots__ = (
        "_drainer",
        "_ending",
        "_queue",
        "_readable",
        "_reading",
        "_send",
        "_sock",
        "_stall",
        "closed",
        "on_drained",
        "on_error",
        "on_sent",
        "pending",
        "stalled",
    )

    def __init__(
        self, sock: Any, on_error: Callable[[str], None], *, readable: bool = False, stall: float = 0.0
    ) -> None:
        tls = getattr(sock, "_sslobj", None)
        self._sock = sock
        # gevent's own send() would wait for the socket; these two answer at once.
        self._send: Callable[[Buffer], int] = sock._sock.send if tls is None else tls.write
        self._queue: deque[Buffer] | None = None
        self._drainer: gevent.Greenlet | None = None
        self._ending = False
        self._readable = readable
        self._reading = False
        self._stall = stall or None
        self.stalled = False
        self.pending = 0
        self.closed = False
        self.on_sent: Callable[[int], None] | None = None
        self.on_drained: Callable[[], None] | None = None
        self.on_error = on_error

    def write(self, data: Buffer) -> bool:
        """Send or queue one buffer; True when all of it has left."""
        if self.closed or self._ending:
            return False
        if self._queue is None:
            try:
                sent = self._send(data)
            except _WOULD_BLOCK:
                sent = 0
            except OSError as error:
                self._fail(error)
                return False
            if sent == len(data):
                return True
            self._queue = deque()
            self._drainer = gevent.spawn(self._drain)
            # OpenSSL wants the very same bytes again where it would have blocked; it takes all or nothing.
            data = memoryview(data)[sent:] if sent else data
        self._queue.append(data)
        self.pending += len(data)
        return False

    def finish(self, reading: bool = False) -> None:
        """Half-close behind what is queued: TLS close_notify, then TCP FIN.

        `reading` says that the other direction goes on, and that nothing of it may be lost.
        """
        if not self.closed and not self._ending:
            self._ending = True
            self._reading = reading
            if self._queue is None:
                self._end()

    def flush(self, seconds: float) -> None:
        """Wait until the queue is empty, the socket has failed or the time is over; never in the hub."""
        drainer = self._drainer
        if drainer is not None:
            drainer.join(seconds)

    def close(self) -> None:
        """Close the socket; what is queued is dropped. Wakes the greenlet that reads from it."""
        if self.closed:
            return
        self.closed = True
        # Nobody is called any more, and nothing here leads back to who would be.
        self.on_sent = self.on_drained = None
        self.on_error = _nobody
        self._queue = None
        self.pending = 0
        drainer = self._drainer
        if drainer is not None and drainer is not gevent.getcurrent():
            drainer.kill(block=False)
        self._drainer = None
        self._sock.close()

    def leave(self, seconds: float) -> None:
        """Close in order, so that the peer can read what was written last.

        Closing a socket with bytes unread is a reset, and that overtakes the last words. What the
        peer still sends is discarded for so many seconds by a greenlet, on a duplicate of the
        descriptor: nobody else sees the socket any more.
        """
        if self.closed:
            return
        rest: socket | None = None
        if self._queue is None:
            self._end()
            try:
                rest = socket(fileno=os.dup(self._sock.fileno()))
            except OSError:
                # No descriptor left, or the socket is gone: then it is just closed.
                pass
        self.close()
        if rest is not None:
            gevent.spawn(_discard, rest, seconds)

    def abort(self) -> None:
        """Close with a reset, so that the peer cannot take what it has for complete."""
        if not self.closed:
            try:
                self._sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, pack("ii", 1, 0))
            except OSError:
                pass
            self.close()

    def _drain(self) -> None:
        queue = self._queue
        while queue and self._queue is queue:
            data = queue[0]
            try:
                sent = self._send(data)
            except ssl.SSLWantReadError:
                self._await(wait_read)
                continue
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._await(wait_write)
                continue
            except OSError as error:
                self._fail(error)
                return
            if sent == len(data):
                queue.popleft()
            else:
                queue[0] = memoryview(data)[sent:]
            self.pending -= sent
            if self.on_sent is not None:
                self.on_sent(sent)
        if self._queue is not queue:
            # Closed, or failed, while this greenlet waited.
            return
        self._queue = None
        self._drainer = None
        if self._ending:
            self._end()
        elif self.on_drained is not None:
            self.on_drained()

    def _await(self, wait: Callable[[int, float | None], None]) -> None:
        try:
            wait(self._sock.fileno(), self._stall)
        except TimeoutError:
            self.stalled = True
            self._fail(TimeoutError(f"took nothing for {self._stall:g} s"))
        except (OSError, ValueError) as error:
            self._fail(error)

    def _end(self) -> None:
        tls = getattr(self._sock, "_sslobj", None)
        try:
            if tls is not None and self._reading:
                _notify(self._sock, tls)
            elif tls is not None:
                tls.shutdown()
        except OSError:
            # The peer's own close_notify is not waited for.
            pass
        try:
            self._sock._sock.shutdown(_socket.SHUT_WR)
        except OSError:
            pass

    def _fail(self, error: Exception) -> None:
        if not self.closed:
            on_error = self.on_error
            if self._readable:
                self._ending = True
                self._queue = None
                self._drainer = None
                self.pending = 0
            elif self.stalled:
                self.abort()
            else:
                self.close()
            on_error(str(error) or type(error).__name__)


def _notify(sock: Any, tls: Any) -> None:
    """Send a TLS close_notify and read nothing.

    OpenSSL looks for the peer's own close_notify in the same call, and drops the data that it finds
    in its place. So the descriptor leads to a pair of ours meanwhile, which has nothing to read, and
    what was written there is passed on.
    """
    here, there = _socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        number = sock.fileno()
        saved = os.dup(number)
        try:
            os.dup2(there.fileno(), number, inheritable=False)
            tls.shutdown()
        except ssl.SSLWantReadError:
            pass
        finally:
            os.dup2(saved, number, inheritable=False)
            os.close(saved)
        sock._sock.send(here.recv(DISCARD))


def _nobody(_reason: str) -> None:
    """The socket was closed on purpose."""


def _discard(sock: socket, seconds: float) -> None:
    """Read until the peer has ended or the time is over, then close."""
    try:
        with gevent.Timeout(seconds, False):
            while sock.recv(DISCARD):
                # A peer that floods would otherwise never let the time limit fire.
                gevent.sleep(0)
    except OSError:
        pass
    finally:
        sock.close()


def keep_queue_short(sock: Any) -> None:
    """Let the kernel hold at most about UNSENT bytes that have not left, so that turns are decided here.

    Without it a busy tunnel's send buffer grows to megabytes, and whatever is written next waits
    behind them. What is in flight does not count, so a long link is as fast as before.
    """
    try:
        sock.setsockopt(_socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT)
    except OSError:
        # Not TCP, or not Linux: fairness is then as good as the kernel's buffer is small.
        pass
