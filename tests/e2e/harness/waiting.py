"""Waiting for something to come true, with a deadline and a sentence for the day when it does not."""

import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(what: str, probe: Callable[[], T], seconds: float = 30, every: float = 0.02) -> T:
    """The first true value of probe(); AssertionError that names what when the seconds are over."""
    deadline = time.monotonic() + seconds
    while True:
        failure: Exception | None = None
        try:
            if value := probe():
                return value
        except OSError as e:  # a port that nobody listens on yet
            failure = e
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}") from failure
        time.sleep(every)


def free_port() -> int:
    """A free TCP port of 127.0.0.1, below those that the kernel gives to outgoing connections."""
    for _ in range(1000):
        port = random.randrange(15000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port on 127.0.0.1")
