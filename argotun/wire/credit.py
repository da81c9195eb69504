"""How much one side of a tunnel lets its peer have under way: windows, and the memory behind them.

Theory of operation
-------------------

A window bounds one stream. A thousand windows would be more than a tunnel may hold, so of what is not given
back yet each stream has a small share for certain, and what goes beyond the shares comes out of one pool.
Idle streams take nothing of it, and stalled ones leave every other its share.

    receive_credit + consumed + unread = window          for each stream
    sum of max(0, window - receive_credit - share) = used <= pool

Both sides keep the same `Account`: here it is of what *we* let the peer have, in `outbox` of what the peer
lets us have. Credit goes back by quarters of a window, and at once while the pool is short. A window grows
towards GAIN times what its reader takes in a round trip, and never shrinks: a reader that has become slow
holds no more than its share once others need the pool.
"""

from argotun.errors import ProtocolError
from argotun.wire.account import Account
from argotun.wire.frames import MAX_WINDOW
from argotun.wire.hello import MIN_SHARE
from argotun.wire.outbox import MIN_TURN
from argotun.wire.streams import REMOTE_DONE, Stream

GAIN = 2.0
"""The target window, as a multiple of what its reader consumes per round trip, as Linux sizes its receive
buffers ("Dynamic right-sizing", Fisk and Feng 2001): a quarter of it is always on its way back as credit,
and with less than 1.33 times it the link would stand still meanwhile. What is beyond waits for the link."""

TURN = 0.001
"""No round trip is shorter for a transfer, seconds: two event loops take their turns in it."""

STREAMS = 4096
"""For how many streams shares are set aside where this side states no limit: the agent's default limit."""

PARTS = 4
"""A tunnel's buffer in equal parts: the shares, the pool, and as much twice for what waits to be sent."""


def shares(budget: int, streams: int) -> tuple[int, int]:
    """The pool and each stream's share of a tunnel's buffer of `budget` bytes."""
    part = budget // PARTS
    return part, max(MIN_SHARE, part // (streams or STREAMS))


class Intake:
    """The receiving side's account of one tunnel.

    `short` says that so much of the pool is used that credit goes back early and no window grows. `strict`
    says that the peer keeps to the pool as well, so that going over it is its mistake.
    """

    __slots__ = ("_limit", "account", "short", "strict", "window")

    def __init__(self, window: int, pool: int, share: int) -> None:
        self.window = window
        self.account = Account(pool, share)
        self.strict = False
        # A sender leaves a part of the pool to others and stops long before the end; see Outbox.
        self._limit = pool // 4 if pool >= 4 * MIN_TURN else 0
        self.short = not self._limit

    def arrived(self, stream: Stream, size: int) -> bool:
        """Count DATA; True when the pool has just become short, or is `over`.

        ProtocolError beyond what was granted.
        """
        left = stream.receive_credit = stream.receive_credit - size
        if left < 0:
            raise ProtocolError(f"stream {stream.id} went over its credit")
        account = self.account
        beyond = stream.window - left - account.share
        if beyond <= 0:
            return False
        used = account.used = account.used + (beyond if beyond < size else size)
        if used > account.pool:
            if self.strict:
                raise ProtocolError("the streams together went over their credit")
            return True
        if used < self._limit or self.short:
            return False
        self.short = True
        return True

    @property
    def over(self) -> bool:
        """Whether there is more under way than the pool holds: by a peer that keeps no account of it."""
        return self.account.free < 0

    def consumed(self, stream: Stream, size: int) -> bool:
        """Count what a reader took; True when it is time to give it back.

        That is after a quarter of the window, and after half a share while the pool is short.
        """
        taken = stream.consumed = stream.consumed + size
        due = stream.window + 3 >> 2
        if self.short:
            due = max(1, min(due, self.account.share >> 1))
        return taken >= due and stream.state not in REMOTE_DONE

    def give_back(self, stream: Stream, now: float, rtt: float) -> tuple[int, int]:
        """The credit that goes back now, and by how much the window grows."""
        credit = stream.consumed
        stream.consumed = 0
        self.account.give_back(stream.window - stream.receive_credit, credit)
        growth = 0
        if self.short:
            self.short = self.account.used > self._limit >> 1 or not self._limit
        elif rtt:
            growth = _growth(stream, credit, now, max(rtt, TURN))
            stream.window += growth
        stream.receive_credit += credit + growth
        return credit, growth

    def forget(self, stream: Stream) -> None:
        """The stream is over: what it held is free."""
        under_way = stream.window - stream.receive_credit
        if self.account.give_back(under_way, under_way) and self.short and self._limit:
            self.short = self.account.used > self._limit >> 1


def _growth(stream: Stream, credit: int, now: float, rtt: float) -> int:
    """By how much the window is less than GAIN times what the reader takes in one round trip.

    What waited for a reader that was behind does not count: its pace says nothing of the link's.
    """
    passed = now - stream.updated
    unread = stream.window - stream.receive_credit - credit
    if unread > stream.window >> 2:
        stream.passed_on, stream.updated = -unread, now
        return 0
    taken = stream.passed_on = stream.passed_on + credit
    if passed < rtt:
        return 0
    stream.passed_on, stream.updated = 0, now
    return max(0, min(int(GAIN * taken * rtt / passed), MAX_WINDOW) - stream.window)


class Unlimited:
    """The same account for version 1, where nothing can be held back: it only tells who has too much."""

    __slots__ = ("_budget", "used", "window")

    def __init__(self, budget: int) -> None:
        self.window = budget
        self.used = 0
        self._budget = budget

    def arrived(self, stream: Stream, size: int, streams: int) -> bool:
        """Count DATA; True when the tunnel's buffer is full and this stream has more than its part."""
        stream.receive_credit -= size
        self.used += size
        return self.used > self._budget and stream.window - stream.receive_credit > self._budget // streams

    def consumed(self, stream: Stream, size: int) -> None:
        """Count what a reader took."""
        stream.receive_credit += size
        self.used -= size

    def forget(self, stream: Stream) -> None:
        """The stream is over: what it held is free."""
        self.used -= stream.window - stream.receive_credit
