"""A benchmark that is ended by SIGTERM ends what it has started."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.redis_server import require

LINE = "processes after"
"""What it says when all of them run."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Thirty directories in small, in a process group of their own."""
    require()
    started = subprocess.Popen(
        [sys.executable, "-u", "-m", "bench.replicas", "--replicas", "3", "--clusters", "30"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    yield started
    with suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    started.communicate()


def members(group: int) -> list[str]:
    """The processes of a group that have not ended, by name."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            _, _, rest = stat.read_text().rpartition(") ")
            state, _, of = rest.split()[:3]
            if int(of) == group and state != "Z":
                found.append((stat.parent / "cmdline").read_text().replace("\0", " "))
    return found


def test_a_bench_of_replicas_that_is_ended_leaves_no_process(bench: "subprocess.Popen[str]") -> None:
    assert bench.stdout is not None
    assert LINE in bench.stdout.readline()
    # Itself, three replicas and their Redis.
    assert len(members(bench.pid)) == 5
    bench.send_signal(signal.SIGTERM)
    assert bench.wait() == 128 + signal.SIGTERM
    assert members(bench.pid) == []
