"""What the files hold that the options name, for `--print-config`: read as `--check` reads them.

Comments, so that the whole is still a file for `--config`: names, ends and counts, and never a secret.
"""

import logging
from collections.abc import Callable
from typing import TypeVar

from argotun.check.steps import OK, Walk
from argotun.config import AgentConfig, ServerConfig
from argotun.config.models import Config
from argotun.errors import ArgotunError, ConfigError, OptionsError

T = TypeVar("T")

TITLE = "\n# The files, as they are now:\n"


class Reading(Walk):
    """A walk over files that ends at the first one which cannot be used."""

    def attempt(self, step: str, make: Callable[[], T]) -> T | None:
        """What `make` gives; raises ConfigError where it raises any ArgotunError."""
        try:
            return make()
        except ConfigError:
            raise
        except ArgotunError as error:
            option, _, sentence = str(error).partition(" ")
            raise OptionsError(option, sentence) from error


def contents(config: Config) -> str:
    """The lines, "" where no file is named; raises ConfigError for a file that cannot be used."""
    # What the parts of the program would log is said here.
    logging.getLogger("argotun").addHandler(logging.NullHandler())
    found = Reading()
    if isinstance(config, AgentConfig):
        from argotun.check import agent  # noqa: PLC0415  each mode loads its own half

        agent.files(config, found)
    elif isinstance(config, ServerConfig):
        from argotun.check import server  # noqa: PLC0415

        server.files(config, found)
    lines = [
        f"# {each.step}: {'' if each.result == OK else '(!) '}{_line(each.says)}\n" for each in found.findings
    ]
    return TITLE + "".join(lines) if lines else ""


def _line(text: str) -> str:
    return " ".join(text.split())
