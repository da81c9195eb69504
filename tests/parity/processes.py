"""Server and agent as processes of their own, started as a person would in a terminal."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent

from tests.secrecy import watch

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Seconds that a process may take to start on a busy machine."""


class Program:
    """One `python argotun.py` and what it has written to stderr so far."""

    def __init__(self, *argv: str, **environ: str) -> None:
        bare = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
        watch.hold(
            environ.get("TOKEN", ""), *(argv[at + 1] for at, each in enumerate(argv) if each == "--token")
        )
        self.process = subprocess.Popen(
            [sys.executable, "argotun.py", *argv],
            cwd=ROOT,
            env=bare | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log = ""

    def say(self, pattern: str) -> re.Match[str]:
        """Wait for a line of its log that the pattern matches."""
        with gevent.Timeout(PATIENCE, AssertionError(f"{pattern!r} was not logged")):
            while True:
                line = self.process.stderr.readline()
                assert line, f"it ended without saying {pattern!r}:\n{self.log}"
                self.log += line
                if found := re.search(pattern, line):
                    return found

    def end(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def listening(self) -> set[int]:
        """TCP ports that it listens on, as Linux tells them."""
        folder = Path(f"/proc/{self.process.pid}")
        sockets = {os.readlink(fd) for fd in (folder / "fd").iterdir() if fd.exists() or fd.is_symlink()}
        ports = set()
        for table in ("net/tcp", "net/tcp6"):
            for line in (folder / table).read_text().splitlines()[1:]:
                local, state, inode = (line.split()[at] for at in (1, 3, 9))
                if state == "0A" and f"socket:[{inode}]" in sockets:
                    ports.add(int(local.rpartition(":")[2], 16))
        return ports


@contextmanager
def program(*argv: str, **environ: str) -> Iterator[Program]:
    """A program that is ended with the `with`, however that ends."""
    started = Program(*argv, **environ)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
        watch.said(started.log + "".join(started.process.communicate()))
