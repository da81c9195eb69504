"""Lines to a file descriptor, without ever waiting for its reader in the event loop.

A reader may stall (a full disk behind the container runtime, a paused terminal), and that must not stop the
tunnels. A thread that waited in its place would compete with the event loop for the interpreter. So lines
wait in one buffer, and leave it in pieces:

    the descriptor takes them   `poll` says so, and then a write of at most PIECE bytes does not block, which
                                POSIX promises of a pipe (write(2), PIPE_BUF)
    it does not                 a greenlet waits for it, and ends when the buffer is empty
    the buffer is full          lines are dropped and counted; `on_recovery` tells how many, after the stall
    a write fails               the buffer is dropped and counted (closed pipe, full disk)

The descriptor itself stays as it is: it may be shared with other processes, for which non-blocking writes
would fail, and whose lines must not end up within ours. So a piece is whole lines wherever one fits.
"""

import os
import select
import time
from collections.abc import Callable

import gevent
import gevent.event
import gevent.socket
from gevent import monkey

PIECE = 4096
"""Bytes per write: PIPE_BUF on Linux."""

ENOUGH = 64 * 1024
"""Bytes that are written before `delay` has passed."""

LAST_WORDS = 2.0
"""Seconds that a log may take to be written when its process ends."""

MAX_PENDING = 4 * 1024 * 1024
"""Bytes kept for a stalled reader: about a second of access lines at full speed."""

# gevent's own poll may switch to another greenlet even where it need not wait.
_poll: Callable[[], select.poll] = monkey.get_original("select", "poll")


class LineWriter:
    """Writes whole lines to a descriptor, soon and in the order in which they came.

    `delay` is the time in seconds that a line may wait for others, which makes it cheap; 0 writes it at once.
    `dropped` counts the lines that were not written; `on_recovery` is called with their number when others
    are written again.
    """

    def __init__(self, fd: int, delay: float, on_recovery: Callable[[int], None] | None = None) -> None:
        self.dropped = 0
        self._fd = fd
        self._delay = delay
        self._on_recovery = on_recovery
        self._reported = 0
        self._broken = False
        self._room = MAX_PENDING
        self._pending = bytearray()
        self._flusher: gevent.Greenlet[[], None] | None = None
        self._due = gevent.event.Event()
        self._poller = _poll()
        self._poller.register(fd, select.POLLOUT)

    def write(self, line: str) -> None:
        """Take one line, which ends with a newline."""
        pending = self._pending
        if len(pending) >= self._room:
            self.dropped += 1
            return
        pending += line.encode("utf-8", "backslashreplace")
        if self._flusher is None:
            if self._delay or not self._write_ready():
                self._flusher = gevent.spawn(self._flush)
        elif len(pending) >= ENOUGH:
            self._due.set()

    def close(self, timeout: float = LAST_WORDS) -> None:
        """Write the buffer, for at most `timeout` seconds; later lines are dropped."""
        if self._flusher is not None:
            self._flusher.kill(block=False)
        deadline = time.monotonic() + timeout
        while not self._write_ready(deadline) and time.monotonic() < deadline:
            pass
        self._room = 0

    def _flush(self) -> None:
        """Write the buffer, wait where that is not possible, and end; the next line starts another."""
        self._due.wait(self._delay)
        self._due.clear()
        while not self._write_ready():
            self._wait()
        self._flusher = None
        lost = self.dropped - self._reported
        if lost and not self._broken and self._on_recovery is not None:
            self._reported = self.dropped
            self._on_recovery(lost)

    def _wait(self) -> None:
        """Wait for the reader; look again after a second, in case the descriptor was closed."""
        try:
            gevent.socket.wait_write(self._fd, timeout=1.0)
        except OSError:
            pass

    def _write_ready(self, deadline: float = 0.0) -> bool:
        """Write what the descriptor takes until `deadline` (monotonic seconds); True when nothing is left."""
        pending, sent = self._pending, 0
        try:
            while sent < len(pending) and self._poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                end = pending.rfind(b"\n", sent, sent + PIECE) + 1
                sent += os.write(self._fd, pending[sent : end or sent + PIECE])
                self._broken = False
        except BlockingIOError:
            pass
        except OSError:
            self.dropped += pending.count(b"\n", sent)
            sent = len(pending)
            self._broken = True
        del pending[:sent]
        return not pending
