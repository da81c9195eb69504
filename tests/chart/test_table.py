"""Schema, README and docs/chart.md say what values.yaml says, which says something about each value."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.chart.helm import CHART
from tests.chart.table import SCHEMA, at, made, sections

TEXT = (CHART / "values.yaml").read_text("utf-8")
FOUND = [each for _, found in sections(TEXT) for each in found]


def leaves(tree: dict[str, Any], path: str = "") -> Iterator[str]:
    """The paths of all values that are no groups of others."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}{key}.")
        else:
            yield path + key


def test_each_file_is_the_one_of_these_values() -> None:
    for file, text in made().items():
        assert file.read_text("utf-8") == text, f"{file.name}: run python -m tests.chart.table"


def test_every_value_is_described_in_the_schema() -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    for each in FOUND:
        if not each.group:
            assert at(schema, each.path)["description"] == each.comment
    entry = schema["definitions"]["cluster"]["properties"]
    parts = [*entry.values(), *entry["argocd"]["properties"].values()]
    assert len(parts) > 15
    assert all(each.get("description", "").endswith(".") for each in parts)


def test_every_value_is_in_the_table() -> None:
    rows = {each.path for each in FOUND if not each.group}
    for path in leaves(yaml.safe_load(TEXT)):
        assert any(path == row or path.startswith(f"{row}.") for row in rows), path
    assert len(rows) > 100


def test_every_value_has_a_comment() -> None:
    assert [each.path for each in FOUND if not each.group and not each.comment] == []
    assert not [each.path for each in FOUND if not each.group and not each.comment.endswith(".")]


def test_every_value_is_read_by_a_template() -> None:
    text = "".join(path.read_text("utf-8") for path in (CHART / "templates").rglob("*") if path.is_file())
    words = set(re.findall(r"\w+", text))
    assert [each.path for each in FOUND if each.path.rpartition(".")[2] not in words] == []
