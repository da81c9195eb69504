"""Print docs/options.md: `python -m argotun.options.reference > docs/options.md`."""

import re

from argotun.options.table import CONFIG, GROUPS, MODE, OPTIONS, PREFIX, Option

HEADER = """\
| Option | Value | Default | Environment | What it is |
|---|---|---|---|---|
"""

INTRODUCTION = f"""\
# Options

Written by `python -m argotun.options.reference` from the table in `argotun/options/table.py`.

An option can be given as a flag (`--drain 20s`), as an environment variable (`{PREFIX}DRAIN=20s`) and as a
line of a YAML file (`drain: 20s`) that `{CONFIG.shown}` or `{CONFIG.environment}` names. A flag wins over the
environment, the environment over the file, the file over the default. An empty value counts as not set,
except for a flag, where it is an error.

A flag of another mode is an error. The environment and the file may hold options of every mode, so that
one file can serve server and agent; what the running mode has no use for is not looked at. A key of the
file that is no option at all is an error.

`--print-config` prints what is in force and where each value came from, in the form of the file and without
secrets, and below that what the files hold: clusters and callers by name, certificates by names and ends,
tokens by where they come from. A file that cannot be used is a sentence and exit code 2.

`--help` shows what most people need, beside a mode the mode's options; `--help-all` shows all. The
mode may also be the first word: `argotun agent --server …` is `argotun --mode agent --server …`.
`python -m argotun.options.manual > argotun.1` writes all of it as a man page.

`--check` beside them, or `argotun check agent …`, walks all that server or agent would do with these
options and says of each step what became of it; nothing is changed, and no agent that is connected gives
way. The exit code is 1 where a step has failed, an option too; `--check=json` says the same to a program.

A wrong value ends argotun before anything listens, with exit code 2 and one sentence: the option,
the value, and what is expected.

Durations are `500ms`, `15s`, `5m`, `1h`, `1m30s`; sizes are bytes or `64Ki`, `32Mi`, `1Gi`; an address to
listen on is `:8443` (every interface), `127.0.0.1:0` (any free port) or `[::1]:443`, which YAML wants quoted.
A switch stands alone (`--insecure`) or with a value (`--insecure=false`).

{HEADER}| `{MODE.flag}` | {MODE.kind.expected} | none | `{MODE.environment[0]}` | {MODE.help} |
| `{CONFIG.flag}` | path | none | `{CONFIG.environment}` | {CONFIG.help} |
"""


def row(option: Option) -> str:
    """One option as a row of a Markdown table."""
    value = option.kind.metavar.replace("|", ", ") if option.kind.unit == "word" else option.kind.unit
    names = ", ".join(f"`{name}`" for name in option.environment)
    cells = (f"`{option.flag}`", value, option.describe_default(), names, option.help)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def reference() -> str:
    """The whole of docs/options.md."""
    parts = [INTRODUCTION]
    for modes, title in GROUPS.items():
        rows = "\n".join(row(option) for option in OPTIONS if option.modes == modes)
        heading = re.sub(r"--mode \w+", r"`\g<0>`", title)
        parts.append(f"## {heading[0].upper()}{heading[1:]}\n\n{HEADER}{rows}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(reference(), end="")
