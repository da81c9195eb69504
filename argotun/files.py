"""Files that others replace while a process runs: has one changed, what is in it, and what is wrong with it.

`replace` is how argotun itself writes one of which others must never read a half.

All of them are text. Editors and shells of Windows begin it with a byte order mark, which is dropped here, in
one place; UTF-16, which such a mark announces, becomes UTF-8.

A file is looked at often and read seldom: its stat tells whether it is the one that was read. A stat that is
younger than a kernel's clock tick proves nothing, since another write may leave it as it is.
"""

import codecs
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EFBIG, EILSEQ, EINVAL
from pathlib import Path
from typing import Generic, TypeVar

SETTLED = 50_000_000
"""Nanoseconds after which another write must change a file's times: above a kernel's clock tick."""

Fingerprint = tuple[int, ...]
"""Device, inode, size, and the times of the last change to content and inode (ns). Symbolic links are
followed, so a Kubernetes volume's swap of `..data` shows as another inode."""


def fingerprint(path: str) -> Fingerprint | None:
    """What the file at `path` looks like without reading it; None if it is missing."""
    try:
        return _of(os.stat(path))
    except (OSError, ValueError):
        return None


def settled(seen: Fingerprint | None) -> bool:
    """Whether a later write would show: the file is missing, or old enough."""
    if seen is None:
        return True
    now = time.time_ns()
    return all(abs(now - at) >= SETTLED for at in seen[-2:])


def replace(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, in one step where there is one already; raises OSError."""
    new = path.with_name(f".new-{path.name}")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    new.replace(path)


@dataclass(frozen=True, slots=True)
class Contents:
    """A file's text as bytes, without a mark; `seen` is None while another write could still go unseen."""

    data: bytes
    seen: Fingerprint | None


def read(path: str, limit: int) -> Contents:
    """Read a regular file of at most `limit` bytes.

    Raises OSError with a `strerror` for a person, also for a larger one and for a pipe or a device.
    """
    # A pipe or a device could block the whole process: look before opening, and do not wait.
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(EINVAL, "it is not a regular file")
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            # A file of /proc says that it is empty, whatever can be read from it.
            data = file.read(limit + 1) if found.st_size <= limit else b""
    except ValueError:
        raise OSError(EINVAL, "its name holds a NUL") from None
    if max(found.st_size, len(data)) > limit:
        raise OSError(EFBIG, f"it is larger than {limit} bytes")
    seen = _of(found)
    return Contents(unmarked(data), seen if settled(seen) else None)


MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
"""Byte order marks, and what each says of the rest."""


def unmarked(data: bytes) -> bytes:
    """Text without its byte order mark, in UTF-8 where that says UTF-16; others as they are.

    Raises OSError where it is not what its mark says.
    """
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            rest = data[len(mark) :]
            try:
                return rest if encoding == "utf-8" else rest.decode(encoding).encode()
            except UnicodeError:
                raise OSError(EILSEQ, "it is not the UTF-16 that its byte order mark says") from None
    return data


@contextmanager
def readable(path: str) -> Iterator[str]:
    """A path by which a library that knows of no marks reads the same text, as long as the `with` lasts.

    It is `path` itself where that begins with no mark, or cannot be read. Raises OSError as `unmarked` does.
    """
    try:
        with open(path, "rb") as file:
            data = file.read() if file.read(3).startswith(tuple(MARKS)) and not file.seek(0) else b""
    except (OSError, ValueError):
        data = b""
    if not data:
        yield path
    elif hasattr(os, "memfd_create"):
        # It may be a key, and a container may have no folder to write to.
        with open(os.memfd_create("unmarked", os.MFD_CLOEXEC), "wb") as memory:
            memory.write(unmarked(data))
            memory.flush()
            yield f"/proc/self/fd/{memory.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as copy:
            copy.write(unmarked(data))
            copy.flush()
            yield copy.name


class Watched:
    """A file of at most `limit` bytes, looked at often and read when it may be another one."""

    __slots__ = ("_limit", "_version", "path")

    def __init__(self, path: str, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._version: Fingerprint | None = None

    def changed(self) -> bool:
        """Whether it may be another one than was read last; so too when it could not be read."""
        return self._version is None or fingerprint(self.path) != self._version

    def read(self) -> bytes:
        """What is in it now; raises OSError as `read` of this module."""
        self._version = None
        contents = read(self.path, self._limit)
        self._version = contents.seen
        return contents.data


class Trouble:
    """What is wrong with a file: logged and told to `on_error` once, and logged when it is over.

    `errors` counts how often there was something.
    """

    __slots__ = ("_log", "_on_error", "_said", "errors")

    def __init__(self, log: logging.Logger, on_error: Callable[[], None] = lambda: None) -> None:
        self._log = log
        self._on_error = on_error
        self._said: tuple[str, bytes] | None = None
        self.errors = 0

    def begin(self, problem: str, meanwhile: str, version: bytes = b"") -> None:
        """There is this problem, now or still; `meanwhile` says what it means.

        Another `version` of the file (a digest of it) with the same problem is another error.
        """
        if (problem, version) != self._said:
            self._said = problem, version
            self.errors += 1
            self._on_error()
            self._log.error("%s; %s", problem, meanwhile)

    def end(self, file: str) -> None:
        """There is none, now or still."""
        if self._said is not None:
            self._said = None
            self._log.info("%s can be used again", file)


T = TypeVar("T")


class Followed(Generic[T]):
    """What a file holds, parsed anew when it changes; the last version that could be used stays.

    `value` is that, and None before the first. `parse` takes the bytes and raises ValueError with words for
    a person. A version that cannot be used is logged and told to `on_error` once, as `what` and the reason.
    """

    def __init__(
        self,
        path: str,
        limit: int,
        parse: Callable[[bytes], T],
        what: str,
        log: logging.Logger,
        on_error: Callable[[], None] = lambda: None,
    ) -> None:
        self.value: T | None = None
        self._file = Watched(path, limit)
        self._parse = parse
        self._what = f"{what} {path}"
        self._trouble = Trouble(log, on_error)

    def load(self) -> None:
        """Read it now; raises ValueError with the reason when it cannot be used."""
        try:
            data = self._file.read()
        except OSError as error:
            raise ValueError((error.strerror or "it cannot be read").lower()) from None
        self.value = self._parse(data)

    def refresh(self) -> bool:
        """Look at the file, and read it if it may have changed; whether `value` is another one now."""
        if not self._file.changed():
            return False
        before = self.value
        try:
            self.load()
        except ValueError as error:
            meanwhile = "nothing stands in for it" if before is None else "the last good one stays in force"
            self._trouble.begin(f"{self._what} cannot be used: {error}", meanwhile)
            return False
        self._trouble.end(self._what)
        return self.value != before


def _of(found: os.stat_result) -> Fingerprint:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
