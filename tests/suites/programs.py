"""The programs of the suites, each built by Go when it is first needed, beside those of `make e2e`.

The module is that of `make e2e`, with controller-runtime added: the suites are of the release that is tested.
Go takes what else it needs from Kubernetes' own go.mod. To build all ahead of a run, and print the folder:
python -m tests.suites.programs
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.e2e.harness import binaries

CONTROLLER_RUNTIME = "sigs.k8s.io/controller-runtime"
_VERSION = "v0.24.1"
"""Of controller-runtime: the one that was made for the Kubernetes of tests/e2e/kubernetes/go.mod."""

_KUBERNETES = "k8s.io/kubernetes"
PROGRAMS = {
    "kube-scheduler": f"{_KUBERNETES}/cmd/kube-scheduler",
    "kubectl-convert": f"{_KUBERNETES}/cmd/kubectl-convert",
}
TESTS = {
    "e2e.test": f"{_KUBERNETES}/test/e2e",
    "client.test": f"{CONTROLLER_RUNTIME}/pkg/client",
    "cache.test": f"{CONTROLLER_RUNTIME}/pkg/cache",
}


def find(say: Callable[[str], None], wanted: Iterable[str]) -> binaries.Binaries:
    """The folder with the `wanted` ones and all of `make e2e`, built when need be, a line to say() per step.

    What KUBEBUILDER_ASSETS names is taken as it is. Raises MissingError and UnusableError as `make e2e` does.
    """
    known = binaries.find(say)
    if os.environ.get("KUBEBUILDER_ASSETS"):
        return known
    folder = known.folder.with_name(f"{known.folder.name}-suites-{_VERSION}")
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _prepare(known.folder, folder)
        for name in sorted(wanted):
            if not (folder / name).exists():
                _build(name, folder, say)
    return binaries.Binaries(folder)


def sources(module: str) -> Path:
    """The folder of a module's sources, at the version that was built; MissingError without Go."""
    if not shutil.which("go"):
        raise binaries.MissingError(
            f"the sources of {module} come from Go's module proxy, and there is no Go"
        )
    version = _VERSION if module == CONTROLLER_RUNTIME else binaries.kubernetes_version()
    found = _go("mod", "download", "-json", f"{module}@{version}", cwd=binaries.MODULE)
    return Path(json.loads(found)["Dir"])


def _prepare(known: Path, target: Path) -> None:
    """A folder with the module, and links to what is there already."""
    folder = target.with_name(f"{target.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    module = folder / "module"
    module.mkdir(parents=True)
    for name in ("go.mod", "go.sum"):
        shutil.copy(binaries.MODULE / name, module / name)
    _go("get", f"{CONTROLLER_RUNTIME}@{_VERSION}", cwd=module)
    for name in binaries.PACKAGES:
        (folder / name).symlink_to(known / name)
    folder.rename(target)


def _build(name: str, folder: Path, say: Callable[[str], None]) -> None:
    started = time.monotonic()
    how, package = (
        (("test", "-c", "-vet=off"), TESTS[name]) if name in TESTS else (("build",), PROGRAMS[name])
    )
    flags = ("-mod=mod", "-trimpath", "-ldflags", " ".join(binaries.stamps()))
    partial = folder / f"{name}.partial"
    _go(*how, *flags, "-o", str(partial), package, cwd=folder / "module")
    partial.rename(folder / name)
    say(f"built {name} in {time.monotonic() - started:.0f} s")


def _go(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        ["go", *arguments],
        cwd=cwd,
        env=binaries.go_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise binaries.UnusableError(f"go {arguments[0]} {arguments[-1]}:\n{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    try:
        everything = (*PROGRAMS, *TESTS)
        print(find(lambda line: print(line, file=sys.stderr, flush=True), everything).folder)
    except (binaries.MissingError, binaries.UnusableError) as e:
        sys.exit(str(e))
