"""The workflows of CI: they call what is there, with the rights that they need and no more."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = {path.name: yaml.safe_load(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.yaml"))}

each_workflow = pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=WORKFLOWS)


def scripts(workflow: dict[str, Any]) -> list[str]:
    """Every script that a workflow runs."""
    return [
        step["run"] for job in workflow["jobs"].values() for step in job.get("steps", []) if "run" in step
    ]


def test_every_part_of_ci_has_a_workflow() -> None:
    assert set(WORKFLOWS) == {"test.yaml", "kind.yaml", "image.yaml", "chart.yaml", "release.yaml"}
    ran = {target for each in WORKFLOWS.values() for text in scripts(each) for target in targets(text)}
    assert ran >= {"lint", "test", "demo", "image"}


def test_every_folder_of_tests_with_a_target_of_its_own_is_run() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    own = re.search(r"^LONG = (.+)$", makefile, re.M)
    assert own
    real = WORKFLOWS["test.yaml"]["jobs"]["real"]["strategy"]["matrix"]["target"]
    commands = "".join(re.findall(rf"^(?:{'|'.join(real)}):.*\n((?:\t.*\n)+)", makefile, re.M))
    for folder in own[1].split():
        assert f" {folder} " in commands, folder


def targets(script: str) -> list[str]:
    """The make targets that a script names."""
    return re.findall(r"^\s*make ([a-z0-9-]+)", script, re.M)


@each_workflow
def test_every_make_target_is_there(workflow: dict[str, Any]) -> None:
    there = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    for text in scripts(workflow):
        assert set(targets(text)) <= set(there)


@each_workflow
def test_no_job_may_write_by_default(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}


@each_workflow
def test_no_job_runs_for_hours_when_it_hangs(workflow: dict[str, Any]) -> None:
    for name, job in workflow["jobs"].items():
        assert "uses" in job or job["timeout-minutes"] <= 60, name


@each_workflow
def test_no_token_stays_in_the_clone(workflow: dict[str, Any]) -> None:
    for job in workflow["jobs"].values():
        for step in job.get("steps", []):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


@each_workflow
def test_no_expression_is_a_part_of_a_script(workflow: dict[str, Any]) -> None:
    """What comes from outside reaches a script by its environment, where no shell reads it as code."""
    for text in scripts(workflow):
        assert "${{" not in text


def test_every_python_that_setup_py_names_is_tested() -> None:
    named = re.findall(r"Python :: (3\.\d+)", (ROOT / "setup.py").read_text("utf-8"))
    assert WORKFLOWS["test.yaml"]["jobs"]["test"]["strategy"]["matrix"]["python"] == named


def test_a_called_workflow_gets_the_rights_that_it_asks_for() -> None:
    for workflow in WORKFLOWS.values():
        for job in workflow["jobs"].values():
            if not job.get("uses", "").startswith("./"):
                continue
            called = WORKFLOWS[Path(job["uses"]).name]
            given = job.get("permissions", workflow["permissions"])
            for inner in called["jobs"].values():
                assert inner.get("permissions", called["permissions"]).items() <= given.items()


def test_renovate_pins_what_is_named_by_a_tag() -> None:
    renovate = json.loads((ROOT / "renovate.json").read_text("utf-8"))
    assert {"docker:pinDigests", "helpers:pinGitHubActionDigests"} <= set(renovate["extends"])
    assert not any(rule.get("enabled") is False for rule in renovate["packageRules"])


def test_actionlint_has_nothing_to_say() -> None:
    actionlint = shutil.which("actionlint")
    if not actionlint:
        pytest.skip("actionlint is not installed (go install github.com/rhysd/actionlint/cmd/actionlint)")
    done = subprocess.run(
        [actionlint, "-color=false"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout
