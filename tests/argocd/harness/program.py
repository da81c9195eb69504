"""Where Argo CD comes from: one Go program with every component, and the manifests of its release.

A build takes minutes; it is kept in a cache, under a name that changes with go.mod.
`python -m tests.argocd.harness.program` builds ahead of a run and prints the folder.

With ARGOTUN_ARGOCD it is another release than the one that our go.mod names, built by Argo CD's own go.mod,
and with GITOPS_ENGINE another version of its engine.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
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
OTHER = os.environ.get("ARGOTUN_ARGOCD", "")
ENGINE = os.environ.get("GITOPS_ENGINE", "")
_REPLACEMENT = re.compile(r"^replace (\S+/gitops-engine)(/v3)? => \./gitops-engine$", re.MULTILINE)
_KUBERNETES = re.compile(r"^\tk8s\.io/kubernetes (\S+)", re.MULTILINE)
_PINNED = re.compile(r"^replace \S+/gitops-engine => \S+ (\S+)$", re.MULTILINE)
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
    """The release of Argo CD that is run, such as v3.5.6."""
    if OTHER:
        return f"v{OTHER}"
    words = (MODULE / "go.mod").read_text().split()
    return words[words.index(ARGOCD) + 1]


def minor() -> int:
    """The release's minor: 5 of v3.5.6."""
    return int(version().split(".")[1])


def module(theirs: str, version: str, engine: str) -> str:
    """A go.mod that builds Argo CD at a version (3.4.13), from Argo CD's own go.mod.

    What Argo CD replaces is kept, for Go heeds that in a main module alone. Its engine it names by a folder,
    which a module's zip file does not have. From 3.6 on go.mod asks for an engine of the same version, which
    there is; before that it is the version `engine`, held to the Kubernetes of this Argo CD.
    """

    def replacement(line: re.Match[str]) -> str:
        if line[2]:
            return ""
        kubernetes = f"k8s.io/kubernetes => k8s.io/kubernetes {_KUBERNETES.findall(theirs)[0]}"
        return f"replace {line[1]} => {line[1]} {engine}\n\nreplace {kubernetes}"

    named = re.sub(r"^module \S+$", "module skew", theirs, count=1, flags=re.MULTILINE)
    return f"{_REPLACEMENT.sub(replacement, named).rstrip()}\n\nrequire {ARGOCD} v{version}\n"


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
            partial = CACHE / f"{folder.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            source = _source()
            _copy(source, partial)
            _build(partial, _other(source, partial / "module") if OTHER else MODULE, say)
            partial.rename(folder)
    return folder


def _fingerprint() -> str:
    digest = hashlib.sha256(f"{platform.system()} {platform.machine()} {MANIFESTS} {SCRIPTS}".encode())
    for name in ("go.mod", "go.sum"):
        digest.update((MODULE / name).read_bytes())
    return "-".join(filter(None, (digest.hexdigest()[:16], OTHER, OTHER and ENGINE)))


def _go(*args: str, cwd: Path = MODULE) -> str:
    done = subprocess.run(
        ["go", *args],
        cwd=cwd,
        env={"GOFLAGS": "-buildvcs=false", **os.environ, "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UnusableError(f"go {args[0]}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def _source() -> Path:
    try:
        return Path(json.loads(_go("mod", "download", "-json", f"{ARGOCD}@{version()}"))["Dir"])
    except UnusableError as e:  # no proxy, or a Go that is too old and may not fetch a newer one
        if OTHER:
            raise
        raise MissingError(f"there is no Argo CD: {e}") from None


def _other(source: Path, folder: Path) -> Path:
    folder.mkdir()
    engine = ENGINE or _PINNED.findall((MODULE / "go.mod").read_text())[0]
    (folder / "go.mod").write_text(module((source / "go.mod").read_text(), OTHER, engine))
    (folder / "go.sum").write_text((source / "go.sum").read_text())
    return folder


def _copy(source: Path, folder: Path) -> None:
    for name in MANIFESTS:
        shutil.copytree(source / name, folder / name)
    (folder / "hack").mkdir()
    for name in SCRIPTS:
        shutil.copy(source / name, folder / name)
        (folder / name).chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.suffix == ".sh" else 0o644)


def _build(folder: Path, main: Path, say: Callable[[str], None]) -> None:
    say(f"building Argo CD {version()} (some six minutes from cold, once)")
    started = time.monotonic()
    stamp = f"-s -w -X {ARGOCD}/common.version={version().removeprefix('v')}"
    # Argo CD's go.sum lacks Argo CD itself and its engine; ours is whole, and stays as it is.
    flags = ("-mod=mod" if OTHER else "-mod=readonly", "-trimpath", "-ldflags", stamp)
    _go("build", *flags, "-o", str(folder / "argocd"), f"{ARGOCD}/cmd", cwd=main)
    say(f"built Argo CD in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    try:
        print(find(lambda line: print(line, file=sys.stderr, flush=True)).folder)
    except (MissingError, UnusableError) as e:
        sys.exit(str(e))
