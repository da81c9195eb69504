"""How a walk is shown: a line for each step to a person, one JSON object to a program."""

import json
import os
import shutil
import textwrap
from collections.abc import Mapping
from typing import TextIO

import argotun
from argotun.check.steps import FAILED, OK, WARNING, Finding, Walk
from argotun.streams import coloured

MARKS = {OK: "✓", WARNING: "!", FAILED: "✗"}
PLAIN_MARKS = {OK: "+", WARNING: "!", FAILED: "x"}
"""For an output that cannot write the others."""

COLOURS = {OK: "\x1b[32m", WARNING: "\x1b[33m", FAILED: "\x1b[31m"}
PLAIN = "\x1b[0m"

LEFT = 18
"""Columns of mark and step; a longer step pushes its own line only."""

WIDTH = 100
"""Columns in all, or as many as a narrower terminal has."""


def marks(out: TextIO, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The mark of each result; in colour where a person looks on, and did not ask for none."""
    chosen = MARKS if _writes(out, "".join(MARKS.values())) else PLAIN_MARKS
    if not coloured(out, environ):
        return chosen
    return {result: f"{COLOURS[result]}{mark}{PLAIN}" for result, mark in chosen.items()}


class Lines:
    """Writes each finding as it is made."""

    def __init__(self, out: TextIO, environ: Mapping[str, str] = os.environ) -> None:
        self._out = out
        self._marks = marks(out, environ)
        self._width = min(WIDTH, shutil.get_terminal_size().columns) if out.isatty() else WIDTH

    def tell(self, finding: Finding) -> None:
        """One finding: its line, and what to do below it."""
        left = f"{self._marks[finding.result]} {finding.step}"
        pad = " " * max(1, LEFT - len(finding.step) - 2)
        said = self._wrapped(finding.says)
        print(f"{left}{pad}{said[0]}", *said[1:], sep=f"\n{' ' * LEFT}", file=self._out, flush=True)
        if finding.todo:
            todo = self._wrapped(f"To do: {finding.todo}.")
            print(" " * LEFT, end="", file=self._out)
            print(*todo, sep=f"\n{' ' * LEFT}", file=self._out, flush=True)

    def _wrapped(self, text: str) -> list[str]:
        width = max(20, self._width - LEFT)
        return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]

    def end(self, walk: Walk) -> None:
        """What it comes to."""
        failed, warnings = (sum(f.result == kind for f in walk.findings) for kind in (FAILED, WARNING))
        words = [f"{failed} failed" if failed else "", f"{warnings} to look at" if warnings else ""]
        print(f"\n{', '.join(filter(None, words)) or 'all is well'}", file=self._out, flush=True)


def as_json(mode: str, walk: Walk) -> str:
    """A walk for a program: one object, of a form that only grows."""
    return json.dumps(
        {
            "version": argotun.__version__,
            "mode": mode,
            "ok": not walk.failed,
            "steps": [
                {"step": each.step, "result": each.result, "says": each.says, "todo": each.todo}
                for each in walk.findings
            ],
        },
        indent=2,
    )


def _writes(out: TextIO, text: str) -> bool:
    try:
        text.encode(out.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
