"""Kubernetes' own e2e.test, of the release that `make e2e` builds: which of its specs run, and how.

e2e.list has the specs that pass directly where pods are played by kwok, one a line. Those that say [Serial]
want the cluster for themselves; the others run in lanes, each a process of its own.
"""

import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.harness.binaries import Binaries
from tests.e2e.harness.http import Endpoint
from tests.e2e.harness.kubectl import kubeconfig
from tests.e2e.harness.processes import die_with_parent

from .verdicts import FAILED, Outcome, of_ginkgo, setup_failures

LIST = Path(__file__).with_name("e2e.list")
EXPLAINED = LIST.with_suffix(".explained")
LANES = 4
_SERIAL = "[Serial]"
_SECONDS = 3600.0
"""Longer than any run, so that a run that hangs ends."""


def run(
    binaries: Binaries, endpoint: Endpoint, folder: Path, specs: Sequence[str], lanes: int = LANES
) -> dict[str, Outcome]:
    """Run those specs against the API at `endpoint`; AssertionError where e2e.test itself did not work."""
    folder.mkdir()
    shared = [name for name in specs if _SERIAL not in name]
    together = [shared[lane::lanes] for lane in range(lanes)]
    outcomes: dict[str, Outcome] = {}
    for part in (together, [[name for name in specs if _SERIAL in name]]):
        outcomes.update(_run_lanes(binaries, endpoint, folder, [each for each in part if each]))
    absent = Outcome(FAILED, 0, "e2e.test has no such spec, or did not run it")
    return {name: outcomes.get(name, absent) for name in specs}


def _run_lanes(
    binaries: Binaries, endpoint: Endpoint, folder: Path, lanes: list[list[str]]
) -> dict[str, Outcome]:
    running = []
    for specs in lanes:
        place = folder / f"lane-{len(list(folder.iterdir()))}"
        running.append((place, _start(binaries, endpoint, place, specs)))
    outcomes: dict[str, Outcome] = {}
    try:
        for place, process in running:
            process.wait(_SECONDS)
            report = place / "report.json"
            log = (place / "log").read_text(errors="replace")
            assert report.exists(), f"e2e.test ended with {process.returncode}, no report:\n{log[-2000:]}"
            assert not (broken := setup_failures(report.read_text())), broken
            outcomes.update(of_ginkgo(report.read_text()))
    finally:
        for _, process in running:
            process.kill()
            process.wait()
    return outcomes


def _start(binaries: Binaries, endpoint: Endpoint, folder: Path, specs: list[str]) -> subprocess.Popen[bytes]:
    folder.mkdir()
    config = folder / "kubeconfig"
    config.write_text(_config(endpoint))
    focus = "|".join(re.escape(name) for name in specs)
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [
                binaries["e2e.test"],
                f"--kubeconfig={config}",
                f"--kubectl-path={binaries['kubectl']}",
                "--provider=skeleton",
                # Ginkgo looks at the name of the suite, a space, and the spec.
                f"--ginkgo.focus= ({focus})$",
                f"--ginkgo.json-report={folder / 'report.json'}",
                "--ginkgo.no-color",
                "--ginkgo.seed=1",
                # Nobody keeps the namespaces, and what is in them would fill the log.
                "--dump-logs-on-failure=false",
                "--disable-log-dump",
                f"--e2e-output-dir={folder}",
            ],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "TMPDIR": str(folder)},
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one thread, and one system call
        )


def _config(endpoint: Endpoint) -> str:
    """A kubeconfig for the endpoint, as text."""
    return json.dumps(kubeconfig(endpoint, "default"))
