"""Lines to a file descriptor, in batches, without ever holding up the event loop.

A log whose reader stalls (a full disk behind the container runtime, a paused terminal) must not stop
the tunnels. The descriptor may be shared with other processes, so it is not made non-blocking; each
write is preceded by a poll and is at most `PIECE` bytes long, which a pipe that polls as writable
takes without blocking (POSIX write(2), PIPE_BUF).
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

BATCH = 64 * 1024
"""Characters that are written without waiting for `delay` to pass."""

MAX_PENDING = 4 * 1024 * 1024
"""Characters kept for a stalled reader: about a second of access lines at full speed."""

# gevent's own poll may switch to another greenlet even where it need not wait.
_poll: Callable[[], select.poll] = monkey.get_original("select", "poll")


class Sink:
    """Writes whole lines to a descriptor, in order, soon; drops what a stalled reader does not take.

    `delay` is how long, in seconds, a line may wait for company; 0 tries at once. `on_recovery` is
    called with the number of dropped lines when the reader takes lines again.
    """

    def __init__(self, fd: int, delay: float, on_recovery: Callable[[int], None] | None = None) -> None:
        self.dropped = 0
        self._fd = fd
        self._delay = delay
        self._on_recovery = on_recovery
        self._reported = 0
        self._broken = False
        self._lines: list[str] = []
        self._size = 0
        self._batch = b""
        self._written = 0
        self._flusher: gevent.Greenlet[[], None] | None = None
        self._wake = gevent.event.Event()
        self._poller = _poll()
        self._poller.register(fd, select.POLLOUT)

    def write(self, line: str) -> None:
        """Take one line that ends with a newline."""
        if self._size >= MAX_PENDING:
            self.dropped += 1
            return
        self._lines.append(line)
        self._size += len(line)
        if self._flusher is None:
            if self._delay == 0 and self._write_ready(0):
                return
            self._flusher = gevent.spawn(self._flush)
        elif self._size >= BATCH:
            self._wake.set()

    def close(self, timeout: float = 2.0) -> None:
        """Write what is pending, for at most `timeout` seconds; lines after this are dropped."""
        if self._flusher is not None:
            self._flusher.kill(block=False)
        deadline = time.monotonic() + timeout
        while not self._write_ready(max(0.0, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                break
        self._size = MAX_PENDING

    def _flush(self) -> None:
        """Write until nothing is left, then end; the next line starts another."""
        while self._lines or self._batch:
            self._wake.wait(self._delay)
            self._wake.clear()
            while not self._write_ready(0):
                self._wait()
            if self._on_recovery and self.dropped > self._reported and not self._broken:
                lost, self._reported = self.dropped - self._reported, self.dropped
                self._on_recovery(lost)
        self._flusher = None

    def _wait(self) -> None:
        """Wait until the reader goes on; look again each second, in case the descriptor was closed."""
        try:
            gevent.socket.wait_write(self._fd, timeout=1.0)
        except OSError:
            pass

    def _write_ready(self, wait: float) -> bool:
        """Write what the descriptor takes, waiting `wait` seconds for it; True when nothing is left.

        A descriptor that is broken (closed pipe, full disk) swallows the batch, which counts as dropped.
        """
        while self._batch or self._take():
            try:
                if not self._poller.poll(wait * 1000):
                    return False
                self._written += os.write(self._fd, self._piece())
                self._broken = False
            except BlockingIOError:
                return False
            except OSError:
                self.dropped += self._batch.count(b"\n", self._written)
                self._written = len(self._batch)
                self._broken = True
            if self._written == len(self._batch):
                self._batch = b""
        return True

    def _take(self) -> bool:
        """Turn the pending lines into the next batch."""
        if not self._lines:
            return False
        self._batch = "".join(self._lines).encode(errors="backslashreplace")
        self._written = 0
        self._lines.clear()
        self._size = 0
        return True

    def _piece(self) -> bytes:
        """The next bytes to write: whole lines where they fit, as others may write to the pipe too."""
        start = self._written
        end = self._batch.rfind(b"\n", start, start + PIECE) + 1
        return self._batch[start : end or start + PIECE]
