"""Pods that end and begin under a hundred requests a second: none is lost, no answer is another request's."""

import os
import signal

import pytest

from argotun.agent.backoff import GOOD_LIFE
from tests.e2e.harness.waiting import until
from tests.nodes.client import Client
from tests.nodes.rig import Pods, Rig, first_process
from tests.nodes.test_limits import LONG, make_long_list

BESIDE = 5.0
"""Seconds that requests go on at least."""

READERS, SLOW = 10, 500_000
"""Readers of 5 MB each, and the bytes that each reads in a second: it takes half as long as a drain may."""

DELETED = {"agent": 1, "server": 3}
"""How often a pod of each side is deleted: a client may come in the very moment in which a server ends."""


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


@pytest.mark.parametrize("side", DELETED)
def test_a_pod_that_is_deleted_under_load_fails_no_request(
    client: Client, agent: Pods, side: str, request: pytest.FixtureRequest
) -> None:
    pods: Pods = request.getfixturevalue(side)
    for _ in range(DELETED[side]):
        pods.settle()
        # One that is sent away sooner takes that for a failed attempt, and waits longer before the next.
        until("a tunnel with a good life", lambda: oldest(agent) > GOOD_LIFE, 120, 1)
        before = pods.one()["metadata"]["name"]
        with client.asking(BESIDE) as found:
            pods.kubectl("delete", "pod", before)
            pods.settle()
        assert pods.one()["metadata"]["name"] != before
        assert found[0].whole, found[0]


def test_who_reads_slowly_has_the_whole_answer_of_a_pod_that_is_deleted(
    rig: Rig, client: Client, pods: Pods
) -> None:
    """A pod's network goes with its last process, and what the kernel has not sent goes with it."""
    make_long_list(rig)
    with client.reading(LONG, READERS, SLOW) as found:
        pods.kubectl("delete", "pod", pods.one()["metadata"]["name"])
        pods.settle()
    assert found == ["whole"] * READERS


def oldest(agent: Pods) -> float:
    """Seconds that the agent has had its tunnel; 0 while it has none."""
    (name,) = agent.names()
    return max((float(each["connectedSeconds"]) for each in agent.status(name)["tunnels"]), default=0.0)


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
