"""A network of this process's own: one loopback, on which the clusters of some addresses can be cut off."""

import ctypes
import os
import subprocess

from bench.argocd.places import CUT
from bench.errors import BenchError

_CLONE_NEWNET = 0x40000000  # unshare(2)

VANISH = ("--jump", "DROP")
# The resets themselves must arrive.
RESET = ("--tcp-flags", "RST", "NONE", "--jump", "REJECT", "--reject-with", "tcp-reset")
"""What becomes of their packets: nothing is ever heard, or each is answered by a reset."""


def enter() -> None:
    """Leave this machine's network for an empty one, with all that is started from now on."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        why = os.strerror(ctypes.get_errno())
        raise BenchError(f"there is no network of its own to be had: {why}; it takes root")
    _run("ip", "link", "set", "lo", "up")


def cut(how: tuple[str, ...] = VANISH) -> None:
    """Let no packet to or from those addresses arrive."""
    # As it comes in: a packet that is dropped as it goes out is an error to whoever sends it.
    for side in ("--destination", "--source"):
        _run("iptables", "--append", "INPUT", "--protocol", "tcp", side, CUT, *how)


def restore() -> None:
    """Let all packets arrive again."""
    _run("iptables", "--flush", "INPUT")


def _run(*command: str) -> None:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise BenchError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip()}")
