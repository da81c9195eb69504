"""The entry point: patch the standard library, read the options, run the mode."""

from gevent import monkey

# Before any other import: what a module took from an unpatched `socket` or `ssl` blocks every greenlet.
monkey.patch_all()

import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence

from argotun import __version__
from argotun.config import AgentConfig, DemoConfig, PkiConfig, ServerConfig, StatusConfig
from argotun.config.models import CONFIGS
from argotun.errors import ArgotunError, ConfigError, OptionsError
from argotun.options.completion import script
from argotun.options.help import CHECKED, short
from argotun.options.load import Loaded, describe, load
from argotun.options.sources import Sources, help_text, read
from argotun.options.table import BY_NAME, CHECK
from argotun.process import forbid_core_dumps

USAGE_ERROR = 2
FAILURE = 1
INTERRUPTED = 130

LOG_FORMAT = BY_NAME["log-format"]

RUNNERS = {
    ServerConfig: "argotun.server.app",
    AgentConfig: "argotun.agent.app",
    DemoConfig: "argotun.demo",
    PkiConfig: "argotun.pki",
    StatusConfig: "argotun.status",
}
"""The module whose `run(config) -> int` is a mode; imported when it is asked for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run argotun with `argv` (the process's own by default) and give its exit code.

    0 done, 1 failed, or refused by --policy-check or --check, 2 an option or a file that it names is wrong
    (one sentence on stderr, before anything listens), 130 interrupted.
    """
    given = sys.argv[1:] if argv is None else argv
    try:
        return start(given, os.environ)
    except KeyboardInterrupt:
        return INTERRUPTED
    except ArgotunError as error:
        tell(str(error), wants_json(given, os.environ))
        return USAGE_ERROR if isinstance(error, ConfigError) else FAILURE


def wants_json(argv: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether the log is to be JSON, as far as that can be read beside options that are wrong."""
    try:
        asked = read(argv, environ).settings.get(LOG_FORMAT.name)
    except ArgotunError:
        words = " ".join(argv).replace(f"{LOG_FORMAT.flag} ", f"{LOG_FORMAT.flag}=").split()
        return f"{LOG_FORMAT.flag}=json" in words or environ.get(LOG_FORMAT.environment[0]) == "json"
    return asked is not None and asked.text == "json"


def tell(sentence: str, as_json: bool) -> None:
    """Say what ended the run: a line of the log's form where that is JSON, so that one reader takes both."""
    if not as_json:
        print(f"argotun: {sentence}", file=sys.stderr)
        return
    from argotun.observe.logs import JsonFormatter

    facts = {"name": "argotun", "levelno": logging.ERROR, "msg": sentence}
    print(JsonFormatter().format(logging.makeLogRecord(facts)), file=sys.stderr)


def start(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do what the options say; raises ConfigError and whatever the mode raises."""
    sources = read(argv, environ)
    if sources.help or sources.help_all:
        mode = sources.settings.get("mode")
        print(help_text() if sources.help_all else short(mode.text if mode else ""), end="")
        return 0
    if sources.version:
        print(f"argotun {__version__}")
        return 0
    if sources.completion is not None:
        print(script(sources.completion), end="")
        return 0
    if sources.policy_check is not None:
        return check_policy(*sources.policy_check)
    forbid_core_dumps()
    if sources.check is not None:
        return check(sources, environ, sources.check)
    loaded = load(sources, environ)
    if sources.print_config:
        for warning in loaded.warnings:
            print(f"argotun: {warning}", file=sys.stderr)
        print(describe(loaded), end="")
        from argotun.check.files import contents

        print(contents(loaded.config), end="")
        return 0
    return run(loaded)


def check_policy(path: str, request: str) -> int:
    """Say what a policy says to a request; 0 where it is allowed."""
    from argotun.agent.policy import read_policy
    from argotun.policy.check import check

    allowed, why = check(read_policy(path), request)
    print(why)
    return 0 if allowed else FAILURE


def check(sources: Sources, environ: Mapping[str, str], form: str) -> int:
    """Walk what the mode would do with these options; 0 where nothing fails."""
    from argotun.check.run import refused, walk

    mode = sources.settings.get("mode")
    if mode is not None and mode.text in CONFIGS and mode.text not in CHECKED:
        raise OptionsError(
            CHECK.flag, f"is for --mode {' and --mode '.join(CHECKED)}: {mode.text} has no use for it"
        )
    try:
        loaded = load(sources, environ)
    except ConfigError as error:
        return refused(mode.text if mode else "", error, form)
    return walk(loaded.mode, loaded.config, loaded.warnings, form)


def run(loaded: Loaded) -> int:
    """Set the log up and run the mode until it ends."""
    from argotun.observe import logs

    config = loaded.config
    logs.setup(config.log_level, config.log_format)
    for warning in loaded.warnings:
        logging.getLogger("argotun").warning("%s", warning)
    return int(importlib.import_module(RUNNERS[type(config)]).run(config))
