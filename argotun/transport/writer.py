"""Writing to a socket: at once where it takes the bytes, otherwise queued and drained in the background.

A `Writer` is the only one that writes to its socket, so bytes leave in the order in which they were written.
`write` never blocks: the greenlet that reads a tunnel answers a client from where the bytes are, without
handing them over, and a stalled client must not stall the tunnel. A Writer is in one of four states:

    direct     no queue: `write` tries the socket; what it refuses becomes the queue        -> draining
    draining   a greenlet sends the queue, and ends when it is empty (`on_drained`)         -> direct
    ending     `finish`: nothing more is taken; behind the queue come close_notify, with TLS, and FIN
    closed     by `close`, `lingering_close`, `abort` or `release`, or the socket failed

Only a Writer with a queue has a greenlet, so that ten thousand idle connections have none. How much may be
queued is for the callers to decide: they see `pending`, and hear of bytes that leave by `on_sent`.
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

from argotun.transport import lookout
from argotun.transport._private import Buffer, close_notify, raw_send, tcp_finish, tcp_send
from argotun.turns import NEXT_TURN
from argotun.wire import pieces

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError)

LEFTOVER = 64 * 1024
"""Bytes read at once from a peer that is no longer listened to."""

TCP_NOTSENT_LOWAT = 25
"""Linux's option number (linux/tcp.h); the socket module has no name for it."""

UNSENT = 64 * 1024
"""Bytes the kernel holds for one socket beyond those in flight: two chunks. Its own limit is 4 MiB, and a
thousand stalled readers would fill that: more than the tunnel's whole buffer, and counted with it where a
container's memory is limited."""


class Writer:
    """The sending side of one gevent socket, plain or TLS.

    `pending` is the number of queued bytes. `on_sent(size)` is called as queued bytes leave, `on_drained()`
    when the queue is empty again: both in the draining greenlet. `on_error(reason)` is called once, when the
    socket fails, there or inside `write`. None of them may block. A socket that fails is closed, unless it
    is `readable`: a peer that takes no more may have said why.

    A peer that takes nothing for `stall` seconds (0 = no limit) is a failure too, which sets `stalled`:
    the socket is reset, so that the peer cannot take what it has for complete.
    """

    __slots__ = (
        "_drainer",
        "_ending",
        "_notified",
        "_queue",
        "_readable",
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
        self, sock: Any, on_error: Callable[[str], None], *, readable: bool = False, stall: float
    ) -> None:
        self._sock = sock
        self._send = raw_send(sock)
        self._queue: deque[Buffer] | None = None
        self._drainer: gevent.Greenlet | None = None
        self._ending = False
        self._notified = False
        self._readable = readable
        self._stall = stall or None
        self.stalled = False
        self.pending = 0
        self.closed = False
        self.on_sent: Callable[[int], None] | None = None
        self.on_drained: Callable[[], None] | None = None
        self.on_error = on_error

    @property
    def ready(self) -> bool:
        """Whether all that was written has left, and more could be."""
        return self._queue is None and not (self.closed or self._ending)

    @property
    def delivered(self) -> bool:
        """Whether the peer's machine has all that was written: the rest may end with this process."""
        return not self.pending and (self.closed or lookout.settled(self._sock))

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
            # Where OpenSSL would have blocked it wants the very same bytes again; it takes all or nothing.
            data = memoryview(data)[sent:] if sent else data
        pieces.append(self._queue, data)
        self.pending += len(data)
        return False

    def finish(self) -> None:
        """Half-close behind the queue: TLS close_notify, then TCP FIN. The other direction goes on."""
        if not self.closed and not self._ending:
            self._ending = True
            if self._queue is None:
                self._end()

    def flush(self, seconds: float) -> None:
        """Wait, for `seconds` at most, until the queue is empty or the socket has failed. Not in the hub."""
        with gevent.Timeout(seconds, False):
            # Behind the queue may come a close_notify with a queue of its own.
            while (drainer := self._drainer) is not None and not drainer.ready():
                drainer.join()

    def close(self) -> None:
        """Close the socket and drop the queue. Wakes the greenlet that reads from the socket."""
        if self.closed:
            return
        self.closed = True
        # Besides calling nobody from now on, this cuts the cycle of references to the owner.
        self.on_sent = self.on_drained = None
        self.on_error = _ignore
        self._queue = None
        self.pending = 0
        drainer = self._drainer
        if drainer is not None and drainer is not gevent.getcurrent():
            drainer.kill(block=False)
        self._drainer = None
        self._sock.close()

    def release(self) -> None:
        """Write no more, but leave the socket, on which nothing is queued, open for another Writer."""
        self.closed = True
        self.on_sent = self.on_drained = None
        self.on_error = _ignore

    def lingering_close(self, seconds: float) -> gevent.Greenlet | None:
        """Close so that the peer can still read what was written last; with a queue, a plain close.

        Closing a socket with bytes unread resets the connection, and the reset overtakes the last
        words. So a greenlet, which is returned, discards what the peer still sends, for `seconds` at most, on
        a duplicate of the descriptor; the socket itself is closed at once.
        """
        if self.closed:
            return None
        rest: socket | None = None
        if self._queue is None:
            self._end()
        if self._queue is None:
            try:
                rest = socket(fileno=os.dup(self._sock.fileno()))
            except OSError:
                # Out of descriptors, or the socket is gone: a plain close.
                pass
        self.close()
        return gevent.spawn(_discard, rest, seconds) if rest is not None else None

    def abort(self) -> None:
        """Close with a reset, so that the peer cannot take what it has for complete."""
        if not self.closed:
            try:
                self._sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, pack("ii", 1, 0))
            except OSError:
                pass
            self.close()

    def break_off(self) -> None:
        """Close, with a reset where something is queued: a part must not pass for the whole."""
        if self.pending:
            self.abort()
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

    def _end(self) -> None:
        """Send close_notify, which a full socket refuses like anything else, and FIN behind it."""
        if not self._notified:
            self._notified = True
            # These bytes are of no account to those who wrote the others.
            self.on_sent = None
            self._send = tcp_send(self._sock)
            record = close_notify(self._sock)
            try:
                sent = self._send(record) if record else 0
            except BlockingIOError:
                sent = 0
            except OSError:
                # Gone: the reader hears of it.
                sent = len(record)
            if sent < len(record):
                self._queue = deque([memoryview(record)[sent:]])
                self.pending += len(record) - sent
                self._drainer = gevent.spawn(self._drain)
                return
        tcp_finish(self._sock)

    def _await(self, wait: Callable[[int, float | None], None]) -> None:
        try:
            wait(self._sock.fileno(), self._stall)
        except TimeoutError:
            self.stalled = True
            self._fail(TimeoutError(f"took nothing for {self._stall:g} s"))
        except (OSError, ValueError) as error:
            self._fail(error)

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


def _ignore(_reason: str) -> None:
    """Stand in for `on_error` once the socket was closed on purpose."""


def _discard(sock: socket, seconds: float) -> None:
    """Read until the peer has ended, for `seconds` at most, then close."""
    try:
        with gevent.Timeout(seconds, False):
            while sock.recv(LEFTOVER):
                # A peer that floods would otherwise keep timers and other sockets from their turn.
                gevent.sleep(NEXT_TURN)
    except OSError:
        pass
    finally:
        sock.close()


def keep_queue_short(sock: Any) -> None:
    """Let the kernel hold about UNSENT bytes that have not left, at most.

    A busy tunnel's send buffer would grow to megabytes, and everything written next would wait behind
    them: the order of streams must be decided here. Bytes in flight do not count, so a long link is as fast.
    """
    try:
        sock.setsockopt(_socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT)
    except OSError:
        # Not TCP, or not Linux: streams are served the less fairly, the larger the kernel's buffer.
        pass
