"""pytest-xdist's workers beside gevent: what execnet's threads share stays real.

A worker has a real thread that receives which tests to run, started before any conftest is read; the
main thread waits for it. gevent's locks and events do not reach from one to the other: the hub of the
main thread finds nothing that could wake it, and gives up.
"""

from _thread import RLock
from time import sleep

import execnet.gateway_base

DOZE = 0.002
"""Seconds between two looks at a flag: a worker waits at its beginning and its end only."""


class Flag:
    """The part of threading.Event that a worker uses."""

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def clear(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        left = float("inf") if timeout is None else timeout
        while not self._set and left > 0:
            sleep(DOZE)
            left -= DOZE
        return self._set


def keep_real() -> None:
    """Give execnet real locks and events in this process; to be called before gevent patches anything."""
    model = execnet.gateway_base.MainThreadOnlyExecModel
    model.Lock = model.RLock = lambda _: RLock()
    model.Event = lambda _: Flag()
