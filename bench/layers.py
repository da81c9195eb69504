"""Where a process spends its time: what kernel, TLS and interpreter have of it, and which room asked.

perf says in whose code the processor was, by its clock, so it needs no counters of the machine's. py-spy says
which line of Python was under way: a sample belongs to the innermost frame of argotun's own, so that a room
has what it calls, system calls and TLS too. The two tables are two cuts through the same time.
"""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.errors import BenchError

SAMPLES_PER_SECOND = 999

LAYERS = {
    "kernel": r"\[kernel|\[vdso",
    "TLS": r"lib(?:ssl|crypto)\b|_ssl\.",
    "event loop and greenlets": r"gevent|greenlet|corecext|libev",
    "memory and copies": r"libc\b|ld-linux",
    "masks of WebSocket": r"speedups",
    "Python": r"python|\.cpython-|\.abi3\.",
}
"""Layers by what the name of the code's file contains; the first that matches."""

OTHER = "other"

_SHARE = re.compile(r"^\s*([\d.]+)%\s+(\S+)", re.MULTILINE)
_FRAME = re.compile(r"\(argotun/(?:(\w+)/)?[^)]*\)$")


def record(pid: int, seconds: int, kept: Path, under_load: Callable[[], None]) -> dict[str, float]:
    """Look at a process while `under_load` runs again and again: its shares by layer, largest first.

    Nothing where there is no perf; BenchError where it may not look.
    """
    perf = shutil.which("perf")
    if perf is None:
        return {}
    command = [perf, "record", "--quiet", "--event", "cpu-clock", "--freq", str(SAMPLES_PER_SECOND)]
    command += ["--output", str(kept), "--pid", str(pid), "--", "sleep", str(seconds)]
    sampler = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        while sampler.poll() is None:
            under_load()
        _, said = sampler.communicate()
    finally:
        if sampler.poll() is None:
            sampler.kill()
            sampler.wait()
    if sampler.returncode != 0:
        raise BenchError(f"perf failed (it needs the right to trace): {said.strip()}")
    report = [perf, "report", "--stdio", "--input", str(kept), "--sort", "dso"]
    return by_layer(subprocess.run(report, capture_output=True, text=True, check=False).stdout)


def by_layer(report: str) -> dict[str, float]:
    """The shares of 1 by layer, of a report of perf by file."""
    shares: Counter[str] = Counter()
    for percent, name in _SHARE.findall(report):
        layer = next((layer for layer, files in LAYERS.items() if re.search(files, name)), OTHER)
        shares[layer] += float(percent) / 100
    return dict(shares.most_common())


def by_room(folded: str) -> dict[str, float]:
    """The shares of 1 by package of argotun, of stacks as `outer;…;inner COUNT`; OTHER is under none."""
    counts: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        found = (_FRAME.search(frame.rpartition(":")[0] + ")") for frame in reversed(stack.split(";")))
        room = next((match[1] or "argotun" for match in found if match), OTHER)
        counts[room] += int(count)
    total = sum(counts.values())
    return {room: count / total for room, count in counts.most_common()}


def table(title: str, shares: dict[str, float]) -> str:
    """A line for each share below a title."""
    return "\n".join((title, *(f"{share:8.1%}  {name}" for name, share in shares.items())))
