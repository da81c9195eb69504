"""How long to wait before the next dial: exponential, with full jitter, forgotten after a good life.

Full jitter spreads a thousand agents that lost their server at once over the whole delay
(AWS Architecture Blog, "Exponential Backoff And Jitter").
"""

from collections.abc import Callable
from random import uniform

FIRST = 0.5
"""Upper bound of the first delay, seconds."""

FACTOR = 1.5

GOOD_LIFE = 30.0
"""A tunnel that lived so long, seconds, was no failed attempt."""


class Backoff:
    """Delays between dials; `longest` in seconds, `jitter(low, high)` picks one."""

    def __init__(self, longest: float, jitter: Callable[[float, float], float] = uniform) -> None:
        self._longest = longest
        self._jitter = jitter
        self._attempts = 0

    def delay(self) -> float:
        """Seconds to wait before the next attempt."""
        # Past a hundred attempts the power would only overflow.
        bound = min(self._longest, FIRST * FACTOR ** min(self._attempts, 100))
        self._attempts += 1
        return self._jitter(0.0, bound)

    def lived(self, seconds: float) -> None:
        """A tunnel ended after so many seconds."""
        if seconds >= GOOD_LIFE:
            self._attempts = 0

    def exhaust(self) -> None:
        """The next delay may be the longest: somebody else does the work meanwhile."""
        self._attempts = 100
