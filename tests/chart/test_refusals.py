"""Values that cannot be used: each is refused with a sentence, before anything is rendered."""

import functools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.chart.helm import CHART, Helm, Refused
from tests.chart.values import ACCOUNT, AGENT, ARGOCD, CLUSTERS, PEER, REGISTRY, SERVER, TLS

Values = dict[str, Any]

SCHEMA = json.loads((CHART / "values.schema.json").read_text("utf-8"))
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
FORMATS = yaml.safe_load((CHART / "files" / "formats.yaml").read_text("utf-8"))
ISSUER = {"certManager": {"enabled": True, "issuerRef": {"name": "corp"}}}
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def refusal(helm: Helm, values: Values) -> str:
    """Helm's words about `values`, which it must not render."""
    with pytest.raises(Refused) as caught:
        helm.render(values)
    return str(caught.value)


def put(values: Values, path: str, value: Any) -> None:
    """Put `value` at `path`, where `name[]` is the first object of a list."""
    name, _, rest = path.partition(".")
    key = name.removesuffix("[]")
    if not rest:
        values[key] = value
    elif name.endswith("[]"):
        put(values.setdefault(key, [{}])[0], rest, value)
    else:
        put(values.setdefault(key, {}), rest, value)


# What the schema says: the shape of the values.

SHAPES: dict[str, tuple[Values, str]] = {
    "an unknown mode": ({"mode": "servr"}, "mode"),
    "an unknown value": (SERVER | {"replica": 1}, "replica"),
    "an unknown value in an object": (SERVER | {"image": {"tga": "1"}}, "tga"),
    "an unknown key of a cluster": (SERVER | {"clusters": [{"id": "a", "tokne": "x"}]}, "tokne"),
    "an unknown key of a cluster's secret": (
        SERVER | {"clusters": [{"id": "a", "argocd": {"lable": {}}}]},
        "lable",
    ),
    "a cluster without an id": (SERVER | {"clusters": [{"token": "x" * 16}]}, "id"),
    "a text for a number": (SERVER | {"port": "8443"}, "port"),
    "a number for a text": (SERVER | {"clusters": [{"id": "a", "token": 12345}]}, "token"),
    "a text for a switch": (SERVER | {"tls": {"enabled": "yes"}}, "enabled"),
    "a number for a label": (SERVER | {"podLabels": {"a": 1}}, "podLabels"),
    "a list for an object": (SERVER | {"nodeSelector": ["a"]}, "nodeSelector"),
    "an object for a list": (SERVER | {"clusters": {"a": "token"}}, "clusters"),
    "a port that there is not": (SERVER | {"internalPort": 70000}, "internalPort"),
    "less than no pod": (SERVER | {"replicas": -1}, "replicas"),
    "more agents than a server takes": (SERVER | {"clusters": [{"id": "a", "agents": 17}]}, "agents"),
    "a time with a unit": (SERVER | {"drainSeconds": "20s"}, "drainSeconds"),
    "an unknown level": (SERVER | {"logLevel": "trace"}, "logLevel"),
    "an unknown preset": (AGENT | {"rbac": {"preset": "admin"}}, "preset"),
    "an unknown preset of a policy": (AGENT | {"policy": {"presets": ["no-shel"]}}, "presets"),
    "a token that is renewed all the time": (
        AGENT | {"saTokenExpirationSeconds": 60},
        "saTokenExpirationSeconds",
    ),
    "a ratio in percent": (SERVER | {"prometheusRule": {"errorRatio": 5}}, "errorRatio"),
}


@pytest.mark.parametrize(("values", "name"), SHAPES.values(), ids=SHAPES)
def test_a_value_of_the_wrong_shape_is_refused(helm: Helm, values: Values, name: str) -> None:
    words = refusal(helm, values)
    assert "schema" in words
    assert name in words


def described(schema: Values, values: Values, path: str = "") -> Iterator[tuple[str, bool]]:
    """Each value of values.yaml, and whether the schema has a place for it."""
    for name, value in values.items():
        place = schema.get("properties", {}).get(name)
        if place and "$ref" in place:
            place = SCHEMA["definitions"][place["$ref"].rpartition("/")[2]]
        yield path + name, place is not None
        if place and "properties" in place and isinstance(value, dict):
            yield from described(place, value, f"{path}{name}.")


def test_every_default_has_its_place_in_the_schema() -> None:
    places = dict(described(SCHEMA, DEFAULTS))
    assert len(places) > 100
    assert [path for path, there in places.items() if not there] == []


def test_no_object_of_the_schema_takes_everything() -> None:
    def objects(part: Any) -> Iterator[Values]:
        if isinstance(part, dict):
            if "properties" in part and part.get("type") == "object":
                yield part
            for each in part.values():
                yield from objects(each)

    found = list(objects(SCHEMA))
    assert len(found) > 20
    assert all(each["additionalProperties"] is False for each in found)


def hidden(path: str) -> bool:
    """Whether a wrong value at `path` may be a secret."""
    return bool(PLACES[path].get("secret", False))


@functools.cache
def sentences(helm: Helm, right: bool) -> tuple[str, ...]:
    """What is said about all the right or all the wrong spellings at once."""
    values: Values = SERVER | {"clusters": [{"id": "a"}]}
    for path, spellings in SPELLINGS.items():
        put(values, path, spellings[0 if right else 1])
    words = refusal(helm, values)
    assert "token: belongs to mode agent" in words
    return tuple(line.removeprefix("  - ") for line in words.splitlines() if line.startswith("  - "))


# What formats.yaml says: the form of the texts.

SPELLINGS: dict[str, tuple[Any, Any]] = {
    "image.tag": ("main", "two words"),
    "image.digest": ("sha256:" + "a" * 64, "sha256:abc"),
    "imagePullSecrets[].name": ("registry", "Registry"),
    "configSecret": ("more.options", "more/options"),
    "serviceAccount.name": ("own", "Own"),
    "existingClustersSecret": ("own", "-own"),
    "existingSecret": ("own", "own_token"),
    "targetCASecret": ("own", "own_token"),
    "policy.existingConfigMap": ("our-policy", "Our policy"),
    "registry.existingSecret": ("argocd-redis", "argocd redis"),
    "registry.caSecret": ("redis-ca", "redis_ca"),
    "registry.clientCertSecret": ("redis-client", "redis/client"),
    "registry.url": ("redis+sentinel://one:26379,two/mymaster", "http://redis"),
    "registry.prefix": ("argotun:eu", "argotun eu"),
    "registry.passwordKey": ("redis-password", "redis/password"),
    "registry.sentinelPasswordKey": ("sentinel.password", "a b"),
    "registry.urlKey": ("REDIS_URL", "$(URL)"),
    "peer.name": ("argotun-peer.eu", "*.eu"),
    "peer.certSecret": ("peer", "Peer"),
    "peer.caSecret": ("peer-ca", "peer ca"),
    "peer.certData": ("Yw==", "-----BEGIN"),
    "peer.keyData": ("aw==", "-----BEGIN"),
    "peer.caData": ("Yw==", "a b"),
    "tls.certSecret": ("server-tls", "server tls"),
    "tls.clientCASecret": ("ca", "CA"),
    "tls.serverCASecret": ("ca", "CA"),
    "tls.clientCertSecret": ("tls", "TLS"),
    "tls.certData": ("Yw==", "-----BEGIN"),
    "tls.keyData": ("aw==", "-----BEGIN"),
    "tls.clientCAData": ("Yw==", "a b"),
    "tls.serverCAData": ("Yw==", "a b"),
    "tls.clientCertData": ("Yw==", "a b"),
    "tls.clientKeyData": ("aw==", "a b"),
    "certManager.issuerRef.name": ("corp", "Corp"),
    "argocd.namespace": ("argo-cd", "argo.cd"),
    "monitoring.namespace": ("prometheus", "Prometheus"),
    "rbac.namespaces": (["one", "two"], ["one", "Two"]),
    "clusters[].argocd.namespaces": (["one"], ["one,two"]),
    "nameOverride": ("tunnel", "tunnel.eu"),
    "fullnameOverride": ("tunnel-eu", "1st"),
    "extraArgs": (["--keepalive=10s"], ["--keepalive 10s"]),
    "clusters[].id": ("a_B.c-1", "a/b"),
    "token": ("a-token", "two words"),
    "clusters[].token": ("sixteen-is-enough", "fifteen-are-not"),
    "clusters[].tokens": (
        ["first-of-customer", "second-of-customer"],
        ["first-of-customer", "t\u00f6ken-of-a-customer"],
    ),
    "clusters[].tokenSha256": ([SHA256, SHA256.upper()], "the-token-itself"),
    "clusters[].targetAddr": ("kubernetes.default.svc:443", "https://kubernetes"),
    "targetAddr": ("[2001:db8::1]:6443", "kubernetes.default.svc"),
    "clusters[].serviceAccount.subject": ("system:serviceaccount:argotun:argotun", "argotun"),
    "clusters[].serviceAccount.jwksURL": (
        "https://issuer.example.com/jwks",
        "http://issuer.example.com/jwks",
    ),
    "revoked": ([f"sha256 {SHA256}", "name customer-b"], [f"sha256 {SHA256}", "customer-b"]),
    "serverToken.audience": ("argotun/customer-a", "two words"),
    "clusters[].certNames": (["agent a"], [" "]),
    "argocd.caData": ("LS0tLS1CRUdJTg==", "-----BEGIN CERTIFICATE-----"),
    "argocd.clientCertData": ("LS0tLS1CRUdJTg==", "LS0t\nLS0t"),
    "argocd.clientKeyData": ("LS0tLS1CRUdJTg==", "-----BEGIN PRIVATE KEY-----"),
    "serverURL": ("wss://argotun.example.com", "https://argotun.example.com"),
    "proxy": ("http://proxy:3128", "proxy:3128"),
    "targetHostName": ("kubernetes.default", "https://kubernetes"),
    "saTokenPath": ("/api/token", "api/token"),
    "maxRetryInterval": ("1m30s", "60"),
    "serviceMonitor.interval": ("30s", "30"),
    "podMonitor.interval": ("30s", "half a minute"),
    "certManager.caDuration": ("87600h", "10y"),
    "certManager.duration": ("8760h", "365d"),
    "certManager.renewBefore": ("720h", ""),
    "pdb.minAvailable": (0, "-1"),
    "pdb.maxUnavailable": ("50%", "all"),
    "service.loadBalancerSourceRanges": (["192.0.2.0/24", "2001:db8::/32"], ["192.0.2.1"]),
    "networkPolicy.proxyServerCIDR": ("192.0.2.1/32", "192.0.2.1"),
    "networkPolicy.apiServerCIDRs": (["198.51.100.0/24"], ["api.example.com"]),
    "prometheusRule.runbookURL": ("https://example.com/alerts", "docs/alerts.md"),
}
"""For each path of formats.yaml a value that is right and one that is not."""

PLACES = {path: format for format in FORMATS for path in format["paths"]}


def test_every_format_is_tried() -> None:
    assert SPELLINGS.keys() == PLACES.keys()


def said(path: str, lines: tuple[str, ...]) -> list[str]:
    """The sentences about the form of the value at `path`, without its place."""
    found = []
    for line in lines:
        place, _, sentence = line.partition(": ")
        about_form = sentence.startswith(f"expected {PLACES[path]['expected']}")
        if about_form and re.sub(r"\[\d+\]", "", place) == path.replace("[]", ""):
            found.append(sentence)
    return found


@pytest.mark.parametrize("path", SPELLINGS)
def test_a_text_of_the_wrong_form_is_refused(helm: Helm, path: str) -> None:
    wrong = SPELLINGS[path][1]
    text = wrong[-1] if isinstance(wrong, list) else wrong
    got = "" if hidden(path) or not text else f", got {json.dumps(text)}"
    assert said(path, sentences(helm, False)) == [f"expected {PLACES[path]['expected']}{got}"]


@pytest.mark.parametrize("path", SPELLINGS)
def test_a_text_of_the_right_form_is_taken(helm: Helm, path: str) -> None:
    assert said(path, sentences(helm, True)) == []


LONGEST_TOKEN = 16 * 1024


@pytest.mark.parametrize(
    "values",
    [
        lambda token: AGENT | {"existingSecret": "", "token": token},
        lambda token: SERVER | {"clusters": [{"id": "a", "token": token}]},
        lambda token: SERVER | {"clusters": [{"id": "a", "tokens": [token]}]},
    ],
    ids=["agent", "token", "tokens"],
)
def test_a_token_may_be_as_long_as_argotun_takes_it(helm: Helm, values: Callable[[str], Values]) -> None:
    helm.render(values("x" * LONGEST_TOKEN))
    with pytest.raises(Refused, match=r"16,?384"):
        helm.render(values("x" * (LONGEST_TOKEN + 1)))


# What _check.tpl says: values that do not go together.

CONFLICTS: dict[str, tuple[Values, str]] = {
    "no mode": ({}, "mode: say what this release is"),
    "killed before drained": (
        SERVER | {"drainSeconds": 60, "terminationGracePeriodSeconds": 30},
        "terminationGracePeriodSeconds: expected at least drainSeconds and the preStop sleep",
    ),
    "the image of the values before": (
        AGENT | {"image": {"repository": "mirror.example:5000/argocd-cluster-proxy-agent", "tag": "v1.4.2"}},
        "image.repository: names the program before this one",
    ),
    "a token in the arguments": (
        AGENT | {"extraArgs": ["--token=x"]},
        "extraArgs: --token would be readable",
    ),
    "an argument twice": (
        SERVER | {"extraArgs": ["--drain=60s"]},
        "extraArgs: --drain is an argument already",
    ),
    "a quoted argument twice": (AGENT | {"extraArgs": ["--server=wss://x"]}, "extraArgs: --server is an"),
    "a monitor that is locked out": (
        AGENT | {"podMonitor": {"enabled": True}},
        "monitoring.namespace: expected Prometheus' namespace",
    ),
    "both monitors": (
        SERVER | {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}},
        "podMonitor.enabled, serviceMonitor.enabled: expected only one",
    ),
    "an agent's token on a server": (SERVER | {"token": "x" * 16}, "token: belongs to mode agent"),
    "an agent's certificate on a server": (
        SERVER | {"tls": {"clientCertSecret": "x"}},
        "tls.clientCertSecret: belongs to",
    ),
    "an agent's certificate in the values of a server": (
        SERVER | {"tls": {"clientCertData": "Yw==", "clientKeyData": "aw=="}},
        "tls.clientCertData: belongs to mode agent",
    ),
    "a server's certificate in the values of an agent": (
        AGENT | {"tls": {"certData": "Yw==", "keyData": "aw=="}},
        "tls.certData: belongs to mode server",
    ),
    "an agent's certificate without its key": (
        AGENT | {"tls": {"clientCertData": "Yw=="}},
        "tls.clientCertData, tls.clientKeyData: expected both or neither",
    ),
    "a certificate from two places": (
        AGENT | {"tls": {"serverCASecret": "ca", "serverCAData": "Yw=="}},
        "tls.serverCASecret, tls.serverCAData: expected only one",
    ),
    "a certificate that cert-manager issues too": (
        SERVER | {"certManager": {"enabled": True}, "tls": {"certData": "Yw==", "keyData": "aw=="}},
        "tls.certData: would not be used",
    ),
    "one port twice": (SERVER | {"healthPort": 8443}, "expected three different ports"),
    "several servers that do not find each other": (
        SERVER | {"replicas": 2},
        "replicas: more than one server needs registry.url",
    ),
    "several servers that cannot show who they are": (
        SERVER | {"replicas": 2, "registry": REGISTRY},
        "peer.certSecret: expected the Secret with the replicas' tls.crt and tls.key",
    ),
    "a password in the registry's URL": (
        SERVER | {"registry": {"url": "redis://:hidden@redis"}, "peer": PEER},
        "registry.url: a password would be readable",
    ),
    "two registries": (
        SERVER | {"registry": REGISTRY | {"urlKey": "url"}, "peer": PEER},
        "registry.url, registry.urlKey: expected only one",
    ),
    "a registry of no Secret": (
        SERVER | {"registry": {"urlKey": "url"}, "peer": PEER},
        "registry.existingSecret: expected the Secret that has the keys",
    ),
    "a CA for a registry without TLS": (
        SERVER | {"registry": REGISTRY | {"caSecret": "ca"}, "peer": PEER},
        "registry.caSecret, registry.clientCertSecret: have no meaning",
    ),
    "a password of no Sentinel": (
        SERVER | {"registry": REGISTRY | {"sentinelPasswordKey": "x"}, "peer": PEER},
        "registry.sentinelPasswordKey: has no meaning without redis+sentinel://",
    ),
    "what a registry needs without one": (
        SERVER | {"registry": {"existingSecret": "x"}},
        "registry.existingSecret: has no meaning without registry.url",
    ),
    "a certificate for replicas that there are not": (
        SERVER | {"peer": {"certSecret": "x"}},
        "peer.certSecret: has no meaning without registry.url",
    ),
    "replicas' certificates from two places": (
        SERVER | {"registry": REGISTRY, "peer": PEER | {"certSecret": "x"}},
        "peer.certSecret, peer.certData: expected only one",
    ),
    "replicas' CA from two places": (
        SERVER | {"registry": REGISTRY, "peer": PEER | {"caSecret": "x"}},
        "peer.caSecret, peer.caData: expected only one",
    ),
    "a replica's certificate without its key": (
        SERVER | {"registry": REGISTRY, "peer": {"certData": "Yw==", "caData": "Yw=="}},
        "peer.certData, peer.keyData: expected both or neither",
    ),
    "a replica's certificate without its CA": (
        SERVER | {"registry": REGISTRY, "peer": PEER | {"caData": ""}},
        "peer.caData: expected the CA of peer.certData",
    ),
    "a CA beside a certificate of another Secret": (
        SERVER | {"registry": REGISTRY, "peer": {"certSecret": "x", "caData": "Yw=="}},
        "peer.caData: belongs to peer.certData",
    ),
    "a replica's certificate that cert-manager issues too": (
        SERVER | {"registry": REGISTRY, "peer": PEER, "certManager": {"enabled": True}},
        "peer.certData: would not be used",
    ),
    "agents that could be replicas": (
        SERVER | {"registry": REGISTRY, "peer": {"certSecret": "x", "caSecret": "client-ca"}, "tls": TLS},
        "peer.caSecret: expected a CA that signs replicas' certificates only",
    ),
    "the replicas' port twice": (
        SERVER | {"registry": REGISTRY, "peer": PEER | {"port": 8080}},
        "peer.port: expected a port that is not",
    ),
    "a registry on an agent": (AGENT | {"registry": {"url": "redis://a"}}, "registry.url: belongs to mode"),
    "a replica's certificate on an agent": (
        AGENT | {"peer": {"certSecret": "a"}},
        "peer.certSecret: belongs",
    ),
    "one cluster twice": (
        SERVER | {"clusters": [{"id": "a", "token": "x" * 16}, {"id": "a", "token": "y" * 16}]},
        "no other entry has",
    ),
    "one token twice": (
        SERVER | {"clusters": [{"id": "a", "token": "x" * 16}, {"id": "b", "tokens": ["x" * 16]}]},
        "no other cluster has",
    ),
    "a cluster without a token": (SERVER | {"clusters": [{"id": "a"}]}, "clusters[0] (id a): expected token"),
    "a token that is not used": (
        SERVER | {"clusters": CLUSTERS, "existingClustersSecret": "x"},
        "would not be used",
    ),
    "TLS without a certificate": (SERVER | {"tls": {"enabled": True}}, "tls.certSecret: expected the Secret"),
    "a certificate without TLS": (SERVER | {"tls": {"certSecret": "x"}}, "tls.certSecret: has no meaning"),
    "Argo CD without the CA": (SERVER | {"tls": TLS, "argocd": {"enabled": True}}, "argocd.caData: expected"),
    "Argo CD without a certificate": (
        SERVER | {"tls": TLS, "argocd": {"enabled": True, "caData": "Yw=="}},
        "argocd.clientCertData: expected",
    ),
    "a certificate without its key": (
        SERVER | {"tls": TLS, "argocd": ARGOCD | {"clientKeyData": ""}},
        "expected both or neither",
    ),
    "a CA for plain http": (
        SERVER | {"argocd": {"enabled": True, "caData": "Yw=="}},
        "have no meaning while",
    ),
    "passthrough without a certificate": (
        SERVER | {"gateway": {"create": True, "className": "x", "hostname": "a.example.com"}},
        "gateway.tlsMode: Passthrough",
    ),
    "an agent without a token": (
        {"mode": "agent", "serverURL": "wss://a.example.com"},
        "serverToken.audience: expected what this agent proves itself by",
    ),
    "an agent with two tokens": (AGENT | {"token": "x" * 16}, "token, existingSecret: expected only one"),
    "an agent with a token of each kind": (
        AGENT | {"serverToken": {"audience": "a"}},
        "token, existingSecret: expected only one",
    ),
    "an agent's proof on a server": (
        SERVER | {"serverToken": {"audience": "a"}},
        "serverToken.audience: belongs to mode agent",
    ),
    "revocations on an agent": (AGENT | {"revoked": ["name a"]}, "revoked: belongs to mode server"),
    "an account without keys": (
        SERVER | {"clusters": [{"id": "a", "serviceAccount": {**ACCOUNT, "jwks": ""}}]},
        "serviceAccount: expected one of jwks",
    ),
    "an account of nobody": (
        SERVER | {"clusters": [{"id": "a", "serviceAccount": {"jwks": {"keys": []}}}]},
        "serviceAccount: expected issuer, audience and subject",
    ),
    "keys that cannot be fetched": (
        SERVER
        | {
            "clusters": [
                {"id": "a", "serviceAccount": {**ACCOUNT, "jwks": "", "jwksURL": "https://a.example"}}
            ]
        },
        "serviceAccount.jwksURL: expected a rule",
    ),
    "an agent without a server": ({"mode": "agent", "existingSecret": "x"}, "serverURL: expected"),
    "a server's clusters on an agent": (AGENT | {"clusters": CLUSTERS}, "clusters: belongs to mode server"),
    "a server's certificate on an agent": (AGENT | {"tls": TLS}, "tls.certSecret: belongs to mode server"),
    "Argo CD on an agent": (AGENT | {"argocd": {"enabled": True}}, "argocd.enabled: belongs to mode server"),
    "a server without TLS": (AGENT | {"serverURL": "ws://a.example.com"}, "serverURL: expected a wss:// URL"),
    "a certificate for nobody": (
        AGENT | {"serverURL": "ws://a", "allowInsecureServer": True, "tls": {"serverCASecret": "x"}},
        "shows nothing",
    ),
    "a password in the arguments": (
        AGENT | {"proxy": "http://u:secret@proxy:3128"},
        "proxy: a user and password",
    ),
    "two policies": (
        AGENT | {"policy": {"existingConfigMap": "ours", "presets": ["full"]}},
        "policy.existingConfigMap: expected no presets",
    ),
    "a policy that does not say the rest": (
        AGENT | {"policy": {"rules": [{"name": "a", "deny": {}}]}},
        "policy.default: expected allow or deny",
    ),
    "the rest of no policy": (AGENT | {"policy": {"default": "deny"}}, "policy.default: has no meaning"),
    "a policy on a server": (SERVER | {"policy": {"presets": ["full"]}}, "policy: belongs to mode agent"),
    "an agent without an issuer": (
        AGENT | {"certManager": {"enabled": True}},
        "certManager.issuerRef.name: expected",
    ),
}


@pytest.mark.parametrize(("values", "sentence"), CONFLICTS.values(), ids=CONFLICTS)
def test_values_that_do_not_go_together_are_refused(helm: Helm, values: Values, sentence: str) -> None:
    words = refusal(helm, values)
    assert "These values cannot be used:" in words
    assert sentence in words


def test_a_refusal_repeats_no_secret(helm: Helm) -> None:
    values: Values = SERVER | {"clusters": [{"id": "a"}]}
    for path in filter(hidden, PLACES):
        put(values, path, "hidden secret")
    assert "hidden secret" not in refusal(helm, values)
    assert "secret@" not in refusal(helm, AGENT | {"proxy": "http://u:secret@proxy:3128"})


def test_every_wrong_value_is_named(helm: Helm) -> None:
    words = refusal(helm, {"mode": "agent", "serverURL": "x", "maxRetryInterval": "y"})
    for name in ("serverURL", "maxRetryInterval", "serverToken.audience"):
        assert f"- {name}: expected" in words
