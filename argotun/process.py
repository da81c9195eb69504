"""A process: what leaves no image of its memory, and serves until SIGTERM or SIGINT.

The first signal drains a role, a second one stops it.
"""

import ctypes
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging import Logger
from typing import Protocol

import gevent
from gevent.event import Event

SIGNALS = (signal.SIGTERM, signal.SIGINT)

CUT_SHORT = 1
"""The exit code of a drain that a second signal cut short."""


_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """No crash leaves keys and tokens in a file; nobody but root can look into this process's memory.

    A limit of 0 is enough where cores are files; where they are piped to a program Linux ignores it, and
    minds only whether the process is dumpable (core(5), prctl(2)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt in this greenlet, whatever it waits for."""
    here = gevent.getcurrent()
    watchers = [gevent.signal_handler(number, gevent.kill, here, KeyboardInterrupt) for number in SIGNALS]
    try:
        yield
    finally:
        for watcher in watchers:
            watcher.cancel()


class Role(Protocol):
    """A server or an agent."""

    def start(self) -> None:
        """Bind the ports and begin, without waiting; ConfigError when that is not possible."""

    def told(self) -> None:
        """It is to end, and `drain` comes next: begin nothing new, and do not wait."""

    def drain(self) -> None:
        """Shut down gracefully; returns when nothing is left to wait for."""

    def stop(self) -> None:
        """Shut down at once."""


def run(role: Role, log: Logger) -> int:
    """Serve until the first signal, then drain; a second one cuts that short. Returns the exit code.

    The last line of `log` says that it has ended, and how.
    Up to here, and while the role starts, a signal is what `entry` makes of it: nobody is served yet.
    """
    asked, pressed = Event(), Event()

    def signalled() -> None:
        if not asked.is_set():
            role.told()
            asked.set()
        else:
            pressed.set()

    role.start()
    for number in SIGNALS:
        gevent.signal_handler(number, signalled)
    asked.wait()
    draining = gevent.spawn(role.drain)
    gevent.wait([draining, pressed], count=1)
    if not draining.ready():
        draining.kill()
        role.stop()
        log.warning("ended by a second signal: what was still in progress is cut off")
        return CUT_SHORT
    draining.get()
    log.info("ended")
    return 0
