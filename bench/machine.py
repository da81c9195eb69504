"""Where the figures come from: processor, kernel, versions."""

import os
import platform
import ssl
import subprocess
from importlib import metadata
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent


def describe() -> dict[str, object]:
    """What one must know to compare two runs."""
    return {
        "processor": _processor(),
        "processors": processors(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "gevent": _version("gevent"),
        "nginx": _first_line("nginx", "-v").rpartition("/")[2],
        "OpenSSL": ssl.OPENSSL_VERSION.split()[1],
        "commit": _first_line("git", "-C", str(CLONE), "describe", "--always", "--dirty"),
        "load before": round(os.getloadavg()[0], 2),
    }


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return "unknown"
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else "unknown"
