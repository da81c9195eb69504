"""Two clusters behind a firewall, argotun in both, and an operator who can reach their APIs."""

import fcntl
import json
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.chart.helm import RELEASES, binary
from tests.e2e.harness.processes import die_with_parent
from tests.e2e.harness.waiting import until
from tests.image.dockerfile import ROOT
from tests.nodes import images, network
from tests.nodes.network import BALANCER, CUSTOMER, MANAGEMENT, ROUTER, inside
from tests.nodes.node import Node
from tests.nodes.programs import CACHE, Programs

GUIDE = (ROOT / "docs" / "install.md").read_text("utf-8")
WAY = "Nothing secret is exchanged"
"""The part of the guide that is followed."""

STRICT = ("bash", "-euo", "pipefail", "-c")
SECONDS = 600
"""For one part of the guide, or one command of the operator."""

NAMESPACE = "argotun"
CONTEXTS = {"server": MANAGEMENT.name, "agent": CUSTOMER.name}
"""Where each side's release is."""


class Rig:
    """Both clusters in `folder`."""

    def __init__(self, programs: Programs, folder: Path, say: Callable[[str], None]) -> None:
        self.programs, self.folder, self._say = programs, folder, say
        CACHE.mkdir(parents=True, exist_ok=True)
        # Names of namespaces and cgroups are the same in each run.
        self._lock = (CACHE / "running.lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.management = Node(MANAGEMENT, programs, folder / MANAGEMENT.name)
        self.customer = Node(CUSTOMER, programs, folder / CUSTOMER.name)
        self.nodes = (self.management, self.customer)

    def start(self) -> None:
        """Bring both up, with all images and their DNS."""
        for node in self.nodes:
            node.sweep()
        network.build()
        archives = images.make(self.programs, self.folder, self._say)
        self._say("images are made")

        def up(node: Node) -> None:
            node.start()
            for archive in archives:
                node.load(archive)
            node.wait_until_ready()
            self._say(f"{node.place.name} is ready")

        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(up, self.nodes))
        self._equip()

    def stop(self) -> None:
        """Take all of it away."""
        for node in self.nodes:
            node.stop()
        network.remove()
        self._lock.close()

    def operate(self, script: str) -> str:
        """What a script of the operator prints, who has both contexts, helm, kubectl and argotun."""
        env = {
            "PATH": f"{self.folder / 'bin'}:{self.programs.path}",
            "HOME": str(self.folder / "home"),
            "KUBECONFIG": f"{self.management.kubeconfig}:{self.customer.kubeconfig}",
            "CHART": str(ROOT / "chart"),
            "LANG": "C.UTF-8",
        }
        done = subprocess.run(
            [*inside(ROUTER), *STRICT, script], cwd=self.folder / "home", env=env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=SECONDS, check=False, preexec_fn=die_with_parent,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def install(self) -> None:
        """Both sides, as the guide says."""
        self.management.kubectl("create", "namespace", "argocd")
        for block in (blocks("The way in")[0], *blocks(WAY)):
            self.operate(block)
            # What a cloud's controller would do.
            self.give_addresses()

    def upgrade(self, side: str, *words: str) -> str:
        """What helm prints that gives one side's release more values."""
        keep = f'--kube-context {CONTEXTS[side]} upgrade argotun "$CHART" -n {NAMESPACE} --reuse-values'
        return self.operate(" ".join(["helm", keep, *words]))

    def give_addresses(self) -> None:
        """Give every Service of type LoadBalancer its address."""
        for each in self.management.json("get", "services", "-A")["items"]:
            if each["spec"]["type"] == "LoadBalancer" and not each["status"]["loadBalancer"]:
                status = {"status": {"loadBalancer": {"ingress": [{"ip": BALANCER}]}}}
                name, namespace = each["metadata"]["name"], each["metadata"]["namespace"]
                self.management.kubectl(
                    "-n", namespace, "patch", "service", name, "--subresource=status", "--type=merge",
                    "-p", json.dumps(status),
                )  # fmt: skip

    def _equip(self) -> None:
        """Give the operator the programs that the guide needs."""
        (self.folder / "bin").mkdir()
        (self.folder / "home").mkdir()
        (self.folder / "bin" / "helm").symlink_to(binary(RELEASES[-1].version))
        own = self.folder / "bin" / "argotun"
        own.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT / "argotun.py"} "$@"\n')
        own.chmod(0o755)


def blocks(title: str) -> list[str]:
    """The blocks of commands of one part of the guide."""
    part = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", GUIDE, re.M | re.S)
    assert part, title
    return re.findall(r"^```sh\n(.*?)^```$", part[1], re.M | re.S)


class Pods:
    """The pods of argotun on one node: the Deployment `argotun` in its namespace."""

    def __init__(self, node: Node, component: str) -> None:
        self.node = node
        self._selector = f"app.kubernetes.io/component={component}"

    def kubectl(self, *words: str) -> str:
        """kubectl in their namespace."""
        return self.node.kubectl("-n", NAMESPACE, *words)

    def all(self) -> list[dict[str, Any]]:
        """Those that are there and not about to end."""
        found = self.node.json("-n", NAMESPACE, "get", "pods", "-l", self._selector)["items"]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def one(self) -> dict[str, Any]:
        """The only one."""
        (pod,) = self.all()
        return pod  # type: ignore[no-any-return]

    def names(self) -> list[str]:
        """The names of all."""
        return [each["metadata"]["name"] for each in self.all()]

    def ask(self, name: str, path: str) -> str:
        """What a pod answers on its health port."""
        return self.kubectl("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}:8081/proxy/{path}")

    def status(self, name: str) -> dict[str, Any]:
        """What a pod says of itself."""
        found: dict[str, Any] = json.loads(self.ask(name, "status"))
        return found

    def settle(self) -> None:
        """Wait until the Deployment is as it should be, and nothing of an earlier one is left."""
        self.kubectl("rollout", "status", "deploy/argotun", "--timeout=500s")
        want = self.node.json("-n", NAMESPACE, "get", "deploy", "argotun")["spec"]["replicas"]

        def alone() -> bool:
            found = self.node.json("-n", NAMESPACE, "get", "pods", "-l", self._selector)["items"]
            return len(found) == want

        until("no earlier pod is left", alone, 120, 0.5)


def first_process(pod: dict[str, Any]) -> int:
    """The machine's pid of the first process of a pod's only container."""
    (status,) = pod["status"]["containerStatuses"]
    container = status["containerID"].partition("//")[2]
    return next(
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and container in read(path / "cgroup") and is_first(path)
    )


def is_first(process: Path) -> bool:
    """Whether a process is the first one of its pid namespace."""
    return bool(re.search(r"^NSpid:.*\s1$", read(process / "status"), re.M))


def read(path: Path) -> str:
    """A file of /proc; empty where its process is over."""
    try:
        return path.read_text()
    except OSError:
        return ""
