"""A token bucket: so many requests per second on average, with bursts."""


class TokenBucket:
    """Allows `rate` requests per second (above 0) and `burst` at once; at least one."""

    __slots__ = ("_burst", "_full_at", "_interval")

    def __init__(self, rate: float, burst: float) -> None:
        self._interval = 1.0 / rate
        self._burst = max(1.0, burst) * self._interval
        # One number holds the level: the time at which the bucket would be full again.
        self._full_at = float("-inf")

    def take(self, now: float) -> bool:
        """Whether a request at `now` (monotonic seconds) is allowed; if so it is counted."""
        full_at = max(self._full_at, now) + self._interval
        # The tolerance keeps rounding from refusing what a bucket filled exactly in time would allow.
        if full_at - now > self._burst + 1e-9:
            return False
        self._full_at = full_at
        return True
