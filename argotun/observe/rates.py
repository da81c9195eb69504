"""Bytes a second of many counters, smoothed: measured all the time, for a person who looks at times."""

from collections.abc import Mapping
from math import exp

SPAN = 10.0
"""Seconds over which a rate is smoothed: a burst is still to be seen at the next look."""

Pair = tuple[float, float]


class Rates:
    """Two rates of each name, from counters that only grow."""

    def __init__(self) -> None:
        self._at = 0.0
        self._before: dict[str, Pair] = {}
        self._rates: dict[str, Pair] = {}

    def measure(self, counts: Mapping[str, Pair], now: float) -> None:
        """Take the counters as they are `now` (seconds); names that are not there any more are forgotten."""
        passed = now - self._at
        if self._before and passed > 0:
            part = 1 - exp(-passed / SPAN)
            self._rates = {
                name: self._smoothed(name, count, passed, part)
                for name, count in counts.items()
                if name in self._before
            }
        self._at = now
        self._before = dict(counts)

    def of(self, name: str) -> Pair:
        """Bytes a second, to the cluster and from it."""
        return self._rates.get(name, (0.0, 0.0))

    def _smoothed(self, name: str, count: Pair, passed: float, part: float) -> Pair:
        before, rate = self._before[name], self._rates.get(name, (0.0, 0.0))
        # A counter falls where a cluster was taken out of the file and put in again.
        first, second = ((max(0.0, new - old)) / passed for new, old in zip(count, before, strict=True))
        return rate[0] + (first - rate[0]) * part, rate[1] + (second - rate[1]) * part
