"""Command line, environment and file → one validated config, or one sentence about what is wrong."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from argotun.address import host_port
from argotun.config.models import CONFIGS, KUBERNETES, Address, AgentConfig, Config
from argotun.config.network import TARGET, parse_target, show_address
from argotun.config.proxies import from_environment
from argotun.config.values import Refused
from argotun.errors import ConfigError, OptionsError
from argotun.options.checks import ERRORS, WARNINGS, broken
from argotun.options.help import CHECKED
from argotun.options.sources import FLAG, Setting, Sources, misspelt_environment
from argotun.options.table import BY_NAME, MODE, Option, of_mode

PLATFORM = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
"""What Kubernetes tells every container: the API's address and port."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A validated config, sentences to warn with, and where each option that was given came from."""

    mode: str
    config: Config
    warnings: tuple[str, ...]
    origins: dict[str, str]


def label(option: Option, setting: Setting | None) -> str:
    """An option as an error names it, with its source when that is not the flag itself."""
    if setting is None or setting.origin == FLAG:
        return option.flag
    return f"{option.flag} (from {setting.origin})"


def parse(option: Option, setting: Setting) -> Any:
    """The value of one option; raises ConfigError."""
    try:
        if not setting.text:
            raise ValueError
        return option.kind.parse(setting.text)
    except ValueError as error:
        expected = str(error) if isinstance(error, Refused) else option.kind.expected
        raise ConfigError(label(option, setting), shown(option, setting), expected) from None


def shown(option: Option, setting: Setting) -> str:
    """What was given for an option, as an error may repeat it."""
    return option.kind.quote(setting.text)


def refuse_other_modes(mode: str, settings: Mapping[str, Setting]) -> None:
    """A flag that `mode` has no use for was meant for another; raises ConfigError.

    The environment and the file may carry options of every mode: they are often shared.
    """
    for name, setting in settings.items():
        option = BY_NAME.get(name)
        if option and mode not in option.modes and setting.origin == FLAG:
            owners = " or ".join(f"--mode {owner}" for owner in option.modes)
            raise OptionsError(
                option.flag,
                f"{shown(option, setting)!r} is for {owners}: expected an option of --mode {mode}",
            )


def load(sources: Sources, environ: Mapping[str, str]) -> Loaded:
    """The config of the mode that was asked for; raises ConfigError."""
    chosen = sources.settings.get(MODE.name)
    if chosen is None:
        tries = " or ".join(f"check {mode}" for mode in CHECKED)
        raise ConfigError(MODE.flag, None, f"{MODE.kind.expected}, or {tries}; --help tells what each does")
    mode = parse(MODE, chosen)
    refuse_other_modes(mode, sources.settings)

    given = {name: setting for name, setting in sources.settings.items() if applies(name, mode)}
    if mode == "agent" and "proxy" not in given:
        given |= environment_proxy(given.get("server"), environ)
    values = {BY_NAME[name].field: parse(BY_NAME[name], setting) for name, setting in given.items()}
    config = CONFIGS[mode](**values)
    refuse_broken_rules(config, given)

    warnings = [*unwise(config, given), *misspelt(environ)]
    origins = {name: setting.origin for name, setting in given.items()}
    if isinstance(config, AgentConfig) and config.target == KUBERNETES:
        try:
            config = replace(config, target_at=api_address(environ))
        except ValueError as error:
            warnings.append(f"{error}; {show_address(KUBERNETES)} is dialled by its name")
    return Loaded(mode, config, tuple(warnings), origins)


def applies(name: str, mode: str) -> bool:
    """Whether an option is one of `mode`."""
    return name in BY_NAME and mode in BY_NAME[name].modes


def refuse_broken_rules(config: Config, given: Mapping[str, Setting]) -> None:
    """Raise ConfigError for the first rule between options that does not hold."""
    for rule in broken(ERRORS, config, given):
        option, setting = BY_NAME[rule.option], given.get(rule.option)
        value = shown(option, setting) if setting else option.show(getattr(config, option.field))
        raise OptionsError(label(option, setting), rule.words.format(value=repr(value)))


def unwise(config: Config, given: Mapping[str, Setting]) -> Iterator[str]:
    """A sentence for each value that is allowed and may hurt."""
    for rule in broken(WARNINGS, config, given):
        option = BY_NAME[rule.option]
        value = option.show(getattr(config, option.field))
        yield f"{label(option, given.get(rule.option))} {rule.words.format(value=value)}"


def misspelt(environ: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each variable whose name is nearly one of ours."""
    for name, close in misspelt_environment(environ):
        yield f"{name}: no such option, {close} was probably meant"


def environment_proxy(server: Setting | None, environ: Mapping[str, str]) -> dict[str, Setting]:
    """HTTPS_PROXY as the setting of `proxy`, where it is for the server: wss://, and not in NO_PROXY."""
    if server is None:
        return {}
    try:
        url = parse(BY_NAME["server"], server)
    except ConfigError:
        # The caller parses it too and says so.
        return {}
    found = from_environment(url.host, url.port, environ) if url.tls else None
    return {} if found is None else {"proxy": Setting(found[1], found[0])}


def api_address(environ: Mapping[str, str]) -> Address | None:
    """Where the platform says that the cluster's API is, as it does in every pod; None where it does not.

    The variables that client-go's in-cluster configuration goes by. Raises ValueError, with a sentence, for
    what is no place to dial.
    """
    host, port = (environ.get(name, "").strip() for name in PLATFORM)
    if not host or not port:
        return None
    place = host_port(host.strip("[]"), port)
    try:
        return parse_target(place)
    except ValueError:
        raise ValueError(f"{' and '.join(PLATFORM)}: {place!r} is not {TARGET.expected}") from None


def describe(loaded: Loaded) -> str:
    """What `--print-config` prints: lines of the `--config` file's form, origins as comments."""
    rows = [("mode", loaded.mode, "")]
    for option in of_mode(loaded.mode):
        value = option.show(getattr(loaded.config, option.field))
        origin = loaded.origins.get(option.name, "default")
        if option.name == "target" and isinstance(loaded.config, AgentConfig) and loaded.config.target_at:
            origin += f", dialled at {show_address(loaded.config.target_at)} (from {PLATFORM[0]})"
        rows.append((option.name, as_yaml(value), origin))
    left = [f"{name}: {value}".rstrip() for name, value, _ in rows]
    width = min(60, max(len(text) for text in left))
    lines = [
        f"{text:<{width}}  # {origin}" if origin else text
        for text, (_, _, origin) in zip(left, rows, strict=True)
    ]
    return "\n".join(lines) + "\n"


def as_yaml(text: str) -> str:
    """`text` as a scalar of the `--config` file: plain where that reads back the same, else quoted."""
    try:
        plain = yaml.load(f"name: {text}", Loader=yaml.BaseLoader) == {"name": text}
    except yaml.YAMLError:
        plain = False
    return text if plain else json.dumps(text)
