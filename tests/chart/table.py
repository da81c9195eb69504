"""What is made of the comments in values.yaml: `python -m tests.chart.table`.

Descriptions and what is required in values.schema.json, and from these the tables in docs/chart.md and in
the chart's README.
"""

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.chart.helm import CHART, ROOT

PAGE = ROOT / "docs" / "chart.md"
README = CHART / "README.md"
SCHEMA = CHART / "values.schema.json"
VALUES = CHART / "values.yaml"
MARK = "## Values\n"
"""Where the README's table begins; what stands above it is written by hand."""
WIDTH = 110
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


def described(schema: dict[str, Any], text: str) -> dict[str, Any]:
    """The schema with the comment of each value as its description, and asking for each value."""
    require(schema, yaml.safe_load(text))
    for _, found in sections(text):
        for value in found:
            if value.comment:
                at(schema, value.path)["description"] = value.comment
    return schema


def require(schema: dict[str, Any], tree: dict[str, Any]) -> None:
    """Have the schema ask for each value that has a default."""
    if tree and "properties" in schema:
        schema["required"] = [key for key, value in tree.items() if value is not None]
        for key, value in tree.items():
            if isinstance(value, dict):
                require(schema["properties"][key], value)


def at(schema: dict[str, Any], path: str) -> dict[str, Any]:
    """What the schema says of the value at a path."""
    for key in path.split("."):
        schema = schema["properties"][key]
    return schema


def compact(part: Any, indent: int = 0) -> str:
    """JSON with each part on one line that fits there."""
    line = json.dumps(part, ensure_ascii=False)
    if indent + len(line) <= WIDTH or not isinstance(part, (dict, list)):
        return line
    inner = " " * (indent + 2)
    if isinstance(part, dict):
        lines = [f"{json.dumps(key)}: {compact(value, indent + 2)}" for key, value in part.items()]
    else:
        lines = [compact(each, indent + 2) for each in part]
        if all(isinstance(each, str) for each in part):
            lines = textwrap.wrap(", ".join(lines), WIDTH - indent - 2, break_on_hyphens=False)
            return "[\n" + "\n".join(inner + each for each in lines) + "\n" + " " * indent + "]"
    begin, end = "{}" if isinstance(part, dict) else "[]"
    return begin + "\n" + ",\n".join(inner + each for each in lines) + "\n" + " " * indent + end


def tables(text: str, schema: dict[str, Any], level: str) -> str:
    """A table for each section, with what the schema says of each value."""
    parts = []
    for title, found in sections(text):
        rows = [row(each.path, each.default, at(schema, each.path)) for each in found if not each.group]
        parts.append(f"{level} {title}\n\n{HEAD}" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def row(path: str, default: object, schema: dict[str, Any]) -> str:
    """The row of one value."""
    cells = (f"`{path}`", f"`{json.dumps(default)}`", schema["description"])
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def made() -> dict[Path, str]:
    """Each file with the text that it is to have."""
    text = VALUES.read_text("utf-8")
    schema = described(json.loads(SCHEMA.read_text("utf-8")), text)
    above = README.read_text("utf-8").partition(MARK)[0]
    return {
        SCHEMA: compact(schema) + "\n",
        PAGE: f"{INTRODUCTION}\n{tables(text, schema, '##')}",
        README: f"{above}{MARK}\n{tables(text, schema, '###')}",
    }


if __name__ == "__main__":
    for file, content in made().items():
        file.write_text(content, "utf-8")
