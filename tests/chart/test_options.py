"""The arguments of the pods are options of argotun, and all of its options can be set by the chart."""

import base64
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from argotun.config.network import parse_proxy
from argotun.options.load import Loaded, load
from argotun.options.sources import read
from argotun.options.table import OPTIONS
from tests.chart.helm import Helm, Rendered
from tests.chart.values import AGENT, MATRIX, MODES, SERVER


def written(rendered: Rendered, folder: Path) -> None:
    """Put files below `folder` where the pod mounts them: what the chart's own Secrets say, or something."""
    own = {each["metadata"]["name"]: each["data"] for each in rendered.all("Secret")}
    volumes = {each["name"]: each for each in rendered.pod["volumes"]}
    for mount in rendered.container["volumeMounts"]:
        path = folder / mount["mountPath"].strip("/")
        path.mkdir(parents=True, exist_ok=True)
        volume = volumes[mount["name"]]
        items = [each["path"] for each in volume.get("secret", {}).get("items", [])]
        for name in ("ca.crt", "token", "policy.yaml", *items):
            (path / name).write_text("[]" if name == "clusters.json" else "something")
        (path / "config.yaml").write_text("keepalive-timeout: 50s\n")
        for name, value in own.get(volume.get("secret", {}).get("secretName"), {}).items():
            (path / name).write_bytes(base64.b64decode(value))


def at_start(variable: dict[str, Any]) -> str:
    """What a kubelet makes of a variable of the container."""
    source = variable.get("valueFrom", {})
    if "fieldRef" in source:
        assert source["fieldRef"] == {"fieldPath": "status.podIP"}
        return "fd00::7"
    return "rediss://:hidden@redis.example:6380" if source else str(variable["value"])


def started(rendered: Rendered, folder: Path) -> Loaded:
    """What argotun makes of the pod's arguments and environment, with its files in `folder`."""
    written(rendered, folder)
    environment = {each["name"]: at_start(each) for each in rendered.container.get("env", [])}
    arguments = [each.replace("=/", f"={folder}/", 1) for each in rendered.args]
    arguments = [each.replace("$(POD_IP)", environment.get("POD_IP", "")) for each in arguments]
    return load(read(arguments, environment), environment)


@pytest.mark.parametrize("name", MATRIX)
def test_argotun_takes_what_the_chart_says(helm: Helm, tmp_path: Path, name: str) -> None:
    loaded = started(helm.render(MATRIX[name]), tmp_path)
    assert loaded.mode == MATRIX[name]["mode"]


@pytest.mark.parametrize("name", ["server-mtls", "server-replicas", "agent-mtls"])
def test_argotun_does_not_warn_of_what_the_chart_says(helm: Helm, tmp_path: Path, name: str) -> None:
    assert started(helm.render(MATRIX[name]), tmp_path).warnings == ()


def values_of_every_option(mode: str) -> dict[str, Any]:
    """Arguments that set each option of `mode` to its default."""
    found = {}
    for option in OPTIONS:
        default = option.show(option.default(mode)) if mode in option.modes else ""
        if default:
            found[option.name] = default
    return found


@pytest.mark.parametrize("mode", MODES)
def test_every_option_can_be_set_by_the_chart(helm: Helm, tmp_path: Path, mode: str) -> None:
    options = values_of_every_option(mode)
    assert len(options) > 10
    rendered = helm.render(MODES[mode] | {"configSecret": "more"})
    written(rendered, tmp_path)
    (tmp_path / "config" / "config.yaml").write_text(yaml.safe_dump(options))
    arguments = [each.replace("=/", f"={tmp_path}/", 1) for each in rendered.args]
    loaded = load(read(arguments, {}), {})
    for name in options:
        assert name in loaded.origins


@pytest.mark.parametrize(
    ("values", "field", "expected"),
    [
        (SERVER | {"drainSeconds": 7}, "drain", 7.0),
        (SERVER | {"rateLimit": 1000000}, "rate_limit", 1e6),
        (SERVER | {"rateLimit": 0.25}, "rate_limit", 0.25),
        (SERVER | {"minWireVersion": 1}, "min_wire_version", 1),
        (
            SERVER | {"trustedProxies": ["10.0.0.0/8", "192.0.2.7"]},
            "trusted_proxies",
            (ip_network("10.0.0.0/8"), ip_network("192.0.2.7")),
        ),
        (SERVER | {"logLevel": "debug"}, "log_level", "debug"),
        (AGENT | {"logFormat": "json"}, "log_format", "json"),
        (AGENT | {"maxRetryInterval": "1m30s"}, "max_retry", 90.0),
        (AGENT | {}, "tunnels", 2),
        (AGENT | {"tunnels": 3}, "tunnels", 3),
        (AGENT | {"proxy": "http://proxy:3128"}, "proxy", parse_proxy("http://proxy:3128")),
        (AGENT | {"extraArgs": ["--max-conns=7"]}, "max_conns", 7),
        (AGENT | {"extraEnv": [{"name": "ARGOTUN_MAX_CONNS", "value": "8"}]}, "max_conns", 8),
        (AGENT | {"configSecret": "more"}, "keepalive_timeout", 50.0),
    ],
)
def test_every_value_arrives_as_it_was_set(
    helm: Helm, tmp_path: Path, values: dict[str, Any], field: str, expected: Any
) -> None:
    assert getattr(started(helm.render(values), tmp_path).config, field) == expected
