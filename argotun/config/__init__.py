"""Options: one table, read from flags, environment and a file into frozen dataclasses.

    models.py       what a role is told: ServerConfig, AgentConfig, DemoConfig, and every default
    options.py      the table: name, modes, kind, environment names, help
    values.py       the grammar of a value: durations, sizes, addresses, URLs, files, secrets
    sources.py      flags, environment and YAML file → the text of each option and where it came from
    checks.py       what must hold between options
    load.py         all of the above in order → a validated config
    fileversion.py  which version of a watched file was read
    reference.py    docs/options.md, written from the table

This package imports nothing of argotun but `errors`, so that every layer may use its types.
"""

from argotun.config.models import Address, AgentConfig, DemoConfig, ServerConfig

__all__ = ["Address", "AgentConfig", "DemoConfig", "ServerConfig"]
