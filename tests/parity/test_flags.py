"""Every flag of the system before this one has its name, its default and its environment name."""

import dataclasses
from typing import Any

import pytest

from argotun.config.models import CONFIGS, ServerUrl
from argotun.options.table import BY_NAME

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"

FLAGS: list[tuple[str, str, Any, str | None]] = [
    # mode, flag, default, environment name of old
    ("server", "addr", ("", 8443), None),
    ("server", "internal-addr", ("", 8080), None),
    ("server", "clusters", "", "CLUSTERS"),
    ("server", "rate-limit", 0, None),
    ("server", "tls-cert", None, None),
    ("server", "tls-key", None, None),
    ("server", "tls-client-ca", None, None),
    ("server", "log-level", "info", None),
    ("agent", "server", ServerUrl(), "SERVER_URL"),
    ("agent", "token", None, "TOKEN"),
    ("agent", "target", ("kubernetes.default.svc", 443), None),
    ("agent", "sa-token-path", f"{ACCOUNT}/token", None),
    ("agent", "ca-cert", f"{ACCOUNT}/ca.crt", None),
    ("agent", "insecure", False, None),
    ("agent", "plain-target", False, None),
    ("agent", "allow-insecure-server", False, None),
    ("agent", "server-ca-cert", None, None),
    ("agent", "client-cert", None, None),
    ("agent", "client-key", None, None),
    ("agent", "max-retry", 60.0, None),
    ("agent", "max-conns", 4096, None),
    ("agent", "health-addr", ("", 8081), None),
    ("agent", "log-level", "info", None),
]


@pytest.mark.parametrize(
    ("mode", "name", "default", "environment"), FLAGS, ids=[f"{mode}-{name}" for mode, name, *_ in FLAGS]
)
def test_every_flag_has_the_name_and_default_of_old(
    mode: str, name: str, default: Any, environment: str | None
) -> None:
    option = BY_NAME[name]
    assert mode in option.modes
    assert option.also == ((environment,) if environment else ())
    defaults = {field.name: field.default for field in dataclasses.fields(CONFIGS[mode])}
    assert defaults[option.field] == default


@pytest.mark.parametrize("level", ["debug", "info", "warn", "error"])
def test_every_log_level_has_the_name_of_old(level: str) -> None:
    assert BY_NAME["log-level"].kind.parse(level) == level
