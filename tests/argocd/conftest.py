"""A real Argo CD for the tests of this folder, with clusters behind argotun and one reached directly."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from tests.argocd.harness import program, rendered
from tests.argocd.harness.argocd import SECRETS, ArgoCD
from tests.argocd.harness.hub import Hub
from tests.argocd.harness.repository import Repository
from tests.chart.helm import Helm, MissingHelm
from tests.e2e.harness import binaries
from tests.e2e.harness.cluster import CONTROLLERS, Cluster
from tests.e2e.harness.node import NODE_BINARIES

HERE = Path(__file__).parent
FOUND = pytest.StashKey[tuple[binaries.Binaries, program.Program, Helm] | Exception]()
FOLDER = pytest.StashKey[Path]()
FIGURES = pytest.StashKey[list[str]]()

CUSTOMERS = ("customer-a", "customer-b")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = []


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build before the first test: a build may take longer than a test may."""
    if session.config.option.collectonly or not any(HERE in item.path.parents for item in session.items):
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\nargocd: {line}", end="", flush=True)

    try:
        kubernetes = binaries.find(say)
        if absent := kubernetes.missing(*NODE_BINARIES):
            raise binaries.MissingError(f"{kubernetes.folder} lacks {', '.join(absent)}")
        session.config.stash[FOUND] = (
            kubernetes,
            program.find(say),
            rendered.find_helm(Path(tempfile.gettempdir())),
        )
    except (binaries.MissingError, MissingHelm) as e:
        session.config.stash[FOUND] = e
    except binaries.UnusableError as e:
        raise pytest.UsageError(str(e)) from e


@pytest.fixture(scope="session")
def found(pytestconfig: pytest.Config) -> tuple[binaries.Binaries, program.Program, Helm]:
    found = pytestconfig.stash[FOUND]
    if isinstance(found, Exception):
        pytest.skip(str(found))
    return found


@pytest.fixture(scope="session")
def helm(found: tuple[binaries.Binaries, program.Program, Helm]) -> Helm:
    return found[2]


@pytest.fixture(scope="session")
def folder(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Everything of a run: configuration, data and logs; kept when a test failed."""
    path = pytestconfig.stash[FOLDER] = Path(tempfile.mkdtemp(prefix="argotun-argocd-"))
    # Argo CD's repo server has one socket of a fixed name: two of them cannot run at once.
    with (Path(tempfile.gettempdir()) / "argotun-argocd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path
    if not request.session.testsfailed:
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def clusters(
    found: tuple[binaries.Binaries, program.Program, Helm], folder: Path
) -> Iterator[dict[str, Cluster]]:
    """The management cluster, without nodes, and the customers' with one each."""
    kubernetes, _, helm = found
    clusters = {name: Cluster(kubernetes, folder / name) for name in ("management", *CUSTOMERS)}

    def start(name: str) -> None:
        clusters[name].start()
        if name != "management":
            clusters[name].start_node(f"{CONTROLLERS},serviceaccount-controller,job-controller")
            rendered.install_account(helm, clusters[name])

    try:
        starting = [gevent.spawn(start, name) for name in clusters]
        gevent.joinall(starting, raise_error=True)
        yield clusters
    finally:
        for cluster in clusters.values():
            cluster.stop()


@pytest.fixture(scope="session")
def customer(clusters: dict[str, Cluster]) -> Cluster:
    """The first customer's cluster, asked directly: what is really there."""
    return clusters["customer-a"]


@pytest.fixture(scope="session")
def hub(clusters: dict[str, Cluster], folder: Path) -> Iterator[Hub]:
    """argotun for both customers, with mutual TLS on both ports."""
    hub = Hub(folder / "hub", {name: clusters[name] for name in CUSTOMERS})
    try:
        hub.start()
        yield hub
    finally:
        hub.stop()


@pytest.fixture(scope="session")
def bare_argocd(
    found: tuple[binaries.Binaries, program.Program, Helm], clusters: dict[str, Cluster], folder: Path
) -> Iterator[ArgoCD]:
    """Argo CD, which knows no cluster yet."""
    _, program, helm = found
    argocd = ArgoCD(program, clusters["management"], folder / "argocd", {"helm": helm.path})
    try:
        argocd.start()
        yield argocd
    finally:
        argocd.stop()


@pytest.fixture(scope="session")
def argocd(bare_argocd: ArgoCD, hub: Hub, helm: Helm) -> ArgoCD:
    """Argo CD with both customers registered by the secrets that the chart renders."""
    for name in CUSTOMERS:
        secret = rendered.cluster_secret(helm, name, hub.port, hub.tls, labels={"tier": name[-1]})
        bare_argocd.management.create(SECRETS, secret)
    return bare_argocd


@pytest.fixture(scope="session")
def repository(bare_argocd: ArgoCD, folder: Path) -> Repository:
    return Repository("apps", bare_argocd.folder / "git", folder / "work", bare_argocd.git_url)


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> list[str]:
    """Lines that are printed at the end of the run."""
    return pytestconfig.stash[FIGURES]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    if lines := config.stash.get(FIGURES, []):
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.write_line(line)
    path = config.stash.get(FOLDER, None)
    if path and path.exists():
        terminalreporter.write_line(f"logs of the run with Argo CD are kept in {path}")
