"""One connection to the API, as the agent keeps it for the requests of one stream."""

from collections.abc import Callable
from typing import Any

from argotun.transport.reader import Reader
from argotun.tunnel.channel import Channel
from argotun.tunnel.outlet import Outlet


class Upstream:
    """A connected socket and its two directions; `outlet` writes, and owes its credit to `channel`.

    served      it has carried a whole exchange: the API may close it at any time from now on
    finishing   what is queued is still written, what comes is for nobody
    """

    __slots__ = ("_sock", "finishing", "outlet", "recv", "served")

    def __init__(self, sock: Any, channel: Channel, on_error: Callable[[str], None], stall: float) -> None:
        """`on_error` and `stall` (seconds) are those of a Writer whose socket stays readable."""
        self._sock = sock
        self.outlet = Outlet(sock, on_error, readable=True, stall=stall)
        self.outlet.channel = channel
        self.recv = Reader(sock, channel.backlog).recv
        self.served = False
        self.finishing = False

    def finish(self) -> None:
        """Half-close behind what is queued; the other direction goes on."""
        self.outlet.finish(reading=True)

    def flush(self, seconds: float) -> None:
        """Half-close, and wait until what is queued has left or the time is over."""
        self.finishing = True
        self.finish()
        self.outlet.flush(seconds)

    def close(self) -> None:
        """Close at once, and give back the credit of what was queued: the stream may carry more requests."""
        channel, self.outlet.channel = self.outlet.channel, None
        self.outlet.close()
        owed = self.outlet.forgive()
        if channel is not None and owed:
            channel.consumed(owed)
