"""Older releases of argotun, out of the history of this clone."""

import io
import subprocess
import tarfile
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
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder
