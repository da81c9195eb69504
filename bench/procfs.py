"""What the kernel says about a process: CPU time and memory, from /proc (proc(5))."""

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Memory:
    """Memory of one process, in KiB.

    `unshared` is what would come free if the process ended (USS: private clean + private dirty pages), so
    that library pages first touched under load count for nobody. It is `rss` on a kernel without
    smaps_rollup.
    """

    rss: int
    peak: int
    unshared: int


def cpu_seconds(pid: int) -> float:
    """User plus system time of a process with all its threads, in seconds (resolution: one clock tick)."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    # The second field is the command in brackets and may hold blanks and brackets itself.
    fields = stat[stat.rindex(")") + 2 :].split()
    utime, stime = int(fields[11]), int(fields[12])
    return (utime + stime) / TICKS_PER_SECOND


def machine_busy_seconds() -> float:
    """CPU seconds that all processors together spent on anything but idling and waiting for disks."""
    first = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _idle, _iowait, irq, softirq = (int(field) for field in first[1:8])
    return (user + nice + system + irq + softirq) / TICKS_PER_SECOND


def memory(pid: int) -> Memory:
    """Memory of a process now, and its highest RSS so far."""
    status = _kib_lines(Path(f"/proc/{pid}/status").read_text())
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    rss = status["VmRSS"]
    unshared = rss
    if rollup.exists():
        lines = _kib_lines(rollup.read_text())
        unshared = lines["Private_Clean"] + lines["Private_Dirty"]
    return Memory(rss=rss, peak=status["VmHWM"], unshared=unshared)


def rss(pid: int) -> int:
    """Resident memory of a process now, in KiB; cheaper than all that `memory` says."""
    return _kib_lines(Path(f"/proc/{pid}/status").read_text())["VmRSS"]


def _kib_lines(text: str) -> dict[str, int]:
    """`Name:   123 kB` lines as a dict; other lines are left out."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if len(words) == 2 and words[1] == "kB":
            found[name] = int(words[0])
    return found
