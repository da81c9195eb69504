"""The suites of others, each once directly and once through argotun by each way.

A suite runs before a cluster of its own each time, so that no run finds what another has left.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import binaries

from . import programs
from .verdicts import Outcome, counts

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "build" / "suites"
FOUND = pytest.StashKey[binaries.Binaries | binaries.MissingError]()
FOLDER = pytest.StashKey[Path]()
FIGURES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = []
    config.addinivalue_line("markers", "suite(*programs): runs a suite of others, with programs of its own")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build before the first test: a build may take longer than a test may."""
    marks = [mark for item in session.items for mark in item.iter_markers("suite")]
    if session.config.option.collectonly or not marks:
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\nsuites: {line}", end="", flush=True)

    try:
        session.config.stash[FOUND] = programs.find(say, {name for mark in marks for name in mark.args})
    except binaries.MissingError as e:
        session.config.stash[FOUND] = e
    except binaries.UnusableError as e:
        raise pytest.UsageError(str(e)) from e


@pytest.fixture(scope="session")
def found(pytestconfig: pytest.Config) -> binaries.Binaries:
    found = pytestconfig.stash[FOUND]
    if isinstance(found, binaries.MissingError):
        pytest.skip(str(found))
    return found


@pytest.fixture(scope="session")
def folder(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Everything of a run: configuration, data and logs; kept when a test failed."""
    path = pytestconfig.stash[FOLDER] = Path(tempfile.mkdtemp(prefix="argotun-suites-"))
    yield path
    if not request.session.testsfailed:
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def record(pytestconfig: pytest.Config) -> Callable[[str, str, dict[str, Outcome]], dict[str, Outcome]]:
    """Note how a run went, in build/suites and under the summary; the outcomes come back."""

    def note(suite: str, way: str, outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{suite}-{way}.json").write_text(json.dumps(outcomes, indent=1, sort_keys=True))
        pytestconfig.stash[FIGURES].append(f"{suite}, {way}: {counts(outcomes)}")
        return outcomes

    return note


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    for line in config.stash[FIGURES]:
        terminalreporter.write_line(line)
    path = config.stash.get(FOLDER, None)
    if path and path.exists():
        terminalreporter.write_line(f"logs of the suites are kept in {path}")
