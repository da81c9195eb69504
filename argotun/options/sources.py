"""Flags, environment and configuration file → the text of each option and where it came from.

configargparse decides which source wins (flag, environment, file); values stay text here. Its and
argparse's own messages repeat what they could not read, which may be a secret: none of them is shown.
"""

import argparse
import io
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, NoReturn

import configargparse
import yaml

from argotun.config.values import HIDDEN, Words, nearest
from argotun.errors import ConfigError, OptionsError
from argotun.files import unmarked
from argotun.options.help import USAGE, with_mode
from argotun.options.table import BY_NAME, CONFIG, EVERY, FLAGS, GROUPS, MODE, OPTIONS, PREFIX, Flag, Option

FLAG = "flag"
BESIDE = {flag.flag: flag for flag in FLAGS}
LARGEST_FILE = 4 << 20
"""Bytes of a configuration file; it may hold the clusters' JSON."""

DESCRIPTION = """\
A reverse tunnel from customers' Kubernetes clusters to a managed Argo CD: the server runs beside
Argo CD, an agent in each cluster dials out to it, the demo runs both against a stand-in API, and
pki makes certificates for both.
"""
EPILOG = """\
Every option is also an environment variable, and its name without the dashes a key of the --config
file. A flag wins over the environment, that over the file, that over the default. An empty value
counts as not set. A flag of another mode is an error; the environment and the file may hold options
of every mode, so that one file serves server and agent.
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """The text given for an option; `origin` is `flag`, an environment name or a file's path."""

    text: str
    origin: str


@dataclass(frozen=True, slots=True)
class Sources:
    """What was given, by option name, and which of the flags that end the run early."""

    settings: dict[str, Setting]
    help: bool
    version: bool
    print_config: bool
    policy_check: tuple[str, str] | None = None
    """A policy file and a request to judge by it."""
    help_all: bool = False
    completion: str | None = None
    """The shell whose script is wanted."""
    check: str | None = None
    """The form, of CHECK's choices, in which a check is wanted."""


class ConfigFile(configargparse.ConfigFileParser):  # type: ignore[misc]  # untyped base
    """A YAML mapping of option names to scalars, kept as the text that stands in the file."""

    def parse(self, stream: IO[str]) -> dict[str, str]:
        """The file's keys and texts, without empty ones; raises ConfigError."""
        entries = self._entries(stream)
        found: dict[str, str] = {}
        for key, value in entries:
            where = f"{stream.name}, line {key.start_mark.line + 1}"
            name = str(key.value)
            if not isinstance(key, yaml.ScalarNode) or (name not in BY_NAME and name != MODE.name):
                word = name if isinstance(key, yaml.ScalarNode) else Words("a list or mapping as key")
                close = nearest(name, (*BY_NAME, MODE.name))
                hint = f"such as {close}" if close else "as --help-all lists them"
                raise ConfigError(where, word, f"an option's name, {hint}")
            if name in found:
                raise ConfigError(where, name, "each option once")
            if not isinstance(value, yaml.ScalarNode):
                raise ConfigError(f"{where}, {name}", Words("a list or mapping"), "a single value")
            found[name] = value.value.strip()
        return {name: text for name, text in found.items() if text}

    def _entries(self, stream: IO[str]) -> list[tuple[yaml.Node, yaml.Node]]:
        """The pairs of the file's mapping, as nodes that still know their line."""
        try:
            root = yaml.compose(stream.read(), Loader=yaml.BaseLoader)
        except yaml.MarkedYAMLError as error:
            # The library's own message quotes the text around the fault.
            mark = error.problem_mark or error.context_mark
            where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            raise ConfigError(f"{stream.name}{where}", HIDDEN, "YAML, one `name: value` a line") from None
        except (yaml.YAMLError, RecursionError):
            raise ConfigError("--config", stream.name, "a YAML file, one `name: value` a line") from None
        if root is None:
            return []
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError("--config", stream.name, "a YAML file, one `name: value` a line")
        return list(root.value)

    def get_syntax_description(self) -> str:
        """Unused: the epilog describes the file."""
        return ""

    def serialize(self, items: Mapping[str, Any]) -> NoReturn:
        """Unused: argotun writes no configuration files."""
        raise NotImplementedError


def open_config(path: str, *_: object) -> IO[str]:
    """The configuration file; raises ConfigError with the reason when it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise ConfigError("--config", path, f"a file of at most {LARGEST_FILE} bytes")
        text = unmarked(data).decode()
    except OSError as error:
        raise ConfigError("--config", path, f"a readable YAML file ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError("--config", path, "a YAML file in UTF-8") from None
    stream = io.StringIO(text)
    # The library tells files apart by it.
    stream.name = path
    return stream


class Parser(configargparse.ArgumentParser):  # type: ignore[misc]  # untyped base
    """The command line, grouped by mode."""

    def __init__(self) -> None:
        super().__init__(
            prog="argotun",
            usage=USAGE,
            description=DESCRIPTION,
            epilog=EPILOG,
            add_help=False,
            allow_abbrev=False,
            add_config_file_help=False,
            add_env_var_help=False,
            config_file_parser_class=ConfigFile,
            config_file_open_func=open_config,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
                prog, max_help_position=30, width=min(shutil.get_terminal_size().columns, 110)
            ),
        )
        first = self.add_argument_group("what to run")
        first.add_argument(
            MODE.flag,
            metavar=MODE.kind.metavar,
            env_var=MODE.environment[0],
            help=f"{MODE.help} [{MODE.environment[0]}]",
        )
        for flag in FLAGS:
            add_flag(first, flag)
        for modes, title in GROUPS.items():
            group = self.add_argument_group(title)
            for option in OPTIONS:
                if option.modes == modes:
                    add_option(group, option)

    def convert_item_to_command_line_arg(self, action: argparse.Action, key: str, value: object) -> list[str]:
        """What the environment or the file says, as the flag that would say it: always as text."""
        return [f"{action.option_strings[-1]}={value}"]

    def error(self, message: str) -> NoReturn:
        """Turn what the libraries could not read into the error of it, without their words."""
        cause = sys.exception()
        if isinstance(cause, ConfigError):
            raise cause
        if isinstance(cause, argparse.ArgumentError) and cause.argument_name:
            flag = cause.argument_name.split("/")[-1]
            beside = BESIDE.get(flag)
            if beside is not None and beside is not CONFIG and beside.expected:
                raise ConfigError(flag, None, beside.expected)
            if "expected" in cause.message:
                raise OptionsError(flag, f"has no value: expected {flag}=VALUE, {expected_of(flag)}")
            raise OptionsError(flag, "has a value: expected none")
        raise ConfigError("command line", HIDDEN, "options as --help-all lists them")


def expected_of(flag: str) -> str:
    """What the value of a flag is to be."""
    beside = BESIDE.get(flag)
    return beside.expected if beside else BY_NAME.get(flag.removeprefix("--"), MODE).kind.expected


def add_flag(group: Any, flag: Flag) -> None:
    """Give the parser one of the flags beside the modes."""
    names = ("-h", flag.flag) if flag.flag == "--help" else (flag.flag,)
    form: dict[str, Any]
    if flag.alone:
        form = {"nargs": "?", "const": flag.choices[0], "choices": flag.choices}
    elif flag.choices:
        form = {"choices": flag.choices}
    elif not flag.values:
        form = {"action": "store_true"}
    elif len(flag.values) > 1:
        form = {"nargs": len(flag.values), "metavar": flag.values}
    else:
        form = {"metavar": flag.values[0], "is_config_file_arg": flag is CONFIG}
    told = f"{flag.help} [{flag.environment}]" if flag.environment else flag.help
    group.add_argument(*names, env_var=flag.environment or None, help=told, **form)


def add_option(group: Any, option: Option) -> None:
    """Give the parser one row of the table; a switch may stand without a value."""
    notes = (option.kind.unit, f"default {option.describe_default()}", ", ".join(option.environment))
    told = f"{option.help} [{'; '.join(notes)}]".replace("%", "%%")
    # nargs "?" takes `--insecure`, `--insecure=false`, and the environment's and the file's text alike.
    switch = {"nargs": "?", "const": "true"} if option.kind.is_switch else {}
    group.add_argument(
        option.flag,
        dest=option.name,
        metavar=option.kind.metavar,
        env_var=option.environment[0],
        help=told,
        **switch,
    )
    if switch and any(option.default(mode) for mode in option.modes):
        group.add_argument(
            f"--no-{option.name}",
            dest=option.name,
            action="store_const",
            const="false",
            help=argparse.SUPPRESS,
        )


def from_environment(environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The environment's texts under each option's first name, and the name each was found under."""
    texts: dict[str, str] = {}
    found: dict[str, str] = {}
    for option in (MODE, *OPTIONS):
        for name in option.environment:
            if text := environ.get(name, "").strip():
                texts[option.environment[0]] = text
                found[option.name] = name
                break
    if path := environ.get(CONFIG.environment, "").strip():
        texts[CONFIG.environment] = path
    return texts, found


def read(argv: Sequence[str], environ: Mapping[str, str]) -> Sources:
    """Everything that was given; raises ConfigError for what is no option at all."""
    parser = Parser()
    environment, found = from_environment(environ)
    given, unknown = parser.parse_known_args(with_mode(list(argv)), env_vars=environment)
    sources = parser.get_source_to_settings_dict()
    origins: dict[str, str] = {}
    for source, settings in sources.items():
        # The library names a file's settings `config_file|PATH` and keys them by the file's own keys.
        if source.startswith("config_file|"):
            origins |= dict.fromkeys(settings, source.partition("|")[2])
        elif source == "environment_variables":
            names = {action.dest for action, _ in settings.values()}
            origins |= {name: origin for name, origin in found.items() if name in names}
    if unknown and not (given.help or given.help_all):
        refuse_unknown(unknown, list(argv))
    settings = {
        option.name: Setting(text.strip(), origins.get(option.name, FLAG))
        for option in (MODE, *OPTIONS)
        if (text := getattr(given, option.name)) is not None
    }
    check = tuple(given.policy_check) if given.policy_check else None
    return Sources(
        settings,
        given.help,
        given.version,
        given.print_config,
        check,
        given.help_all,
        given.completion,
        given.check,
    )


def refuse_unknown(unknown: Sequence[str], argv: Sequence[str]) -> NoReturn:
    """Name the first thing on the command line that is no option, without any value beside it."""
    known = [*(option.flag for option in (MODE, *OPTIONS)), *BESIDE]
    flags = [word.partition("=")[0] for word in unknown if re.match(r"--?[A-Za-z]", word)]
    if flags:
        # `-addr` is how Go programs write it; any other short form may have a value grown into it.
        flag = flags[0] if flags[0].startswith("--") or "-" + flags[0] in known else HIDDEN
        close = nearest("--" + flag.lstrip("-"), known)
        expected = f"an option, such as {close}" if close else "an option as --help-all lists them"
        raise ConfigError("command line", flag, expected)
    word = unknown[0]
    place = f"command line, argument {argv.index(word) + 1}" if word in argv else "command line"
    if word in EVERY:
        raise ConfigError(place, word, f"--mode {word}")
    raise ConfigError(place, HIDDEN, "an option such as --mode server, or a mode as the first word")


def help_text() -> str:
    """What `--help-all` prints."""
    return str(Parser().format_help())


def misspelt_environment(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Environment names that look like ours but are not, each with the name that was probably meant.

    Kubernetes injects `<SERVICE>_PORT…` and `<SERVICE>_SERVICE_…` for a Service called argotun: no typos.
    """
    known = {name for option in (MODE, *OPTIONS) for name in option.environment} | {CONFIG.environment}
    return [
        (name, close)
        for name in environ
        if name.startswith(PREFIX) and name not in known and not re.search(r"_(SERVICE|PORT)(_|$)", name)
        if (close := nearest(name, known)) is not None
    ]
