"""The customer's policy in the chart: the agent can use it, and it protects itself."""

from typing import Any

import pytest

from argotun.policy.check import check
from argotun.policy.grammar import parse_policy
from argotun.policy.presets import PRESETS
from argotun.policy.rules import Policy
from tests.chart.helm import Helm
from tests.chart.values import AGENT


def policy(helm: Helm, **values: Any) -> Policy:
    """What the agent makes of the ConfigMap; installed in the namespace `tunnels`."""
    (found,) = helm.render(AGENT | {"policy": values}).all("ConfigMap")
    (text,) = found["data"].values()
    return parse_policy(text)


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_can_be_asked_for(helm: Helm, preset: str) -> None:
    names = [rule.name for rule in policy(helm, presets=[preset], protect=False).rules]
    assert names == [rule.name for rule in parse_policy(f"presets: {preset}").rules]


CHANGES = (
    "PATCH /api/v1/namespaces/tunnels/configmaps/argotun-policy",
    "DELETE /api/v1/namespaces/tunnels/configmaps",
    "DELETE /api/v1/namespaces/tunnels",
    "PUT /apis/apps/v1/namespaces/tunnels/deployments/argotun",
    "POST /api/v1/namespaces/tunnels/pods",
    "POST /api/v1/namespaces/tunnels/serviceaccounts/argotun/token",
    "GET /api/v1/namespaces/tunnels/pods/argotun-1/exec upgrade",
)


@pytest.mark.parametrize("request_", CHANGES)
def test_no_request_changes_the_policy(helm: Helm, request_: str) -> None:
    everything = [{"name": "all", "allow": {}}]
    assert not check(policy(helm, presets=["full"]), request_)[0]
    assert not check(policy(helm, rules=everything, default="allow"), request_)[0]
    assert check(policy(helm, rules=everything, default="allow", protect=False), request_)[0]


def test_what_is_not_the_agents_is_left_to_the_rules(helm: Helm) -> None:
    found = policy(helm, presets=["full"])
    for request in (
        "GET /api/v1/configmaps",
        "PATCH /api/v1/namespaces/shop/configmaps/a",
        "POST /api/v1/nodes",
    ):
        assert check(found, request)[0]


def test_the_policy_is_mounted_as_a_folder(helm: Helm) -> None:
    rendered = helm.render(AGENT | {"policy": {"existingConfigMap": "ours"}})
    assert not rendered.all("ConfigMap")
    assert "--policy=/policy/policy.yaml" in rendered.args
    (volume,) = [each for each in rendered.pod["volumes"] if each["name"] == "policy"]
    assert volume["configMap"]["name"] == "ours"
    (mount,) = [each for each in rendered.container["volumeMounts"] if each["name"] == "policy"]
    assert mount == {"name": "policy", "mountPath": "/policy", "readOnly": True}


def test_without_values_there_is_no_policy(helm: Helm) -> None:
    rendered = helm.render(AGENT)
    assert not rendered.all("ConfigMap")
    assert not [each for each in rendered.args if "policy" in each]
