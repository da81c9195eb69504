"""Write docs/chart.md from the comments of values.yaml: `python -m tests.chart.table`."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from tests.chart.helm import CHART, ROOT

PAGE = ROOT / "docs" / "chart.md"
INTRODUCTION = """\
# Values of the chart

Written by `python -m tests.chart.table` from the comments in `chart/values.yaml`.

An empty value (`""`, `[]`, `{}`) means that nothing is set. A value that there is not, or of the wrong kind,
is refused before anything is rendered, and so are values that do not go together; the sentence names them.
"""
HEAD = "| Value | Default | What it is |\n|---|---|---|\n"
SECTION = re.compile(r"## (.+)")
KEY = re.compile(r"( *)(\w+):")


@dataclass(frozen=True)
class Value:
    """A value of the chart, or a group of them, which has no default of its own."""

    path: str
    comment: str
    default: object
    group: bool

    @property
    def row(self) -> str:
        """Its row of the table."""
        cells = (f"`{self.path}`", f"`{json.dumps(self.default)}`", self.comment)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def sections(text: str) -> Iterator[tuple[str, list[Value]]]:
    """The sections of values.yaml with their values, in the file's order."""
    parts = SECTION.split(text)
    for title, part in zip(parts[1::2], parts[2::2], strict=True):
        yield title, list(values(part))


def values(part: str) -> Iterator[Value]:
    """The values of one section; what stands under a value with a default of its own is that default."""
    tree = yaml.safe_load(part)
    comment: list[str] = []
    path: list[str] = []
    inside = -1
    for line in part.splitlines():
        text = line.strip()
        if text.startswith("#"):
            comment.append(text.removeprefix("#").strip())
        elif found := KEY.match(line):
            depth = len(found[1]) // 2
            if depth <= inside or inside < 0:
                path = [*path[:depth], found[2]]
                default = tree
                for key in path:
                    default = default[key]
                group = isinstance(default, dict) and bool(default) and not comment
                inside = -1 if group else depth
                yield Value(".".join(path), " ".join(comment), default, group)
            comment = []
        elif not text:
            comment = []


def page(text: str) -> str:
    """The whole of docs/chart.md."""
    parts = [INTRODUCTION]
    for title, found in sections(text):
        rows = "\n".join(each.row for each in found if not each.group)
        parts.append(f"## {title}\n\n{HEAD}{rows}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page((CHART / "values.yaml").read_text("utf-8")), "utf-8")
