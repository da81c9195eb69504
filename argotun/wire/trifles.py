"""Frames that carry next to nothing: each is cheap to send and dear to take, so only so many are borne.

HTTP/2 servers learnt in 2019 that control and empty frames need a limit of their own (CVE-2019-9512, -9515,
-9518): no window bounds them, and a megabyte of them is a hundred thousand calls. A peer that works as it
should sends few: a PING in 15 seconds, a WINDOW for some kilobytes that it took, DATA in chunks of up to
32 KiB.
"""

from argotun.errors import ProtocolError

TRIFLE = 16
"""Bytes: a WebSocket fragment below this is a trifle. DATA of a live stream is one only when it is empty: its
size is chosen by the client or the API behind an honest peer, down to a byte for each keystroke."""

RATE = 2000.0
"""Trifles a second that a tunnel may go on with: one or two hundredths of a processor."""

BURST = 20_000
"""Trifles that may come at once, as when thousands of clients leave: about a tenth of a second's work."""


class Patience:
    """What is left of one peer's trifles."""

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at = 0.0

    def spend(self, count: int, now: float) -> None:
        """Bear `count` trifles at `now` (monotonic seconds); ProtocolError (1008) when they are too many."""
        self._left = min(BURST, self._left + RATE * (now - self._at)) - count
        self._at = now
        if self._left < 0:
            raise ProtocolError("a flood of frames that carry nothing", 1008)
