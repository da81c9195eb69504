"""Where the Kubernetes binaries come from: the folder KUBEBUILDER_ASSETS, or a build by Go.

A build takes minutes; it is kept in a cache, under a name that changes with go.mod and our sources.
`python tests/e2e/harness/binaries.py` builds ahead of a run and prints the folder.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MODULE = Path(__file__).parents[1] / "kubernetes"
REQUIRED = ("etcd", "kube-apiserver", "kubectl")
PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok",
    "fakekubelet": "./fakekubelet",
}


class MissingError(Exception):
    """There is nothing to run; the message says what would be needed."""


class UnusableError(Exception):
    """What was asked for does not work: an incomplete folder, a failed build."""


@dataclass(frozen=True)
class Binaries:
    """A folder of binaries."""

    folder: Path

    def __getitem__(self, name: str) -> Path:
        """The path of a binary, there or not."""
        return self.folder / name

    def missing(self, *names: str) -> list[str]:
        """Those of names that the folder does not hold."""
        return [n for n in names if not os.access(self[n], os.X_OK)]


def find(say: Callable[[str], None]) -> Binaries:
    """The binaries, built when need be, with a line to say() per step; MissingError or UnusableError."""
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        binaries = Binaries(Path(assets).absolute())
        if absent := binaries.missing(*REQUIRED):
            raise UnusableError(f"KUBEBUILDER_ASSETS={assets} lacks {', '.join(absent)}")
        return binaries
    if not shutil.which("go"):
        raise MissingError(
            "no Kubernetes binaries: KUBEBUILDER_ASSETS is not set, and there is no Go to build them with"
        )
    return Binaries(_built(say))


def _built(say: Callable[[str], None]) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "argotun" / "e2e"
    folder = cache / _fingerprint()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{folder.name}.lock").open("w") as lock:
        _acquire(lock.fileno(), say)
        if not folder.exists():
            _check_go()
            partial = folder.with_suffix(".partial")
            partial.mkdir(exist_ok=True)
            say(f"building Kubernetes into {folder} (some ten minutes from cold, once)")
            for name, package in PACKAGES.items():
                _build(name, package, partial, say)
            partial.rename(folder)
    return folder


def _fingerprint() -> str:
    digest = hashlib.sha256(f"{platform.system()} {platform.machine()}".encode())
    for file in sorted((MODULE / "go.mod", MODULE / "go.sum", *MODULE.rglob("*.go"))):
        digest.update(b"\0%s\0%s" % (str(file.relative_to(MODULE)).encode(), file.read_bytes()))
    return digest.hexdigest()[:16]


def _acquire(fd: int, say: Callable[[str], None]) -> None:
    told = False
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                say("waiting for another build of the Kubernetes binaries")
                told = True
            time.sleep(0.5)


def go_environment() -> dict[str, str]:
    """The environment of a run of Go."""
    return {"GOFLAGS": "-buildvcs=false", **os.environ, "CGO_ENABLED": "0"}


def _check_go() -> None:
    """A Go that go.mod calls too old, and that may not fetch a newer one, is as good as none."""
    done = subprocess.run(
        ["go", "env", "GOVERSION"],
        cwd=MODULE,
        env=go_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise MissingError(f"no Kubernetes binaries: {done.stderr.strip()}")


def _build(name: str, package: str, folder: Path, say: Callable[[str], None]) -> None:
    started = time.monotonic()
    argv = [
        "go",
        "build",
        "-trimpath",
        "-ldflags",
        " ".join(stamps()),
        "-o",
        str(folder / name),
        package,
    ]
    done = subprocess.run(
        argv,
        cwd=MODULE,
        env=go_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UnusableError(f"cannot build {name}:\n{done.stdout[-2000:]}")
    say(f"built {name} in {time.monotonic() - started:.0f} s")


def stamps() -> list[str]:
    """The linker's flags by which a program of Kubernetes says its version."""
    version = kubernetes_version()
    variables = {
        "gitMajor": "1",
        "gitMinor": version.split(".")[1],
        "gitVersion": version,
        "gitTreeState": "clean",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return ["-s", "-w", *(f"-X {p}.{k}={v}" for p in packages for k, v in variables.items())]


def kubernetes_version() -> str:
    """The version of Kubernetes that go.mod names, such as v1.36.3."""
    words = (MODULE / "go.mod").read_text().split()
    return words[words.index("k8s.io/kubernetes") + 1]


if __name__ == "__main__":
    try:
        print(find(lambda line: print(line, file=sys.stderr, flush=True)).folder)
    except (MissingError, UnusableError) as e:
        sys.exit(str(e))
