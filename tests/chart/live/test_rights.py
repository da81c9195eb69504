"""Rights as a real API server sees them: who may install the chart, and what two agents leave each other."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.chart.helm import CHART, Helm
from tests.chart.live.conftest import helm_on, running
from tests.chart.values import AGENT
from tests.e2e.harness import binaries
from tests.e2e.harness.cluster import Cluster
from tests.rig import until


@pytest.fixture(scope="module")
def cluster(kubernetes: binaries.Binaries, folder: Path) -> Iterator[Cluster]:
    """A control plane whose `admin` has rules, which a controller collects."""
    with running(kubernetes, folder / "rights") as cluster:
        cluster.start_node("clusterrole-aggregation-controller")
        until(lambda: cluster.kubectl.json("get", "clusterrole", "admin")["rules"])
        yield cluster


def may(cluster: Cluster, account: str, *question: str, answer: str = "yes") -> None:
    """A ServiceAccount, as NAMESPACE:NAME, may do something, or may not."""
    asked = ("auth", "can-i", *question, "--as", f"system:serviceaccount:{account}")
    said = cluster.kubectl.run(*asked, code=0 if answer == "yes" else 1)
    assert said.stdout.decode().strip() == answer


def test_an_admin_of_a_namespace_can_install_the_preset_namespaced(
    helm: Helm, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.create_namespace("team-x")
    cluster.kubectl.run(
        "-n", "team-x", "create", "rolebinding", "alice", "--clusterrole=admin", "--user=alice"
    )
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(AGENT | {"rbac": {"preset": "namespaced"}}))
    install = ("install", "argotun", CHART, "-n", "team-x", "--values", values, "--kube-as-user", "alice")
    helm_on(helm, cluster, *install)
    agent = "team-x:argotun"
    may(cluster, agent, "create", "deployments", "-n", "team-x")
    may(cluster, agent, "create", "deployments", "-n", "default", answer="no")
    may(cluster, agent, "list", "nodes", answer="no")


def test_a_second_agent_leaves_the_firsts_rights_alone(helm: Helm, cluster: Cluster) -> None:
    for namespace, preset in (("hub-prod", "full"), ("hub-stage", "read-only")):
        cluster.create_namespace(namespace)
        rendered = helm.render(AGENT | {"rbac": {"preset": preset}}, namespace=namespace)
        manifest = {"apiVersion": "v1", "kind": "List", "items": rendered.objects}
        cluster.kubectl.run("apply", "-f", "-", stdin=json.dumps(manifest).encode())
    may(cluster, "hub-prod:argotun", "create", "deployments", "-A")
    may(cluster, "hub-stage:argotun", "create", "deployments", "-A", answer="no")
    may(cluster, "hub-stage:argotun", "list", "deployments", "-A")
