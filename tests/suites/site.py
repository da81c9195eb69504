"""Where a suite runs: a cluster with all of its controllers, and each way to its API."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.ports import free_port
from tests.e2e.harness import objects
from tests.e2e.harness.binaries import Binaries
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.http import Endpoint
from tests.e2e.harness.processes import Process
from tests.e2e.harness.tunnel import Tunnel

DIRECT = "direct"
WAYS = ("http", "https", "hop")
"""Through argotun: its port plain; with mutual TLS; plain, and the agent at another replica."""

NODES = ("node-1", "node-2")
_STAGES = Path(__file__).with_name("kwok.yaml")


class Site(Cluster):
    """A control plane whose controllers, scheduler and nodes start where a suite wants them.

    The agent may do anything: what the API refuses to it, the API would refuse to the suite as well.
    """

    def __init__(self, binaries: Binaries, folder: Path, *options: str, token: str = "") -> None:
        """Options are added to the API server's; a token is the agent's instead of its account's."""
        super().__init__(binaries, folder, *options)
        self._token = token

    def token(self, account: str = objects.AGENT) -> str:
        """What the agent shows to the API, and the suite where it runs without argotun."""
        return self._token or super().token(account)

    def start(self) -> None:
        """Run the API, and return when it serves."""
        super().start()
        self.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", _all_rights())

    def start_controllers(self, *options: str | Path) -> None:
        """Run all controllers; options are added to theirs."""
        self._run(
            "kube-controller-manager",
            f"--kubeconfig={self.kubectl.kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            f"--tls-cert-file={self._serving.cert}",
            f"--tls-private-key-file={self._serving.key}",
            "--leader-elect=false",
            f"--service-account-private-key-file={self._accounts.key}",
            f"--root-ca-file={self.ca}",
            f"--cluster-signing-cert-file={self.ca}",
            f"--cluster-signing-key-file={self._ca.key()}",
            # The suites make and delete hundreds of things, and wait for each.
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            *options,
        )

    def start_nodes(self) -> None:
        """Run the controllers, a scheduler, and nodes whose pods are played by kwok."""
        self.start_controllers()
        self._run(
            "kube-scheduler",
            f"--kubeconfig={self.kubectl.kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            "--leader-elect=false",
        )
        port = free_port()
        self.pods.mkdir()
        serving = ("-listen", f"127.0.0.1:{port}", "-cert", self._serving.cert, "-key", self._serving.key)
        self._run_confined("fakekubelet", *serving, "-root", self.pods, "-attach", "echo attached; exec cat")
        self._run(
            "kwok",
            "--config", _STAGES,
            "--kubeconfig", self.kubectl.kubeconfig,
            "--manage-all-nodes",
            "--node-ip", "127.0.0.1",
            "--node-port", str(port),
            "--server-address", f"127.0.0.1:{free_port()}",
            "--tls-cert-file", self._serving.cert,
            "--tls-private-key-file", self._serving.key,
            "--cidr", "10.1.0.0/24",
            "--node-lease-duration-seconds", "40",
        )  # fmt: skip
        for name in NODES:
            node = objects.node(name)
            node["metadata"]["labels"] = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
            self.create("/api/v1/nodes", node)

    def _run_confined(self, name: str, *args: str | Path) -> None:
        """Run a program that may write to the pods' folders only: it runs what specs run in their pods."""
        confined = ("bwrap", "--die-with-parent", "--unshare-pid", "--ro-bind", "/", "/", "--dev", "/dev")
        argv = [*confined, "--proc", "/proc", "--bind", self.pods, self.pods, self.binaries[name], *args]
        self.processes.append(Process(name, argv, self.folder, dict(os.environ)))


@contextmanager
def reached(way: str, site: Site, begin: Callable[[Site], None] | None = None) -> Iterator[Endpoint]:
    """The API of a site, directly or by one of WAYS; AssertionError when a part of either has died.

    begin() starts what the suite needs beside the API.
    """
    with ExitStack() as stack:
        stack.callback(site.stop)
        site.start()
        if begin:
            begin(site)
        if way == DIRECT:
            yield Endpoint(site.api_port, ca=site.ca, token=site.token())
        else:
            tunnel = Tunnel(site, site.folder / "tunnel", plain=way != "https", hop=way == "hop")
            stack.callback(tunnel.stop)
            tunnel.start()
            yield tunnel.endpoint
            for process in tunnel.processes():
                process.check()
        site.check()


def _all_rights() -> dict[str, object]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "argotun-suites"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [
            {"kind": "ServiceAccount", "name": objects.AGENT, "namespace": objects.AGENT_NAMESPACE},
        ],
    }
