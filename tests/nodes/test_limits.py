"""The chart's memory limits under load: the kernel never has to say no."""

import json
from pathlib import Path

from tests.nodes.client import Client
from tests.nodes.programs import v1_hierarchies
from tests.nodes.rig import Pods, Rig, first_process, read

READERS = 300
LONG = "/api/v1/namespaces/long/configmaps"
SIZE = 900_000
MAPS = 6


def test_readers_that_stall_bring_neither_side_to_its_limit(
    rig: Rig, client: Client, server: Pods, agent: Pods
) -> None:
    make_long_list(rig)
    for pods in (server, agent):
        pods.settle()
    before = [restarts(pods) for pods in (server, agent)]
    # Each of them has asked for 5 MB.
    with client.stalled(LONG, READERS), client.asking(5) as found:
        pass
    assert found[0].whole, found[0]
    assert [restarts(pods) for pods in (server, agent)] == before
    for pods in (server, agent):
        folder = memory(first_process(pods.one()))
        limit = int(read(folder / "memory.limit_in_bytes"))
        assert limit in (256 << 20, 1024 << 20), "the chart's limits are not in force"
        assert int(read(folder / "memory.failcnt")) == 0
        assert int(read(folder / "memory.max_usage_in_bytes")) < limit * 0.9


def make_long_list(rig: Rig) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "long"}}
    rig.customer.kubectl("apply", "-f", "-", said=json.dumps(namespace))
    for number in range(MAPS):
        each = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"long-{number}", "namespace": "long"},
            "data": {"long": "x" * SIZE},
        }
        rig.customer.kubectl("apply", "--server-side", "-f", "-", said=json.dumps(each))


def restarts(pods: Pods) -> tuple[str, int]:
    """The pod and how often its container began anew."""
    pod = pods.one()
    return pod["metadata"]["name"], pod["status"]["containerStatuses"][0]["restartCount"]


def memory(pid: int) -> Path:
    """The folder of a process's memory cgroup."""
    mount = next(mount for mount, options in v1_hierarchies() if "memory" in options.split(","))
    lines = read(Path("/proc", str(pid), "cgroup")).splitlines()
    path = next(line.split(":", 2)[2] for line in lines if "memory" in line.split(":")[1].split(","))
    return Path(mount, path.lstrip("/"))
