"""Processes of a test: each in a session of its own, with a log file, ended with all that it started."""

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2)
_prctl = ctypes.CDLL(None).prctl if os.uname().sysname == "Linux" else None


def die_with_parent() -> None:
    """Run in the child before exec: should the test run be killed, the kernel kills its processes too."""
    if _prctl:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A program that runs until stop(); its output goes to FOLDER/NAME.log."""

    def __init__(
        self, name: str, argv: list[str | Path], folder: Path, env: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one thread, and one system call
            )
        self.pid: int = self._popen.pid

    def check(self) -> None:
        """AssertionError with the end of the log when the process is over."""
        if (code := self._popen.poll()) is not None:
            raise AssertionError(f"{self.name} ended with {code}:\n{self.tail()}")

    def tail(self, lines: int = 12) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def send(self, how: int) -> None:
        """Send a signal, to freeze the process or let it go on."""
        self._popen.send_signal(how)

    def stop(self, how: int = signal.SIGTERM, seconds: float = 10) -> int:
        """End the process and its whole group; its exit code, negative for a signal. Repeatable."""
        if self._popen.poll() is None:
            self._popen.send_signal(how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self._popen.wait()


def is_running(pid: int) -> bool:
    """Whether pid runs: a zombie has no executable any more, while signal 0 still reaches it."""
    try:
        os.readlink(f"/proc/{pid}/exe")
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def running(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Kill the process at the end of the block, should it still run, and close its pipes."""
    with process:
        try:
            yield process
        finally:
            process.kill()
