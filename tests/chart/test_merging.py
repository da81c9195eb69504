"""Values that meet: maps become one map, null is refused in words, and what is not said stays the default."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.chart.helm import CHART, NAMESPACE, Helm, Refused
from tests.chart.values import AGENT, MATRIX, MONITORING, SERVER

DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
SELECTOR = {
    "app.kubernetes.io/name": "argotun",
    "app.kubernetes.io/instance": "argotun",
    "app.kubernetes.io/component": "server",
}


class Strict(yaml.SafeLoader):
    """YAML as Flux and kustomize read it: no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"{twice} twice {node.start_mark}"
        return super().construct_mapping(node, deep)


OVERLAPS: dict[str, Any] = {
    "commonLabels": {"team": "platform", "helm.sh/chart": "x", "environment": "hub", "argotun/service": "y"},
    "podLabels": {"team": "edge", "app.kubernetes.io/name": "tunnel"},
    "podAnnotations": {"prometheus.io/scrape": "false"},
    "prometheusRule": {"enabled": True, "labels": {"team": "rules"}, "alertLabels": {"severity": "page"}},
    "dashboard": {"enabled": True, "labels": {"team": "boards"}},
    "argocd": {"enabled": True},
    "clusters": [
        {
            "id": "a",
            "token": "token-number-tttt",
            "argocd": {"labels": {"environment": "staging", "argocd.argoproj.io/secret-type": "none"}},
        }
    ],
    "service": {
        "type": "LoadBalancer",
        "annotations": {"service.beta.kubernetes.io/aws-load-balancer-type": ""},
    },
    "exposure": {"cloud": "aws"},
    "gateway": {
        "create": True,
        "className": "istio",
        "hostname": "h.example.com",
        "tlsMode": "Terminate",
        "tls": {"secretName": "s"},
        "certIssuer": "own",
        "annotations": {"cert-manager.io/cluster-issuer": "theirs"},
    },
}


@pytest.mark.parametrize("name", [*MATRIX, "overlaps", "openshift"])
def test_no_key_stands_twice(helm: Helm, name: str) -> None:
    route = {"kind": "openshift", "host": "h", "tlsMode": "Terminate"}
    hour = {"annotations": {"haproxy.router.openshift.io/timeout": "2h"}}
    more = {"overlaps": SERVER | OVERLAPS, "openshift": SERVER | {"exposure": route | hour}}
    values = (MATRIX | more)[name]
    done = helm.run("template", "argotun", str(CHART), "--namespace", NAMESPACE, values=values)
    assert done.returncode == 0, done.stderr
    assert list(yaml.load_all(done.stdout, Strict))


def test_the_more_special_of_two_values_counts(helm: Helm) -> None:
    rendered = helm.render(SERVER | OVERLAPS)
    deployment = rendered.one("Deployment")
    pod = deployment["spec"]["template"]["metadata"]
    assert pod["annotations"]["prometheus.io/scrape"] == "false"
    assert pod["annotations"]["prometheus.io/path"] == "/metrics"
    assert pod["labels"] == {**OVERLAPS["commonLabels"], "team": "edge", **SELECTOR}
    assert deployment["metadata"]["labels"].items() >= {"team": "platform", "helm.sh/chart": "x"}.items()
    (cluster,) = [each for each in rendered.all("Secret") if each["metadata"]["namespace"] == "argocd"]
    labels = cluster["metadata"]["labels"]
    assert (labels["environment"], labels["argocd.argoproj.io/secret-type"]) == ("staging", "cluster")
    assert rendered.one("PrometheusRule")["metadata"]["labels"]["team"] == "rules"
    rules = rendered.one("PrometheusRule")["spec"]["groups"][0]["rules"]
    assert {rule["labels"]["severity"] for rule in rules} == {"page"}
    assert rendered.one("ConfigMap", "argotun-dashboard")["metadata"]["labels"]["team"] == "boards"
    balancer = rendered.one("Service")["metadata"]["annotations"]
    assert balancer["service.beta.kubernetes.io/aws-load-balancer-type"] == ""
    assert rendered.one("Gateway")["metadata"]["annotations"] == {"cert-manager.io/cluster-issuer": "theirs"}
    assert rendered.one("Service", "argotun-internal")["metadata"]["labels"]["argotun/service"] == "internal"


def test_selectors_are_the_release_in_any_case(helm: Helm) -> None:
    deployment = helm.render(SERVER | OVERLAPS).one("Deployment")["spec"]
    assert deployment["selector"]["matchLabels"] == SELECTOR
    assert deployment["template"]["metadata"]["labels"].items() >= SELECTOR.items()


# Parts of a map


@pytest.mark.parametrize(
    ("said", "there"),
    [
        ({}, {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}),
        (
            {"limits": {"cpu": "1"}},
            {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
        ),
        (
            {"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}},
            {"requests": {"cpu": "50m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        ),
    ],
)
def test_a_part_of_the_resources_keeps_the_rest(
    helm: Helm, said: dict[str, Any], there: dict[str, Any]
) -> None:
    assert helm.render(AGENT | {"resources": said}).container["resources"] == there


# Null


def emptied(tree: dict[str, Any]) -> dict[str, Any]:
    """The same tree with null for each value."""
    return {key: emptied(value) if isinstance(value, dict) and value else None for key, value in tree.items()}


def leaves(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Group and key of each value."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}/{key}")
        else:
            yield path, key


FREE = {"/exposure/istio/selector", "/argocdServer/exposure/istio/selector", "/dashboard/labels"}
"""Maps of other people's keys, where null takes a key away."""


def test_null_is_refused_in_words_wherever_it_stands(helm: Helm) -> None:
    with pytest.raises(Refused) as refused:
        helm.render(emptied(DEFAULTS))
    lines = str(refused.value).splitlines()
    for group, key in leaves(DEFAULTS):
        if group not in FREE and key != "clusters":  # where null is the default
            assert any(missed(line, group, key) for line in lines), f"{group}/{key}: {refused.value}"


def missed(line: str, group: str, key: str) -> bool:
    """Whether Helm says in this line that a value is not there; Helm 3 and Helm 4 have words of their own."""
    older = f"- {group.strip('/').replace('/', '.') or '(root)'}: {key} is required"
    return older in line or (f"at '{group}'" in line and f"'{key}'" in line.partition("missing propert")[2])


@pytest.mark.parametrize("group", [key for key, value in DEFAULTS.items() if isinstance(value, dict)])
def test_null_for_a_group_is_refused_in_words(helm: Helm, group: str) -> None:
    with pytest.raises(Refused) as refused:
        helm.render(AGENT | {group: None})
    assert any(missed(line, "", group) for line in str(refused.value).splitlines())


# Beside a parent chart


def test_what_a_parent_chart_says_to_each_of_its_charts_is_taken(helm: Helm) -> None:
    more = {"global": {"domain": "example.com"}, "enabled": True}
    assert helm.render(SERVER | MONITORING | more) == helm.render(SERVER | MONITORING)
