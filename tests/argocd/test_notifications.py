"""The notification of a lost cluster, as Argo CD's own engine evaluates and writes it; nothing is sent."""

from pathlib import Path
from typing import Any

import pytest

from tests.argocd.harness import program
from tests.argocd.harness.notifications import Notifications
from tests.chart.helm import Helm
from tests.e2e.harness import binaries

LOST = "Get \"https://argotun.example/tunnel/customer-a/version\": argotun: no agent of cluster 'customer-a'"


@pytest.fixture
def engine(found: tuple[binaries.Binaries, program.Program, Helm], tmp_path: Path) -> Notifications:
    return Notifications(found[1].argocd, tmp_path)


def application(status: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "shop", "namespace": "argocd"},
        "spec": {"destination": {"name": "customer-a", "namespace": "shop"}, "project": "default"},
        **({"status": status} if status else {}),
    }


def failed(message: str, phase: str = "Failed") -> dict[str, Any]:
    return {"sync": {"status": "Synced"}, "operationState": {"phase": phase, "message": message}}


def unknown(message: str) -> dict[str, Any]:
    conditions = [
        {"type": "OrphanedResourceWarning", "message": "some"},
        {"type": "ComparisonError", "message": message},
    ]
    return {"sync": {"status": "Unknown"}, "conditions": conditions}


@pytest.mark.parametrize(
    "status",
    [
        unknown(f"failed to load live state: {LOST} is connected"),
        unknown("the server is currently unable to handle the request: argotun: the tunnel was lost: reset"),
        failed(f"one or more objects failed to apply, reason: {LOST} is connected"),
        failed("argotun: the agent cannot reach its API: refused. Retrying attempt #1", "Running"),
    ],
)
def test_a_lost_cluster_is_told_with_argotuns_words(status: dict[str, Any], engine: Notifications) -> None:
    assert engine.triggered(application(status))
    written = engine.written(application(status))
    assert "subject: 'shop: its cluster cannot be reached'" in written
    assert "its cluster customer-a cannot be reached through argotun" in written
    assert "argotun: " in written.partition("through argotun.")[2]
    assert "OrphanedResourceWarning" not in written


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"sync": {"status": "Synced"}, "health": {"status": "Healthy"}},
        failed(f"{LOST} is connected", "Succeeded"),
        failed("the namespace is missing"),
        unknown("failed to load target state: repository not found"),
        unknown("argotun: the policy of this cluster's agent forbids list secrets (rule no-secrets/secrets)"),
    ],
)
def test_what_is_no_lost_cluster_is_not_told(status: dict[str, Any], engine: Notifications) -> None:
    assert not engine.triggered(application(status))
