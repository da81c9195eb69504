"""The commands of docs/upgrade-from-argocd-cluster-proxy.md, over releases as the older charts leave them."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.helm import ROOT, Helm
from tests.chart.live.argocd import ClusterSecret
from tests.chart.live.conftest import helm_on
from tests.chart.live.pods import make_namespace
from tests.e2e.harness.cluster import Cluster

GUIDE = (ROOT / "docs" / "upgrade-from-argocd-cluster-proxy.md").read_text("utf-8")
NAMESPACE = "proxy-system"

OLD_VALUES: dict[str, dict[str, Any]] = {
    "server": {
        "clusters": [
            {"id": "customer-a", "token": "token-of-customer-a", "targetAddr": "kubernetes.default.svc:443"}
        ],
        "tls": {"enabled": True, "certSecret": "proxy-server-tls", "clientCASecret": "proxy-ca-keypair"},
        "argocd": {
            "enabled": True,
            "namespace": "argocd",
            "caData": "YQ==",
            "clientCertData": "Yg==",
            "clientKeyData": "Yw==",
        },
        "pdb": {"enabled": True, "minAvailable": 0},
        "resources": {"limits": {"memory": "512Mi"}},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {}},
            }
        ],
    },
    "agent": {
        "serverURL": "wss://proxy.management.example.com/connect",
        "token": "token-of-customer-a",
        "tls": {"serverCASecret": "proxy-server-ca", "clientCertSecret": "proxy-client-tls"},
        "maxRetryInterval": "60s",
        "rbac": {
            "create": True,
            "clusterWide": True,
            "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}],
        },
    },
}


def metadata(name: str, namespace: str = NAMESPACE, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, **more}


def old_objects(role: str) -> list[dict[str, Any]]:
    """The objects of an older chart that have the names and labels which matter here."""
    name = f"proxy-{role}"
    labels = {"app.kubernetes.io/name": f"argocd-cluster-proxy-{role}", "app.kubernetes.io/instance": name}
    container = {"name": role, "image": role, "args": ["-clusters=/clusters.json"]}
    found: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(name)},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata(name, labels=labels),
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
    ]
    if role == "agent":
        return found
    for service, port in ((name, 8443), (f"{name}-internal", 8080)):
        found.append(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": metadata(service),
                "spec": {"selector": labels, "ports": [{"name": "http", "port": port}]},
            }
        )
    config = {"tlsClientConfig": {"insecure": False, "caData": "YQ==", "certData": "Yg==", "keyData": "Yw=="}}
    found.append(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata(
                f"{name}-cluster-customer-a", "argocd", labels={"argocd.argoproj.io/secret-type": "cluster"}
            ),
            "stringData": {
                "name": "customer-a",
                "server": f"https://{name}-internal.{NAMESPACE}.svc:8080/tunnel/customer-a",
                "config": json.dumps(config),
            },
        }
    )
    return found


@pytest.fixture(params=["server", "agent"])
def role(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def cluster(role: str, helm: Helm, management: Cluster, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster with the older system's release."""
    chart = tmp_path / "old"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text(f"apiVersion: v2\nname: argocd-cluster-proxy-{role}\nversion: 1.0.0\n")
    (chart / "templates" / "all.yaml").write_text(yaml.safe_dump_all(old_objects(role)))
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(OLD_VALUES[role]))
    for name in (NAMESPACE, "argocd"):
        make_namespace(management, name)
    release = f"proxy-{role}"
    helm_on(helm, management, "install", release, chart, "-n", NAMESPACE, "-f", tmp_path / "values.yaml")
    yield management
    helm_on(helm, management, "uninstall", release, "-n", NAMESPACE)


@pytest.fixture
def follow(role: str, helm: Helm, cluster: Cluster, tmp_path: Path) -> Callable[[], None]:
    """Run the commands of the role's part of the guide."""

    def run() -> None:
        title = {"server": "The server", "agent": "An agent"}[role]
        part = GUIDE.partition(f"## {title}\n")[2].partition("\n## ")[0]
        script = "".join(re.findall(r"^```sh\n(.*?)^```$", part, re.M | re.S))
        assert script
        programs = tmp_path / "bin"
        programs.mkdir()
        (programs / "helm").symlink_to(helm.path)
        (programs / "kubectl").symlink_to(cluster.binaries["kubectl"])
        (tmp_path / "chart").symlink_to(ROOT / "chart")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env={**cluster.kubectl.environment(), "PATH": f"{programs}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return run


def identities(cluster: Cluster) -> dict[str, str]:
    """The uid of what Argo CD and agents depend on."""
    found = {}
    for kind, namespace in (("services", NAMESPACE), ("secrets", "argocd")):
        for each in cluster.kubectl.json("get", kind, "-n", namespace)["items"]:
            found[f"{kind}/{each['metadata']['name']}"] = each["metadata"]["uid"]
    return found


def test_the_move_keeps_what_others_depend_on(
    role: str, cluster: Cluster, helm: Helm, follow: Callable[[], None]
) -> None:
    before = identities(cluster)
    follow()
    assert identities(cluster) == before
    deployment = cluster.kubectl.json("get", "deployment", f"proxy-{role}", "-n", NAMESPACE)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert f"--mode={role}" in container["args"]
    if role == "server":
        assert container["resources"]["limits"] == {"memory": "512Mi"}
        (found,) = cluster.kubectl.json("get", "secrets", "-n", "argocd")["items"]
        secret = ClusterSecret(found)
        assert secret.server == f"https://proxy-server-internal.{NAMESPACE}.svc:8080/tunnel/customer-a"
        assert secret.config["bearerToken"]
        selector = cluster.kubectl.json("get", "service", "proxy-server-internal", "-n", NAMESPACE)["spec"][
            "selector"
        ]
        assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    else:
        rules = cluster.kubectl.json("get", "clusterrole", f"proxy-agent.{NAMESPACE}")["rules"]
        assert [rule["verbs"] for rule in rules] == [["get", "list", "watch"]]


def test_the_way_back_is_open(role: str, cluster: Cluster, helm: Helm, follow: Callable[[], None]) -> None:
    follow()
    before = identities(cluster)
    cluster.kubectl.run("delete", "deployment", f"proxy-{role}", "-n", NAMESPACE)
    helm_on(helm, cluster, "rollback", f"proxy-{role}", "-n", NAMESPACE)
    assert identities(cluster) == before
    deployment = cluster.kubectl.json("get", "deployment", f"proxy-{role}", "-n", NAMESPACE)
    assert deployment["spec"]["template"]["spec"]["containers"][0]["args"] == ["-clusters=/clusters.json"]
