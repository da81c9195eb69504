"""Who may call, as the chart tells the server."""

import base64
import json
from typing import Any

import pytest

from tests.chart.helm import CHART, Helm
from tests.chart.values import SERVER

TLS = {"enabled": True, "certSecret": "cert", "clientCASecret": "agents-ca"}
CALLERS: list[dict[str, Any]] = [
    {"name": "argocd", "clusters": "*", "mayImpersonate": True},
    {"name": "ci", "clusters": {"labels": {"stage": "test"}}, "impersonate": {"user": "ci", "groups": ["g"]}},
    {"name": "dashboard", "tokenSha256": "ab" * 32, "clusters": ["customer-a"], "readOnly": True},
]


def test_without_values_the_servers_own_default_holds(helm: Helm) -> None:
    rendered = helm.render({**SERVER, "tls": TLS})
    assert not [each for each in rendered.args if "caller" in each or "internal-client" in each]


def test_callers_may_have_a_ca_and_names_of_their_own(helm: Helm) -> None:
    tls = {**TLS, "internalClientCAData": "Q0E=", "internalClientNames": ["argocd", "spiffe://t/ci"]}
    rendered = helm.render({**SERVER, "tls": tls})
    args = rendered.args
    assert "--internal-client-ca=/tls-internal-client-ca/ca.crt" in args
    assert "--internal-client-names=argocd,spiffe://t/ci" in args
    assert rendered.one("Secret", "argotun-internal-client-ca")["data"] == {"ca.crt": "Q0E="}
    assert "/tls-internal-client-ca" in [m["mountPath"] for m in rendered.container["volumeMounts"]]


def test_callers_are_a_file_that_the_server_follows(helm: Helm) -> None:
    from argotun.config.callers import parse_callers

    rendered = helm.render({**SERVER, "tls": TLS, "callers": CALLERS, "maxConnectionsPerCaller": 500})
    args = rendered.args
    assert {"--callers=/callers/callers.json", "--max-connections-per-caller=500"} <= set(args)
    text = base64.b64decode(rendered.one("Secret", "argotun-callers")["data"]["callers.json"]).decode()
    assert json.loads(text) == CALLERS
    assert [caller.name for caller in parse_callers(text)] == ["argocd", "ci", "dashboard"]


def test_a_secret_of_the_users_own_takes_their_place(helm: Helm) -> None:
    rendered = helm.render({**SERVER, "tls": TLS, "callers": CALLERS, "existingCallersSecret": "mine"})
    volumes = {each["name"]: each.get("secret", {}).get("secretName") for each in rendered.pod["volumes"]}
    assert volumes["callers"] == "mine"
    assert "argotun-callers" not in [each["metadata"]["name"] for each in rendered.all("Secret")]


@pytest.mark.parametrize(
    "caller",
    [{"name": "x"}, {"name": "x", "clusters": "all"}, {"name": "x", "clusters": "*", "readonly": True}],
)
def test_a_slip_in_a_caller_is_refused(helm: Helm, caller: dict[str, Any]) -> None:
    done = helm.run("template", "argotun", str(CHART), values={**SERVER, "tls": TLS, "callers": [caller]})
    assert done.returncode
    assert "callers" in done.stderr
