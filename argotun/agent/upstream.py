"""One connection to the API, as the agent keeps it for the requests of one stream."""

from collections.abc import Callable
from typing import Any

from argotun.errors import HeadError
from argotun.transport.reader import Reader
from argotun.tunnel.channel import Channel
from argotun.tunnel.outlet import Outlet
from argotun.wire.outcomes import Cause


class Upstream:
    """A connected socket and its two directions; `outlet` writes, and owes its credit to `channel`.

    `served` says that it has carried a whole exchange: the API may close it at any time from then on.
    """

    __slots__ = ("_finishing", "_recv", "outlet", "served")

    def __init__(self, sock: Any, channel: Channel, on_error: Callable[[str], None], stall: float) -> None:
        """`on_error` and `stall` (seconds) are those of a Writer whose socket stays readable."""
        self._recv = Reader(sock, channel.backlog).recv
        self._finishing = False
        self.outlet = Outlet(sock, on_error, readable=True, stall=stall)
        self.outlet.channel = channel
        self.served = False

    def read(self, take: Callable[[bytes], None], wait: Callable[[], None]) -> tuple[Cause, str] | None:
        """Hand each piece to `take`, then `wait` until more is wanted, until the connection ends.

        What ended it, with words for people; None where this side did. A HeadError of `take` ends it too.
        """
        recv, outlet = self._recv, self.outlet
        try:
            while data := recv():
                if self._finishing:
                    continue
                take(data)
                if not outlet.closed:
                    wait()
                if outlet.closed:
                    return None
        except HeadError as error:
            return Cause.API_INVALID, f"the API's answer is refused: {error}"
        except OSError as error:
            if outlet.closed or self._finishing:
                return None
            return Cause.API_LOST, f"the API connection was lost: {error.strerror or error}"
        # Behind `leave` nothing that the API says matters, nor its end: what is queued for it still leaves.
        return None if outlet.closed or self._finishing else (Cause.API_ENDED, "")

    def finish(self) -> None:
        """Half-close behind what is queued; the other direction goes on."""
        self.outlet.finish()

    def leave(self) -> None:
        """Half-close behind what is queued, and discard what comes."""
        self._finishing = True
        self.finish()

    def flush(self, seconds: float) -> None:
        """Wait until what is queued has left, or the time is over."""
        self.outlet.flush(seconds)

    def close(self) -> None:
        """Close at once, and give back the credit of what was queued: the stream may carry more requests.

        What is queued is cut off, so that the API cannot take a part for the whole.
        """
        channel, self.outlet.channel = self.outlet.channel, None
        self.outlet.break_off()
        owed = self.outlet.forgive()
        if channel is not None and owed:
            channel.consumed(owed)
