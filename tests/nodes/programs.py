"""The programs of a node: Debian's by name, the others built once from Go modules into a cache.

`python -m tests.nodes.programs` builds ahead of a run and prints the folder.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.harness import binaries

HERE = Path(__file__).parent / "programs"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "argotun" / "nodes"
KUBERNETES = "v1.36.3"
DEBIAN = {
    "runc": "runc",
    "iptables": "iptables",
    "nft": "nftables",
    "ipset": "ipset",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
"""Programs that are Debian's, and their packages."""

PLUGINS = Path("/usr/lib/cni")
"""Where Debian has the plugins of CNI."""


CONTAINERD = (
    "github.com/containerd/containerd/v2",
    "v2.4.2",
    "h1:p6Qg+xbEz8lvwdhHDx0U469xENvp4LgGBx+E7djXkGw=",
)
"""Module, version and its hash in go.sum. It is built in its own folder, by its own go.sum."""

OURS = ("./coredns", "./pause", "./policies")
THEIRS = ("kube-proxy", "kube-scheduler", "kubelet")
"""Packages of the module in programs/, and programs of Kubernetes at its versions."""


def stamps() -> str:
    """What makes Kubernetes' programs say their version: a kubelet without one is refused."""
    said = {
        "gitMajor": "1",
        "gitMinor": KUBERNETES.split(".")[1],
        "gitVersion": KUBERNETES,
        "gitTreeState": "clean",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(f"-X {each}.{name}={value}" for each in packages for name, value in said.items())


@dataclass(frozen=True)
class Programs:
    """Where the programs are: those built here, and those that `make e2e` builds."""

    built: Path
    kubernetes: binaries.Binaries

    def __getitem__(self, name: str) -> str:
        """The path of a program."""
        for path in (self.built / name, self.kubernetes[name]):
            if path.exists():
                return str(path)
        return shutil.which(name) or name

    @property
    def path(self) -> str:
        """A PATH on which all of them are."""
        return f"{self.built}:{self.kubernetes.folder}:{os.environ['PATH']}"


def missing() -> str:
    """What this machine lacks, as a sentence; empty where nothing is."""
    if os.geteuid():
        return "nodes need root"
    if not v1_hierarchies():
        return "nodes need cgroup v1, which their kubelet is told to use"
    if not shutil.which("go"):
        return "nodes need Go"
    if absent := [package for name, package in DEBIAN.items() if not shutil.which(name)]:
        return f"nodes need Debian's packages {' '.join(absent)}"
    return ""


def v1_hierarchies() -> list[tuple[str, str]]:
    """The cgroup v1 hierarchies: where each is mounted, and what it is mounted with."""
    found = []
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, options, *_ = line.split()
        if kind == "cgroup":
            words = [word for word in options.split(",") if word not in ("rw", "relatime", "xattr")]
            found.append((mount, ",".join(words)))
    return found


def find(say: Callable[[str], None]) -> Programs:
    """The programs, built when need be, with a line to say() per step.

    Raises binaries.MissingError, or binaries.UnusableError for a build that failed.
    """
    if why := missing():
        raise binaries.MissingError(why)
    kubernetes = binaries.find(say)
    if absent := kubernetes.missing("kube-controller-manager"):
        raise binaries.MissingError(f"nodes need {absent[0]}, as `make e2e` builds it")
    return Programs(_built(say), kubernetes)


def _built(say: Callable[[str], None]) -> Path:
    folder = CACHE / _fingerprint()
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            partial.mkdir(exist_ok=True)
            say(f"building the nodes' programs into {folder} (once; minutes, or half an hour from cold)")
            _build_containerd(partial)
            say("built containerd")
            _build(HERE, partial, *OURS)
            say("built CoreDNS and the enforcer of NetworkPolicies")
            for name in THEIRS:
                _build(HERE, partial, f"k8s.io/kubernetes/cmd/{name}", flags=stamps())
                say(f"built {name}")
            partial.rename(folder)
    return folder


def _fingerprint() -> str:
    digest = hashlib.sha256(repr((CONTAINERD, OURS, THEIRS)).encode())
    for file in sorted(path for path in HERE.rglob("*") if path.is_file()):
        digest.update(b"\0%s\0%s" % (str(file.relative_to(HERE)).encode(), file.read_bytes()))
    return digest.hexdigest()[:16]


def _build_containerd(folder: Path) -> None:
    path, version, digest = CONTAINERD
    described = json.loads(_go(["go", "mod", "download", "-json", f"{path}@{version}"], HERE))
    if described["Sum"] != digest:
        raise binaries.UnusableError(f"{path} {version} is {described['Sum']}")
    packages = ("./cmd/containerd", "./cmd/containerd-shim-runc-v2", "./cmd/ctr")
    flags = f"-X {path}/version.Version={version}"
    _build(Path(described["Dir"]), folder, "-tags=no_btrfs,no_devmapper,no_zfs", *packages, flags=flags)


def _build(source: Path, folder: Path, *packages: str, flags: str = "") -> None:
    words = ["go", "build", "-mod=readonly", "-trimpath", "-ldflags", f"-s -w {flags}", "-o", f"{folder}/"]
    _go([*words, *packages], source)


def _go(words: list[str], folder: Path) -> str:
    """What a run of Go prints, or UnusableError with what it said."""
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise binaries.UnusableError(f"{' '.join(words)}:\n{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    try:
        print(find(lambda line: print(line, file=sys.stderr, flush=True)).built)
    except (binaries.MissingError, binaries.UnusableError) as e:
        sys.exit(str(e))
