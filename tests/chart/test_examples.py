"""The examples: each says what it is for, is rendered by Helm, and fits to the files beside it."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
import redis

import argotun
from argotun.policy.check import check
from argotun.policy.grammar import parse_policy
from tests.chart.examples import EXAMPLES, FOLDER, RENDERED, Example
from tests.chart.helm import ROOT, Helm
from tests.redis_server import RedisServer, require

each_example = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)


def secrets(name: str) -> set[str]:
    """The Secrets that a file with ExternalSecrets brings into argotun's namespace."""
    found = [each for each in EXAMPLES[name].objects if each["metadata"]["namespace"] == "argotun"]
    return {each["spec"]["target"]["name"] for each in found}


def mounted(example: Example, helm: Helm) -> set[str]:
    """The Secrets that a rendered pod needs and the chart does not make."""
    rendered = example.render(helm)
    volumes = rendered.pod["volumes"]
    named = {each["secret"]["secretName"] for each in volumes if "secret" in each}
    for volume in volumes:
        for source in volume.get("projected", {}).get("sources", []):
            named |= {source["secret"]["name"]} if "secret" in source else set()
    return named - {each["metadata"]["name"] for each in rendered.all("Secret")}


@each_example
def test_each_file_says_what_it_is_for_what_to_change_and_the_command(example: Example) -> None:
    said = example.said
    assert "# Change: " in said
    commands = re.findall(r"^#   (?:helm|kubectl) .+", said.replace("\\\n#", ""), re.M)
    assert any(f"-f examples/{example.name}" in each for each in commands)
    for named in re.findall(r"-f (examples/\S+)", said):
        assert (ROOT / named).is_file(), named


def test_every_file_is_in_the_list() -> None:
    text = (ROOT / "docs" / "examples.md").read_text("utf-8")
    listed = [
        f"{folder}/{name}"
        for folder, names in re.findall(r"^\| `([a-z-]+)` \| .+ \| (.+) \|$", text, re.M)
        for name in re.findall(r"`([a-z-]+\.yaml)`", names)
    ]
    there = [str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()]
    assert sorted(listed) == sorted(there)


@pytest.mark.parametrize("example", RENDERED, ids=lambda each: each.name)
def test_helm_renders_each_file_of_values(helm: Helm, example: Example) -> None:
    assert example.render(helm).one("Deployment")


@pytest.mark.parametrize("side", ["server", "agent"])
def test_the_secrets_of_the_vault_are_all_that_the_pod_mounts(helm: Helm, side: str) -> None:
    brought = secrets(f"external-secrets/{side}-secrets.yaml")
    assert mounted(EXAMPLES[f"external-secrets/{side}.yaml"], helm) == brought
    # What Argo CD installs is the same.
    assert mounted(EXAMPLES[f"argocd/{side}.yaml"], helm) == brought


def test_argo_cds_cluster_secret_is_as_the_chart_makes_it(helm: Helm) -> None:
    """But for labels, which are the reader's."""
    (made,) = (
        each
        for each in EXAMPLES["external-secrets/server-secrets.yaml"].objects
        if each["metadata"]["namespace"] == "argocd"
    )
    template = made["spec"]["target"]["template"]
    labels = EXAMPLES["applicationset/labels.yaml"].render(helm).all("Secret")
    (charts,) = (each for each in labels if each["metadata"]["name"] == made["spec"]["target"]["name"])
    kind = "argocd.argoproj.io/secret-type"
    assert template["metadata"]["labels"][kind] == charts["metadata"]["labels"][kind]
    data = {key: base64.b64decode(value).decode() for key, value in charts["data"].items()}
    assert template["data"]["name"] == data["name"]
    server = EXAMPLES["external-secrets/server.yaml"].render(helm)
    port = next(
        each["port"] for each in server.one("Service", "argotun-internal")["spec"]["ports"] if each["port"]
    )
    host = "argotun-internal.argotun.svc"
    assert template["data"]["server"] == f"https://{host}:{port}/tunnel/{data['name']}"
    filled = re.sub(r"\{\{.*?\}\}", "", template["data"]["config"])
    assert json.loads(filled)["bearerToken"] == json.loads(data["config"])["bearerToken"]
    assert set(json.loads(filled)["tlsClientConfig"]) == {"caData", "certData", "keyData"}


def test_the_bundle_is_what_both_sides_trust(helm: Helm) -> None:
    (bundle,) = EXAMPLES["cert-manager/trust.yaml"].objects
    name, key = bundle["metadata"]["name"], bundle["spec"]["target"]["secret"]["key"]
    assert key == "ca.crt"
    for side in ("server", "agent"):
        example = EXAMPLES[f"cert-manager/{side}.yaml"]
        assert name in mounted(example, helm)
        (certificate,) = (
            each
            for each in example.render(helm).all("Certificate")
            if each["metadata"]["name"] != "argotun-argocd"
        )
        assert certificate["spec"]["issuerRef"]["name"] == "company"
    agent = EXAMPLES["cert-manager/agent.yaml"].documents[0]["certManager"]["dnsNames"]
    assert EXAMPLES["cert-manager/server.yaml"].documents[0]["clusters"]["customer-a"]["certNames"] == agent


def test_the_application_set_finds_the_labelled_clusters(helm: Helm) -> None:
    (found,) = EXAMPLES["applicationset/applicationset.yaml"].objects
    selector = found["spec"]["generators"][0]["clusters"]["selector"]["matchLabels"]
    rendered = EXAMPLES["applicationset/labels.yaml"].render(helm)
    clusters = [each for each in rendered.all("Secret") if each["metadata"]["namespace"] == "argocd"]
    assert len(clusters) == 2
    for each in clusters:
        assert selector.items() <= each["metadata"]["labels"].items()
        assert each["metadata"]["labels"]["region"]


@pytest.mark.parametrize("name", ["argocd/server.yaml", "argocd/agent.yaml"])
def test_argo_cd_takes_the_chart_of_this_release(name: str) -> None:
    (application,) = EXAMPLES[name].objects
    source = application["spec"]["source"]
    assert source["targetRevision"] == argotun.__version__
    # An oci:// chart is named without the scheme there.
    assert not source["repoURL"].startswith("oci:")


def test_the_servers_reach_their_redis_and_nobody_else_does(helm: Helm) -> None:
    objects = {each["kind"]: each for each in EXAMPLES["redis/redis.yaml"].objects}
    rendered = EXAMPLES["redis/replicas.yaml"].render(helm)
    service = objects["Service"]["metadata"]
    port = objects["Service"]["spec"]["ports"][0]["port"]
    assert f"--registry=redis://{service['name']}.{service['namespace']}:{port}" in rendered.args
    pod = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Service"]["spec"]["selector"] == pod
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == pod
    (who,) = objects["NetworkPolicy"]["spec"]["ingress"][0]["from"]
    servers = rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert who["podSelector"]["matchLabels"].items() <= servers.items()
    egress = rendered.one("NetworkPolicy")["spec"]["egress"]
    assert {"podSelector": {"matchLabels": pod}} in [to for rule in egress for to in rule.get("to", [])]


class ExampleRedis(RedisServer):
    """The program of this machine with the arguments of the example's pod."""

    def command(self) -> list[str]:
        deployment = next(
            each for each in EXAMPLES["redis/redis.yaml"].objects if each["kind"] == "Deployment"
        )
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        program, settings = container["command"]
        assert program == "redis-server"
        (self.folder / "redis.conf").write_text("requirepass word")
        assert settings == "/etc/redis/redis.conf"
        here = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        return [require(), str(self.folder / "redis.conf"), *container["args"], *here]

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, password="word", socket_timeout=2.0, protocol=2)


def test_the_redis_wants_its_password_and_keeps_nothing_on_disk(tmp_path: Path) -> None:
    server = ExampleRedis(tmp_path)
    try:
        with server.client() as client:
            assert client.config_get("save") == {"save": ""}
            assert client.config_get("appendonly") == {"appendonly": "no"}
        with redis.Redis(port=server.port, protocol=2) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
    finally:
        server.close()


ASKED: dict[str, bool] = {
    "GET /version": True,
    "GET /apis/apps/v1": True,
    "GET /api/v1/namespaces/shop/configmaps?watch=true": True,
    "PATCH /apis/apps/v1/namespaces/shop-test/deployments/web": True,
    "DELETE /api/v1/namespaces/shop/services/web": True,
    "GET /api/v1/namespaces/shop/secrets/db": False,
    "GET /api/v1/namespaces/shop/pods/web-0/exec upgrade": False,
    "POST /api/v1/namespaces/shop/serviceaccounts/default/token": False,
    "GET /api/v1/namespaces/kube-system/configmaps": False,
    "PATCH /apis/apps/v1/namespaces/argotun/deployments/argotun": False,
    "GET /api/v1/pods": False,
}


@pytest.mark.parametrize("request_", ASKED)
def test_the_cautious_customer_lets_through_what_is_deployed(helm: Helm, request_: str) -> None:
    rendered = EXAMPLES["policy/cautious.yaml"].render(helm)
    (found,) = rendered.all("ConfigMap")
    (text,) = found["data"].values()
    allowed, why = check(parse_policy(text), request_)
    assert allowed is ASKED[request_], why
    bound: list[Any] = [each["metadata"]["namespace"] for each in rendered.all("RoleBinding")]
    assert {"shop", "shop-test"} <= set(bound)
    assert not rendered.all("ClusterRoleBinding")
