"""A socket's writer that owes credit: bytes of a channel on their way out of the tunnel.

What the socket takes at once is given back to the channel at once. The rest is owed, and goes back as the
queue empties: so a slow reader slows its own stream, and nothing else.
"""

from typing import Any

from argotun.transport.writer import Writer
from argotun.tunnel.channel import Channel


class Outlet(Writer):
    """A `Writer` of the bytes of one channel at a time.

    `stalls` counts how often the socket could take no more since it was last set to 0.
    """

    __slots__ = ("_owed", "channel", "stalls")

    def __init__(self, sock: Any, on_error: Any, *, readable: bool = False, stall: float) -> None:
        super().__init__(sock, on_error, readable=readable, stall=stall)
        self.channel: Channel | None = None
        self.stalls = 0
        self._owed = 0
        self.on_sent = self._left

    def relay(self, data: bytes, credit: int) -> None:
        """Write bytes that came from the channel, where they took `credit` bytes of its window."""
        if self.write(data):
            if self.channel is not None:
                self.channel.consumed(credit)
        else:
            self.stalls += not self._owed
            self._owed += credit

    def forgive(self) -> int:
        """Owe nothing any more; how much it was."""
        owed, self._owed = self._owed, 0
        return owed

    def _left(self, size: int) -> None:
        """Queued bytes have left: their credit goes back. Rewritten heads differ a little in size."""
        credit = self._owed if not self.pending else min(size, self._owed)
        self._owed -= credit
        if self.channel is not None and credit:
            self.channel.consumed(credit)
