"""Where one process spends its time under load: samples taken from outside by py-spy.

A sampler from outside sees greenlets as they run; a tracing profiler would follow the thread through every
switch and charge one greenlet for another's work.
"""

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.errors import BenchError

SAMPLES_PER_SECOND = 250
START_UP = 30  # seconds that py-spy may take beside sampling
SHOWN = 25  # lines of each list

# Where an idle thread of gevent's pool waits, which py-spy takes for work.
WAITING = "acquire_with_timeout (gevent/_threading.py"

_LINE = re.compile(r":\d+\)$")


def record(pid: int, seconds: int, folded: Path, under_load: Callable[[], None]) -> str:
    """Sample a process while `under_load` runs again and again; the lists of where it was.

    `folded` receives the raw stacks, one `outer;…;inner COUNT` a line, as flame graph programs read them.
    """
    command = [
        *(_py_spy(), "record", "--pid", str(pid), "--duration", str(seconds)),
        *("--rate", str(SAMPLES_PER_SECOND), "--format", "raw", "--output", str(folded)),
    ]
    sampler = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        while sampler.poll() is None:
            under_load()
        _, said = sampler.communicate(timeout=START_UP)
    finally:
        if sampler.poll() is None:
            sampler.kill()
            sampler.wait()
    if sampler.returncode != 0:
        raise BenchError(f"py-spy failed (it needs the right to trace): {said.strip()}")
    return summary(folded.read_text())


def summary(folded: str) -> str:
    """Two lists, in percent of the samples: lines by their own time, functions with what they call.

    `Hub.run` by itself is the event loop's C code: waiting for sockets, timers, switching.
    """
    own: Counter[str] = Counter()
    cumulative: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if frames[-1].startswith(WAITING):
            continue
        own[frames[-1]] += int(count)
        for function in {_LINE.sub(")", frame) for frame in frames}:
            cumulative[function] += int(count)
    total = sum(own.values())
    parts = []
    for title, counted in (("own time by line", own), ("time in a function and what it calls", cumulative)):
        parts.append(f"{title} ({total} samples)")
        parts += [f"{100 * count / total:6.1f} %  {what}" for what, count in counted.most_common(SHOWN)]
    return "\n".join(parts)


def _py_spy() -> str:
    """py-spy beside this interpreter, or in PATH."""
    beside = Path(sys.executable).parent / "py-spy"
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise BenchError("profiling needs py-spy: pip install py-spy")
    return found
