"""What is left once both releases are uninstalled as the guide says."""

import pytest

from tests.nodes.rig import NAMESPACE, Rig, blocks

pytestmark = pytest.mark.last(3)


def test_helm_uninstall_leaves_nothing(rig: Rig) -> None:
    for node in rig.nodes:
        # What `helm test` leaves, as the guide says.
        node.kubectl("-n", NAMESPACE, "delete", "pod", "argotun-check", "--ignore-not-found")
    for block in blocks("Taking it away"):
        rig.operate(block)
    for node in rig.nodes:
        kinds = node.kubectl("api-resources", "--verbs=list,delete", "-o", "name").split()
        label = "app.kubernetes.io/instance=argotun"
        node.kubectl("-n", NAMESPACE, "wait", "--for=delete", "pod", "-l", label, "--timeout=120s")
        left = node.kubectl("get", ",".join(kinds), "-A", "-l", label, "-o", "name").split()
        assert left == [], node.place.name
    label = "argocd.argoproj.io/secret-type=cluster"
    assert not rig.management.kubectl("-n", "argocd", "get", "secrets", "-l", label, "-o", "name")
