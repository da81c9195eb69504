"""A real API server takes every object of the examples, with the CRDs of the projects that they are of."""

import json
from typing import Any

import pytest

from tests.chart.examples import EXAMPLES, RENDERED, Example
from tests.chart.helm import Helm
from tests.e2e.harness.cluster import Cluster

NAMESPACES = ("argotun", "argocd", "shop", "shop-test")
APPLY = ("apply", "--server-side", "--validate=strict", "-o", "name", "-f", "-")


@pytest.fixture(scope="module")
def cluster(informed: Cluster) -> Cluster:
    """A cluster that knows all kinds, with the namespaces that the examples name."""
    for name in NAMESPACES:
        informed.create_namespace(name)
    return informed


def taken(cluster: Cluster, objects: list[dict[str, Any]]) -> None:
    """Make the objects, and take them away again; AssertionError with the API's words if it refuses one."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}).encode()
    made = cluster.kubectl.text(*APPLY, stdin=text).splitlines()
    assert len(made) == len(objects)
    cluster.kubectl.run("delete", "--timeout=60s", "-f", "-", stdin=text)


@pytest.mark.parametrize(
    "example", [each for each in EXAMPLES.values() if each.objects], ids=lambda each: each.name
)
def test_the_api_takes_the_objects_of_each_file(cluster: Cluster, example: Example) -> None:
    taken(cluster, example.objects)


@pytest.mark.parametrize("example", RENDERED, ids=lambda each: each.name)
def test_the_api_takes_what_helm_makes_of_each_file(cluster: Cluster, helm: Helm, example: Example) -> None:
    objects = example.render(helm).objects
    # `helm test` runs those, when there is an account for them.
    taken(cluster, [each for each in objects if each["kind"] != "Pod"])
