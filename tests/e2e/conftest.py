"""A real Kubernetes for the tests of this folder, reached directly and through argotun.

Most tests run both ways: one that fails both ways has found a fault of its own, not one of argotun.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import binaries
from .harness.cluster import Cluster
from .harness.http import Endpoint
from .harness.node import NODE_BINARIES, need_node
from .harness.processes import Process
from .harness.tunnel import Tunnel
from .harness.way import Watch, Way

HERE = Path(__file__).parent
BINARIES = pytest.StashKey[binaries.Binaries | binaries.MissingError]()
FOLDER = pytest.StashKey[Path]()
PROCESSES = pytest.StashKey[list[Process]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "node: needs a node and its pods")
    config.addinivalue_line("markers", "last: looks back at the whole run")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build before the first test: a build may take longer than a test may."""
    if session.config.option.collectonly or not any(HERE in item.path.parents for item in session.items):
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\ne2e: {line}", end="", flush=True)

    try:
        session.config.stash[BINARIES] = binaries.find(say)
    except binaries.MissingError as e:
        session.config.stash[BINARIES] = e
    except binaries.UnusableError as e:
        raise pytest.UsageError(str(e)) from e


@pytest.fixture(scope="session")
def kubernetes(pytestconfig: pytest.Config) -> binaries.Binaries:
    found = pytestconfig.stash[BINARIES]
    if isinstance(found, binaries.MissingError):
        pytest.skip(str(found))
    return found


@pytest.fixture(scope="session")
def folder(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Everything of a run: configuration, data and logs; kept when a test failed."""
    path = pytestconfig.stash[FOLDER] = Path(tempfile.mkdtemp(prefix="argotun-e2e-"))
    yield path
    if not request.session.testsfailed:
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def cluster(kubernetes: binaries.Binaries, folder: Path) -> Iterator[Cluster]:
    cluster = Cluster(kubernetes, folder / "cluster")
    try:
        cluster.start()
        if not kubernetes.missing(*NODE_BINARIES):
            cluster.start_node()
        yield cluster
        cluster.check()
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def tunnel(cluster: Cluster, folder: Path, pytestconfig: pytest.Config) -> Iterator[Tunnel]:
    tunnel = Tunnel(cluster, folder / "tunnel")
    try:
        tunnel.start()
        pytestconfig.stash[PROCESSES] = tunnel.processes()
        yield tunnel
    finally:
        tunnel.stop()


@pytest.fixture(scope="session")
def direct(cluster: Cluster) -> Endpoint:
    """The API as the agent's account may use it, asked directly."""
    return Endpoint(cluster.api_port, ca=cluster.ca, token=cluster.token())


@pytest.fixture(scope="session")
def direct_way(cluster: Cluster, direct: Endpoint, folder: Path) -> Way:
    return Way.open("direct", cluster, direct, folder)


@pytest.fixture(scope="session")
def tunnel_way(cluster: Cluster, tunnel: Tunnel, folder: Path) -> Way:
    return Way.open("tunnel", cluster, tunnel.endpoint, folder)


@pytest.fixture(scope="session", params=["direct", "tunnel"])
def way(request: pytest.FixtureRequest) -> Way:
    """Each way to the API in turn."""
    return request.getfixturevalue(f"{request.param}_way")


@pytest.fixture(scope="session", autouse=True)
def watch(direct: Endpoint, tunnel: Tunnel) -> Iterator[dict[str, Watch]]:
    """A watch of every configmap, both ways, from the first test to the last."""
    version = direct.get("/api/v1/configmaps").json()["metadata"]["resourceVersion"]
    path = f"/api/v1/configmaps?watch=1&resourceVersion={version}"
    watches = {"direct": Watch(direct, path), "tunnel": Watch(tunnel.endpoint, path)}
    yield watches
    for one in watches.values():
        one.stop()


@pytest.fixture
def pod(cluster: Cluster) -> str:
    """The name of the running pod in each way's namespace; its container is a folder here."""
    need_node(cluster)
    return Way.pod


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed:
        for process in item.config.stash.get(PROCESSES, []):
            report.sections.append((f"end of {process.log.name}", process.tail()))
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    path = config.stash.get(FOLDER, None)
    if path and path.exists():
        terminalreporter.write_line(f"logs of the end-to-end run are kept in {path}")
