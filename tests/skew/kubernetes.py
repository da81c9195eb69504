"""Another minor version of Kubernetes for `make e2e`, built from the Go module proxy.

    python tests/skew/kubernetes.py 1.33.13     builds it, and prints the folder for KUBEBUILDER_ASSETS

kube-apiserver, kube-controller-manager and kubectl are of that version; everything else in the folder (etcd,
kwok, fakekubelet) is a link to what `make e2e` builds.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.e2e.harness import binaries

PROGRAMS = ("kube-apiserver", "kubectl", "kube-controller-manager")
_KUBERNETES = "k8s.io/kubernetes"
_STAGING = re.compile(r"^\t(\S+) => \./staging/\S+$", re.MULTILINE)
_UNPUBLISHED = re.compile(r"^\t(\S+) v0\.0\.0$", re.MULTILINE)


def module(theirs: str, version: str) -> str:
    """A go.mod that builds Kubernetes at a version (1.33.13), from Kubernetes' own go.mod.

    Kubernetes names the parts of its repository by their folders, which a module's zip file does not have:
    here they are modules of their own, at the matching v0 version.
    """
    minor = version.removeprefix("1.")
    published = _STAGING.sub(rf"\t\1 => \1 v0.{minor}", theirs)
    published = _UNPUBLISHED.sub(rf"\t\1 v0.{minor}", published)
    named = re.sub(r"^module \S+$", "module skew", published, count=1, flags=re.MULTILINE)
    return f"{named}\nrequire {_KUBERNETES} v{version}\n"


def build(version: str) -> Path:
    """The folder of the binaries, built when need be."""
    known = binaries.find(_say).folder
    folder = known.parent / f"{known.name}-{version}"
    if folder.exists():
        return folder
    partial = folder.with_suffix(".partial")
    source = partial / "module"
    source.mkdir(parents=True, exist_ok=True)
    found = _go("mod", "download", "-json", f"{_KUBERNETES}@v{version}", cwd=partial)
    theirs = Path(json.loads(found)["GoMod"]).read_text()
    (source / "go.mod").write_text(module(theirs, version))
    stamps = [
        f"-X {package}.{name}={value}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in {
            "gitMajor": "1",
            "gitMinor": version.split(".")[1],
            "gitVersion": f"v{version}",
            "gitTreeState": "clean",
        }.items()
    ]
    for program in PROGRAMS:
        _say(f"building {program} {version}")
        flags = ("-mod=mod", "-trimpath", "-ldflags", " ".join(("-s", "-w", *stamps)))
        _go("build", *flags, "-o", str(partial / program), f"{_KUBERNETES}/cmd/{program}", cwd=source)
    for program in binaries.PACKAGES:
        if program not in PROGRAMS and not (partial / program).exists():
            (partial / program).symlink_to(known / program)
    partial.rename(folder)
    return folder


def _go(*arguments: str, cwd: Path) -> str:
    environment = {"GOFLAGS": "-buildvcs=false", **os.environ, "CGO_ENABLED": "0"}
    done = subprocess.run(["go", *arguments], cwd=cwd, env=environment, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"go {arguments[0]} {arguments[-1]}: failed")
    return done.stdout.decode()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not re.fullmatch(r"1\.\d+\.\d+", sys.argv[1]):
        sys.exit("usage: python tests/skew/kubernetes.py VERSION, such as 1.33.13")
    print(build(sys.argv[1]))
