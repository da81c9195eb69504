"""What must hold between options: one row for each rule, checked after every value is sound alone."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from argotun.config.models import (
    Address,
    AgentConfig,
    Config,
    DemoConfig,
    PkiConfig,
    ServerConfig,
    TunnelConfig,
)
from argotun.config.values import check_file

Given = Collection[str]
"""The names of the options that a flag, the environment or the file set."""

CLIENT_IDLE = 300.0
"""Seconds that Go's HTTP client, and so Argo CD, keeps an idle connection: we must outlive it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`broken` says when; `option` is the one at fault, and `words` go on from its name and {value}."""

    config: type[Any]
    option: str
    broken: Callable[[Any, Given], object]
    words: str


def same_place(one: Address | None, other: Address | None) -> bool:
    """Whether two addresses to listen on cannot both be had."""
    if one is None or other is None or one[1] != other[1] or not one[1]:
        return False
    every = {"", "0.0.0.0", "::"}
    return one[0] == other[0] or bool(every & {one[0], other[0]})


def unreadable(path: str) -> bool:
    """Whether a file that is needed cannot be read."""
    try:
        check_file(path)
    except ValueError:
        return True
    return False


def verifies_target(config: AgentConfig) -> bool:
    """Whether the API's certificate is verified."""
    return not (config.insecure or config.plain_target)


def without_tls(config: AgentConfig) -> bool:
    """Whether the server is dialled without TLS."""
    return config.server.startswith("ws://")


OUTSIDE = "outside a cluster say where it is"

ERRORS: tuple[Rule, ...] = (
    Rule(
        ServerConfig, "clusters", lambda c, _: not c.clusters, "is needed: a clusters file or its JSON text"
    ),
    Rule(ServerConfig, "tls-cert", lambda c, _: c.tls_cert and not c.tls_key, "needs --tls-key"),
    Rule(ServerConfig, "tls-key", lambda c, _: c.tls_key and not c.tls_cert, "needs --tls-cert"),
    Rule(
        ServerConfig,
        "tls-client-ca",
        lambda c, _: c.tls_client_ca and not c.tls_cert,
        "needs --tls-cert and --tls-key",
    ),
    Rule(
        ServerConfig,
        "internal-addr",
        lambda c, _: same_place(c.internal_addr, c.addr),
        "{value} is the place of --addr: expected another address",
    ),
    Rule(
        ServerConfig,
        "health-addr",
        lambda c, _: same_place(c.health_addr, c.addr) or same_place(c.health_addr, c.internal_addr),
        "{value} is the place of --addr or --internal-addr: expected another address",
    ),
    Rule(
        AgentConfig,
        "server",
        lambda c, _: not c.server,
        "is needed: the server's URL such as wss://host/connect",
    ),
    Rule(
        AgentConfig,
        "server",
        lambda c, _: without_tls(c) and not c.allow_insecure_server,
        "{value} has no TLS: expected a wss:// URL, or --allow-insecure-server for a test",
    ),
    Rule(
        AgentConfig,
        "token",
        lambda c, _: not (c.token or c.token_file or c.server_token_path),
        "is needed: a token, --token-file, or --server-token-path",
    ),
    Rule(
        AgentConfig,
        "server-token-path",
        lambda c, _: c.server_token_path and c.token,
        "and --token exclude each other",
    ),
    Rule(
        AgentConfig,
        "server-token-path",
        lambda c, _: c.server_token_path and c.token_file,
        "and --token-file exclude each other",
    ),
    Rule(AgentConfig, "token-file", lambda c, _: c.token and c.token_file, "and --token exclude each other"),
    Rule(
        AgentConfig,
        "target-client-cert",
        lambda c, _: c.target_client_cert and not c.target_client_key,
        "needs --target-client-key",
    ),
    Rule(
        AgentConfig,
        "target-client-key",
        lambda c, _: c.target_client_key and not c.target_client_cert,
        "needs --target-client-cert",
    ),
    Rule(
        AgentConfig,
        "plain-target",
        lambda c, _: c.plain_target and c.target_client_cert,
        "and --target-client-cert exclude each other",
    ),
    Rule(AgentConfig, "client-cert", lambda c, _: c.client_cert and not c.client_key, "needs --client-key"),
    Rule(AgentConfig, "client-key", lambda c, _: c.client_key and not c.client_cert, "needs --client-cert"),
    Rule(
        AgentConfig,
        "client-cert",
        lambda c, _: c.client_cert and without_tls(c),
        "needs a wss:// server: ws:// shows no certificate",
    ),
    Rule(
        AgentConfig,
        "server-ca-cert",
        lambda c, _: c.server_ca_cert and without_tls(c),
        "needs a wss:// server: ws:// verifies nothing",
    ),
    Rule(
        AgentConfig,
        "plain-target",
        lambda c, _: c.plain_target and c.insecure,
        "and --insecure exclude each other",
    ),
    Rule(
        AgentConfig,
        "ca-cert",
        lambda c, given: "ca-cert" in given and c.insecure,
        "and --insecure exclude each other",
    ),
    Rule(
        AgentConfig,
        "ca-cert",
        lambda c, given: "ca-cert" in given and c.plain_target,
        "and --plain-target exclude each other",
    ),
    Rule(
        AgentConfig,
        "ca-cert",
        lambda c, _: verifies_target(c) and unreadable(c.ca_cert),
        f"{{value}} cannot be read: {OUTSIDE}, or use --insecure",
    ),
    Rule(
        AgentConfig,
        "sa-token-path",
        lambda c, _: c.sa_token_path and unreadable(c.sa_token_path),
        f"{{value}} cannot be read: {OUTSIDE}",
    ),
    Rule(
        AgentConfig,
        "sa-token-path",
        lambda c, _: not c.sa_token_path and not c.target_client_cert,
        "{value} leaves the agent without a credential: expected a file, or --target-client-cert",
    ),
    Rule(
        TunnelConfig,
        "keepalive",
        lambda c, _: c.keepalive >= c.keepalive_timeout,
        "{value} is too long: expected less than --keepalive-timeout",
    ),
    Rule(DemoConfig, "context", lambda c, _: c.context and not c.kubeconfig, "needs --kubeconfig"),
    Rule(PkiConfig, "pki-server", lambda c, _: not c.pki_server, "is needed: the URL that agents will dial"),
    Rule(
        PkiConfig,
        "pki-server",
        lambda c, _: c.pki_server.startswith("ws://"),
        "{value} shows no certificate: expected a wss:// URL",
    ),
)

WARNINGS: tuple[Rule, ...] = (
    Rule(
        ServerConfig,
        "idle-timeout",
        lambda c, _: c.idle_timeout <= CLIENT_IDLE,
        "{value} is risky: clients reuse connections for up to 5m and would find them closed",
    ),
    Rule(
        AgentConfig,
        "insecure",
        lambda c, _: c.insecure,
        "is for tests: anyone on the way to the API can read the ServiceAccount token",
    ),
    Rule(
        AgentConfig,
        "server",
        lambda c, _: without_tls(c),
        "{value} is for tests: anyone on the way to the server can read the token and every request",
    ),
)


def broken(rules: tuple[Rule, ...], config: Config, given: Given) -> list[Rule]:
    """The rules that `config` breaks, in order."""
    return [rule for rule in rules if isinstance(config, rule.config) and rule.broken(config, given)]
