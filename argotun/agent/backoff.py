"""How long to wait before the next dial: exponential, with full jitter, forgotten after a good life.

Full jitter spreads a thousand agents that lost their server at once over the whole delay
(AWS Architecture Blog, "Exponential Backoff And Jitter").
"""

from collections.abc import Callable
from random import uniform

FIRST = 0.5
"""Upper bound of the first delay, seconds."""

FACTOR = 1.5

COVERED = 2
"""Attempts that count while an older tunnel still serves, so that it is not outlived by a long delay.

The next server may get requests as soon as it can be dialled, each of which waits for `reconnect_grace`, 2 s:
the longest delay, 1.1 s, leaves 0.9 s for the dial, nine journeys there and back where one takes 100 ms."""

BESIDE = 5.0
"""The least upper bound while a tunnel to another replica serves, seconds: handshakes of hundreds of agents
that lost one of two would take the processors from the requests, and from agents that lost all."""

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

    def delay(self, covered: bool = False, nameless: bool = False, beside: bool = False) -> float:
        """Seconds to wait before the next attempt.

        `covered` when an older tunnel serves meanwhile, `beside` when one to another replica does, `nameless`
        when there was no address to dial.
        """
        if self._replaced:
            self._replaced = False
            return self._jitter(self._longest / 2, self._longest)
        # Past a hundred attempts the power would only overflow.
        bound = min(self._longest, FIRST * FACTOR ** min(self._attempts, 100))
        enough = nameless and bound >= NAMELESS
        if self._attempts < COVERED or not (covered or enough):
            self._attempts += 1
        return self._jitter(0.0, NAMELESS if enough else max(bound, BESIDE) if beside else bound)

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

    def alone(self) -> None:
        """There is no tunnel to another replica any more, and what was tried beside it does not count."""
        self._attempts = 0

    def replaced(self) -> None:
        """Another agent does the work now: the next delay is among the longest, however long this one did."""
        self._replaced = True


class Search:
    """Delays between dials for a replica where the agent is not yet, each of which led to one where it is.

    A load balancer that spreads connections finds one of three after a dial or two. One that sends an address
    always to the same replica never does, and is not to be asked for ever: after QUICK and SLOW dials the
    agent is `settled` with fewer tunnels, and looks again now and then.
    """

    QUICK = 5
    SLOW = 3
    NOW_AND_THEN = (300.0, 600.0)

    def __init__(self, jitter: Callable[[float, float], float] = uniform) -> None:
        self._jitter = jitter
        self._times = 0

    @property
    def settled(self) -> bool:
        """Whether it has given up but for a look now and then."""
        return self._times >= self.QUICK + self.SLOW

    def delay(self) -> float:
        """Seconds to wait after one more dial that led nowhere new."""
        self._times += 1
        if self.settled:
            return self._jitter(*self.NOW_AND_THEN)
        return self._jitter(0.05, 0.3) if self._times < self.QUICK else self._jitter(10.0, 20.0)

    def again(self) -> None:
        """Replicas may have come: a few more dials are worth it."""
        self._times = 0
