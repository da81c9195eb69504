"""The standard streams: always there, in any encoding, and never an error.

A service manager may start a process without them, a terminal may have any encoding, a disk may be full, and
whoever read a pipe may have left. None of these is a reason to end.
"""

import io
import os
import select
import sys
from collections.abc import Mapping
from typing import Any, TextIO

STANDARD = (0, 1, 2)


class Forgiving(io.RawIOBase):
    """Bytes to a descriptor; those that it does not take are dropped, and `problem` says why."""

    def __init__(self, fd: int) -> None:
        self.problem: OSError | None = None
        self._fd = fd

    def write(self, data: Any, /) -> int:
        """Write some of it; how many bytes are dealt with."""
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            # Somebody else has made it non-blocking: it has a reader, who is slow.
            select.select([], [self._fd], [])
            return 0
        except OSError as error:
            self.problem = error
            return len(data)

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return os.isatty(self._fd)


def coloured(out: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a person reads it, on a terminal that knows colours, and has not asked for none.

    https://no-color.org
    """
    return out.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def secure() -> None:
    """Fill descriptors 0 to 2 where they are closed, and replace stdout and stderr by streams without errors.

    What a closed one leaves free the next socket would get, and then the log.
    """
    fill()
    for name, fd in (("stdout", 1), ("stderr", 2)):
        setattr(sys, name, forgiving(fd, getattr(sys, name)))


def fill() -> None:
    """Open /dev/null in the place of each standard descriptor that is closed."""
    for fd in STANDARD:
        try:
            os.fstat(fd)
        except OSError:
            try:
                opened = os.open(os.devnull, os.O_RDWR)
                os.dup2(opened, fd)
            except OSError:
                # A container may have no /dev. What is written is dropped then.
                continue
            if opened != fd:
                os.close(opened)


def forgiving(fd: int, like: TextIO | None) -> TextIO:
    """Text to a descriptor, in the encoding of `like`; what that lacks is written as an escape."""
    encoding = getattr(like, "encoding", None) or "utf-8"
    buffer = io.BufferedWriter(Forgiving(fd))
    return io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=True)


def problem(stream: TextIO | None) -> OSError | None:
    """What became of all that was written to a stream of `secure`: None where it was taken."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    if stream is None or not isinstance(raw, Forgiving):
        return None
    stream.flush()
    return raw.problem
