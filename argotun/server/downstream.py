"""What an answer needs of the client's connection, and what is left of that when it has ended."""

from typing import Protocol


class Downstream(Protocol):
    """What an exchange asks of the connection that it answers on."""

    request_done: bool
    since: float

    @property
    def draining(self) -> bool:
        """Whether answers are to end their connection."""

    def proceed(self) -> None:
        """The answer is complete, or the connection raw: bytes that were held may go on."""

    def finish(self) -> None:
        """No more answers: half-close behind what is queued and discard what still comes."""

    def record(self, seconds: float) -> None:
        """Count the request that has ended, after so many seconds."""


class Nobody:
    """The client of an exchange whose connection has ended."""

    request_done = True
    since = 0.0
    draining = True

    def proceed(self) -> None:
        """Nothing is held."""

    def finish(self) -> None:
        """The connection has ended."""

    def record(self, seconds: float) -> None:
        """Nothing was asked."""


NOBODY = Nobody()
"""One is enough: it keeps nothing."""
