"""A workflow's scripts run as a runner of GitHub's would, for what a machine without GitHub can rehearse.

Scripts run with the same shell and flags; expressions are looked up, not computed. What a step `uses` is not
run: whoever rehearses says what its outputs are.
"""

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.image.dockerfile import ROOT

FOLDER = ROOT / ".github" / "workflows"
LIMIT = 300
"""Seconds for one script."""

EXPRESSION = re.compile(r"\$\{\{ *([\w.-]+) *\}\}")
SHELL = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]
"""What `shell: bash` means there."""


class FailedError(Exception):
    """What a script said that failed."""


@dataclass
class Runner:
    """A machine with a clone: `context` has the values of expressions, `environment` is the scripts' own.

    `played` has the outputs of steps that use an action, by the step's id.
    """

    clone: Path
    context: dict[str, str]
    environment: dict[str, str]
    played: dict[str, dict[str, str]] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    """The scripts that it ran, by workflow, job and place."""

    def run(self, workflow: str, job: str, **more: str) -> dict[str, str]:
        """Run a job's scripts, with more values for its expressions; its outputs, or FailedError."""
        described = yaml.safe_load((FOLDER / workflow).read_text("utf-8"))
        assert described["defaults"]["run"]["shell"] == "bash"
        found = described["jobs"][job]
        values = self.context | more
        for place, step in enumerate(found["steps"]):
            outputs = self.played.get(step.get("id", ""), {})
            if "run" in step:
                env = self._environment({**found.get("env", {}), **step.get("env", {})}, values)
                outputs = self._script(step["run"], env)
                self.ran.append(f"{workflow} {job} {place}")
            values |= {f"steps.{step.get('id')}.outputs.{name}": value for name, value in outputs.items()}
        return {name: filled(text, values) for name, text in found.get("outputs", {}).items()}

    def _environment(self, asked: dict[str, str], values: dict[str, str]) -> dict[str, str]:
        """A step's variables; those of the rehearsal win, as the place to push to does."""
        return {name: filled(text, values) for name, text in asked.items()} | self.environment

    def _script(self, script: str, env: dict[str, str]) -> dict[str, str]:
        outputs = self.clone / ".outputs"
        outputs.write_text("")
        done = subprocess.run(
            [*SHELL, "-c", script], cwd=self.clone, env=env | {"GITHUB_OUTPUT": str(outputs)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip
        if done.returncode:
            raise FailedError(f"{script}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return dict(line.split("=", 1) for line in outputs.read_text().splitlines())


def filled(text: str, values: dict[str, str]) -> str:
    """A text with its expressions looked up; KeyError for one that nobody has said."""
    return EXPRESSION.sub(lambda found: values[found[1]], text)


def scripts(workflow: str) -> list[str]:
    """Every script of a workflow, as Runner.ran names it."""
    jobs: dict[str, Any] = yaml.safe_load((FOLDER / workflow).read_text("utf-8"))["jobs"]
    return [
        f"{workflow} {name} {place}"
        for name, job in jobs.items()
        for place, step in enumerate(job.get("steps", []))
        if "run" in step
    ]
