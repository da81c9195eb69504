"""Two real API servers, Helm and the image, for charts that are installed and pods that run."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chart.helm import RELEASES, Helm, MissingHelm, binary
from tests.chart.live import crds
from tests.e2e.harness import binaries
from tests.e2e.harness.cluster import Cluster
from tests.image.dockerfile import Image, MissingError, build


def say(line: str) -> None:
    """A step of a build that may take minutes."""
    print(f"chart: {line}", file=sys.stderr, flush=True)


@pytest.fixture(scope="session")
def kubernetes() -> binaries.Binaries:
    try:
        return binaries.find(say)
    except binaries.MissingError as why:
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def openssl() -> str:
    """The program that `--mode pki` and people make certificates with."""
    return shutil.which("openssl") or pytest.skip("the openssl program is not installed")


@pytest.fixture(scope="session")
def image(folder: Path) -> Image:
    try:
        return build(folder / "image")
    except MissingError as why:
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Everything of a run; kept when a test failed."""
    path = Path(tempfile.mkdtemp(prefix="argotun-chart-"))
    yield path
    if request.session.testsfailed:
        say(f"logs are kept in {path}")
    else:
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def helm(folder: Path) -> Helm:
    """The newest Helm that can be had; which of them renders makes no difference, as other tests show."""
    why: Exception | None = None
    for release in reversed(RELEASES):
        try:
            return Helm(release.version, binary(release.version), folder / "helm")
        except MissingHelm as error:
            why = error
    pytest.skip(str(why))


@contextmanager
def running(kubernetes: binaries.Binaries, folder: Path) -> Iterator[Cluster]:
    """A control plane for the block."""
    cluster = Cluster(kubernetes, folder)
    try:
        cluster.start()
        yield cluster
        cluster.check()
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def management(kubernetes: binaries.Binaries, folder: Path) -> Iterator[Cluster]:
    with running(kubernetes, folder / "management") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def informed(management: Cluster) -> Cluster:
    """The management cluster, which knows all kinds from here on."""
    try:
        crds.install(management)
    except crds.MissingError as why:
        pytest.skip(str(why))
    return management


@pytest.fixture(scope="session")
def customer(kubernetes: binaries.Binaries, folder: Path) -> Iterator[Cluster]:
    with running(kubernetes, folder / "customer") as cluster:
        yield cluster


def helm_on(helm: Helm, cluster: Cluster, *arguments: str | Path) -> str:
    """Run Helm against a cluster; what it printed, or AssertionError with what it said."""
    done = subprocess.run(
        [helm.path, *arguments],
        env={**cluster.kubectl.environment(), "HOME": str(helm.home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"helm {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}"
    return done.stdout
