"""What cert-manager is asked for, and that pods mount what it makes."""

import base64
import json
from hashlib import sha256
from typing import Any

import pytest

from tests.chart.helm import Helm, Rendered
from tests.chart.values import AGENT, CLUSTERS, MATRIX, SERVER

ON: dict[str, Any] = {"certManager": {"enabled": True}}


def certificates(rendered: Rendered) -> dict[str, dict[str, Any]]:
    """The specs of all certificates by the Secret that they are written to."""
    return {each["spec"]["secretName"]: each["spec"] for each in rendered.all("Certificate")}


def mounted(rendered: Rendered) -> dict[str, str]:
    """The Secrets that the pod mounts, by the volume's name."""
    return {
        each["name"]: each["secret"]["secretName"] for each in rendered.pod["volumes"] if "secret" in each
    }


def test_no_certificate_is_missing(helm: Helm) -> None:
    rendered = helm.render(MATRIX["server-cert-manager"])
    assert sorted(certificates(rendered)) == [
        "argotun-agent-customer-a-tls",
        "argotun-agent-customer-b-tls",
        "argotun-argocd-tls",
        "argotun-ca",
        "argotun-tls",
    ]
    issuers = {each["metadata"]["name"] for each in rendered.all("Issuer")}
    assert issuers == {"argotun-ca", "argotun-selfsigned"}


def test_every_certificate_comes_from_an_issuer_that_is_there(helm: Helm) -> None:
    rendered = helm.render(MATRIX["server-cert-manager"])
    issuers = {each["metadata"]["name"] for each in rendered.all("Issuer")}
    for secret, each in certificates(rendered).items():
        assert each["issuerRef"]["kind"] == "Issuer"
        assert each["issuerRef"]["name"] in issuers
        assert (each["issuerRef"]["name"] == "argotun-selfsigned") is (secret == "argotun-ca")
    assert rendered.one("Issuer", "argotun-ca")["spec"]["ca"]["secretName"] == "argotun-ca"


def test_a_certificate_is_good_for_its_use_only(helm: Helm) -> None:
    found = certificates(helm.render(MATRIX["server-cert-manager"]))
    assert found["argotun-ca"]["isCA"] is True
    for secret, each in found.items():
        if secret != "argotun-ca":
            assert "isCA" not in each
            use = "server auth" if secret == "argotun-tls" else "client auth"
            assert each["usages"] == ["digital signature", use]


def test_a_leaf_changes_its_key_and_the_ca_keeps_its_own(helm: Helm) -> None:
    for secret, each in certificates(helm.render(MATRIX["server-cert-manager"])).items():
        assert each["privateKey"]["rotationPolicy"] == ("Never" if secret == "argotun-ca" else "Always")


def test_the_server_has_the_name_that_it_is_called_by(helm: Helm) -> None:
    gateway = {"create": True, "className": "x", "hostname": "argotun.example.com"}
    values = SERVER | {"certManager": {"enabled": True, "dnsNames": ["more.example.com"]}, "gateway": gateway}
    names = certificates(helm.render(values))["argotun-tls"]["dnsNames"]
    for service in ("argotun", "argotun-internal"):
        assert f"{service}.tunnels.svc" in names
        assert f"{service}.tunnels.svc.cluster.local" in names
    assert {"argotun.example.com", "more.example.com"} <= set(names)
    assert len(names) == len(set(names))


def test_the_pod_mounts_what_is_written(helm: Helm) -> None:
    server = helm.render(MATRIX["server-cert-manager"])
    assert {mounted(server)["tls"], mounted(server)["tls-client-ca"]} <= set(certificates(server))
    agent = helm.render(MATRIX["agent-cert-manager"])
    assert mounted(agent)["tls-client"] in certificates(agent)


def test_the_client_ca_is_not_taken_from_another_certificate(helm: Helm) -> None:
    values = SERVER | ON | {"tls": {"certSecret": "lets-encrypt"}}
    rendered = helm.render(values)
    assert mounted(rendered)["tls"] == "lets-encrypt"
    assert mounted(rendered)["tls-client-ca"] == "argotun-ca"
    assert "lets-encrypt" not in certificates(rendered)


def test_an_own_issuer_makes_no_mutual_tls_of_a_ca_that_is_not_said(helm: Helm) -> None:
    rendered = helm.render(MATRIX["server-own-issuer"])
    assert not rendered.all("Issuer")
    assert all(each["issuerRef"]["kind"] == "ClusterIssuer" for each in certificates(rendered).values())
    assert "tls-client-ca" not in mounted(rendered)


def test_an_agents_certificate_opens_no_other_cluster(helm: Helm) -> None:
    long = "x" * 100
    entries = [
        *CLUSTERS,
        {"id": "own", "token": "t" * 16, "certNames": ["agent.own", "second"]},
        {"id": long, "token": "l" * 16},
    ]
    rendered = helm.render(SERVER | ON | {"clusters": entries})
    bound = {each["id"]: each.get("certNames") for each in clusters(rendered)}
    assert bound == {
        "customer-a": ["customer-a"],
        "customer-b": ["customer-b"],
        "own": ["agent.own", "second"],
        long: ["x" * 55 + "-" + sha256(long.encode()).hexdigest()[:8]],
    }
    found = certificates(rendered)
    assert found["argotun-agent-own-tls"]["commonName"] == "agent.own"
    assert found["argotun-agent-customer-a-tls"]["commonName"] == "customer-a"
    assert all(len(each.get("commonName", "")) <= 64 for each in found.values())


@pytest.mark.parametrize(
    "manager",
    [{"agentCertificates": False}, {"issuerRef": {"name": "corp"}}],
    ids=["no certificates for agents", "no client CA"],
)
def test_a_cluster_needs_a_certificate_only_where_one_is_asked_for(
    helm: Helm, manager: dict[str, Any]
) -> None:
    values = SERVER | {"clusters": CLUSTERS, "certManager": {"enabled": True} | manager}
    assert not any("certNames" in each for each in clusters(helm.render(values)))


def test_what_is_switched_off_is_not_made(helm: Helm) -> None:
    off = {"enabled": True, "agentCertificates": False, "argocdCertificate": False}
    found = certificates(helm.render(SERVER | {"clusters": CLUSTERS, "certManager": off}))
    assert sorted(found) == ["argotun-ca", "argotun-tls"]
    own = helm.render(
        AGENT
        | ON
        | {
            "certManager": {"enabled": True, "issuerRef": {"name": "corp"}},
            "tls": {"clientCertSecret": "own"},
        }
    )
    assert not certificates(own)
    assert mounted(own)["tls-client"] == "own"


def clusters(rendered: Rendered) -> list[dict[str, Any]]:
    """The entries of the clusters file."""
    text = base64.b64decode(rendered.one("Secret", "argotun-clusters")["data"]["clusters.json"])
    return json.loads(text)  # type: ignore[no-any-return]
