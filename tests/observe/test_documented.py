"""Every metric that is exposed is in docs/operations.md, and every one that is described exists."""

import re
from pathlib import Path

import pytest

import argotun
from argotun.observe.metrics import AgentMetrics, Metrics, ServerMetrics

TEXT = (Path(argotun.__file__).parent.parent / "docs" / "operations.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([a-z_]+)(?:\{([a-z,]+)\})?` \| (\w+) \| (\w+) \|", re.MULTILINE)
STANDARD = ("python_", "process_")
"""Prefixes of what prometheus_client brings along."""


def exposed(metrics: Metrics) -> dict[str, str]:
    """Names as Prometheus shows them, with their types."""
    found = {}
    for family in metrics.collect():
        found[family.name + ("_total" if family.type == "counter" else "")] = family.type
    return found


def described(role: str) -> dict[str, str]:
    return {name: kind for name, _, kind, on in ROW.findall(TEXT) if on in (role, "both")}


@pytest.mark.parametrize(("role", "kind"), [("server", ServerMetrics), ("agent", AgentMetrics)])
def test_a_metric_is_described_where_it_is_exposed_and_with_its_type(role: str, kind: type[Metrics]) -> None:
    metrics = kind()
    if isinstance(metrics, ServerMetrics):
        metrics.cluster("c1")
    assert described(role) == exposed(metrics)


def test_nothing_else_is_exposed_but_what_the_client_library_brings() -> None:
    metrics = ServerMetrics()
    names = set(re.findall(rb"^# TYPE (\S+) ", metrics.exposition()[0], re.MULTILINE))
    own = {name.decode() for name in names if not name.decode().startswith(STANDARD)}
    assert own <= set(described("server"))
