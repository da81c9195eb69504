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
"""Trifles that may come at once: about a tenth of a second's work."""

SMALL_CREDIT = 512
"""Bytes: a WINDOW below this is a trifle; honest ones return a quarter of a window, or half of a share."""

CROSSING = 16
"""Frames that may cross our end of a stream whatever its credit: CONNECTED, END, CLOSE and a few of DATA."""

BANK = 64 * 1024 * 1024
"""Bytes that may be to come of streams that ended between two PINGs: the whole of a tunnel's pool and shares
at the default limits, and CROSSING frames of each of 4,096 streams."""


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


class Crossing:
    """What a peer may still say of streams that we have ended, since our CLOSE is on its way: in bytes.

    A frame counts as SMALL_CREDIT bytes at least, so that a request which was given up is good for a few
    hundred. An honest peer sends DATA within the credit that it has, returns what it was sent, and says
    farewell: however many clients give up at once, none of that is a trifle. Frames arrive in order: who has
    answered a PING knew of every end that was said before it, and whatever it says of those streams from then
    on is one.
    """

    __slots__ = ("_asked", "_later", "_left")

    def __init__(self) -> None:
        self._left = 0
        self._later = 0
        self._asked = b""

    def ended(self, credit: int, returning: int) -> None:
        """We have ended a stream whose peer may send `credit` bytes, and gives `returning` bytes back."""
        self._later = min(BANK, self._later + credit + returning + CROSSING * SMALL_CREDIT)

    def asked(self, payload: bytes) -> None:
        """A PING follows; its answer will speak for all that ended before.

        What ended before the last one is forgotten now, answered or not: it has crossed long ago.
        """
        self._left, self._later = self._later, 0
        self._asked = payload

    def answered(self, payload: bytes) -> None:
        """A PONG came; only that of the last PING counts."""
        if payload == self._asked:
            self._left = 0

    def bears(self, size: int = 0) -> bool:
        """Whether a frame with so many bytes of DATA may have crossed our end."""
        size = max(size, SMALL_CREDIT)
        if size > self._left + self._later:
            return False
        self._left -= size
        if self._left < 0:
            self._later += self._left
            self._left = 0
        return True
