"""One connection to the API, as the agent keeps it for the requests of one stream."""

from collections.abc import Callable
from typing import Any

from argotun.errors import HeadError
from argotun.transport.lookout import Lookout
from argotun.transport.reader import Reader
from argotun.tunnel.channel import Channel
from argotun.tunnel.outlet import Outlet
from argotun.wire.outcomes import Cause


class Upstream:
    """A connected socket and its two directions; `outlet` writes, and owes its credit to `channel`.

    `served` says that it has carried a whole exchange: the API may close it at any time from then on. `owing`
    says that an answer, or the rest of one, is still to come. `plain` says that it has carried nothing but
    GETs without a body: see idle.py.
    """

    __slots__ = (
        "_deaf",
        "_lookout",
        "_on_error",
        "_reader",
        "_sock",
        "_unheard",
        "outlet",
        "owing",
        "plain",
        "served",
    )

    def __init__(
        self,
        sock: Any,
        channel: Channel,
        on_error: Callable[[str], None],
        stall: float,
        lookout: Lookout,
        written: Callable[[], object],
    ) -> None:
        """`on_error` and `stall` (seconds) are those of a Writer whose socket stays readable.

        `written` is for `lookout`, which looks whether the API's machine is there.
        """
        self._sock = sock
        self._reader = Reader(sock, channel.backlog)
        self._deaf = False
        self._on_error = on_error
        self._unheard = ""
        self._lookout = lookout
        lookout.keep(sock, self._gone, written)
        self.outlet = Outlet(sock, on_error, readable=True, stall=stall)
        self.outlet.channel = channel
        self.served = self.owing = False
        self.plain = True

    def read(self, take: Callable[[bytes], None], wait: Callable[[], None]) -> tuple[Cause, str] | None:
        """Hand each piece to `take`, then `wait` until more is wanted, until the connection ends.

        What ended it, with words for people; None where this side did. A HeadError of `take` ends it too.
        """
        reader, outlet = self._reader, self.outlet
        recv = reader.recv
        try:
            while data := recv():
                if self._deaf:
                    continue
                take(data)
                if not self.owing:
                    # A read at once could take in a part of a record, and nobody would know of it.
                    reader.pause()
                if not outlet.closed:
                    wait()
                if outlet.closed:
                    return self._cut()
        except HeadError as error:
            return Cause.API_INVALID, f"the API's answer is refused: {error}"
        except OSError as error:
            if outlet.closed or self._deaf:
                return self._cut()
            return _lost(error.strerror or str(error))
        # If deaf, nothing that the API says matters, nor its end: what is queued for it still leaves.
        return self._cut() if outlet.closed or self._deaf else (Cause.API_ENDED, "")

    def finish(self, *, deaf: bool = False) -> None:
        """Half-close behind what is queued; the other direction goes on, or is discarded if `deaf`."""
        self._deaf = self._deaf or deaf
        self.outlet.finish()

    def flush(self, seconds: float) -> None:
        """Wait until what is queued has left, or the time is over."""
        self.outlet.flush(seconds)

    @property
    def quiet(self) -> bool:
        """Whether another stream could go on with it, as far as this side can tell between two requests."""
        doubtful = self.owing or self._deaf or self.torn
        return self.served and self.plain and self.outlet.ready and not doubtful

    @property
    def torn(self) -> bool:
        """Whether the API may have begun to say something that nobody has asked for."""
        return self.served and not self.owing and self._reader.torn

    def release(self) -> Any:
        """Leave the socket open and give it away; the greenlet that reads from it must end first.

        Until then it hears nothing: what the API says in this moment stays to be seen in the socket.
        """
        self._lookout.drop(self._sock)
        self._reader.stop()
        self.outlet.channel = None
        self.outlet.release()
        return self._sock

    def close(self) -> None:
        """Close at once, and give back the credit of what was queued: the stream may carry more requests.

        What is queued is cut off, so that the API cannot take a part for the whole.
        """
        self._lookout.drop(self._sock)
        channel, self.outlet.channel = self.outlet.channel, None
        self.outlet.break_off()
        owed = self.outlet.forgive()
        if channel is not None and owed:
            channel.consumed(owed)

    def _gone(self, why: str) -> None:
        """The API's machine is gone. A reset: else the kernel might deliver later what was given up."""
        self._unheard = why
        self._on_error(why)
        self.outlet.abort()

    def _cut(self) -> tuple[Cause, str] | None:
        """What `read` gives where this side has closed."""
        return _lost(self._unheard) if self._unheard else None


def _lost(why: str) -> tuple[Cause, str]:
    return Cause.API_LOST, f"the API connection was lost: {why}"
