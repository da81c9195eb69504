"""Which version of a file was read: told by its stat alone, so that looking is cheap."""

import os
import stat
import time
from dataclasses import dataclass

SETTLED = 50_000_000
"""Nanoseconds after which another write must change a file's time: above a kernel's clock tick."""

Version = tuple[int, int, int, int]
"""Device, inode, size and modification time (ns); a symlink swap as Kubernetes does it changes the inode."""


def version_of(status: os.stat_result) -> Version:
    """The version that a stat result describes."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True, slots=True)
class Contents:
    """A file's bytes; `version` is None while a write in the same clock tick could still go unseen."""

    data: bytes
    version: Version | None


def read_version(path: str, limit: int) -> Contents:
    """Read at most `limit` + 1 bytes of a regular file, so that its length says whether it is over.

    Raises OSError with a `strerror` for a person.
    """
    status = os.stat(path)
    # A pipe or a device could block the whole process: look before opening, and do not wait.
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "it is not a regular file")
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        data = file.read(limit + 1)
    young = abs(time.time_ns() - status.st_mtime_ns) < SETTLED
    return Contents(data, None if young else version_of(status))
