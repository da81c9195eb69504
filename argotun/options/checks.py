"""What must hold between options: one row for each rule, checked after every value is sound alone."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from argotun.config.models import (
    ANYWHERE,
    Address,
    AgentConfig,
    Config,
    DemoConfig,
    PkiConfig,
    ServerConfig,
    StatusConfig,
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


def is_set(config: Config, option: str) -> bool:
    """Whether an option has a value other than nothing, whoever set it."""
    return bool(getattr(config, option.replace("-", "_")))


def either(config: type[Any], option: str, other: str) -> Rule:
    """Two options that exclude each other."""
    return Rule(
        config,
        option,
        lambda c, _: is_set(c, option) and is_set(c, other),
        f"and --{other} exclude each other",
    )


def pair(config: type[Any], cert: str, key: str) -> tuple[Rule, Rule]:
    """Two options of which each needs the other."""

    def needs(option: str, other: str) -> Rule:
        return Rule(
            config, option, lambda c, _: is_set(c, option) and not is_set(c, other), f"needs --{other}"
        )

    return needs(cert, key), needs(key, cert)


def same_place(one: Address | None, other: Address | None) -> bool:
    """Whether two addresses to listen on cannot both be had."""
    if one is None or other is None or one[1] != other[1] or not one[1]:
        return False
    return one[0] == other[0] or one[0] in ANYWHERE or other[0] in ANYWHERE


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
    return not config.server.tls


def needs_registry(option: str) -> Rule:
    """An option that is for the registry, where there is one."""
    return Rule(
        ServerConfig, option, lambda c, _: is_set(c, option) and c.registry is None, "needs --registry"
    )


def needs_registry_tls(option: str) -> Rule:
    """An option that is for a registry with TLS."""
    return Rule(
        ServerConfig,
        option,
        lambda c, _: is_set(c, option) and not (c.registry and c.registry.tls),
        "needs a --registry with TLS: rediss://, rediss+sentinel:// or rediss+cluster://",
    )


def needed_by_registry(option: str) -> Rule:
    """An option without which there are no links to other replicas."""
    return Rule(
        ServerConfig,
        option,
        lambda c, _: c.registry is not None and not is_set(c, option),
        "is not set: with --registry, replicas show each other certificates",
    )


def places(config: ServerConfig) -> tuple[Address | None, ...]:
    """Where the ports are that every server has."""
    return config.addr, config.internal_addr, config.health_addr


OUTSIDE = "outside a cluster say where it is"

ERRORS: tuple[Rule, ...] = (
    Rule(
        ServerConfig,
        "clusters",
        lambda c, _: not c.clusters,
        "is not set: expected a clusters file or its JSON text",
    ),
    *pair(ServerConfig, "tls-cert", "tls-key"),
    Rule(
        ServerConfig,
        "tls-client-ca",
        lambda c, _: c.tls_client_ca and not c.tls_cert,
        "needs --tls-cert and --tls-key",
    ),
    Rule(
        ServerConfig,
        "internal-client-ca",
        lambda c, _: c.internal_client_ca and (not c.tls_cert or c.internal_plain),
        "needs TLS at the internal port: --tls-cert and --tls-key, without --internal-plain",
    ),
    Rule(
        ServerConfig,
        "internal-addr",
        lambda c, _: same_place(c.internal_addr, c.addr),
        "{value} is the place of --addr: expected another address",
    ),
    Rule(
        ServerConfig,
        "peer-ca",
        lambda c, _: c.peer_ca and c.peer_ca in (c.tls_client_ca, c.internal_client_ca),
        "{value} is the CA of agents or callers too: expected one that signs replicas only",
    ),
    Rule(
        ServerConfig,
        "health-addr",
        lambda c, _: same_place(c.health_addr, c.addr) or same_place(c.health_addr, c.internal_addr),
        "{value} is the place of --addr or --internal-addr: expected another address",
    ),
    needs_registry("registry-password-file"),
    Rule(
        ServerConfig,
        "registry-password-file",
        lambda c, _: c.registry_password_file and c.registry and c.registry.password,
        "and a password in --registry exclude each other",
    ),
    Rule(
        ServerConfig,
        "registry-sentinel-password-file",
        lambda c, _: c.registry_sentinel_password_file and not (c.registry and c.registry.kind == "sentinel"),
        "needs a --registry that is redis+sentinel://",
    ),
    needs_registry_tls("registry-ca-cert"),
    needs_registry_tls("registry-client-cert"),
    *pair(ServerConfig, "registry-client-cert", "registry-client-key"),
    *(
        rule
        for option in ("peer-cert", "peer-key", "peer-ca")
        for rule in (needs_registry(option), needed_by_registry(option))
    ),
    needs_registry("advertise"),
    needs_registry("peer-sockets"),
    either(ServerConfig, "peer-sockets", "advertise"),
    needs_registry("peer-seeds"),
    Rule(
        ServerConfig,
        "peer-seeds",
        lambda c, _: c.peer_seeds and c.peer_sockets,
        "is of no use with --peer-sockets: nobody listens at a port for other replicas",
    ),
    needs_registry("reuse-port"),
    Rule(
        ServerConfig,
        "reuse-port",
        lambda c, _: c.reuse_port and not (c.addr[1] and c.internal_addr[1]),
        "needs ports that others know: expected no 0 in --addr and --internal-addr",
    ),
    Rule(
        ServerConfig,
        "peer-addr",
        lambda c, _: (
            c.registry and not c.peer_sockets and any(same_place(c.peer_addr, other) for other in places(c))
        ),
        "{value} is the place of --addr, --internal-addr or --health-addr: expected another address",
    ),
    Rule(
        ServerConfig,
        "peer-keepalive",
        lambda c, _: c.peer_keepalive >= c.peer_keepalive_timeout,
        "{value} is too long: expected less than --peer-keepalive-timeout",
    ),
    *pair(ServerConfig, "from-inside-cert", "from-inside-key"),
    Rule(
        AgentConfig,
        "server",
        lambda c, _: not c.server.text,
        "is not set: expected the server's URL such as wss://host/connect",
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
        "is not set: expected a token, --token-file, or --server-token-path",
    ),
    either(AgentConfig, "server-token-path", "token"),
    either(AgentConfig, "server-token-path", "token-file"),
    either(AgentConfig, "token-file", "token"),
    *pair(AgentConfig, "target-client-cert", "target-client-key"),
    either(AgentConfig, "plain-target", "target-client-cert"),
    *pair(AgentConfig, "client-cert", "client-key"),
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
    either(AgentConfig, "plain-target", "insecure"),
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
    Rule(
        PkiConfig,
        "pki-server",
        lambda c, _: not c.pki_server.text,
        "is not set: expected the URL that agents will dial",
    ),
    Rule(
        PkiConfig,
        "pki-server",
        lambda c, _: not c.pki_server.tls,
        "{value} shows no certificate: expected a wss:// URL",
    ),
    *pair(StatusConfig, "status-client-cert", "status-client-key"),
    Rule(
        StatusConfig,
        "status-token-file",
        lambda c, _: c.status_token_file and not c.status_url.startswith("https://"),
        "is for https:// alone: anyone on the way could read the token",
    ),
)

WARNINGS: tuple[Rule, ...] = (
    Rule(
        ServerConfig,
        "callers",
        lambda c, _: c.callers and (not c.tls_cert or c.internal_plain),
        "refuses every request while the internal port has no TLS: nobody can show there who they are",
    ),
    Rule(
        ServerConfig,
        "internal-client-names",
        lambda c, given: c.callers and "internal-client-names" in given,
        "counts for nothing beside --callers",
    ),
    Rule(
        ServerConfig,
        "internal-addr",
        lambda c, _: not c.tls_cert and not c.internal_plain and c.internal_addr[0] in ANYWHERE,
        "{value} is plain HTTP without authentication on every address: whoever reaches it has the agents' "
        "rights; 127.0.0.1 keeps it on this machine, --internal-plain says that something else guards it",
    ),
    Rule(
        ServerConfig,
        "min-wire-version",
        lambda c, _: c.min_wire_version < 2,
        "{value} lets agents in that speak version 1, where one of them can slow down all others: "
        "only until those agents are replaced",
    ),
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
