"""What a client has said, looked at without taking it: nobody but the kernel holds what is not complete."""

import socket as _socket
from collections.abc import Callable
from time import monotonic

import gevent
from gevent.socket import socket, wait

from argotun.errors import HandshakeError, ProtocolError
from argotun.transport._private import peek, readable
from argotun.transport.reader import peer_left

LOOK = 32 * 1024
"""Bytes that are looked at; more than any beginning that is waited for has."""

_PAUSE = 0.05
"""Seconds between two looks where the kernel wakes us for less than was asked for."""


def look(sock: socket, missing: Callable[[bytes], int], until: float, what: str) -> bytes:
    """Wait until `missing` says of all that has arrived that it lacks 0 bytes more; what has arrived.

    It is b"" when the client has left without a word. `until` is a monotonic time. The kernel is told how
    much is waited for, so that a client that sends byte after byte wakes nobody. Raises HandshakeError when
    the time is over, the client leaves in the middle, or `missing` has raised ProtocolError.
    """
    asked = 1
    seen = b""
    try:
        while True:
            before = len(seen)
            late = HandshakeError(
                f"{what} did not arrive in time" if seen else "the other side said nothing in time"
            )
            left = until - monotonic()
            if left <= 0:
                raise late
            wait(readable(sock), left, late)
            seen = peek(sock, LOOK)
            if not seen:
                return b""
            more = missing(seen)
            if not more:
                return seen
            if len(seen) == before or len(seen) >= LOOK:
                # The client has ended its half, or this kernel does not wait for as much as it was asked to.
                if peer_left(sock, halves=False):
                    raise HandshakeError(f"the other side left in the middle of {what}")
                gevent.sleep(_PAUSE)
            if len(seen) + more != asked:
                asked = len(seen) + more
                _ask_for(sock, asked)
    except ProtocolError as error:
        raise HandshakeError(str(error)) from error
    finally:
        if asked != 1:
            _ask_for(sock, 1)


def _ask_for(sock: socket, size: int) -> None:
    """Have the kernel call a socket readable when so many bytes are there, or the other side has ended."""
    try:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVLOWAT, size)
    except OSError:
        # Not every system has it: then there are more looks.
        pass
