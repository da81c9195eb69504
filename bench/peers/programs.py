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
CHISEL = "github.com/jpillora/chisel"
CHISEL_AGENTS = "chisel-agents"
"""Many of chisel's clients in one process."""
FRP = "github.com/fatedier/frp"
_HERE = Path(__file__).resolve().parent


class NotAtHand(BenchError):
    """A peer's program is neither given nor can be built; str() says why."""


def given(name: str) -> str | None:
    """The program that `BENCH_<NAME>` names, None where it is not set; BenchError where it cannot be run."""
    variable = f"BENCH_{name.upper()}"
    path = os.environ.get(variable)
    if path and not os.access(path, os.X_OK):
        raise BenchError(f"{variable}={path}: this is not a program that can be run")
    return path or None


def rathole() -> str:
    """rathole, by cargo."""
    return given("rathole") or _built(
        f"rathole-{RATHOLE}",
        "cargo",
        lambda folder: ["cargo", "install", "--root", str(folder), f"rathole@{RATHOLE}"],
        "bin/rathole",
    )


def remotedialer() -> str:
    """Our driver of remotedialer, by Go."""
    return _by_go("remotedialer")


def konnectivity() -> str:
    """konnectivity's own server and agent with our front beside them, by Go."""
    return _by_go("konnectivity")


def chisel() -> str:
    """chisel, by Go: its proxy lists no versions of it, so the one of `chisel/go.mod`.

    CHISEL_AGENTS is beside it.
    """
    return _by_go("chisel", CHISEL, ".")


def frp() -> str:
    """frps, with frpc beside it, by Go in the same way."""
    return _by_go("frp", f"{FRP}/cmd/frps", f"{FRP}/cmd/frpc", program="frps")


def _by_go(name: str, *packages: str, program: str = "") -> str:
    """The program of a peer's folder: of `packages`, or of its own main.go."""
    return given(name) or built_by_go(name, _HERE / name, *packages, program=program or name)


def beside(program: str, name: str) -> str:
    """Another program of the same peer; NotAtHand where somebody has given the one without the other."""
    path = Path(program).with_name(name)
    if not path.exists():
        raise NotAtHand(f"there is no {name} beside the program that is given")
    return str(path)


def built_by_go(name: str, module: Path, *packages: str, program: str) -> str:
    """`program` of a Go module, anew where a file that it is made of has changed; NotAtHand says why not."""
    build = ["go", "build", "-C", str(module), "-trimpath", "-o"]
    return _built(
        f"{name}-{hashlib.sha256(sources(module)).hexdigest()[:16]}",
        "go",
        lambda folder: [*build, f"{folder}/", *(packages or ".")],
        program,
    )


def sources(module: Path) -> bytes:
    """All files of a Go module's folder, and of those that its go.mod has in place of other modules."""
    near = re.findall(r"=> (\.\S+)", (module / "go.mod").read_text())
    folders = [module, *(module / each for each in near)]
    return b"".join(each.read_bytes() for folder in folders for each in sorted(folder.iterdir()))


def _required(name: str, module: str) -> str:
    """The version of a Go module that the program of this name is built of."""
    if given(name):
        return "as given"
    found = re.search(rf"{re.escape(module)} (v\S+)", (_HERE / name / "go.mod").read_text())
    return found[1] if found else "unknown"


VERSIONS: dict[str, Callable[[], str]] = {
    "remotedialer": lambda: _required("remotedialer", "github.com/rancher/remotedialer"),
    "konnectivity": lambda: _required("konnectivity", "sigs.k8s.io/apiserver-network-proxy"),
    "chisel": lambda: _required("chisel", CHISEL),
    "frp": lambda: _required("frp", FRP),
    "rathole": lambda: RATHOLE if given("rathole") is None else "as given",
}
"""Of the peers that are built here."""


def _built(name: str, tool: str, command: Callable[[Path], list[str]], program: str) -> str:
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
