"""What a process is told, as types and values: the floor that every layer stands on.

    models.py     what a role is told: ServerConfig, AgentConfig and the like, every default
    values.py     the grammar of a value: durations, sizes, files, secrets
    network.py    the same of addresses and URLs
    proxies.py    an HTTP proxy, and which one the environment names for an address
    clusters.py   the grammar of the clusters file

Flags, environment and files are read by `argotun.options`, at the top.
"""

from argotun.config.models import (
    Address,
    AgentConfig,
    DemoConfig,
    PkiConfig,
    ServerConfig,
    StatusConfig,
    TunnelConfig,
)

__all__ = [
    "Address",
    "AgentConfig",
    "DemoConfig",
    "PkiConfig",
    "ServerConfig",
    "StatusConfig",
    "TunnelConfig",
]
