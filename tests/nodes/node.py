"""A Kubernetes cluster of one real node: control plane and node are processes in namespaces of their own.

kubelet, containerd, runc, a bridge by CNI, kube-proxy, an enforcer of NetworkPolicies, CoreDNS as a pod.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.harness.pki import Authority
from tests.e2e.harness.processes import die_with_parent
from tests.e2e.harness.waiting import until
from tests.nodes import objects
from tests.nodes.network import ROUTER, SERVICES, Place, inside
from tests.nodes.programs import Programs, v1_hierarchies

INIT = Path(__file__).parent / "init.py"
SOCKET = "/run/containerd/containerd.sock"
ISSUER = "https://kubernetes.default.svc.cluster.local"
PORT = 6443
AUDIT = "audit.log"
"""What the API notes down, in the node's folder: see objects.py."""

NEEDED = 300
"""Seconds in which a node becomes ready, on a busy machine."""

MACHINE = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
"""What a kubelet wants of the whole machine: it is shown to it, and not done."""

OWN = {"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"}
"""Sysctls of the node's network namespace."""


class Node:
    """A cluster in `folder`. start() returns when its node is ready."""

    def __init__(self, place: Place, programs: Programs, folder: Path) -> None:
        self.place, self.programs, self.folder = place, programs, folder
        self._cgroups = [Path(mount, place.namespace) for mount, _ in v1_hierarchies()]
        self._popen: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        folder.mkdir(parents=True)
        (folder / "pki").mkdir()
        self._ca = Authority(place.name, folder / "pki")
        self.kubeconfig = self._config("admin", "admin", "system:masters")

    def start(self) -> None:
        """Run it."""
        self.sweep()
        for path in self._cgroups:
            path.mkdir()
            # A cpuset is empty until somebody fills it.
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (path / name).exists():
                    (path / name).write_text((path.parent / name).read_text())
        spec = self.folder / "spec.json"
        spec.write_text(json.dumps(self._spec()))
        words = [*inside(self.place.namespace), "unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup"]
        words += ["--fork", "--kill-child", "--mount-proc", sys.executable, "-I", str(INIT), str(spec)]
        with (self.folder / "init.log").open("ab") as log:
            self._popen = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=self._enter,  # noqa: PLW1509 - one thread, and a few system calls
            )  # fmt: skip
        until(f"{self.place.name} answers", lambda: self._kubectl("get", "--raw", "/readyz"), NEEDED, 0.5)
        until(
            f"{self.place.name} is there", lambda: self._kubectl("get", "node", self.place.name), NEEDED, 0.5
        )
        threading.Thread(target=self._keep_logs, daemon=True).start()

    def load(self, archive: Path) -> None:
        """Give its containerd an image."""
        loaded = [self.programs["ctr"], "--namespace", "k8s.io", "images", "import", str(archive)]
        until("containerd listens", lambda: Path(f"/proc/{self.pid}/root{SOCKET}").exists(), NEEDED, 0.2)
        self.run(*loaded)

    def wait_until_ready(self) -> None:
        """Give it its DNS, and wait until that answers; its images must be there."""
        self.kubectl("apply", "-f", "-", said=yaml.safe_dump_all(objects.dns()))
        self.kubectl("-n", "kube-system", "rollout", "status", "deploy/coredns", f"--timeout={NEEDED}s")
        self.kubectl("wait", "--for=condition=Ready", f"node/{self.place.name}", f"--timeout={NEEDED}s")

    @property
    def pid(self) -> int:
        """The node's first process, as the machine counts."""
        assert self._popen
        self.check()
        children = Path(f"/proc/{self._popen.pid}/task/{self._popen.pid}/children").read_text()
        return int(children.split()[0])

    def check(self) -> None:
        """AssertionError with what it said when the node is over."""
        if self._popen and (code := self._popen.poll()) is not None:
            said = (self.folder / "init.log").read_text()[-2000:]
            raise AssertionError(f"{self.place.name} ended with {code}:\n{said}")

    def run(self, *words: str) -> str:
        """What a command prints that runs in the node as root."""
        entered = ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "-u", "-i", "-C", "--", *words]
        env = {"PATH": self.programs.path}
        done = subprocess.run(entered, env=env, capture_output=True, text=True, timeout=NEEDED, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout[-1000:]}{done.stderr[-2000:]}"
        return done.stdout

    def kubectl(self, *words: str, said: str | None = None) -> str:
        """What kubectl prints, run by the operator as the cluster's admin."""
        done = self._asked(*words, said=said)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stdout[-1000:]}{done.stderr[-3000:]}"
        return done.stdout

    def json(self, *words: str) -> Any:
        """The same with -o json."""
        return json.loads(self.kubectl(*words, "-o", "json"))

    def start_kubectl(self, *words: str) -> subprocess.Popen[bytes]:
        """kubectl in the background, with pipes."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self._argv(*words), env=self._environment, stdin=pipe, stdout=pipe, stderr=pipe,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one thread, and one system call
        )  # fmt: skip

    def stop(self) -> None:
        """End it with all that is in it, and take its cgroups away."""
        self._over.set()
        if self._popen and self._popen.poll() is None:
            self._popen.send_signal(signal.SIGKILL)
            self._popen.wait()
        self.sweep()

    def sweep(self) -> None:
        """Take away its cgroups, also those of a run that was killed, once their processes are gone."""
        for path in self._cgroups:
            deadline = time.monotonic() + 30
            while path.exists() and time.monotonic() < deadline:
                for inner, _, _ in os.walk(path, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(inner)
                time.sleep(0.1)
            assert not path.exists(), f"{path} still has processes"

    def _keep_logs(self) -> None:
        """Keep in `logs` what pods have said: the kubelet takes it away with them."""
        kept = self.folder / "logs"
        kept.mkdir()
        while not self._over.wait(0.5):
            for path in (self.folder / "var/log/pods").glob("*/*/*.log"):
                with contextlib.suppress(OSError):
                    os.link(path, kept / f"{path.parts[-3]}-{path.stat().st_ino}.log")

    def _enter(self) -> None:
        """In the child: into the node's cgroups, and to the end together with this process."""
        die_with_parent()
        for path in self._cgroups:
            (path / "cgroup.procs").write_text("0")

    def _kubectl(self, *words: str) -> bool:
        self.check()
        return self._asked(*words).returncode == 0

    def _asked(self, *words: str, said: str | None = None) -> subprocess.CompletedProcess[str]:
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if said is None else {"input": said}
        return subprocess.run(
            self._argv(*words), env=self._environment, capture_output=True, text=True,
            timeout=2 * NEEDED, check=False, **given,
        )  # fmt: skip

    def _argv(self, *words: str) -> list[str]:
        return [*inside(ROUTER), self.programs["kubectl"], f"--kubeconfig={self.kubeconfig}", *words]

    @property
    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder)}

    def _config(self, name: str, user: str, group: str | None = None) -> Path:
        """A kubeconfig for one who is `user` to the API, with the cluster's name as its context."""
        # A user's name is no host's: the certificate is for some host, and nobody looks which.
        pair = self._ca.issue(user, "localhost", group=group)
        place = self.place
        text = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": place.name,
            "clusters": [
                {
                    "name": place.name,
                    "cluster": {
                        "server": f"https://{place.address}:{PORT}",
                        "certificate-authority": str(self._ca.cert),
                    },
                }
            ],
            "users": [
                {
                    "name": f"{place.name}-{name}",
                    "user": {"client-certificate": str(pair.cert), "client-key": str(pair.key)},
                }
            ],
            "contexts": [
                {"name": place.name, "context": {"cluster": place.name, "user": f"{place.name}-{name}"}}
            ],
        }
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(json.dumps(text))
        path.chmod(0o600)
        return path

    def _spec(self) -> dict[str, Any]:
        """What init.py makes of this node."""
        name, address = self.place.name, self.place.address
        return {
            "name": name,
            "folder": str(self.folder),
            # A hierarchy with a name and no controller is mounted as one.
            "cgroups": [
                (mount, f"none,{options}" if options.startswith("name=") else options)
                for mount, options in v1_hierarchies()
            ],
            "files": {
                "/etc/hosts": f"127.0.0.1 localhost\n{address} {name}\n",
                "/etc/resolv.conf": "# none but the cluster's\n",
                **{f"/proc/sys/{key}": f"{value}\n" for key, value in MACHINE.items()},
            },
            "sysctls": OWN,
            "environment": {"PATH": self.programs.path, "HOME": "/root", "LANG": "C.UTF-8"},
            "programs": {each[0]: [self.programs[each[0]], *each[1:]] for each in self._programs()},
        }

    def _programs(self) -> list[list[str]]:
        """Names and arguments of all that runs on the node."""
        name, address, pki = self.place.name, self.place.address, self.folder / "pki"
        serving = self._ca.issue(
            "kube-apiserver", "127.0.0.1", address, "10.96.0.1",
            "localhost", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
        )  # fmt: skip
        accounts = self._ca.issue("service-accounts")
        caller = self._ca.issue("kube-apiserver-kubelet-client", group="system:masters")
        node = self._ca.issue("kubelet-serving", address, name, group="system:nodes")
        kubelet = self._config("kubelet", f"system:node:{name}", "system:nodes")
        controllers = self._config("controllers", "system:kube-controller-manager")
        scheduler = self._config("scheduler", "system:kube-scheduler")
        proxy = self._config("proxy", "system:kube-proxy")
        ca, client = self._ca.cert, "http://127.0.0.1:2379"
        files = {
            "containerd.toml": objects.containerd(self.folder / "cni"),
            "cni/10-bridge.conflist": json.dumps(objects.bridge()),
            "kubelet.yaml": json.dumps(objects.kubelet(ca, node)),
            "proxy.yaml": json.dumps(objects.proxy(name, proxy)),
            "audit.yaml": json.dumps(objects.audit()),
        }
        for path, text in files.items():
            (self.folder / path).parent.mkdir(exist_ok=True)
            (self.folder / path).write_text(text)
        return [
            ["etcd", "--data-dir=/var/lib/etcd", f"--listen-client-urls={client}", "--unsafe-no-fsync",
             f"--advertise-client-urls={client}"],
            ["kube-apiserver", f"--advertise-address={address}", f"--secure-port={PORT}",
             f"--etcd-servers={client}", f"--cert-dir={pki}", f"--client-ca-file={ca}",
             f"--tls-cert-file={serving.cert}", f"--tls-private-key-file={serving.key}",
             f"--kubelet-client-certificate={caller.cert}", f"--kubelet-client-key={caller.key}",
             f"--kubelet-certificate-authority={ca}", "--kubelet-preferred-address-types=InternalIP",
             f"--service-account-key-file={accounts.key}", f"--service-account-issuer={ISSUER}",
             f"--service-account-signing-key-file={accounts.key}", f"--service-cluster-ip-range={SERVICES}",
             "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
             f"--audit-policy-file={self.folder / 'audit.yaml'}", f"--audit-log-path={self.folder / AUDIT}"],
            ["kube-controller-manager", f"--kubeconfig={controllers}", "--bind-address=127.0.0.1",
             "--leader-elect=false", "--use-service-account-credentials=true", f"--root-ca-file={ca}",
             f"--service-account-private-key-file={accounts.key}"],
            ["kube-scheduler", f"--kubeconfig={scheduler}", "--bind-address=127.0.0.1",
             "--leader-elect=false"],
            ["containerd", f"--config={self.folder / 'containerd.toml'}"],
            ["kubelet", f"--config={self.folder / 'kubelet.yaml'}", f"--kubeconfig={kubelet}",
             f"--hostname-override={name}", f"--node-ip={address}", "--root-dir=/var/lib/kubelet"],
            ["kube-proxy", f"--config={self.folder / 'proxy.yaml'}"],
            ["policies", f"--kubeconfig={self.kubeconfig}", f"--hostname-override={name}",
             f"--service-cluster-ip-range={SERVICES}"],
        ]  # fmt: skip
