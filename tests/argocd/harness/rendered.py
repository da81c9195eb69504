"""What our chart renders for a run: Argo CD's cluster secrets, and the account of the agent."""

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.chart.helm import NAMESPACE, RELEASES, Helm, MissingHelm, binary
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.http import Endpoint
from tests.e2e.harness.pki import Pair

ACCOUNT = "argotun"


def find_helm(home: Path) -> Helm:
    """The newest Helm that can be had here; raises MissingHelm."""
    for release in reversed(RELEASES):
        try:
            return Helm(release.version, binary(release.version), home)
        except MissingHelm as e:
            why = e
    raise why


def cluster_secret(
    helm: Helm, cluster: str, port: int, tls: tuple[Path, Pair] | None, **entry: Any
) -> dict[str, Any]:
    """The secret that registers a cluster with Argo CD; only the address is this machine's.

    tls: the CA of the internal port, and Argo CD's certificate for it; none is plain HTTP.
    """
    values: dict[str, Any] = {
        "mode": "server",
        "clusters": [{"id": cluster, "token": "not-used-anywhere-here", "argocd": entry}],
        "argocd": {"enabled": True},
    }
    if tls:
        ca, pair = tls
        values["tls"] = {"enabled": True, "certSecret": "server-tls", "clientCASecret": "client-ca"}
        values["argocd"] |= {
            "caData": _base64(ca.read_bytes()),
            "clientCertData": _base64(pair.cert.read_bytes()),
            "clientKeyData": _base64(pair.key.read_bytes()),
        }
    secret = helm.render(values).one("Secret", f"argotun-cluster-{cluster}")
    url = urlsplit(base64.b64decode(secret["data"]["server"]).decode())
    assert url.path == f"/tunnel/{cluster}", url
    secret["data"]["server"] = _base64(f"{url.scheme}://127.0.0.1:{port}{url.path}".encode())
    return secret


def server_of(secret: dict[str, Any]) -> str:
    """The URL that Argo CD knows the cluster by."""
    return base64.b64decode(secret["data"]["server"]).decode()


def direct_secret(name: str, cluster: Cluster, port: int) -> dict[str, Any]:
    """A secret for the same API without a tunnel, with the agent's own token."""
    config = {
        "bearerToken": account_token(cluster),
        "tlsClientConfig": {"caData": _base64(cluster.ca.read_bytes())},
    }
    data = {"name": name, "server": Endpoint(port, ca=cluster.ca).url, "config": json.dumps(config)}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": f"direct-{name}",
            "namespace": "argocd",
            "labels": {"argocd.argoproj.io/secret-type": "cluster"},
        },
        "data": {key: _base64(value.encode()) for key, value in data.items()},
    }


def install_account(helm: Helm, cluster: Cluster) -> None:
    """Give the cluster the ServiceAccount and the rights that the chart gives an agent."""
    values = {"mode": "agent", "serverURL": "wss://argotun.example.com/connect", "existingSecret": "token"}
    kinds = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")
    objects = [each for each in helm.render(values).objects if each["kind"] in kinds]
    assert len(objects) == len(kinds), objects
    cluster.create_namespace(NAMESPACE)
    cluster.kubectl.run(
        "apply", "-n", NAMESPACE, "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": objects}
    )


def account_token(cluster: Cluster) -> str:
    """A token of that account."""
    return cluster.kubectl.text("create", "token", ACCOUNT, "-n", NAMESPACE, "--duration=2h")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
