"""What the documents say is there: tests, links, options, metrics, make targets."""

import ast
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from argotun.observe.metrics import AgentMetrics, Metrics, ServerMetrics
from argotun.options.table import MODE, OPTIONS

ROOT = Path(__file__).resolve().parents[1]
TOP = [ROOT / name for name in ("README.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md")]
DOCUMENTS = [*TOP, *sorted((ROOT / "docs").glob("*.md"))]
PARITY = ROOT / "docs" / "parity.md"
SECURITY = ROOT / "docs" / "security.md"

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TEST = re.compile(r"`(tests/[\w/]+\.py)::((?:\w+::)?\w+)`")
ELSEWHERE = "comes with"
"""How a row of parity.md says that another part than the program keeps the promise."""


def prose(document: Path) -> str:
    """A document without its code blocks."""
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.M | re.S)
    return re.sub(r"^ {4}.*$", "", text, flags=re.M)


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    heads = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def found_in(path: Path) -> set[str]:
    """What pytest may find in a file: functions, methods, and the classes that hypothesis makes."""
    tree = ast.parse(path.read_text("utf-8")) if path.exists() else ast.Module([], [])
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.add(node.targets[0].id)
    return found


def rows(document: Path = PARITY, after: str = "") -> list[str]:
    """The rows of a document's tables, without their heads; `after` is the heading to begin at."""
    text = document.read_text("utf-8")
    lines = text[text.index(after) :].splitlines()
    return [
        line
        for line in lines
        if line.startswith("|") and not re.match(r"\|( (?:promise|number|finding) \||[-| ]+\|$)", line)
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in LINK.findall(prose(document)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_parity_names_tests_that_are_there() -> None:
    named = TEST.findall(PARITY.read_text("utf-8"))
    assert len(named) > 100
    missing = [f"{path}::{name}" for path, name in set(named) if name not in found_in(ROOT / path)]
    assert not missing


def test_every_promise_stands_beside_a_test() -> None:
    assert len(rows()) > 100
    for row in rows():
        assert row.count(" | ") == 2, row
        assert TEST.search(row) or ELSEWHERE in row, row


def test_security_names_tests_that_are_there() -> None:
    named = TEST.findall(SECURITY.read_text("utf-8"))
    assert len(named) > 60
    missing = [f"{path}::{name}" for path, name in set(named) if name not in found_in(ROOT / path)]
    assert not missing


def test_every_promise_and_attack_of_security_stands_beside_a_test() -> None:
    found = rows(SECURITY, "## Promises")
    assert len(found) > 40
    for row in found:
        assert row.count(" | ") == 2, row
        assert TEST.search(row), row


def test_every_finding_has_its_row() -> None:
    numbers = [int(re.match(r"\| (\d+)\. ", row)[1]) for row in rows(SECURITY, "## Findings")]  # type: ignore[index]
    assert numbers == list(range(1, 25))


def test_every_option_is_described() -> None:
    text = "".join((ROOT / "docs" / name).read_text("utf-8") for name in ("options.md", "operations.md"))
    for option in (MODE, *OPTIONS):
        assert f"`{option.flag}`" in text, option.flag


@pytest.mark.parametrize("role", [ServerMetrics, AgentMetrics])
def test_every_metric_is_described_with_its_type(role: type[Metrics]) -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    families = list(role(CollectorRegistry()).collect())
    assert len(families) > 10
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert re.search(rf"^\| `{name}[`{{].*\| {family.type} \|", text, re.M), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_names_make_targets_that_are_there(document: Path) -> None:
    targets = re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.M)
    text = document.read_text("utf-8")
    named = set(re.findall(r"^ {4}make ([a-z0-9-]+)|`make ([a-z0-9-]+)", text, re.M))
    # One that parity.md compares with is the Go system's.
    assert {a or b for a, b in named} <= {*targets, "test-e2e"}


def test_every_module_is_in_the_picture_of_the_layers() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    for package in sorted(path.parent for path in (ROOT / "argotun").glob("*/__init__.py")):
        room = re.search(rf"^\*\*`{package.name}/`\*\* – (.+?)\n\n", text, re.M | re.S)
        assert room, package.name
        names = {path.name for path in package.glob("*.py")} - {"__init__.py"}
        assert names == set(re.findall(r"`(\w+\.py)`", room[1])), package.name


def test_the_readme_has_every_command() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for target in ("demo", "quick", "test", "e2e", "bench", "lint"):
        assert f"    make {target}" in text


def test_the_image_runs_without_root_and_without_a_shell() -> None:
    stages = (ROOT / "Dockerfile").read_text("utf-8").split("\nFROM ")
    last = stages[-1].splitlines()
    assert re.match(r"gcr\.io/distroless/\S+:nonroot", last[0])
    users = [line.split()[1] for line in last if line.startswith("USER ")]
    assert users
    assert all(user.split(":")[0].isdigit() and int(user.split(":")[0]) > 0 for user in users)
    assert not any(line.startswith(("RUN ", "SHELL ")) for line in last)
    assert any(line.startswith('ENTRYPOINT ["') for line in last)
