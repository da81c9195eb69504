"""TCP sockets of this machine by their port and state, from /proc/net/tcp (proc(5)); IPv4 only."""

from collections.abc import Collection
from pathlib import Path

ESTABLISHED, LISTENING = "01", "0A"


def listening(ports: Collection[int]) -> int:
    """On how many of these ports somebody listens."""
    return len({port for port, _ in parse(_read(), LISTENING)} & set(ports))


def accepted(port: int) -> set[int]:
    """The connections to a port that its listener has taken and still has, by the number of their inode."""
    # One that nobody has taken yet has no inode.
    return {inode for local, inode in parse(_read(), ESTABLISHED) if local == port and inode}


def parse(text: str, state: str) -> list[tuple[int, int]]:
    """Local port and inode of each socket in that state."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if fields[3] == state:
            found.append((int(fields[1].partition(":")[2], 16), int(fields[9])))
    return found


def _read() -> str:
    return Path("/proc/net/tcp").read_text()
