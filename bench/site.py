"""The place where one benchmark run lives: a temporary folder and the processes started in it.

Leaving the `with` block ends every process and removes the folder, whatever happened inside; a SIGTERM leaves
it as well.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from bench.errors import BenchError

START_LIMIT = 60.0  # seconds that a process has to become ready, on a busy machine too
STOP_LIMIT = 3.0  # seconds between SIGTERM and SIGKILL
LOG_TAIL = 2000  # bytes of a failed process's log that are shown

# A developer's own settings must not leak into what is measured; a proxy would even carry the tunnel away.
NOT_INHERITED = ("CLUSTERS", "SERVER_URL", "TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Child:
    """A process that the benchmark started; its output goes to a file in the site's folder."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name = name
        self.command = command
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C reaches the benchmark alone, which then ends its children in order.
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=_environment(),
                start_new_session=True,
            )
        self.pid = self.process.pid

    def stop(self) -> None:
        """SIGTERM, a moment to finish, then SIGKILL for the process and whatever it started."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self.process.wait()

    def log_tail(self) -> str:
        """The end of what the process printed."""
        return self.log.read_bytes()[-LOG_TAIL:].decode(errors="replace").strip()


class Site:
    """A temporary folder, free ports and children; use as a context manager."""

    def __init__(self) -> None:
        # tmpfs where there is one: the uploads must not measure a disk.
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="argotun-bench-", dir=base))
        self._children: list[Child] = []
        self._names: set[str] = set()
        self._on_term: object = signal.SIG_DFL

    def __enter__(self) -> "Site":
        self._on_term = signal.getsignal(signal.SIGTERM)
        if self._on_term is signal.SIG_DFL:
            end_on_sigterm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second Ctrl-C must not leave half of the processes behind.
        previous = {
            number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            for child in reversed(self._children):
                child.stop()
            shutil.rmtree(self.folder, ignore_errors=True)
        finally:
            signal.signal(signal.SIGINT, previous[signal.SIGINT])
            signal.signal(signal.SIGTERM, self._on_term)  # type: ignore[arg-type]

    def start(self, name: str, command: Sequence[str]) -> Child:
        """Start a process; the name also names its log file."""
        with _undisturbed():
            try:
                child = Child(self._unused(name), command, self.folder)
            except OSError as error:
                raise BenchError(f"cannot start {command[0]}: {error.strerror}") from error
            self._children.append(child)
        return child

    def again(self, child: Child) -> Child:
        """Start anew what has ended, with the same command."""
        self._children.remove(child)
        return self.start(child.name, child.command)

    def stop(self, children: Sequence[Child]) -> None:
        """End these before the others, for instance a pair that is no longer wanted."""
        for child in reversed(children):
            child.stop()
            self._children.remove(child)

    def write(self, name: str, content: str | object) -> Path:
        """Write a file (text as it is, anything else as JSON) that only this user can read."""
        path = self.folder / self._unused(name)
        path.touch(mode=0o600)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def _unused(self, name: str) -> str:
        unique, count = name, 1
        while unique in self._names:
            count += 1
            unique = f"{name}-{count}"
        self._names.add(unique)
        return unique


def end_on_sigterm() -> None:
    """From now on SIGTERM raises SystemExit, so that each `with` and `finally` ends what was started."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def wait_until(
    what: str, ready: Callable[[], bool], children: Sequence[Child], limit: float = START_LIMIT
) -> None:
    """Poll `ready` until it is true; BenchError with the logs when a child ends or the time is up."""
    deadline = time.monotonic() + limit
    while not ready():
        ended = [child for child in children if child.process.poll() is not None]
        if ended or time.monotonic() > deadline:
            why = f"{ended[0].name} ended" if ended else f"{what} not ready after {limit:.0f} s"
            logs = "\n".join(f"--- {child.name}\n{child.log_tail()}" for child in children)
            raise BenchError(f"{why}\n{logs}")
        time.sleep(0.05)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait: a process between its start and its place in a list would be left behind."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    # Handlers, since a child would inherit signals that are ignored or blocked.
    previous = {number: signal.signal(number, lambda got, _: came.append(got)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper() not in NOT_INHERITED and not name.startswith("ARGOTUN_")
    }
