"""Command line, environment and file → one validated config, or one sentence about what is wrong."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from argotun.config.checks import ERRORS, WARNINGS, broken
from argotun.config.models import CONFIGS, Config
from argotun.config.options import BY_NAME, MODE, Option, of_mode
from argotun.config.sources import FLAG, Setting, Sources, misspelt_environment
from argotun.config.values import UNSET, Refused, Words
from argotun.errors import ConfigError

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A validated config, sentences to warn with, and where each option of its mode came from."""

    mode: str
    config: Config
    warnings: tuple[str, ...]
    origins: dict[str, str]


def label(option: Option, origin: str) -> str:
    """An option as an error names it, with its source when that is not the flag itself."""
    return option.flag if origin in (FLAG, DEFAULT) else f"{option.flag} (from {origin})"


def parse(option: Option, setting: Setting) -> Any:
    """The value of one option; raises ConfigError."""
    try:
        if not setting.text:
            raise ValueError
        return option.kind.parse(setting.text)
    except ValueError as error:
        expected = str(error) if isinstance(error, Refused) else option.kind.expected
        raise ConfigError(label(option, setting.origin), shown(option, setting), expected) from None


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
            raise ConfigError(option.flag, Words("this option"), f"{owners}; this is --mode {mode}")


def load(sources: Sources, environ: Mapping[str, str]) -> Loaded:
    """The config of the mode that was asked for; raises ConfigError."""
    chosen = sources.settings.get(MODE.name)
    if chosen is None:
        raise ConfigError(MODE.flag, UNSET, MODE.kind.expected)
    mode = parse(MODE, chosen)
    refuse_other_modes(mode, sources.settings)

    options = of_mode(mode)
    given = {
        option.name: sources.settings[option.name] for option in options if option.name in sources.settings
    }
    values = {BY_NAME[name].field: parse(BY_NAME[name], setting) for name, setting in given.items()}
    origins = {
        option.name: given[option.name].origin if option.name in given else DEFAULT for option in options
    }
    config = CONFIGS[mode](**values)

    def wrong(option: Option, expected: str) -> ConfigError:
        if option.name in given:
            return ConfigError(
                label(option, origins[option.name]), shown(option, given[option.name]), expected
            )
        default = option.show(getattr(config, option.field))
        return ConfigError(option.flag, default or UNSET, expected)

    for rule in broken(ERRORS, config, given):
        raise wrong(BY_NAME[rule.option], rule.expected)
    warnings = [
        f"{label(option, origins[option.name])}: {option.show(getattr(config, option.field))} is allowed, "
        f"but expected {rule.expected}"
        for rule in broken(WARNINGS, config, given)
        for option in (BY_NAME[rule.option],)
    ]
    warnings += [
        f"{name}: no such option, {close} was probably meant" for name, close in misspelt_environment(environ)
    ]
    return Loaded(mode, config, tuple(warnings), origins)


def describe(loaded: Loaded) -> str:
    """What `--print-config` prints: lines of the `--config` file's form, origins as comments."""
    rows = [("mode", loaded.mode, "")]
    for option in of_mode(loaded.mode):
        value = option.show(getattr(loaded.config, option.field))
        rows.append((option.name, as_yaml(value), loaded.origins[option.name]))
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
