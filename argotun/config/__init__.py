"""What a process is told, as types and values: the floor that every layer stands on.

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
