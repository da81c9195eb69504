"""A Kubernetes control plane on loopback: etcd, kube-apiserver, and a node where one is asked for."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.ports import free_port

from . import objects
from .binaries import MODULE, Binaries
from .http import Endpoint
from .kubectl import Kubectl
from .pki import Authority
from .processes import Process
from .waiting import until

# Those that the tests see at work; the others would only make the machine busy.
CONTROLLERS = "deployment-controller,replicaset-controller,namespace-controller,garbage-collector-controller"
AGENT_ACCOUNTS = (objects.AGENT, f"{objects.AGENT}-next")  # the second one for a rotated token


class Cluster:
    """A control plane in a folder. start() returns when it serves; stop() ends it in reverse order."""

    def __init__(self, binaries: Binaries, folder: Path, *options: str | Path) -> None:
        """Options are added to the API server's."""
        self._options = options
        self.binaries = binaries
        self.folder = folder
        self.pods = folder / "pods"
        self.audit_log = folder / "audit.log"
        self.processes: list[Process] = []
        self.api_port = free_port()
        self.etcd = Endpoint(free_port())
        folder.mkdir()
        self._ca = Authority("cluster", folder)
        self._serving = self._ca.issue("serving", "127.0.0.1", "localhost", "kubernetes.default.svc")
        self._accounts = self._ca.issue("service-accounts")
        self.ca = self._ca.cert
        self.admin = Endpoint(
            self.api_port, ca=self.ca, certificate=self._ca.issue("admin", group="system:masters")
        )
        self.kubectl = Kubectl(binaries["kubectl"], folder / "admin", self.admin)

    def start(self) -> None:
        """Run etcd and the API server, and give the agent its accounts."""
        self._start_etcd()
        self._start_apiserver()
        self.create("/api/v1/namespaces", objects.namespace(objects.AGENT_NAMESPACE))
        for account in AGENT_ACCOUNTS:
            self.create(
                f"/api/v1/namespaces/{objects.AGENT_NAMESPACE}/serviceaccounts",
                objects.service_account(account),
            )
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        self.create(f"{rbac}/clusterroles", objects.agent_role())
        self.create(f"{rbac}/clusterrolebindings", objects.agent_binding(*AGENT_ACCOUNTS))

    def start_node(self, controllers: str = CONTROLLERS) -> None:
        """Run controllers and a node: kwok keeps its status, our fakekubelet serves its pods."""
        self._start_controllers(controllers)
        port = free_port()
        self.pods.mkdir()
        serving = ("-listen", f"127.0.0.1:{port}", "-cert", self._serving.cert, "-key", self._serving.key)
        self._run("fakekubelet", *serving, "-root", self.pods, "-attach", "echo attached; exec cat")
        self._run(
            "kwok",
            "--config", MODULE / "kwok.yaml",
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
        self.create("/api/v1/nodes", objects.node(objects.NODE))

    def stop(self) -> None:
        """End every process, the last one first."""
        while self.processes:
            # All that they hold is in a folder that goes: none needs a long farewell.
            self.processes.pop().stop(seconds=3)

    def check(self) -> None:
        """AssertionError when one of the processes has ended."""
        for process in self.processes:
            process.check()

    def stop_apiserver(self) -> None:
        """End the API server as a crash would."""
        apiserver = next(p for p in self.processes if p.name == "kube-apiserver")
        apiserver.stop(signal.SIGKILL)
        self.processes.remove(apiserver)

    def start_apiserver(self) -> None:
        """Run the API server again, on the port that it had."""
        self._start_apiserver()

    def create(self, path: str, body: dict[str, Any]) -> Any:
        """POST as admin; an object that is there already is left as it is."""
        answer = self.admin("POST", path, body)
        assert answer.status in (201, 409), (path, answer)
        return answer.json()

    def create_namespace(self, name: str) -> None:
        """A namespace with the default account that pods need, whether or not a controller would make one."""
        self.create("/api/v1/namespaces", objects.namespace(name))
        self.create(f"/api/v1/namespaces/{name}/serviceaccounts", objects.service_account("default"))

    def create_pod(self, namespace: str, name: str) -> None:
        """A pod that is ready, with a folder and an empty log."""
        (self.pods / namespace / name / objects.CONTAINER).mkdir(parents=True)
        self.log_of(namespace, name).touch()
        self.create(f"/api/v1/namespaces/{namespace}/pods", objects.pod(name))

        def running() -> bool:
            self.check()
            answer = self.admin.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
            return bool(answer.json().get("status", {}).get("phase") == "Running")

        until(f"pod {namespace}/{name} runs", running)

    def folder_of(self, namespace: str, pod: str) -> Path:
        """The working folder of a pod's container."""
        return self.pods / namespace / pod / objects.CONTAINER

    def log_of(self, namespace: str, pod: str) -> Path:
        """The log of a pod's container, in CRI format."""
        return self.pods / namespace / pod / f"{objects.CONTAINER}.log"

    def token(self, account: str = objects.AGENT) -> str:
        """A token of one of the agent's accounts, as `kubectl create token` gives it."""
        return self.kubectl.text("create", "token", account, "-n", objects.AGENT_NAMESPACE, "--duration=1h")

    def compact(self) -> None:
        """Make etcd forget all revisions but the present one, so that lists of older ones are gone."""
        revision = self.etcd("POST", "/v3/kv/range", {"key": "AA=="}).json()["header"]["revision"]
        answer = self.etcd("POST", "/v3/kv/compaction", {"revision": revision, "physical": True})
        assert answer.status == 200, answer

    def audited(self, what: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first line of the audit log that is wanted, waited for."""

        def find() -> dict[str, Any] | None:
            return next(filter(wanted, _json_lines(self.audit_log)), None)

        event = until(f"{what} in the audit log", find, seconds=10)
        assert event
        return event

    def audit_logs(self) -> list[Path]:
        """The audit log, and what it was before it became too long for one file."""
        return sorted(self.audit_log.parent.glob("audit*.log"))

    def _run(self, name: str, *args: str | Path, process: str | None = None) -> Process:
        # Requests of these to each other must not go through a proxy of the environment.
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        self.processes.append(Process(process or name, [self.binaries[name], *args], self.folder, env))
        return self.processes[-1]

    def _start_etcd(self) -> None:
        peer = f"http://127.0.0.1:{free_port()}"
        self._run(
            "etcd",
            "--data-dir", self.folder / "etcd",
            "--listen-client-urls", self.etcd.url,
            "--advertise-client-urls", self.etcd.url,
            "--listen-peer-urls", peer,
            "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}",
            "--unsafe-no-fsync",
        )  # fmt: skip

    def _start_apiserver(self) -> None:
        self._run(
            "kube-apiserver",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.api_port}",
            f"--etcd-servers={self.etcd.url}",
            f"--cert-dir={self.folder}",
            f"--tls-cert-file={self._serving.cert}",
            f"--tls-private-key-file={self._serving.key}",
            f"--client-ca-file={self.ca}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-client-certificate={self.folder / 'admin.crt'}",
            f"--kubelet-client-key={self.folder / 'admin.key'}",
            f"--service-account-key-file={self._accounts.key}",
            f"--service-account-signing-key-file={self._accounts.key}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=Node,RBAC",
            "--endpoint-reconciler-type=none",
            f"--audit-policy-file={MODULE / 'audit-policy.yaml'}",
            f"--audit-log-path={self.audit_log}",
            *self._options,
        )

        def ready() -> bool:
            self.check()
            answer = self.admin.get("/readyz")
            assert answer.status != 401, answer  # readiness would never come
            return answer.status == 200

        until("kube-apiserver is ready", ready, seconds=60)

    def _start_controllers(self, controllers: str) -> None:
        self._run(
            "kube-controller-manager",
            f"--kubeconfig={self.kubectl.kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            f"--tls-cert-file={self._serving.cert}",
            f"--tls-private-key-file={self._serving.key}",
            "--leader-elect=false",
            f"--controllers={controllers}",
        )


def _json_lines(file: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a log that is being written."""
    with file.open() as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)
