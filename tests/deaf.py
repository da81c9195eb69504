"""A listener that does not hear every port: as if what comes from it were led to a machine that is gone.

That is what a connection tracker does with the packets of a connection to a pod that was deleted. Here a
filter on the listening socket drops them before TCP sees them (socket(7), SO_ATTACH_FILTER): no answer, not
even a refusal.
"""

import ctypes
import socket
import struct
from collections.abc import Callable
from typing import Any

_ATTACH_FILTER = 26
_LOAD_HALF, _JUMP_EQUAL, _RETURN = 0x28, 0x15, 0x06
_ALL, _NONE = 0xFFFFFFFF, 0

_Step = tuple[int, int, int, int]
"""struct sock_filter: code, jump if true, jump if false, operand."""


class Attempts(list[Any]):
    """Makes the sockets of `transport/race.py`, and keeps them in order; `most` of them were open at once.

    With a `fault` no other socket is made than the first, and `faults` counts how often.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self.most = self.faults = 0
        self.fault: OSError | None = None
        self._make = make

    def __call__(self, *args: Any) -> Any:
        if self and self.fault is not None:
            self.faults += 1
            raise self.fault
        self.append(self._make(*args))
        self.most = max(self.most, len([each for each in self if each.fileno() != -1]))
        return self[-1]


def hear_nobody(listening: Any) -> None:
    """Let no packet through to a listening socket."""
    _attach(listening, [(_RETURN, 0, 0, _NONE)])


def hear_all_but(listening: Any, port: int) -> None:
    """Let all through but those from one port."""
    _attach(listening, [*_is_from(port), (_RETURN, 0, 0, _NONE), (_RETURN, 0, 0, _ALL)])


def hear_only(listening: Any, port: int) -> None:
    """Let none through but those from one port."""
    _attach(listening, [*_is_from(port), (_RETURN, 0, 0, _ALL), (_RETURN, 0, 0, _NONE)])


def _is_from(port: int) -> list[_Step]:
    """Go on with the next step where a segment is from this port, else with the one behind it."""
    # A segment begins with its source port.
    return [(_LOAD_HALF, 0, 0, 0), (_JUMP_EQUAL, 0, 1, port)]


def _attach(listening: Any, program: list[_Step]) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    # struct sock_fprog: how many steps, and where they are.
    listening.setsockopt(
        socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(code))
    )
