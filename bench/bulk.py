"""One large transfer in a process of its own, so that its CPU time is not the benchmark's.

`python -m bench.bulk down|up URL SIZE CA LIMIT` prints `SECONDS STATUS`.
"""

import subprocess
import sys
from pathlib import Path

from bench import client
from bench.errors import BenchError

LIMIT = 120  # seconds for one transfer
CLONE = Path(__file__).resolve().parent.parent
GOOD = {"down": (200,), "up": (201, 204)}  # RFC 9110 §9.3.4: PUT creates or replaces


def run(direction: str, url: str, size: int, ca: Path, limit: float = LIMIT) -> float:
    """Transfer `size` bytes; seconds taken. BenchError when it fails, or takes over `limit` seconds."""
    command = [sys.executable, "-m", "bench.bulk", direction, url, str(size), str(ca), str(limit)]
    try:
        # What stands still is seen by the transfer's own socket.
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit + 60, cwd=CLONE, check=False
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{size} bytes {direction} took over {limit:g} s: {url}") from None
    if done.returncode != 0:
        raise BenchError(f"transfer {direction} failed: {done.stderr.strip()}")
    seconds, status = done.stdout.split()
    if int(status) not in GOOD[direction]:
        raise BenchError(f"transfer {direction} was answered with {status}: {url}")
    return float(seconds)


def main() -> int:
    """Do the transfer that the command line names."""
    direction, url, size, ca, limit = sys.argv[1:6]
    try:
        seconds, status = client.timed(direction, url, Path(ca), int(size), float(limit))
    except (BenchError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(seconds, status)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
