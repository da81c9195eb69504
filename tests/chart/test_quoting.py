"""What YAML would take for a number, a boolean or nothing stays the text that it is."""

from typing import Any

import pytest

from tests.chart.helm import Helm
from tests.chart.values import AGENT, MATRIX, SERVER

ODD = ("2026", "1e3", "007", "no", "true", "null", "0x1f")


def texts(part: Any, path: str = "") -> list[tuple[str, Any]]:
    """Paths and values of all fields that Kubernetes wants to be text: names, labels, annotations."""
    found = []
    if isinstance(part, dict):
        for key, value in part.items():
            within = path.rpartition(".")[2]
            if within in {"labels", "annotations", "matchLabels", "selector", "nodeSelector"} or (
                key in {"name", "namespace", "secretName", "priorityClassName", "serviceAccountName", "host"}
            ):
                found.append((f"{path}.{key}", value))
            found += texts(value, f"{path}.{key}")
    elif isinstance(part, list):
        for each in part:
            found += texts(each, path)
    return [(where, value) for where, value in found if not isinstance(value, (dict, list))]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", ["server-mtls", "server-cert-manager", "server-monitored", "agent"])
def test_a_release_and_a_namespace_may_have_any_name(helm: Helm, name: str, odd: str) -> None:
    rendered = helm.render(MATRIX[name], name=odd, namespace=odd)
    found = texts(rendered.objects)
    assert [each for each in found if not isinstance(each[1], str)] == []
    assert (".metadata.namespace", odd) in found
    assert all(each["metadata"]["name"][0].isalpha() for each in rendered.all("Service"))


@pytest.mark.parametrize("odd", ODD)
def test_other_objects_may_have_any_name(helm: Helm, odd: str) -> None:
    agent = {
        "existingSecret": odd,
        "priorityClassName": odd,
        "serviceAccount": {"create": False, "name": odd},
        "configSecret": odd,
        "tls": {"serverCASecret": odd, "clientCertSecret": odd},
    }
    server = {
        "clusters": [{"id": odd, "token": odd.ljust(16, "0")}],
        "argocd": {"enabled": True, "namespace": odd},
        "monitoring": {"namespace": odd},
        "service": {"loadBalancerClass": odd, "appProtocol": odd},
        "image": {"repository": odd, "tag": odd},
        "commonLabels": {"a": odd},
        "podLabels": {"b": odd},
    }
    for rendered in (helm.render(AGENT | agent), helm.render(SERVER | server)):
        assert [each for each in texts(rendered.objects) if not isinstance(each[1], str)] == []
    peer = helm.render(SERVER | server).one("NetworkPolicy")["spec"]["ingress"][1]["from"][0]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": odd}
