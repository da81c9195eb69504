"""Helm's own commands on both releases, in real pods."""

import pytest

from tests.nodes.client import Client
from tests.nodes.rig import CONTEXTS, Pods, Rig


@pytest.mark.parametrize("side", CONTEXTS)
def test_helm_test_finds_that_all_works(rig: Rig, client: Client, side: str) -> None:
    said = rig.operate(f"helm --kube-context {CONTEXTS[side]} test argotun -n argotun --logs 2>&1")
    assert "Phase:          Succeeded" in said, said
    assert "argotun-check" in said


@pytest.mark.parametrize("side", CONTEXTS)
def test_an_upgrade_under_load_fails_no_request(
    rig: Rig, client: Client, side: str, request: pytest.FixtureRequest
) -> None:
    pods: Pods = request.getfixturevalue(side)
    pods.settle()
    before = pods.one()["metadata"]["name"]
    with client.asking(5) as found:
        rig.upgrade(side, "--set=logFormat=json")
        pods.settle()
    assert pods.one()["metadata"]["name"] != before
    assert found[0].whole, found[0]


@pytest.mark.parametrize("side", CONTEXTS)
def test_an_upgrade_that_changes_nothing_leaves_the_pod(
    rig: Rig, side: str, request: pytest.FixtureRequest
) -> None:
    pods: Pods = request.getfixturevalue(side)
    pods.settle()
    before = pods.one()["metadata"]["name"]
    rig.upgrade(side)
    pods.settle()
    assert pods.one()["metadata"]["name"] == before
