"""Pods that end and begin under a hundred requests a second: none is lost, no answer is another request's."""

import os
import signal

import pytest

from tests.e2e.harness.waiting import until
from tests.nodes.client import Client
from tests.nodes.rig import Pods, first_process

BESIDE = 5.0
"""Seconds that requests go on at least."""


@pytest.fixture(params=["server", "agent"])
def pods(request: pytest.FixtureRequest) -> Pods:
    """The pods of each side in turn."""
    found: Pods = request.getfixturevalue(request.param)
    found.settle()
    return found


def test_a_rollout_under_load_fails_no_request(client: Client, pods: Pods) -> None:
    before = pods.one()["metadata"]["name"]
    with client.asking(BESIDE) as found:
        pods.kubectl("rollout", "restart", "deploy/argotun")
        pods.settle()
    assert pods.one()["metadata"]["name"] != before
    assert found[0].whole, found[0]


def test_a_pod_that_is_deleted_under_load_fails_no_request(client: Client, pods: Pods) -> None:
    before = pods.one()["metadata"]["name"]
    with client.asking(BESIDE) as found:
        pods.kubectl("delete", "pod", before)
        pods.settle()
    assert pods.one()["metadata"]["name"] != before
    asked = found[0]
    # The only server was told to go before another one was there: what it does not take in nobody has asked.
    assert (asked.wrong, asked.counts) == ([], {"200": asked.total}), asked
    assert len(asked.unconnected) <= asked.total / 100, asked


def test_sigterm_ends_a_process_without_an_error(client: Client, pods: Pods) -> None:
    pod = pods.one()
    name = pod["metadata"]["name"]
    os.kill(first_process(pod), signal.SIGTERM)

    def ended() -> bool:
        (container,) = pods.one()["status"]["containerStatuses"]
        last = container["lastState"].get("terminated", {})
        return bool(last) and (last["exitCode"], last["reason"]) == (0, "Completed")

    until(f"the kubelet saw {name} end with 0", ended, 120, 0.5)
    pods.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s")
    # What comes after has a pod that never ended.
    pods.kubectl("delete", "pod", name)
    pods.settle()
    until("requests are answered again", lambda: set(client.ask(1).counts) == {"200"}, 60, 1)
