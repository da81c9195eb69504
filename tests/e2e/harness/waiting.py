"""Waiting for something to come true, with a deadline and a sentence for the day when it does not."""

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
