"""Both sides installed by Helm from what `--mode pki` made, and the customer's API reached as Argo CD would.

The pods run with the arguments, environment and files that the API servers hold for them, so that a chart
that says something else than the program understands fails here. Later tests build on earlier ones.
"""

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from bench.ports import free_port
from tests.chart.helm import CHART, ROOT, Helm
from tests.chart.live.argocd import ClusterSecret
from tests.chart.live.conftest import helm_on
from tests.chart.live.pods import Pod, behind_service, make_namespace
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.waiting import until
from tests.image.dockerfile import Image

SERVER_NAMESPACE, ARGOCD, AGENT_NAMESPACE = "tunnels", "argocd", "argotun"
HOST = "argotun.example.com"
HOSTS = f"127.0.0.1 {HOST} kubernetes.default.svc\n"
WITNESS = "only-at-customer-a"


class Installation:
    """Server and agents as pods, and the folder that `--mode pki` keeps."""

    def __init__(
        self, helm: Helm, image: Image, management: Cluster, customer: Cluster, folder: Path
    ) -> None:
        self.helm, self.image, self.management, self.customer = helm, image, management, customer
        self.folder = folder
        self.pki = folder / "pki"
        self.ports = {name: free_port() for name in ("port", "internalPort", "healthPort")}
        self.pods: list[Pod] = []
        self.server: Pod
        folder.mkdir()
        for name in (SERVER_NAMESPACE, ARGOCD):
            make_namespace(management, name)

    def certificates(self, *options: str) -> None:
        """Run `--mode pki`, as docs/install.md does."""
        command = [sys.executable, ROOT / "argotun.py", "--mode", "pki", "--pki-folder", self.pki]
        command += ["--pki-server", f"wss://{HOST}:{self.ports['port']}/connect"]
        command += ["--pki-namespace", SERVER_NAMESPACE, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr

    def install_server(self) -> None:
        """The chart on the management cluster; also for an upgrade."""
        values = [f"--set={name}={port}" for name, port in self.ports.items()]
        self._install(self.management, SERVER_NAMESPACE, self.pki / "server.yaml", *values)

    def install_agent(self, cluster: str, namespace: str, *values: str) -> None:
        """The same on the customer's cluster."""
        target = f"--set=targetAddr=kubernetes.default.svc:{self.customer.api_port}"
        self._install(self.customer, namespace, self.pki / "agents" / cluster / "agent.yaml", target, *values)

    def _install(self, cluster: Cluster, namespace: str, values: Path, *more: str) -> None:
        helm_on(
            self.helm, cluster, "upgrade", "--install", "argotun", CHART, "-n", namespace, "-f", values, *more
        )

    def start(self, cluster: Cluster, namespace: str, name: str) -> Pod:
        """Run the pod of what was installed."""
        pod = Pod(cluster, namespace, "argotun", self.image, self.folder / name)
        self.pods.append(pod)
        pod.start(HOSTS)
        return pod

    def secrets(self) -> dict[str, ClusterSecret]:
        """Argo CD's clusters by name: it finds them by label."""
        found = self.management.kubectl.json(
            "get", "secrets", "-n", ARGOCD, "-l", "argocd.argoproj.io/secret-type=cluster"
        )
        return {each.name: each for each in map(ClusterSecret, found["items"])}

    def get(self, cluster: str, path: str) -> tuple[int, dict, bytes]:
        """A GET as Argo CD does it: status, body, and the certificate of the server."""
        secret = self.secrets()[cluster]
        port = behind_service(secret.server, self.server)
        return secret.get(path, secret.context(self.folder), port)


@pytest.fixture(scope="module")
def installed(
    helm: Helm, image: Image, openssl: str, management: Cluster, customer: Cluster, folder: Path
) -> Iterator[Installation]:
    it = Installation(helm, image, management, customer, folder / "installed")
    try:
        make_namespace(customer, AGENT_NAMESPACE)
        make_namespace(customer, WITNESS)
        it.certificates("--pki-clusters", "customer-a,customer-b")
        it.install_server()
        it.server = it.start(management, SERVER_NAMESPACE, "server")
        it.server.wait_until_ready()
        it.install_agent("customer-a", AGENT_NAMESPACE, f"--set=healthPort={free_port()}")
        it.start(customer, AGENT_NAMESPACE, "agent").wait_until_ready()
        yield it
    finally:
        for pod in it.pods:
            pod.kill()


@pytest.fixture
def kubectl(installed: Installation):
    """Run kubectl through the cluster secret of customer-a; what it printed."""

    def run(*arguments: str, stdin: object = b"", code: int = 0) -> subprocess.CompletedProcess[bytes]:
        secret = installed.secrets()["customer-a"]
        port = behind_service(secret.server, installed.server)
        config = secret.kubeconfig(installed.folder, port)
        return installed.customer.kubectl.run(*arguments, stdin=stdin, code=code, KUBECONFIG=str(config))

    return run


def test_argo_cd_finds_the_clusters(installed: Installation) -> None:
    secrets = installed.secrets()
    assert set(secrets) == {"customer-a", "customer-b"}
    for name, secret in secrets.items():
        port = installed.ports["internalPort"]
        assert secret.server == f"https://argotun-internal.{SERVER_NAMESPACE}.svc:{port}/tunnel/{name}"
        assert secret.config["bearerToken"]
        assert secret.tls["insecure"] is False


def test_the_api_of_the_customer_is_reached(installed: Installation) -> None:
    status, body, _ = installed.get("customer-a", "/api/v1/namespaces")
    assert status == 200
    names = {each["metadata"]["name"] for each in body["items"]}
    assert WITNESS in names
    assert ARGOCD not in names


def test_every_manifest_is_applied(installed: Installation, kubectl) -> None:
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": WITNESS},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web"}]},
            },
        },
    }
    kubectl("apply", "--server-side", "-f", "-", stdin=manifest)
    there = installed.customer.kubectl.json(
        "get", "deployment", "web", "-n", WITNESS, "--show-managed-fields"
    )
    (owner,) = {each["manager"] for each in there["metadata"]["managedFields"]}
    assert owner == "kubectl"


def test_a_cluster_without_an_agent_is_not_mistaken_for_another(installed: Installation) -> None:
    status, body, _ = installed.get("customer-b", "/api/v1/namespaces")
    assert (status, body["reason"]) == (503, "ServiceUnavailable")
    assert body["message"].startswith("argotun:")


def test_a_client_without_a_certificate_is_not_answered(installed: Installation) -> None:
    secret = installed.secrets()["customer-a"]
    port = behind_service(secret.server, installed.server)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        secret.get("/api", secret.context(installed.folder, certificate=False), port)


def test_the_public_port_does_not_lead_to_the_clusters(installed: Installation) -> None:
    secret = installed.secrets()["customer-a"]
    context = secret.context(installed.folder)
    port = installed.server.port("public")
    with pytest.raises(json.JSONDecodeError):  # a plain 404, not the API's answer
        secret.get("/api/v1/namespaces", context, port)


def test_prometheus_needs_no_certificate(installed: Installation) -> None:
    text = requests.get(f"http://127.0.0.1:{installed.server.port('health')}/metrics", timeout=30).text
    assert 'argotun_tunnel_sessions{cluster="customer-a"} 1.0' in text
    assert "argotun_certificate_expiry_timestamp_seconds" in text


def test_the_role_of_the_agent_is_the_limit(installed: Installation, kubectl) -> None:
    allowed = kubectl("auth", "can-i", "create", "configmaps", "-n", WITNESS)
    assert allowed.stdout.strip() == b"yes"
    port = installed.pods[1].port("health")
    installed.install_agent(
        "customer-a", AGENT_NAMESPACE, f"--set=healthPort={port}", "--set=rbac.preset=read-only"
    )
    refused = kubectl("create", "configmap", "refused", "-n", WITNESS, code=1)
    assert b"cannot create resource" in refused.stderr
    assert b"system:serviceaccount:argotun:argotun" in refused.stderr
    kubectl("get", "deployments", "-A")
    installed.install_agent("customer-a", AGENT_NAMESPACE, f"--set=healthPort={port}")


def test_a_renewed_certificate_needs_no_restart(installed: Installation) -> None:
    def shown() -> bytes:
        return installed.get("customer-a", "/api")[2]

    before = shown()
    installed.certificates("--pki-renew")
    installed.install_server()
    installed.server.update()
    until("the new certificate is shown", lambda: shown() != before)
    renewed = ssl.PEM_cert_to_DER_cert((installed.pki / "server.crt").read_text())
    assert shown() == renewed
    for pod in installed.pods:
        assert pod.running
        pod.running.check()


def test_a_new_customer_needs_no_restart(installed: Installation) -> None:
    installed.certificates("--pki-clusters", "customer-c")
    installed.install_server()
    installed.server.update()
    make_namespace(installed.customer, "argotun-c")
    installed.install_agent(
        "customer-c",
        "argotun-c",
        f"--set=healthPort={free_port()}",
        "--set=rbac.namespaces={argotun-c}",
    )
    installed.start(installed.customer, "argotun-c", "agent-c").wait_until_ready()
    status, body, _ = installed.get("customer-c", "/api/v1/namespaces/argotun-c/secrets")
    assert (status, body["kind"]) == (200, "SecretList")
    status, body, _ = installed.get("customer-c", f"/api/v1/namespaces/{WITNESS}/secrets")
    assert (status, body["reason"]) == (403, "Forbidden")
    assert installed.get("customer-a", "/api")[0] == 200


def test_every_pod_ends_within_its_grace(installed: Installation) -> None:
    for pod in reversed(installed.pods):
        assert pod.stop() == 0, pod.running and pod.running.said()[-2000:]


def test_nothing_of_the_chart_is_left(installed: Installation) -> None:
    for cluster, namespace in (
        (installed.management, SERVER_NAMESPACE),
        (installed.customer, AGENT_NAMESPACE),
        (installed.customer, "argotun-c"),
    ):
        helm_on(installed.helm, cluster, "uninstall", "argotun", "-n", namespace)
    for cluster in (installed.management, installed.customer):
        kinds = "deployments,services,secrets,serviceaccounts,networkpolicies,poddisruptionbudgets,roles"
        text = cluster.kubectl.text(
            "get", f"{kinds},clusterroles,clusterrolebindings", "-A", "-o", "name",
            "-l", "app.kubernetes.io/name=argotun",
        )  # fmt: skip
        assert text == ""
