"""GETs at a steady rate in a process of its own, as a look at how long small requests take just now.

`python -m bench.probe URL CA SECONDS RATE` prints the latencies as a JSON list of seconds. One kept
connection; a request that is due while the last is still on its way is sent when that is over.
"""

import gc
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.client import Client
from bench.errors import BenchError
from bench.subjects import CLONE

RATE = 100.0  # requests per second


@dataclass(frozen=True)
class Latency:
    """Seconds; `count` requests."""

    p50: float
    p99: float
    worst: float
    count: int


def run(url: str, ca: Path, seconds: float) -> Latency:
    """Ask for so long."""
    return summary(latencies(url, ca, seconds))


def latencies(url: str, ca: Path, seconds: float) -> list[float]:
    """Ask for so long; what each request took, in seconds."""
    command = [sys.executable, "-m", "bench.probe", url, str(ca), str(seconds), str(RATE)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + 60, cwd=CLONE, check=False
    )
    if done.returncode != 0:
        raise BenchError(f"the probe failed: {done.stderr.strip()}")
    found: list[float] = json.loads(done.stdout)
    return found


def summary(latencies: list[float]) -> Latency:
    """The percentiles of what was measured."""
    ordered = sorted(latencies)
    at = lambda share: ordered[min(len(ordered) - 1, int(share * len(ordered)))]  # noqa: E731
    return Latency(p50=at(0.5), p99=at(0.99), worst=ordered[-1], count=len(ordered))


def main() -> int:
    """Ask as the command line says."""
    url, ca = sys.argv[1:3]
    seconds, rate = map(float, sys.argv[3:5])
    gc.disable()
    taken = []
    try:
        with Client(url, Path(ca)) as client:
            client.get()
            began = time.perf_counter()
            due = 0.0
            while (now := time.perf_counter() - began) < seconds:
                if now < due:
                    time.sleep(due - now)
                asked = time.perf_counter()
                status, _ = client.get()
                taken.append(time.perf_counter() - asked)
                if status != 200:
                    raise BenchError(f"a GET was answered with {status}")
                due = max(due, asked - began) + 1 / rate
    except (BenchError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(taken))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
