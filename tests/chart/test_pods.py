"""The pods: what they may do, what they mount, how they start, live and end."""

from typing import Any

import pytest

from tests.chart.helm import Helm, Rendered
from tests.chart.values import AGENT, CLUSTERS, MATRIX, PLACEMENT, SECRETS, SERVER, TLS

each_set = pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
each_mode = pytest.mark.parametrize("values", [SERVER, AGENT], ids=["server", "agent"])


def mounted(rendered: Rendered) -> dict[str, dict[str, Any]]:
    """Volumes by the path where the container has them."""
    volumes = {each["name"]: each for each in rendered.pod["volumes"]}
    return {each["mountPath"]: volumes[each["name"]] for each in rendered.container["volumeMounts"]}


def files(volume: dict[str, Any]) -> list[str]:
    """Names of the files that a volume puts into its folder."""
    names = []
    plain = {kind: volume[kind] for kind in ("secret", "configMap") if kind in volume}
    for source in volume["projected"]["sources"] if "projected" in volume else [plain]:
        for kind, content in source.items():
            items = [content] if kind == "serviceAccountToken" else content["items"]
            names += [each["path"] for each in items]
    return names


@each_set
def test_a_pod_may_do_only_what_it_needs(helm: Helm, values: dict[str, Any]) -> None:
    rendered = helm.render(values)
    pod, container = rendered.pod, rendered.container
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["automountServiceAccountToken"] is False
    assert rendered.one("ServiceAccount")["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)


@each_set
def test_services_of_the_namespace_do_not_become_options(helm: Helm, values: dict[str, Any]) -> None:
    assert helm.render(values).pod["enableServiceLinks"] is False


@each_set
def test_no_secret_is_in_the_arguments_or_the_environment(helm: Helm, values: dict[str, Any]) -> None:
    container = helm.render(values).container
    plain = [*container["args"], *(each.get("value", "") for each in container.get("env", []))]
    assert not any(
        secret in text for secret in SECRETS for text in plain if not text.startswith("--token-file=")
    )


@each_set
def test_each_file_of_a_mount_follows_its_secret(helm: Helm, values: dict[str, Any]) -> None:
    rendered = helm.render(values)
    assert not any("subPath" in each for each in rendered.container["volumeMounts"])
    for each in rendered.pod["volumes"]:
        kind = each.get("secret") or each.get("projected")
        assert kind is None or kind["defaultMode"] == 0o440


@each_set
def test_an_argument_names_a_file_that_is_mounted(helm: Helm, values: dict[str, Any]) -> None:
    rendered = helm.render(values)
    volumes = mounted(rendered)
    paths = [arg.partition("=")[2] for arg in rendered.args if arg.partition("=")[2].startswith("/")]
    assert paths
    for path in paths:
        folder, _, name = path.rpartition("/")
        assert name in files(volumes[folder])


@each_set
def test_a_server_holds_no_token_of_the_api(helm: Helm, values: dict[str, Any]) -> None:
    projected = [each for each in helm.render(values).pod["volumes"] if "projected" in each]
    expected = 1 + bool(values.get("serverToken")) if values["mode"] == "agent" else 0
    assert len(projected) == expected


def test_the_key_of_the_ca_is_not_mounted(helm: Helm) -> None:
    volumes = mounted(helm.render(MATRIX["server-cert-manager"]))
    assert volumes["/tls-client-ca"]["secret"]["secretName"] == "argotun-tls"
    for path in ("/tls-client-ca", "/tls"):
        assert "ca.key" not in str(volumes[path])
    assert [each["key"] for each in volumes["/tls-client-ca"]["secret"]["items"]] == ["ca.crt"]


@each_set
def test_a_probe_asks_a_port_that_wants_no_certificate(helm: Helm, values: dict[str, Any]) -> None:
    rendered = helm.render(values)
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert rendered.container[probe]["httpGet"]["port"] == "health"
    health = next(each for each in rendered.container["ports"] if each["name"] == "health")
    assert f"--health-addr=:{health['containerPort']}" in rendered.args


def test_a_server_does_not_wait_for_agents_that_wait_for_its_service(helm: Helm) -> None:
    assert helm.render(SERVER).container["readinessProbe"]["httpGet"]["path"] == "/healthz"
    assert helm.render(AGENT).container["readinessProbe"]["httpGet"]["path"] == "/readyz"


@each_mode
def test_a_pod_has_time_to_drain_before_it_is_killed(helm: Helm, values: dict[str, Any]) -> None:
    rendered = helm.render(values | {"drainSeconds": 100})
    assert "--drain=100s" in rendered.args
    sleep = 8 if values is AGENT else 0
    assert rendered.pod["terminationGracePeriodSeconds"] == sleep + 110
    assert (
        helm.render(values | {"terminationGracePeriodSeconds": 45}).pod["terminationGracePeriodSeconds"] == 45
    )


def hook(helm: Helm, values: dict[str, Any], *more: str) -> tuple[Any, int]:
    """The preStop hook, and the seconds of the pod's grace beside drain and reserve."""
    rendered = helm.render(values, *more)
    lifecycle = rendered.container.get("lifecycle") or {}
    return lifecycle.get("preStop"), rendered.pod["terminationGracePeriodSeconds"] - 30


@each_mode
def test_the_pre_stop_sleep_is_within_the_grace(helm: Helm, values: dict[str, Any]) -> None:
    sleep = {"sleep": {"seconds": 5}}
    assert hook(helm, values | {"preStopSeconds": 5}) == (sleep, 5)
    assert hook(helm, values | {"preStopSeconds": 0}) == (None, 0)
    assert hook(helm, values | {"preStopSeconds": 1, "lifecycle": {"preStop": sleep}}) == (sleep, 5)


def test_a_server_does_not_sleep_before_it_sends_its_agents_away(helm: Helm) -> None:
    assert hook(helm, AGENT) == ({"sleep": {"seconds": 8}}, 8)
    assert hook(helm, SERVER) == (None, 0)


def test_only_a_kubernetes_that_has_sleep_is_asked_for_it(helm: Helm) -> None:
    assert hook(helm, AGENT, "--kube-version", "1.29.15") == (None, 0)
    assert hook(helm, AGENT, "--kube-version", "1.30.0-gke.1") == ({"sleep": {"seconds": 8}}, 8)
    assert hook(helm, AGENT | {"preStopSeconds": 5}, "--kube-version", "1.28.0") == (None, 0)


def test_a_hook_of_ones_own_is_in_place_of_the_charts(helm: Helm) -> None:
    own = {"httpGet": {"path": "/healthz", "port": "health"}}
    assert hook(helm, AGENT | {"lifecycle": {"preStop": own}}) == (own, 0)
    assert hook(helm, AGENT | {"lifecycle": {"preStop": None}}) == (None, 0)
    both = helm.render(AGENT | {"lifecycle": {"postStart": own}}).container["lifecycle"]
    assert both == {"postStart": own, "preStop": {"sleep": {"seconds": 8}}}


@each_mode
def test_no_probe_asks_before_python_listens(helm: Helm, values: dict[str, Any]) -> None:
    """Each that fails is a Warning event; Kubernetes holds the others back until this one has succeeded.

    On a node that has no processor to spare a start takes minutes, and one that is killed begins anew.
    """
    probe = helm.render(values).container["startupProbe"]
    assert probe["httpGet"] == {"path": "/healthz", "port": "health"}
    assert probe["initialDelaySeconds"] >= 4
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 180


@each_mode
def test_the_old_pod_stays_until_the_new_one_is_ready(helm: Helm, values: dict[str, Any]) -> None:
    strategy = helm.render(values).one("Deployment")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@each_mode
def test_every_value_of_the_pod_is_kept(helm: Helm, values: dict[str, Any]) -> None:
    rendered = helm.render(values | PLACEMENT)
    pod, container = rendered.pod, rendered.container
    for name in ("nodeSelector", "tolerations", "affinity", "priorityClassName", "imagePullSecrets"):
        assert pod[name] == PLACEMENT[name]
    assert container["resources"]["limits"] == PLACEMENT["resources"]["limits"]
    assert container["lifecycle"] == PLACEMENT["lifecycle"]
    assert container["env"] == PLACEMENT["extraEnv"]
    assert "--keepalive=10s" in container["args"]
    assert "--config=/config/config.yaml" in container["args"]
    assert "/more" in mounted(rendered)
    template = rendered.one("Deployment")["spec"]["template"]["metadata"]
    assert template["annotations"]["a"] == "b"
    assert template["labels"] | {"c": "d", "e": "f"} == template["labels"]
    (spread,) = pod["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"].items() <= template["labels"].items()
    budget = rendered.one("PodDisruptionBudget")["spec"]
    assert budget["minAvailable"] == 0
    assert "maxUnavailable" not in budget


@each_set
def test_every_selector_finds_its_pod(helm: Helm, values: dict[str, Any]) -> None:
    rendered = helm.render(values)
    labels = rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    for kind in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
        for each in rendered.all(kind):
            assert each["spec"]["selector"]["matchLabels"].items() <= labels
    for each in rendered.all("Service"):
        assert each["spec"]["selector"].items() <= labels
    for each in rendered.all("NetworkPolicy"):
        if each["metadata"]["name"] == "argotun-check":
            # `helm test` has a pod of its own.
            continue
        assert each["spec"]["podSelector"]["matchLabels"].items() <= labels


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, "argotun:0.1.0"),
        ({"repository": "example.com/argotun", "tag": "main"}, "example.com/argotun:main"),
        ({"tag": "main", "digest": "sha256:" + "a" * 64}, "argotun@sha256:" + "a" * 64),
    ],
)
def test_the_image_that_was_named_is_run(helm: Helm, image: dict[str, str], expected: str) -> None:
    assert helm.render(SERVER | {"image": image}).container["image"] == expected


def test_every_option_of_the_server_is_kept(helm: Helm) -> None:
    rendered = helm.render(
        SERVER | {"clusters": CLUSTERS, "port": 9443, "internalPort": 9080, "rateLimit": 0.5, "tls": TLS}
    )
    assert {
        "--mode=server",
        "--addr=:9443",
        "--internal-addr=:9080",
        "--clusters=/clusters/clusters.json",
        "--rate-limit=0.5",
        "--tls-cert=/tls/tls.crt",
        "--tls-key=/tls/tls.key",
        "--tls-client-ca=/tls-client-ca/ca.crt",
    } <= set(rendered.args)
    assert "--internal-plain" not in rendered.args
    assert "--internal-plain" in helm.render(MATRIX["server-internal-plain"]).args


def test_every_option_of_the_agent_is_kept(helm: Helm) -> None:
    mutual = helm.render(MATRIX["agent-mtls"])
    assert {
        "--mode=agent",
        "--server=wss://argotun.example.com/connect",
        "--token-file=/token/token",
        "--target=kubernetes.default.svc:443",
        "--server-ca-cert=/tls-server-ca/ca.crt",
        "--client-cert=/tls-client/tls.crt",
        "--client-key=/tls-client/tls.key",
        "--max-retry=60s",
    } <= set(mutual.args)
    assert mounted(mutual)["/token"]["secret"]["secretName"] == "tunnel-token"
    test = helm.render(MATRIX["agent-test"]).args
    assert {"--insecure", "--allow-insecure-server"} <= set(test)
    assert not any(arg.startswith("--ca-cert") for arg in test)
    other = helm.render(MATRIX["agent-other-api"])
    assert {"--target=api.example.com:6443", "--target-host-name=kubernetes"} <= set(other.args)
    assert "--ca-cert=/api/credentials/ca.crt" in other.args


def test_the_services_do_not_expose_the_internal_port(helm: Helm) -> None:
    rendered = helm.render(MATRIX["server-load-balancer"])
    public, internal = rendered.one("Service")["spec"], rendered.one("Service", "argotun-internal")["spec"]
    assert public["type"] == "LoadBalancer"
    assert [(each["port"], each["targetPort"]) for each in public["ports"]] == [(443, "public")]
    assert internal["type"] == "ClusterIP"
    assert [each["targetPort"] for each in internal["ports"]] == ["internal", "health"]


# What the platform decides


IDS = {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532}


@pytest.mark.parametrize("mode", ["server", "agent"])
def test_user_ids_can_be_left_to_the_platform(helm: Helm, mode: str) -> None:
    there = helm.render(MATRIX[mode]).pod["securityContext"]
    assert there.items() >= IDS.items()
    nobody = dict.fromkeys(IDS)
    openshift = ("--api-versions", "security.openshift.io/v1")
    for rendered in (
        helm.render(MATRIX[mode] | {"podSecurityContext": nobody}),
        helm.render(MATRIX[mode], *openshift),
    ):
        left = rendered.pod["securityContext"]
        assert not left.keys() & IDS.keys()
        assert left["runAsNonRoot"] is True
        assert left["seccompProfile"] == there["seccompProfile"]
        assert "runAsUser" not in rendered.container["securityContext"]
    own = helm.render(MATRIX[mode] | {"podSecurityContext": {"runAsUser": 1000700000}}, *openshift)
    assert own.pod["securityContext"]["runAsUser"] == 1000700000


def test_the_containers_security_is_kept_but_for_what_is_said(helm: Helm) -> None:
    before = helm.render(AGENT).container["securityContext"]
    more = helm.render(AGENT | {"securityContext": {"privileged": False, "readOnlyRootFilesystem": None}})
    assert more.container["securityContext"] == {
        **{key: value for key, value in before.items() if key != "readOnlyRootFilesystem"},
        "privileged": False,
    }


@pytest.mark.parametrize("probe", ["readinessProbe", "startupProbe", "livenessProbe"])
def test_a_part_of_a_probe_keeps_the_rest(helm: Helm, probe: str) -> None:
    before = helm.render(SERVER).container[probe]
    assert helm.render(SERVER | {probe: {"periodSeconds": 7}}).container[probe] == before | {
        "periodSeconds": 7
    }
    other = helm.render(SERVER | {probe: {"httpGet": {"path": "/readyz"}}}).container[probe]
    assert other["httpGet"] == {"path": "/readyz", "port": "health"}


def test_names_and_strategy_of_ones_own_are_used(helm: Helm) -> None:
    own: dict[str, Any] = {
        "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["argotun.example.com"]}],
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["192.0.2.53"], "options": [{"name": "ndots", "value": "1"}]},
    }
    rendered = helm.render(AGENT | own | {"strategy": {"type": "Recreate"}})
    assert {key: rendered.pod[key] for key in own} == own
    assert rendered.one("Deployment")["spec"]["strategy"] == {"type": "Recreate"}


def test_another_apis_ca_comes_from_its_secret(helm: Helm) -> None:
    rendered = helm.render(AGENT | {"targetAddr": "api.example.com:6443", "targetCASecret": "api-ca"})
    assert "--ca-cert=/target-ca/ca.crt" in rendered.args
    assert [arg for arg in rendered.args if arg.startswith("--ca-cert=")] == ["--ca-cert=/target-ca/ca.crt"]
    (volume,) = [each for each in rendered.pod["volumes"] if each["name"] == "target-ca"]
    assert volume["secret"]["secretName"] == "api-ca"
    (mount,) = [each for each in rendered.container["volumeMounts"] if each["name"] == "target-ca"]
    assert mount["mountPath"] == "/target-ca"


def without(container: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in container.items() if key not in keys}


@each_set
def test_helm_test_checks_what_the_deployment_runs(helm: Helm, values: dict[str, Any]) -> None:
    rendered = helm.render(values)
    check = rendered.one("Pod", "argotun-check")
    (container,) = check["spec"]["containers"]
    serving = rendered.container
    ways_of_life = ("name", "args", "ports", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle")
    assert without(container, *ways_of_life) == without(serving, *ways_of_life)
    assert container["args"] == ["--check", *serving["args"]]
    for key in (
        "securityContext",
        "serviceAccountName",
        "volumes",
        "dnsPolicy",
        "hostAliases",
        "tolerations",
    ):
        assert check["spec"].get(key) == rendered.pod.get(key), key


@each_set
def test_nobody_is_sent_to_the_pod_of_a_check(helm: Helm, values: dict[str, Any]) -> None:
    rendered = helm.render(values)
    check = rendered.one("Pod", "argotun-check")
    assert check["metadata"]["annotations"]["helm.sh/hook"] == "test"
    labels = check["metadata"]["labels"].items()
    selectors = [each["spec"].get("selector", {}) for each in rendered.all("Service")]
    selectors += [
        each["spec"]["selector"]["matchLabels"]
        for each in rendered.objects
        if each["kind"] in ("Deployment", "PodDisruptionBudget")
    ]
    assert selectors
    assert not [selector for selector in selectors if selector and selector.items() <= labels]


@each_set
def test_a_check_may_reach_what_the_others_may(helm: Helm, values: dict[str, Any]) -> None:
    policies = {each["metadata"]["name"]: each for each in helm.render(values).all("NetworkPolicy")}
    if "argotun" not in policies:
        assert "argotun-check" not in policies
        return
    ours, theirs = policies["argotun-check"]["spec"], policies["argotun"]["spec"]
    assert without(ours, "podSelector") == without(theirs, "podSelector")
    check = helm.render(values).one("Pod", "argotun-check")
    assert ours["podSelector"]["matchLabels"].items() <= check["metadata"]["labels"].items()
