"""Several servers, and several agents: how their pods find each other, come, go and are spread."""

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from argotun.config import PkiConfig
from argotun.config.network import parse_server_url
from argotun.pki.folder import Folder
from tests.chart.helm import ROOT, Helm, Rendered
from tests.chart.test_network import EVERYBODY, peers
from tests.chart.values import CLUSTERS, MATRIX, PEER, REGISTRY, SERVER

OWN = {
    "podSelector": {
        "matchLabels": {
            "app.kubernetes.io/name": "argotun",
            "app.kubernetes.io/instance": "argotun",
            "app.kubernetes.io/component": "server",
        }
    }
}
LINKED = SERVER | {"registry": REGISTRY, "peer": PEER}
each_linked = pytest.mark.parametrize("name", [name for name in MATRIX if name.startswith("server-replicas")])


def secrets(rendered: Rendered) -> dict[str, tuple[str, list[str]]]:
    """The Secret and its keys at each path where the pod mounts one."""
    volumes = {each["name"]: each.get("secret") for each in rendered.pod["volumes"]}
    return {
        each["mountPath"]: (found["secretName"], [item["key"] for item in found["items"]])
        for each in rendered.container["volumeMounts"]
        if (found := volumes[each["name"]])
    }


def test_a_server_by_itself_has_nothing_of_a_replica(helm: Helm) -> None:
    plain = helm.render(SERVER)
    assert helm.render(SERVER | {"replicas": 1}) == plain
    assert not any(each.startswith(("--registry", "--peer", "--advertise")) for each in plain.args)
    assert [each["name"] for each in plain.container["ports"]] == ["public", "internal", "health"]
    assert "env" not in plain.container
    assert "minReadySeconds" not in plain.one("Deployment")["spec"]
    assert "topologySpreadConstraints" not in plain.pod
    assert [each["metadata"]["name"] for each in plain.all("Service")] == ["argotun", "argotun-internal"]


@each_linked
def test_a_replica_says_its_own_address(helm: Helm, name: str) -> None:
    rendered = helm.render(MATRIX[name])
    port = MATRIX[name]["peer"].get("port", 8444)
    assert "--advertise=$(POD_IP)" in rendered.args
    assert f"--peer-addr=:{port}" in rendered.args
    assert rendered.container["env"][0] == {
        "name": "POD_IP",
        "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}},
    }
    assert {"name": "peer", "containerPort": port} in rendered.container["ports"]


def test_what_is_said_of_the_environment_comes_after(helm: Helm) -> None:
    own = {"name": "ARGOTUN_MAX_BODY", "value": "1Mi"}
    env = helm.render(LINKED | {"extraEnv": [own]}).container["env"]
    assert [each["name"] for each in env] == ["POD_IP", "ARGOTUN_MAX_BODY"]


def test_the_password_is_read_from_a_file(helm: Helm) -> None:
    rendered = helm.render(MATRIX["server-replicas"])
    assert "--registry=redis://argocd-redis.argocd:6379" in rendered.args
    assert "--registry-password-file=/registry/auth" in rendered.args
    assert secrets(rendered)["/registry"] == ("argocd-redis", ["auth"])


def test_every_value_of_the_registry_is_kept(helm: Helm) -> None:
    rendered = helm.render(MATRIX["server-replicas-sentinel"])
    assert {
        "--registry=rediss+sentinel://argotun@one:26379,two:26380/mymaster",
        "--registry-password-file=/registry/password",
        "--registry-sentinel-password-file=/registry/sentinel",
        "--registry-ca-cert=/registry-ca/ca.crt",
        "--registry-client-cert=/registry-client/tls.crt",
        "--registry-client-key=/registry-client/tls.key",
        "--registry-prefix=eu",
    } <= set(rendered.args)
    found = secrets(rendered)
    assert found["/registry"] == ("redis", ["password", "sentinel"])
    assert found["/registry-ca"] == ("redis-ca", ["ca.crt"])
    assert found["/registry-client"] == ("redis-client", ["tls.crt", "tls.key"])


def test_a_registry_without_a_password_needs_no_secret(helm: Helm) -> None:
    rendered = helm.render(LINKED | {"registry": {"url": "redis://redis"}})
    assert not any(each.startswith("--registry-") for each in rendered.args)
    assert "/registry" not in secrets(rendered)


def test_a_url_with_a_password_stays_in_its_secret(helm: Helm) -> None:
    rendered = helm.render(MATRIX["server-replicas-hidden-url"])
    assert not any(each.startswith("--registry") for each in rendered.args)
    assert "/registry" not in secrets(rendered)
    assert rendered.container["env"][1] == {
        "name": "ARGOTUN_REGISTRY",
        "valueFrom": {"secretKeyRef": {"name": "managed-redis", "key": "uri"}},
    }


def test_replicas_show_the_certificate_that_was_said(helm: Helm) -> None:
    found = secrets(helm.render(MATRIX["server-replicas-hidden-url"]))
    assert found["/peer"] == ("peer", ["tls.crt", "tls.key"])
    assert found["/peer-ca"] == ("peer-ca", ["ca.crt"])
    one = secrets(helm.render(LINKED | {"peer": {"certSecret": "both"}}))
    assert one["/peer-ca"] == ("both", ["ca.crt"])


def test_a_certificate_in_the_values_becomes_a_secret(helm: Helm) -> None:
    rendered = helm.render(MATRIX["server-replicas"])
    made = rendered.one("Secret", "argotun-peer-tls")
    assert made["type"] == "kubernetes.io/tls"
    assert made["data"] == {"tls.crt": PEER["certData"], "tls.key": PEER["keyData"], "ca.crt": PEER["caData"]}
    assert secrets(rendered)["/peer-ca"] == ("argotun-peer-tls", ["ca.crt"])


@pytest.mark.parametrize("issuer", ["", "corp"])
def test_the_replicas_ca_signs_replicas_only(helm: Helm, issuer: str) -> None:
    manager: dict[str, Any] = {"enabled": True, "issuerRef": {"name": issuer}}
    values = SERVER | {"certManager": manager, "registry": REGISTRY, "clusters": CLUSTERS}
    rendered = helm.render(values)
    signed = [
        each["metadata"]["name"]
        for each in rendered.all("Certificate")
        if each["spec"]["issuerRef"]["name"] == "argotun-peer-ca"
    ]
    assert signed == ["argotun-peer"]
    leaf = rendered.one("Certificate", "argotun-peer")["spec"]
    assert leaf["dnsNames"] == ["argotun-peer"]
    assert leaf["usages"] == ["digital signature", "server auth", "client auth"]
    assert leaf["privateKey"]["rotationPolicy"] == "Always"
    assert secrets(rendered)["/peer-ca"] == (leaf["secretName"], ["ca.crt"])
    authority = rendered.one("Certificate", "argotun-peer-ca")["spec"]
    assert authority["isCA"] is True
    assert authority["issuerRef"]["name"] == rendered.one("Issuer", "argotun-selfsigned")["metadata"]["name"]
    assert rendered.one("Issuer", "argotun-peer-ca")["spec"]["ca"]["secretName"] == authority["secretName"]
    assert authority["secretName"] not in {name for name, _ in secrets(rendered).values()}


def test_the_certificate_has_the_name_that_replicas_look_for(helm: Helm) -> None:
    rendered = helm.render(MATRIX["server-replicas-cert-manager"])
    assert rendered.one("Certificate", "argotun-peer")["spec"]["dnsNames"] == ["argotun-eu"]
    assert "--peer-name=argotun-eu" in rendered.args


def test_no_certificate_is_issued_for_replicas_that_have_one(helm: Helm) -> None:
    own = {"certManager": {"enabled": True}, "peer": {"certSecret": "own"}}
    issued = [each["metadata"]["name"] for each in helm.render(LINKED | own).all("Certificate")]
    assert not any("peer" in name for name in issued)


def test_only_replicas_reach_the_peer_port(helm: Helm) -> None:
    rendered = helm.render(MATRIX["server-replicas"])
    assert peers(rendered, "ingress", 8444) == [OWN]
    assert peers(rendered, "egress", 8444) == [OWN]
    other = helm.render(MATRIX["server-replicas-cert-manager"])
    assert peers(other, "ingress", 9444) == peers(other, "egress", 9444) == [OWN]
    assert peers(other, "ingress", 8444) == []


REDIS = {"podSelector": {"matchLabels": {"app": "redis"}}}


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("redis://redis", {6379}),
        ("redis://redis:6380/1", {6379, 6380}),
        ("rediss://user@[2001:db8::1]:7000", {6379, 7000}),
        ("redis+sentinel://one,two:26380/mymaster", {6379, 26379, 26380}),
        ("redis+cluster://one:7000,two:7001", {6379, 7000, 7001}),
        ("unix:///run/redis.sock", {6379}),
    ],
)
def test_a_server_reaches_its_registry(helm: Helm, url: str, ports: set[int]) -> None:
    rendered = helm.render(LINKED | {"registry": {"url": url}, "networkPolicy": {"registryTo": [REDIS]}})
    rules = rendered.one("NetworkPolicy")["spec"]["egress"]
    (rule,) = [each for each in rules if each.get("to") == [REDIS]]
    assert {each["port"] for each in rule["ports"]} == ports


def test_a_server_with_a_registry_reaches_nothing_else(helm: Helm) -> None:
    rendered = helm.render(LINKED)
    assert peers(rendered, "egress", 6379) == [EVERYBODY]
    assert peers(rendered, "egress", 53, "UDP") == [EVERYBODY]
    for port in (443, 8443, 8080):
        assert peers(rendered, "egress", port) == []
    rule = {"to": [REDIS], "ports": [{"protocol": "TCP", "port": 9999}]}
    more = helm.render(LINKED | {"networkPolicy": {"extraEgress": [rule]}})
    assert more.one("NetworkPolicy")["spec"]["egress"][-1] == rule


def test_a_replica_is_ready_when_it_has_joined(helm: Helm) -> None:
    container = helm.render(LINKED).container
    assert container["readinessProbe"]["httpGet"]["path"] == "/joined"
    # What others do, or a registry that is away, must end no pod.
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["startupProbe"]["httpGet"]["path"] == "/healthz"


def test_a_replica_is_out_of_the_services_before_it_drains(helm: Helm) -> None:
    rendered = helm.render(LINKED)
    assert rendered.container["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    assert rendered.pod["terminationGracePeriodSeconds"] == 5 + 20 + 10
    assert "lifecycle" not in helm.render(LINKED | {"preStopSeconds": 0}).container


def test_replicas_are_replaced_one_by_one(helm: Helm) -> None:
    spec = helm.render(MATRIX["server-replicas"]).one("Deployment")["spec"]
    assert spec["replicas"] == 3
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert spec["minReadySeconds"] == 5


@pytest.mark.parametrize("name", ["server-replicas", "agent-replicas"])
def test_pods_are_spread_where_there_are_several(helm: Helm, name: str) -> None:
    rendered = helm.render(MATRIX[name])
    spread = rendered.pod["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    labels = rendered.one("Deployment")["spec"]["selector"]["matchLabels"]
    for each in spread:
        assert each["whenUnsatisfiable"] == "ScheduleAnyway"
        assert each["labelSelector"] == {"matchLabels": labels}
    own = {"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    said = helm.render(MATRIX[name] | {"topologySpreadConstraints": [own]})
    assert [each["topologyKey"] for each in said.pod["topologySpreadConstraints"]] == ["rack"]


@pytest.mark.parametrize("name", ["server-replicas", "agent-replicas"])
def test_a_drained_node_takes_one_of_several_pods_at_a_time(helm: Helm, name: str) -> None:
    assert helm.render(MATRIX[name]).one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_all_replicas_have_one_name(helm: Helm) -> None:
    service = helm.render(MATRIX["server-replicas-cert-manager"]).one("Service", "argotun-peers")["spec"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    assert service["ports"] == [{"name": "peer", "port": 9444, "targetPort": "peer"}]


def test_several_replicas_look_for_each_other_by_that_name(helm: Helm) -> None:
    rendered = helm.render(MATRIX["server-replicas-cert-manager"])
    assert "--peer-seeds=argotun-peers:9444" in rendered.args
    # What that takes is let through: the name, and what is behind it.
    assert peers(rendered, "egress", 53, "UDP") == peers(rendered, "egress", 53, "TCP") == [EVERYBODY]
    assert peers(rendered, "egress", 9444) == peers(rendered, "ingress", 9444) == [OWN]


@pytest.mark.parametrize("change", [{"replicas": 1}, {"peer": PEER | {"seeds": False}}])
def test_one_replica_has_nobody_to_look_for_and_others_may_not(helm: Helm, change: dict[str, Any]) -> None:
    args = helm.render(LINKED | {"replicas": 3} | change).args
    assert not any(each.startswith("--peer-seeds") for each in args)


def test_a_cluster_may_have_as_many_agents_as_its_entry_says(helm: Helm) -> None:
    assert helm.render(MATRIX["agent-replicas"]).one("Deployment")["spec"]["replicas"] == 2
    server = helm.render(SERVER | {"clusters": [{"id": "a", "token": "x" * 16, "agents": 2}]})
    (entry,) = json.loads(base64.b64decode(server.one("Secret", "argotun-clusters")["data"]["clusters.json"]))
    assert entry["agents"] == 2


@pytest.mark.skipif(not shutil.which("openssl"), reason="the openssl program is not installed")
def test_what_mode_pki_makes_is_what_replicas_show(helm: Helm, tmp_path: Path) -> None:
    config = PkiConfig(
        pki_folder=str(tmp_path), pki_server=parse_server_url("wss://argotun.example.com"), pki_replicas=True
    )
    Folder(config).fill()
    values = yaml.safe_load((tmp_path / "server.yaml").read_text())
    made = helm.render(values | {"replicas": 3, "registry": REGISTRY}).one("Secret", "argotun-peer-tls")[
        "data"
    ]
    for name in ("tls.crt", "tls.key", "ca.crt"):
        assert base64.b64decode(made[name]) == (tmp_path / "replicas" / name).read_bytes()


# docs/install.md


KUBECTL = """\
#!/bin/sh
case " $* " in
  *" get secret argocd-redis "*) printf cGFzc3dvcmQ= ;;
  *" create secret generic argotun-registry "*) cat > "{folder}/password" ;;
  *" get networkpolicy "*) [ -e "{folder}/closed" ] ;;
  *" apply "*) cat > "{folder}/applied" ;;
  *) exit 9 ;;
esac
"""


def followed(folder: Path) -> None:
    """Run the commands of the guide's part on replicas with a kubectl that writes down what it is to do."""
    guide = (ROOT / "docs" / "install.md").read_text("utf-8")
    part = re.search(r"^## Several replicas\n(.*?)(?=^## |\Z)", guide, re.M | re.S)
    assert part
    (folder / "bin").mkdir()
    (folder / "bin" / "kubectl").write_text(KUBECTL.format(folder=folder))
    (folder / "bin" / "kubectl").chmod(0o755)
    commands = "set -e\n" + "".join(re.findall(r"^```sh\n(.*?)^```$", part[1], re.M | re.S))
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    subprocess.run(["bash", "-c", commands], cwd=folder, env={"PATH": path}, check=True, timeout=60)


def test_the_guides_values_make_several_servers(helm: Helm, tmp_path: Path) -> None:
    followed(tmp_path)
    assert (tmp_path / "password").read_text() == "password"
    values = yaml.safe_load((tmp_path / "replicas.yaml").read_text())
    rendered = helm.render(SERVER | {"certManager": {"enabled": True}} | values)
    assert rendered.one("Deployment")["spec"]["replicas"] == 3
    assert secrets(rendered)["/registry"] == ("argotun-registry", ["password"])
    assert "--registry-password-file=/registry/password" in rendered.args


def test_the_guide_opens_a_closed_redis_to_servers_and_closes_no_open_one(helm: Helm, tmp_path: Path) -> None:
    followed(tmp_path)
    assert not (tmp_path / "applied").exists()
    closed = tmp_path / "again"
    closed.mkdir()
    (closed / "closed").touch()
    followed(closed)
    policy = yaml.safe_load((closed / "applied").read_text())
    ((who,),) = (rule["from"] for rule in policy["spec"]["ingress"])
    rendered = helm.render(LINKED)
    labels = rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert who["podSelector"]["matchLabels"].items() <= labels.items()
