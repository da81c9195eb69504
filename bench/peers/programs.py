"""Where the peers' programs come from: `BENCH_<NAME>`, or built once from their registries and kept.

A peer whose program is neither given nor can be built is no error: it is named, and left out.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.errors import BenchError

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "argotun" / "bench"
RATHOLE = "0.5.0"
_DRIVER = Path(__file__).resolve().parent / "remotedialer"


class NotAtHand(BenchError):
    """A peer's program is neither given nor can be built; str() says why."""


def given(name: str) -> str | None:
    """The program that `BENCH_<NAME>` names, None where it is not set; BenchError where it cannot be run."""
    variable = f"BENCH_{name.upper()}"
    path = os.environ.get(variable)
    if path and not os.access(path, os.X_OK):
        raise BenchError(f"{variable}={path}: this is not a program that can be run")
    return path or None


def only_given(name: str) -> str:
    """The program of a peer that no registry serves in a form that could be built here."""
    program = given(name)
    if program is None:
        raise NotAtHand(f"BENCH_{name.upper()} does not name its program")
    return program


def rathole() -> str:
    """rathole, by cargo."""
    return given("rathole") or built(
        f"rathole-{RATHOLE}",
        "cargo",
        lambda folder: ["cargo", "install", "--root", str(folder), f"rathole@{RATHOLE}"],
        "bin/rathole",
    )


def remotedialer() -> str:
    """Our driver of remotedialer, by Go."""
    sources = b"".join((_DRIVER / name).read_bytes() for name in ("go.mod", "go.sum", "main.go"))
    return given("remotedialer") or built(
        f"remotedialer-{hashlib.sha256(sources).hexdigest()[:16]}",
        "go",
        lambda folder: ["go", "build", "-C", str(_DRIVER), "-trimpath", "-o", str(folder / "program"), "."],
        "program",
    )


def _remotedialer_version() -> str:
    found = re.search(r"rancher/remotedialer (v\S+)", (_DRIVER / "go.mod").read_text())
    return found[1] if found else "unknown"


VERSIONS: dict[str, Callable[[], str]] = {
    "remotedialer": _remotedialer_version,
    "rathole": lambda: RATHOLE if given("rathole") is None else "as given",
}
"""Of the peers that are built here."""


def built(name: str, tool: str, command: Callable[[Path], list[str]], program: str) -> str:
    """A program that is built once, by a command for the folder that it is told; NotAtHand says why not."""
    folder = CACHE / name
    if not folder.exists():
        if shutil.which(tool) is None:
            raise NotAtHand(f"there is no {tool} to build it with")
        CACHE.mkdir(parents=True, exist_ok=True)
        print(f"building {name}: minutes, the first time", file=sys.stderr, flush=True)
        # Built beside and renamed: what is found is whole.
        partial = Path(tempfile.mkdtemp(dir=CACHE))
        try:
            done = subprocess.run(command(partial), capture_output=True, text=True, check=False)
            if done.returncode:
                raise NotAtHand(f"it cannot be built: {done.stderr.strip().splitlines()[-1]}")
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return str(folder / program)
