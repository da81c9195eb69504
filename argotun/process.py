"""Run one role until SIGTERM or SIGINT: the first drains it, a second one stops it."""

import signal
from typing import Protocol

import gevent
from gevent.event import Event

CUT_SHORT = 1
"""The exit code of a drain that a second signal cut short."""


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
