"""A check as a test looks at it: what it printed, by step, with no secret in it."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from argotun.check.run import walk
from argotun.config.models import Config
from tests.secrecy import watch


@dataclass
class Walked:
    """The exit code, the result of each step in order, and what was said."""

    code: int
    steps: list[dict[str, str]]

    def of(self, step: str) -> dict[str, str]:
        """The finding of a step."""
        found = [each for each in self.steps if each["step"] == step]
        assert len(found) == 1, [each["step"] for each in self.steps]
        return found[0]

    @property
    def failed(self) -> list[str]:
        """Steps that failed."""
        return [each["step"] for each in self.steps if each["result"] == "failed"]

    @property
    def names(self) -> list[str]:
        """All steps."""
        return [each["step"] for each in self.steps]


def walked(mode: str, config: Config, capsys: pytest.CaptureFixture[str], **more: Any) -> Walked:
    """Walk with `config`; each step that is not well says what to do."""
    capsys.readouterr()
    code = walk(mode, config, (), "json", **more)
    out = capsys.readouterr().out
    # Looked through, as logs are, when the test is over.
    watch.said(out)
    said = json.loads(out)
    assert said["ok"] is (code == 0)
    assert all(bool(each["todo"]) is (each["result"] != "ok") for each in said["steps"])
    return Walked(code, said["steps"])
