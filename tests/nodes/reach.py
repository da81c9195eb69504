"""Whether a TCP connection comes about, from inside a pod, a node or the router."""

import subprocess
import sys

from tests.e2e.harness.waiting import until

TRY = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()
except OSError:
    sys.exit(1)
"""


def connects(inside: list[str], host: str, port: int) -> bool:
    """One try; `inside` are the words that enter a network namespace."""
    words = [*inside, sys.executable, "-I", "-c", TRY, host, str(port)]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert done.returncode in (0, 1), done.stderr.decode()
    return done.returncode == 0


def opens(inside: list[str], host: str, port: int) -> None:
    """AssertionError unless the way is open, once the rules for new pods are in place."""
    until(f"{host}:{port} is open", lambda: connects(inside, host, port), 60, 0.5)


def stays_closed(inside: list[str], listening: list[str], host: str, port: int) -> None:
    """AssertionError unless the way is closed from one place, while from `listening` it is open."""
    opens(listening, host, port)
    until(f"{host}:{port} is closed", lambda: not connects(inside, host, port), 60, 0.5)


def pod(pid: int) -> list[str]:
    """The words that enter a pod's network, by one of its processes."""
    return ["nsenter", "-t", str(pid), "-n", "--"]
