"""Runs the walk of a mode, shows it, and gives its exit code."""

import logging
import os
import sys
from collections.abc import Callable

from argotun.check import traces
from argotun.check.show import Lines, as_json
from argotun.check.steps import Walk
from argotun.config import AgentConfig, ServerConfig
from argotun.config.models import Config
from argotun.errors import ConfigError

FAILED = 1
"""The exit code where any step has failed."""


def walk(mode: str, config: Config, warnings: tuple[str, ...], form: str) -> int:
    """Walk what `mode` would do with `config`; 0 where no step has failed.

    `warnings` are sentences about the options, `form` is one of the choices of CHECK.
    """
    # What the parts of the program would log is said by the findings.
    logging.getLogger("argotun").addHandler(logging.NullHandler())

    def findings(found: Walk) -> None:
        for each in warnings:
            found.warn("options", each, "change it, unless it is meant so")
        if isinstance(config, AgentConfig):
            from argotun.check import agent  # noqa: PLC0415  each mode loads its own half

            agent.walk(config, found)
        elif isinstance(config, ServerConfig):
            from argotun.check import server  # noqa: PLC0415

            server.walk(config, found)
        traces.walk(os.environ, found)

    return _shown(mode, findings, form)


def refused(mode: str, error: ConfigError, form: str) -> int:
    """Show options that the program would not begin with."""
    return _shown(mode, lambda found: found.fail("options", str(error)), form)


def _shown(mode: str, walk: Callable[[Walk], None], form: str) -> int:
    if form == "json":
        found = Walk()
        walk(found)
        print(as_json(mode, found))  # noqa: T201  what was asked for
    else:
        lines = Lines(sys.stdout)
        found = Walk(lines.tell)
        walk(found)
        lines.end(found)
    return FAILED if found.failed else 0
