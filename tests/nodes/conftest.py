"""Both clusters, brought up once for a run with argotun installed as the guide says.

Needs root, cgroup v1, Go and Debian's packages; where something is missing, every test says what.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chart.helm import MissingHelm
from tests.e2e.harness import binaries
from tests.nodes import programs
from tests.nodes.client import Client, pod, wait
from tests.nodes.rig import Pods, Rig

HERE = Path(__file__).parent
PROGRAMS = pytest.StashKey[programs.Programs | binaries.MissingError]()
WORKER = Path(__file__).parent / "worker.py"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than ten minutes; runs with ARGOTUN_NODES_SLOW=1")
    config.addinivalue_line("markers", "last(number): changes what others need, so comes behind them")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    own = {id(item) for item in items if HERE in item.path.parents}

    def place(item: pytest.Item) -> int:
        marker = item.get_closest_marker("last") if id(item) in own else None
        return int(marker.args[0]) if marker else 0

    items.sort(key=place)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build before the first test: a build takes longer than a test may."""
    if session.config.option.collectonly or not any("rig" in fixtures_of(item) for item in session.items):
        return
    try:
        session.config.stash[PROGRAMS] = programs.find(speaker(session.config))
    except binaries.MissingError as why:
        session.config.stash[PROGRAMS] = why
    except binaries.UnusableError as why:
        raise pytest.UsageError(str(why)) from why


def fixtures_of(item: pytest.Item) -> list[str]:
    """The fixtures that a test of this folder uses."""
    return getattr(item, "fixturenames", []) if HERE in item.path.parents else []


def speaker(config: pytest.Config) -> Callable[[str], None]:
    """A function that says a line at once."""
    capture = config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\nnodes: {line}", end="", flush=True)

    return say


@pytest.fixture(scope="session")
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Everything of a run; kept when a test failed."""
    path = Path(tempfile.mkdtemp(prefix="argotun-nodes-"))
    yield path
    if request.session.testsfailed:
        speaker(request.config)(f"logs are kept in {path}")
    else:
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def rig(pytestconfig: pytest.Config, folder: Path) -> Iterator[Rig]:
    """Both clusters with argotun in them."""
    found = pytestconfig.stash[PROGRAMS]
    if isinstance(found, binaries.MissingError):
        pytest.skip(str(found))
    rig = Rig(found, folder, speaker(pytestconfig))
    try:
        try:
            rig.start()
        except MissingHelm as why:
            pytest.skip(str(why))
        rig.install()
        yield rig
    finally:
        rig.stop()


@pytest.fixture(scope="session")
def client(rig: Rig) -> Client:
    """A pod beside Argo CD."""
    return Client(rig)


@pytest.fixture
def server(rig: Rig) -> Pods:
    return Pods(rig.management, "server")


@pytest.fixture
def agent(rig: Rig) -> Pods:
    return Pods(rig.customer, "agent")


@pytest.fixture(scope="session")
def worker(rig: Rig) -> str:
    """The name of a pod of the customer's, in `default`: see worker.py."""
    name = "worker"
    said = pod(name, "default", "python3", "-u", "-c", WORKER.read_text("utf-8"), stdin=True)

    rig.customer.kubectl("apply", "-f", "-", said=json.dumps(said))
    wait(rig.customer, name, "default")
    return name
