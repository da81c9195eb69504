"""What SIGTERM and SIGINT mean to a process that runs one role."""

import signal
from typing import Protocol

import gevent
from gevent.event import Event

CUT_SHORT = 1
"""The exit code of a drain that a second signal has ended."""


class Role(Protocol):
    """A server or an agent."""

    def start(self) -> None:
        """Bind the ports and begin; ConfigError when that is not possible."""

    def drain(self) -> None:
        """End in order, which may take a while."""

    def stop(self) -> None:
        """End at once."""


def run(role: Role) -> int:
    """Serve until the first signal, then drain; a second one ends the drain. The process's exit code."""
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
