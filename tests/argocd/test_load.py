"""A thousand objects through one tunnel and directly, side by side: time, requests, CPU and memory."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from tests.argocd.harness import objects, rendered
from tests.argocd.harness.argocd import SECRETS, ArgoCD
from tests.argocd.harness.hub import Hub
from tests.argocd.harness.repository import Repository
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.processes import Process
from tests.e2e.harness.waiting import until

APPLICATIONS, OBJECTS, ROUNDS = 20, 50, 2
WAYS = {"customer-a": "argotun, mutual TLS on every hop", "straight": "direct"}
MORE = 1.6
"""How much more CPU all parts together may take through the tunnel; time says how busy the machine is."""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """CPU seconds so far, and resident memory in MiB."""

    cpu: float
    memory: float

    @classmethod
    def of(cls, process: Process) -> "Usage":
        proc = Path("/proc") / str(process.pid)
        fields = (proc / "stat").read_text().rpartition(")")[2].split()
        pages = int((proc / "statm").read_text().split()[1])
        return cls((int(fields[11]) + int(fields[12])) / TICKS, pages * os.sysconf("SC_PAGE_SIZE") / 2**20)

    def since(self, before: "Usage") -> str:
        """What was used since then, in words."""
        return f"{self.cpu - before.cpu:.2f} CPU s, {self.memory:.0f} MiB"


def cpu_of(*processes: Process) -> float:
    """CPU seconds of all of them so far."""
    return sum(Usage.of(process).cpu for process in processes)


def deploy_all(
    argocd: ArgoCD, repository: Repository, way: str, number: int, count: int = APPLICATIONS
) -> float:
    """Create the applications, and wait until all are synced; seconds."""
    names = [f"load-{way}-{number}-{i:02}" for i in range(count)]
    started = time.monotonic()
    for name in names:
        application = objects.application(name, repository.source("load"), way, "Validate=false")
        application["metadata"]["finalizers"] = []
        argocd.create(application)
    left = set(names)

    def all_synced() -> bool:
        listed = argocd.list()
        for each in listed:
            if objects.is_fine(each):
                left.discard(each["metadata"]["name"])
        return not left

    until(f"{count} applications of {way} are synced", all_synced, seconds=240, every=0.2)
    return time.monotonic() - started


def test_a_thousand_objects(
    argocd: ArgoCD, hub: Hub, customer: Cluster, repository: Repository, figures: list[str]
) -> None:
    argocd.management.create(SECRETS, rendered.direct_secret("straight", customer, customer.api_port))
    repository.objects("load/all.json", *objects.configmaps(OBJECTS))
    repository.commit("Add the load")
    assert hub.server
    ours = {"server": hub.server.process, "agent": hub.agents["customer-a"]}
    others = [*argocd.processes.values(), *argocd.management.processes, *customer.processes]
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    work: dict[str, list[float]] = {way: [] for way in WAYS}
    for way in WAYS:
        deploy_all(argocd, repository, way, 0, count=1)  # fills Argo CD's cache of the cluster
    for number in range(1, ROUNDS + 1):
        # Now one way first, now the other: what comes second finds caches warm and the machine hot.
        for way in sorted(WAYS, reverse=number % 2 == 0):
            before = {name: Usage.of(process) for name, process in ours.items()}
            started = cpu_of(*ours.values(), *others)
            requests = hub.requests("customer-a")
            times[way].append(deploy_all(argocd, repository, way, number))
            work[way].append(cpu_of(*ours.values(), *others) - started)
            asked = hub.requests("customer-a") - requests
            used = "; ".join(f"{name} {Usage.of(p).since(before[name])}" for name, p in ours.items())
            figures.append(
                f"load, {APPLICATIONS} x {OBJECTS} objects, {WAYS[way]}: {times[way][-1]:.1f} s, "
                f"{work[way][-1]:.1f} CPU s of all parts; {asked} requests; {used}"
            )
    for number in range(1, ROUNDS + 1):
        for way in WAYS:
            namespace = f"load-{way}-{number}-{APPLICATIONS - 1:02}"
            found = customer.admin.get(f"/api/v1/namespaces/{namespace}/configmaps").json()["items"]
            assert len([each for each in found if each["metadata"]["name"].startswith("map-")]) == OBJECTS
    # A controller that is restarted in a later test would compare all of these first.
    for each in argocd.list():
        if (name := each["metadata"]["name"]).startswith("load-"):
            argocd.delete(name)
    through, straight = (min(work[way]) for way in WAYS)
    took = min(times["customer-a"]) / min(times["straight"])
    figures.append(f"load, argotun to direct: time {took:.2f}, CPU of all parts {through / straight:.2f}")
    assert through / straight < MORE
