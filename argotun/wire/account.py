"""What all streams of a tunnel have under way in one direction, beyond the share that each has for certain.

Sender and receiver keep the same account of the same bytes, so that the sender never goes beyond the pool and
the receiver may take it for a mistake if it does.
"""

from argotun.wire.frames import MAX_CREDIT


class Account:
    """`used` bytes of `pool` are under way beyond the shares; `share` is what each stream has of its own."""

    __slots__ = ("pool", "share", "used")

    def __init__(self, pool: int = 0, share: int = MAX_CREDIT) -> None:
        self.pool = pool
        self.share = share
        self.used = 0

    @property
    def free(self) -> int:
        """What is left of the pool."""
        return self.pool - self.used

    def give_back(self, under_way: int, size: int) -> bool:
        """Of the `under_way` bytes of a stream `size` have arrived; whether the pool got some of them."""
        beyond = under_way - self.share
        if beyond <= 0:
            return False
        self.used -= min(beyond, size)
        return True
