"""Options: one table, read from flags, environment and a file into frozen dataclasses.

    models.py       what a role is told: ServerConfig, AgentConfig, DemoConfig, PkiConfig, every default
    options.py      the table: name, modes, kind, environment names, help
    values.py       the grammar of a value: durations, sizes, files, secrets
    network.py      the same of addresses and URLs
    sources.py      flags, environment and YAML file → the text of each option and where it came from
    checks.py       what must hold between options
    load.py         all of the above in order → a validated config
    fileversion.py  which version of a watched file was read
    reference.py    docs/options.md, written from the table

Every layer may use the types and values: they import nothing of argotun but `errors`. Only `load` looks
further, at the rules by which HTTPS_PROXY and NO_PROXY apply.
"""

from argotun.config.models import Address, AgentConfig, DemoConfig, PkiConfig, ServerConfig

__all__ = ["Address", "AgentConfig", "DemoConfig", "PkiConfig", "ServerConfig"]
