"""Where Argo CD comes from: one Go program with every component, and the manifests of its release.

A build takes minutes; it is kept in a cache, under a name that changes with go.mod.
`python -m tests.argocd.harness.program` builds ahead of a run and prints the folder.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.harness.binaries import MissingError, UnusableError

MODULE = Path(__file__).parents[1] / "program"
ARGOCD = "github.com/argoproj/argo-cd/v3"
MANIFESTS = ("manifests/crds", "manifests/base/config")
SCRIPTS = ("hack/git-verify-wrapper.sh", "hack/gpg-wrapper.sh")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "argotun" / "argocd"


@dataclass(frozen=True)
class Program:
    """A folder with `argocd`, the release's manifests the scripts that it calls, and tools beside it."""

    folder: Path
    redis: Path
    git_daemon: Path

    @property
    def argocd(self) -> Path:
        """The program; ARGOCD_BINARY_NAME says which component it is to be."""
        return self.folder / "argocd"

    def manifests(self) -> list[Path]:
        """Custom resource definitions and configuration of the release."""
        return sorted(
            p
            for p in self.folder.rglob("*.yaml")
            if p.name not in ("kustomization.yaml", "argocd-secret.yaml")
        )

    @property
    def scripts(self) -> Path:
        """A folder for PATH."""
        return self.folder / "hack"


def version() -> str:
    """The release of Argo CD that go.mod names, such as v3.5.6."""
    words = (MODULE / "go.mod").read_text().split()
    return words[words.index(ARGOCD) + 1]


def find(say: Callable[[str], None]) -> Program:
    """Argo CD and its tools, built when need be, a line to say() per step; MissingError, UnusableError."""
    redis = shutil.which("redis-server")
    if not redis:
        raise MissingError("Argo CD needs redis-server (Debian: RUNLEVEL=1 apt-get install redis-server)")
    if not shutil.which("git"):
        raise MissingError("Argo CD needs git")
    core = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
    daemon = Path(core) / "git-daemon"
    if not daemon.exists():
        raise MissingError(f"Argo CD's repositories are served by git-daemon, which is not in {core}")
    return Program(_built(say), Path(redis), daemon)


def _built(say: Callable[[str], None]) -> Path:
    folder = CACHE / _fingerprint()
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
        if not folder.exists():
            if not shutil.which("go"):
                raise MissingError("there is no Argo CD, and no Go to build it with")
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            _copy_sources(partial)
            _build(partial, say)
            partial.rename(folder)
    return folder


def _fingerprint() -> str:
    digest = hashlib.sha256(f"{platform.system()} {platform.machine()} {MANIFESTS} {SCRIPTS}".encode())
    for name in ("go.mod", "go.sum"):
        digest.update((MODULE / name).read_bytes())
    return digest.hexdigest()[:16]


def _go(*args: str) -> str:
    done = subprocess.run(
        ["go", *args],
        cwd=MODULE,
        env={"GOFLAGS": "-buildvcs=false", **os.environ, "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UnusableError(f"go {args[0]}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def _copy_sources(folder: Path) -> None:
    try:
        source = Path(json.loads(_go("mod", "download", "-json", f"{ARGOCD}@{version()}"))["Dir"])
    except UnusableError as e:  # no proxy, or a Go that is too old and may not fetch a newer one
        raise MissingError(f"there is no Argo CD: {e}") from None
    for name in MANIFESTS:
        shutil.copytree(source / name, folder / name)
    (folder / "hack").mkdir()
    for name in SCRIPTS:
        shutil.copy(source / name, folder / name)
        (folder / name).chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.suffix == ".sh" else 0o644)


def _build(folder: Path, say: Callable[[str], None]) -> None:
    say(f"building Argo CD {version()} into {folder.with_suffix('')} (some six minutes from cold, once)")
    started = time.monotonic()
    stamp = f"-s -w -X {ARGOCD}/common.version={version().removeprefix('v')}"
    _go("build", "-trimpath", "-ldflags", stamp, "-o", str(folder / "argocd"), f"{ARGOCD}/cmd")
    say(f"built Argo CD in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    try:
        print(find(lambda line: print(line, file=sys.stderr, flush=True)).folder)
    except (MissingError, UnusableError) as e:
        sys.exit(str(e))
