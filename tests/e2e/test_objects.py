"""Objects by kubectl: what a person or a deployment tool does all day."""

import json

import pytest

from .harness import objects
from .harness.cluster import Cluster
from .harness.tunnel import Tunnel
from .harness.way import Way

MANY = 1200
PAGE = 500
MANY_MAPS = "/api/v1/namespaces/many/configmaps"


def test_an_object_is_created_read_listed_patched_and_deleted(way: Way) -> None:
    kubectl = way.kubectl
    assert kubectl.text("create", "configmap", "life", "--from-literal=k=1") == "configmap/life created"
    assert kubectl.json("get", "configmap", "life")["data"] == {"k": "1"}
    assert "life" in kubectl.text("get", "configmaps", "-o", "name")
    assert (
        kubectl.text("patch", "cm", "life", "--type=merge", "-p", '{"data":{"k":"2"}}')
        == "configmap/life patched"
    )
    patch = '[{"op":"replace","path":"/data/k","value":"3"}]'
    assert kubectl.json("patch", "cm", "life", "--type=json", "-p", patch)["data"] == {"k": "3"}
    assert kubectl.text("label", "cm", "life", "a=b") == "configmap/life labeled"
    assert kubectl.text("get", "cm", "-l", "a=b", "-o", "name") == "configmap/life"
    # From 1.34 on it says from which namespace.
    assert kubectl.text("delete", "cm", "life", "--wait").startswith('configmap "life" deleted')
    assert "NotFound" in kubectl.run("get", "cm", "life", code=1).stderr.decode()


def test_apply_creates_changes_and_then_leaves_alone(way: Way) -> None:
    assert way.kubectl.text("apply", "-f", "-", stdin=objects.configmap("applied", k="1")).endswith("created")
    assert way.kubectl.text("apply", "-f", "-", stdin=objects.configmap("applied", k="2")).endswith(
        "configured"
    )
    assert way.kubectl.text("apply", "-f", "-", stdin=objects.configmap("applied", k="2")).endswith(
        "unchanged"
    )


def test_diff_says_by_its_exit_code_whether_apply_would_change(way: Way) -> None:
    way.kubectl.run("apply", "-f", "-", stdin=objects.configmap("differing", k="old"))
    way.kubectl.run("diff", "-f", "-", stdin=objects.configmap("differing", k="old"), code=0)
    shown = way.kubectl.run(
        "diff", "-f", "-", stdin=objects.configmap("differing", k="new"), code=1
    ).stdout.decode()
    assert "-  k: old" in shown
    assert "+  k: new" in shown


def test_server_side_apply_reports_a_conflict_and_can_be_forced(way: Way) -> None:
    apply = ("apply", "--server-side", "-f", "-", "--field-manager")
    way.kubectl.run(*apply, "first", stdin=objects.configmap("owned", k="first"))
    refused = way.kubectl.run(*apply, "second", stdin=objects.configmap("owned", k="second"), code=1)
    assert 'conflict with "first"' in refused.stderr.decode()
    way.kubectl.run(*apply, "second", "--force-conflicts", stdin=objects.configmap("owned", k="second"))
    assert way.kubectl.json("get", "cm", "owned")["data"] == {"k": "second"}


def test_a_dry_run_on_the_server_changes_nothing(way: Way) -> None:
    way.kubectl.run("apply", "--dry-run=server", "-f", "-", stdin=objects.configmap("imagined", k="1"))
    way.kubectl.run("get", "cm", "imagined", code=1)


def test_explain_and_api_resources_read_the_discovery_documents(way: Way) -> None:
    assert "KIND:       ConfigMap" in way.kubectl.text("explain", "configmap.data")
    assert "deployments.apps" in way.kubectl.text("api-resources", "--api-group=apps", "-o", "name")


@pytest.fixture(scope="session")
def many(cluster: Cluster, tunnel: Tunnel) -> list[str]:
    """The names of more configmaps than two pages hold, created through the tunnel on one connection."""
    cluster.create_namespace("many")
    names = [f"many-{n:04}" for n in range(MANY)]
    filling = "x" * 200
    with tunnel.endpoint.connection() as conn:
        for name in names:
            response = tunnel.endpoint.send(conn, "POST", MANY_MAPS, objects.configmap(name, filling=filling))
            assert response.status == 201, response.read()
            response.read()
    return names


def test_a_long_list_comes_whole_in_pages(way: Way, many: list[str]) -> None:
    names: list[str] = []
    pages, token = 0, ""
    while pages == 0 or token:
        page = way.api.get(f"{MANY_MAPS}?limit={PAGE}&continue={token}").json()
        names += [item["metadata"]["name"] for item in page["items"]]
        pages, token = pages + 1, page["metadata"].get("continue", "")
    assert pages == 3
    assert names == many


def test_kubectl_lists_in_chunks_what_it_lists_at_once(way: Way, many: list[str]) -> None:
    listing = ("get", "configmaps", "-n", "many", "-o", "name")
    listed = way.kubectl.text(*listing, f"--chunk-size={PAGE}").splitlines()
    assert listed == [f"configmap/{name}" for name in many]
    assert listed == way.kubectl.text(*listing, "--chunk-size=0").splitlines()


def test_a_big_object_goes_both_ways_unchanged(way: Way) -> None:
    big = objects.configmap("big", text="".join(f"{n:07}\n" for n in range(120_000)))
    way.kubectl.run("create", "-f", "-", stdin=big)
    assert way.kubectl.json("get", "cm", "big")["data"] == big["data"]


@pytest.mark.node
def test_a_deployment_rolls_out_scales_and_goes_with_its_namespace(way: Way, pod: str) -> None:
    namespace = f"{way.namespace}-rollout"
    way.cluster.create_namespace(namespace)
    inside = ("-n", namespace)
    way.kubectl.run("apply", *inside, "-f", "-", stdin=objects.deployment("web", replicas=2))
    way.kubectl.run("rollout", "status", "deployment/web", "--timeout=30s", *inside)
    way.kubectl.run("scale", "deployment/web", "--replicas=4", *inside)
    way.kubectl.run(
        "wait", "deployment/web", "--for=jsonpath={.status.readyReplicas}=4", "--timeout=30s", *inside
    )
    assert len(json.loads(way.kubectl.run("get", "pods", "-o", "json", *inside).stdout)["items"]) == 4
    way.kubectl.run("delete", "namespace", namespace, "--wait", "--timeout=50s")
