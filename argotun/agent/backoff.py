"""How long to wait before the next dial: exponential, with full jitter, forgotten after a good life.

Full jitter spreads a thousand agents that lost their server at once over the whole delay
(AWS Architecture Blog, "Exponential Backoff And Jitter").
"""

from collections.abc import Callable
from random import uniform

FIRST = 0.5
"""Upper bound of the first delay, seconds."""

FACTOR = 1.5

COVERED = 3
"""Attempts that count while an older tunnel still serves, so that it is not outlived by a long delay."""

NAMELESS = 5.0
"""Upper bound while the server's name cannot be resolved, seconds: waiting longer would spare nobody but
the resolver, and cost up to a minute after each minute without DNS."""

GOOD_LIFE = 30.0
"""A tunnel that lived so long, seconds, was no failed attempt."""


class Backoff:
    """Delays between dials; `longest` in seconds, `jitter(low, high)` picks one."""

    def __init__(self, longest: float, jitter: Callable[[float, float], float] = uniform) -> None:
        self._longest = longest
        self._jitter = jitter
        self._attempts = 0
        self._replaced = False

    def delay(self, covered: bool = False, nameless: bool = False) -> float:
        """Seconds to wait before the next attempt.

        `covered` when another tunnel serves meanwhile, `nameless` when there was no address to dial.
        """
        if self._replaced:
            self._replaced = False
            return self._jitter(self._longest / 2, self._longest)
        # Past a hundred attempts the power would only overflow.
        bound = min(self._longest, FIRST * FACTOR ** min(self._attempts, 100))
        enough = nameless and bound >= NAMELESS
        if self._attempts < COVERED or not (covered or enough):
            self._attempts += 1
        return self._jitter(0.0, NAMELESS if enough else bound)

    def handover(self) -> float:
        """Seconds to wait when the server sends a live tunnel away: none, the first time."""
        if self._attempts:
            return self.delay(covered=True)
        self._attempts = 1
        return 0.0

    def lived(self, seconds: float) -> None:
        """A tunnel served for so many seconds."""
        if seconds >= GOOD_LIFE:
            self._attempts = 0

    def replaced(self) -> None:
        """Another agent does the work now: the next delay is among the longest, however long this one did."""
        self._replaced = True
