"""What the guides name is there: messages, values, flags, metrics."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from argotun.config.models import PkiConfig
from argotun.options.load import load
from argotun.options.sources import read
from argotun.options.table import BY_NAME, MODE

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
GUIDES = ("install.md", "troubleshooting.md", "upgrade-from-argocd-cluster-proxy.md")
VALUES = yaml.safe_load((ROOT / "chart" / "values.yaml").read_text("utf-8"))

OTHERS = (
    "x509:",
    "tls:",
    "context deadline",
    "Cluster has no applications",
    "Please enter",
    "no matches for",
)
"""Beginnings of what Argo CD and kubectl say."""


def said() -> str:
    """Every text in the program, one a line; … stands for what a format puts in."""
    lines = []
    for path in (ROOT / "argotun").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                lines.append(re.sub(r"%[a-z]", "…", node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                lines.append("".join(str(part) for part in parts))
    return "\n".join(lines)


def text_of(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


@pytest.mark.parametrize(
    "words",
    [
        "ImagePullBackOff",
        "EXTERNAL-IP stays pending",
        "nothing for 99 s",
        "internal port was",
        "no matches for kind",
    ],
)
def test_what_newcomers_met_has_a_row(words: str) -> None:
    rows = [
        line for line in (ROOT / "docs/troubleshooting.md").read_text("utf-8").splitlines() if words in line
    ]
    assert any(row.startswith("| ") for row in rows)


def test_the_readmes_way_to_kubernetes_says_how_agents_get_in() -> None:
    text = (ROOT / "README.md").read_text("utf-8").replace("\\\n", " ")
    (command,) = (line.split() for line in text.splitlines() if "argotun.py pki" in line)
    config = load(read(command[2:], {}), {}).config
    assert isinstance(config, PkiConfig)
    assert config.pki_exposure != "as-it-is"


def test_every_message_is_one_of_the_program() -> None:
    rows = re.findall(r"^\| (.+?) \| ", text_of("troubleshooting.md"), re.M)
    messages = [each for row in rows for each in re.findall(r"`([^`]+ [^`]+)`", row)]
    messages = [each for each in messages if not each.startswith((*OTHERS, "helm ", "kubectl -n"))]
    assert len(messages) > 20
    everything = said()
    for each in messages:
        # A sentence that is put together ends where the rest comes in.
        parts = [part for part in re.split(r"…", each) if part.strip()]
        for part in parts:
            known = (
                part.strip(" :") in everything
                or part.removeprefix("the other side's certificate ").strip() in everything
            )
            assert known, each


@pytest.mark.parametrize("name", GUIDES)
def test_every_flag_is_one_of_the_program(name: str) -> None:
    flags = re.findall(r"(?<![\w-])--([a-z][a-z-]+)", re.sub(r"```sh.*?```", "", text_of(name), flags=re.S))
    known = {*BY_NAME, MODE.name, "check", "logs", "print-config", "previous", "raw", "append-server-path"}
    assert set(flags) <= known


def value_of(path: str) -> None:
    """Look a value up; KeyError where the chart has none."""
    node = VALUES
    for part in path.split("."):
        node = node[part]


@pytest.mark.parametrize("name", GUIDES)
def test_every_value_is_one_of_the_chart(name: str) -> None:
    roots = "|".join(key for key, value in VALUES.items() if isinstance(value, dict) and value)
    found = re.findall(rf"`((?:{roots})\.(?!yaml|crt)[A-Za-z.]+[A-Za-z])`", text_of(name))
    assert found
    for path in found:
        value_of(path)


def test_every_new_value_of_the_table_is_one_of_the_chart() -> None:
    part = text_of(GUIDES[2]).partition("## Values")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!old|-)(.+?) \| (.+?) \| ", part, re.M)
    assert len(rows) > 5
    for _, new in rows:
        for path in re.findall(r"`([A-Za-z.]+)`", new):
            value_of(path)
