"""Where the greenlet that feeds a stream waits until the stream can take more."""

from gevent.event import Event

from argotun.wire.streams import Stream

HIGH_WATER = 128 * 1024
"""A sender waits once this much is queued for its stream, bytes: one batch."""


class Gate:
    """Where the one greenlet that feeds a stream waits until the stream can take more."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: Event | None = None

    def wait(self, stream: Stream) -> None:
        """Return when little is queued for the stream, or when `open` is called since it is over.

        Where all streams together have much queued, little is nothing: each has one piece at most.
        """
        if stream.queued > (0 if stream.backlog.full else HIGH_WATER):
            stream.waiting = True
            self._event = Event()
            self._event.wait()
            self._event = None

    def open(self) -> None:
        """Let the waiting greenlet go on; called from `on_writable`, `on_over` and `on_lost`."""
        if self._event is not None:
            self._event.set()
