"""Where a run of the benchmark lives: nothing of it is left, however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.site import Site

CLONE = Path(__file__).resolve().parents[2]

# Starts a child in a site, says who it is, and waits for the end.
RUN = """
import signal, time
from bench.site import Site
# Whoever runs the tests in the background may ignore it, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
with Site() as site:
    child = site.start("sleep", ["sleep", "600"])
    print(child.pid, site.folder, flush=True)
    time.sleep(600)
"""

# The signal comes while the child is being started.
RUN_WHILE_STARTING = """
import os, signal
from bench import site
signal.signal(signal.SIGINT, signal.default_int_handler)
begun = site.Child.__init__
def start(child, *arguments):
    begun(child, *arguments)
    print(child.pid, arguments[-1], flush=True)
    os.kill(os.getpid(), signal.{signal})
site.Child.__init__ = start
with site.Site() as here:
    here.start("sleep", ["sleep", "600"])
    print("went on")
"""


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_children_and_removes_the_folder(number: signal.Signals) -> None:
    command = [sys.executable, "-c", RUN]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=CLONE
    ) as run:
        assert run.stdout is not None
        pid, folder = run.stdout.readline().split()
        run.send_signal(number)
        try:
            run.communicate(timeout=60)
        finally:
            # Else the wait for its end would be one of ten minutes.
            run.kill()
    assert run.returncode != 0
    assert not _is_there(int(pid))
    assert not Path(folder).exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_while_a_child_is_started_leaves_none_behind(name: str) -> None:
    command = [sys.executable, "-c", RUN_WHILE_STARTING.format(signal=name)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CLONE, timeout=60, check=False)
    pid, folder = done.stdout.split()
    assert done.returncode != 0
    assert not _is_there(int(pid))
    assert not Path(folder).exists()


def test_a_child_that_ended_is_started_again_with_the_same_command() -> None:
    with Site() as site:
        child = site.start("sleep", ["sleep", "600"])
        child.process.kill()
        child.process.wait()
        again = site.again(child)
        assert again.pid != child.pid
        assert again.command == child.command
        assert again.process.poll() is None
    assert again.process.poll() is not None


def test_a_program_that_is_not_there_is_a_sentence() -> None:
    with Site() as site, pytest.raises(BenchError, match="cannot start no-such-program"):
        site.start("any", ["no-such-program"])
