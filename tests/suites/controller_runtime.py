"""controller-runtime's suites of its client and its cache, with the cluster that is there."""

import json
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.e2e.harness.binaries import Binaries
from tests.e2e.harness.http import Endpoint
from tests.e2e.harness.kubectl import kubeconfig
from tests.e2e.harness.processes import die_with_parent

from .programs import CONTROLLER_RUNTIME, sources
from .verdicts import Outcome, of_ginkgo, of_go, setup_failures

EXPLAINED = Path(__file__).with_name("controller-runtime.explained")
OPTIONS = ("--disable-admission-plugins=ServiceAccount",)
"""Of the API server, as envtest starts it: pods of the suites have no account."""

_SECONDS = 1800.0


class Suite(NamedTuple):
    """A package with tests: its program, its folder, and the test of Go that runs all specs of Ginkgo."""

    program: str
    folder: str
    all_specs: str


SUITES = {
    "client": Suite("client.test", "pkg/client", "TestClient"),
    "cache": Suite("cache.test", "pkg/cache", "TestSource"),
}


def run(suite: Suite, binaries: Binaries, endpoint: Endpoint, folder: Path) -> dict[str, Outcome]:
    """Run a suite against the API at `endpoint`; AssertionError where it did not come to an end."""
    folder.mkdir()
    report = folder / "report.json"
    (folder / "kubeconfig").write_text(json.dumps(kubeconfig(endpoint, "default")))
    with (folder / "log").open("wb") as log:
        subprocess.run(
            [
                binaries[suite.program],
                "-test.v",
                "-ginkgo.no-color",
                "-ginkgo.seed=1",
                f"-ginkgo.json-report={report}",
            ],
            # The objects that it creates are in files there.
            cwd=sources(CONTROLLER_RUNTIME) / suite.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=_SECONDS,
            check=False,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(folder),
                "KUBECONFIG": str(folder / "kubeconfig"),
                "USE_EXISTING_CLUSTER": "true",
            },
            preexec_fn=die_with_parent,
        )
    said = (folder / "log").read_text(errors="replace")
    assert report.exists(), f"{suite.program} left no report:\n{said[-2000:]}"
    assert not (broken := setup_failures(report.read_text())), broken
    by_go = of_go(said)
    by_go.pop(suite.all_specs, None)
    return {**by_go, **of_ginkgo(report.read_text())}
