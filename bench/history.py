"""Older releases of argotun, out of the history of this clone."""

import subprocess
from pathlib import Path

from bench.errors import BenchError

CLONE = Path(__file__).resolve().parent.parent


def unpack(commit: str, folder: Path) -> Path:
    """Put the files of a commit into `folder`, and give it back; BenchError where they cannot be had."""
    command = ["git", "-C", str(CLONE), "archive", "--end-of-options", commit]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise BenchError(f"{commit}: no git: {error.strerror}") from error
    if done.returncode:
        raise BenchError(f"{commit}: {done.stderr.decode().strip()}")
    folder.mkdir(parents=True, exist_ok=True)
    # The program and not tarfile: its filters came in the midst of 3.11, and without one 3.12 warns.
    subprocess.run(["tar", "-x", "-C", str(folder)], input=done.stdout, check=True)
    return folder
