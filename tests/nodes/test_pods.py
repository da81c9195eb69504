"""What the pods of both sides are like, once they are installed as the guide says."""

import re
from pathlib import Path

import pytest

from tests.nodes.client import Client
from tests.nodes.rig import Pods, Rig, first_process, read


@pytest.fixture(params=["server", "agent"])
def pods(request: pytest.FixtureRequest) -> Pods:
    """The pods of each side in turn."""
    found: Pods = request.getfixturevalue(request.param)
    found.settle()
    return found


def test_a_request_goes_through_the_tunnel(client: Client) -> None:
    asked = client.ask()
    assert asked.whole, asked
    assert asked.total > 30


def test_a_pod_is_ready_and_was_never_restarted(pods: Pods, client: Client) -> None:
    pod = pods.one()
    conditions = {each["type"]: each["status"] for each in pod["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    (container,) = pod["status"]["containerStatuses"]
    assert (container["restartCount"], container["started"]) == (0, True)


def test_no_start_of_a_pod_leaves_a_warning(pods: Pods, client: Client) -> None:
    name = pods.one()["metadata"]["name"]
    selector = f"--field-selector=type=Warning,involvedObject.name={name}"
    found = pods.node.json("-n", "argotun", "get", "events", selector)["items"]
    assert [each["message"] for each in found] == []


def test_a_pod_runs_without_any_right(pods: Pods) -> None:
    status = read(Path("/proc", str(first_process(pods.one())), "status"))
    for name, value in (("Uid", "65532"), ("Gid", "65532"), ("NoNewPrivs", "1"), ("Seccomp", "2")):
        assert re.search(rf"^{name}:\s+{value}\b", status, re.M), (name, status)
    for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert re.search(rf"^{name}:\s+0+$", status, re.M), (name, status)


def test_a_pod_can_write_to_no_file_of_its_own(pods: Pods) -> None:
    mounts = read(Path("/proc", str(first_process(pods.one())), "mounts")).splitlines()
    assert any(line.split()[1] == "/" for line in mounts)
    writable = {line.split()[1] for line in mounts if "rw" in line.split()[3].split(",")}
    # What a runtime gives every container: devices, memory that is shared, and kernel interfaces.
    assert {path for path in writable if not path.startswith(("/dev", "/proc", "/sys"))} <= {
        "/etc/hosts",
        "/etc/hostname",
        "/etc/resolv.conf",
    }


def test_a_pod_of_the_restricted_standard_is_what_both_are(rig: Rig, pods: Pods) -> None:
    pods.node.kubectl(
        "label", "namespace", "argotun", "--overwrite", "pod-security.kubernetes.io/enforce=restricted"
    )
    before = pods.one()["metadata"]["name"]
    pods.kubectl("delete", "pod", before)
    pods.settle()
    assert pods.one()["metadata"]["name"] != before
