"""Runs `wrk --latency` and reads what it prints."""

import re
import subprocess
from dataclasses import dataclass

from bench.errors import BenchError

GRACE = 20  # seconds beyond its duration after which wrk is given up

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PERCENTILE = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m|h)\s*$", re.MULTILINE)
_REQUESTS = re.compile(r"^\s+(\d+) requests in ", re.MULTILINE)
_RATE = re.compile(r"^Requests/sec:\s+([\d.]+)", re.MULTILINE)
_SOCKET_ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
_REFUSED = re.compile(r"Non-2xx or 3xx responses: (\d+)")


@dataclass(frozen=True)
class Result:
    """One run: requests per second, latencies in seconds, and every request that did not go well."""

    requests: int
    rate: float
    p50: float
    p99: float
    errors: int


def run(url: str, connections: int, seconds: int, *options: str) -> Result:
    """Drive `url` from one thread, with more options of wrk's; BenchError when wrk fails."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency"]
    command += [*options, url]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"wrk did not end {GRACE} s after its time: {url}") from None
    if done.returncode != 0:
        raise BenchError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    return parse(done.stdout)


def parse(text: str) -> Result:
    """Read wrk's report; BenchError when it is not one."""
    requests, rate = _REQUESTS.search(text), _RATE.search(text)
    latency = {share: float(value) * _SECONDS[unit] for share, value, unit in _PERCENTILE.findall(text)}
    if requests is None or rate is None or latency.keys() != {"50", "99"}:
        raise BenchError(f"not a report of wrk --latency:\n{text.strip()}")
    sockets, refused = _SOCKET_ERRORS.search(text), _REFUSED.search(text)
    errors = sum(int(count) for found in (sockets, refused) if found for count in found.groups())
    return Result(int(requests[1]), float(rate[1]), latency["50"], latency["99"], errors)
