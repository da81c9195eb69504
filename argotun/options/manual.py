"""Print the man page: `python -m argotun.options.manual > argotun.1`, or `… | man -l -`."""

from collections.abc import Iterable

from argotun import __version__
from argotun.options.help import EXAMPLES, MODES
from argotun.options.table import CONFIG, EVERY, FLAGS, GROUPS, MODE, OPTIONS, Option

DESCRIPTION = (
    "A reverse tunnel from customers' Kubernetes clusters to a managed Argo CD. What a process is, the first "
    f"word says, or {MODE.flag}."
)
SOURCES = (
    "Every option can also come from the environment, or from a YAML file of `name: value` lines that "
    f"{CONFIG.environment} or {CONFIG.flag} names. A flag wins over the environment, that over the file, "
    "that over the default. A flag of another mode is an error; --print-config shows what is in force, and "
    "why."
)
EXITS = (
    ("0", "all was done; of status: all is well"),
    ("1", "something failed; of status: all is not well, or nobody could be asked"),
    ("2", "an option, or a file that it names, is wrong; one sentence says which"),
    ("130, 143", "it was interrupted before it served"),
)


def manual() -> str:
    """The page, in the macros of man(7)."""
    parts = [
        f'.TH ARGOTUN 1 "" "argotun {__version__}" "User Commands"',
        *section("NAME", ["argotun - a reverse tunnel for a managed Argo CD"]),
        *section("SYNOPSIS", []),
        rf"\fBargotun\fR {roff('|'.join(EVERY))} [\fIoption\fR ...]",
        ".br",
        r"\fBargotun status\fR [\fIURL\fR]",
        *section("DESCRIPTION", [DESCRIPTION]),
        *terms(MODES.items()),
        ".PP",
        roff(SOURCES),
        *section("OPTIONS BESIDE THE MODES", []),
        *terms((flag.shown, flag.help) for flag in FLAGS),
    ]
    for modes, title in GROUPS.items():
        parts += section(f"OPTIONS OF {title}".upper().replace("--MODE ", ""), [])
        parts += terms((_name(option), _told(option)) for option in OPTIONS if option.modes == modes)
    parts += [*section("EXIT STATUS", []), *terms(EXITS), *section("EXAMPLES", []), ".nf"]
    parts += [roff(line) for mode in EVERY for line in EXAMPLES[mode]]
    return "\n".join([*parts, ".fi"]) + "\n"


def roff(text: str) -> str:
    """A line of text that man shows as it is."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")
    escaped = escaped.replace("~", r"\(ti").replace("^", r"\(ha")
    escaped = "".join(each if each.isascii() else rf"\[u{ord(each):04X}]" for each in escaped)
    return r"\&" + escaped if escaped[:1] == "." else escaped


def section(title: str, lines: Iterable[str]) -> list[str]:
    """A heading, and what stands under it."""
    return [f".SH {roff(title)}", *map(roff, lines)]


def terms(rows: Iterable[tuple[str, str]]) -> list[str]:
    """A list of words with what they mean."""
    return [line for name, told in rows for line in (".TP", rf"\fB{roff(name)}\fR", roff(told))]


def _name(option: Option) -> str:
    return option.flag if option.kind.is_switch else f"{option.flag} {option.kind.metavar}"


def _told(option: Option) -> str:
    return (
        f"{option.help}. Default: {option.describe_default()}. Environment: {', '.join(option.environment)}."
    )


if __name__ == "__main__":
    print(manual(), end="")
