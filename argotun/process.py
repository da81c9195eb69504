"""A process: what leaves no image of its memory, and serves until SIGTERM or SIGINT.

The first signal drains a role, a second one stops it.
"""

import ctypes
import resource
import signal
import sys
from typing import Protocol

import gevent
from gevent.event import Event

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


class Role(Protocol):
    """A server or an agent."""

    def start(self) -> None:
        """Bind the ports and begin; ConfigError when that is not possible."""

    def drain(self) -> None:
        """Shut down gracefully; returns when nothing is left to wait for."""

    def stop(self) -> None:
        """Shut down at once."""


def run(role: Role) -> int:
    """Serve until the first signal, then drain; a second one cuts that short. Returns the exit code."""
    asked, pressed = Event(), Event()

    def signalled() -> None:
        (pressed if asked.is_set() else asked).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, signalled)
    role.start()
    asked.wait()
    draining = gevent.spawn(role.drain)
    gevent.wait([draining, pressed], count=1)
    if not draining.ready():
        draining.kill()
        role.stop()
        return CUT_SHORT
    draining.get()
    return 0
