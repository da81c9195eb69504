"""Shells' completion, from the table of options: `argotun --completion bash|zsh|fish` prints a script.

A mode as the first word (or behind --mode) decides which options follow; a kind decides what its value may
be: one of a few words, a file, or anything.
"""

import re
from collections.abc import Iterable
from shlex import quote

from argotun.config.values import FILE, FILE_OR_OFF, FOLDER, Kind
from argotun.options.help import MODES
from argotun.options.table import EVERY, MODE, Option, of_mode

PLAIN = {
    "--check": "walk what server or agent would do, and say what fails",
    "--print-config": "print what is in force and where it came from",
    "--help": "print the common options of a mode",
    "--help-all": "print every option",
    "--version": "print the version",
}
"""Flags beside the table that take no value, and end the run early."""

CONFIG = ("--config", "YAML file of options")


def script(shell: str) -> str:
    """The script for one of SHELLS."""
    return SHELLS[shell]()


def words_of(kind: Kind) -> list[str]:
    """The few words that a value may be, none where it is free."""
    return kind.metavar.split("|") if re.fullmatch(r"[a-z0-9.-]+(\|[a-z0-9.-]+)+", kind.metavar) else []


def takes_file(kind: Kind) -> bool:
    """Whether a value names something in the file system."""
    return kind in (FILE, FILE_OR_OFF, FOLDER) or kind.metavar.startswith("FILE")


def bash() -> str:
    """For bash 4: functions and `complete`."""
    cases = [_bash_values(option) for option in _all()]
    modes = [f"    {mode}) words={quote(' '.join(_flags(mode)))} ;;" for mode in EVERY]
    first = " ".join((MODE.flag, CONFIG[0], *PLAIN))
    return f"""\
# argotun's completion for bash: source <(argotun --completion bash)
_argotun() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} mode= word words
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case $word in {"|".join(EVERY)}) mode=$word; break ;; esac
  done
  case $prev in
    {MODE.flag}) COMPREPLY=($(compgen -W {quote(" ".join(EVERY))} -- "$cur")); return ;;
    {CONFIG[0]}) COMPREPLY=($(compgen -f -- "$cur")); return ;;
{chr(10).join(cases)}
  esac
  case $mode in
{chr(10).join(modes)}
    *) [[ $cur == -* ]] && words={quote(first)} || words={quote(" ".join(EVERY))} ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o filenames -F _argotun argotun
"""


def zsh() -> str:
    """For zsh: a function for `compdef`, which may also be a file called `_argotun` in `fpath`."""
    modes = []
    for mode in EVERY:
        rows = "".join(f" \\\n        {_zsh_option(option)}" for option in of_mode(mode))
        modes.append(f"    {mode})\n      _arguments -S '*: :' $rest{rows} ;;")
    plain = " ".join(quote(f"{flag}[{_zsh(words)}]") for flag, words in PLAIN.items())
    described = " ".join(quote(f"{mode}:{_zsh(words)}") for mode, words in MODES.items())
    return f"""\
#compdef argotun
# argotun's completion for zsh: source <(argotun --completion zsh)
_argotun() {{
  local -a rest modes
  rest=({plain} {quote(f"{CONFIG[0]}=[{CONFIG[1]}]:FILE:_files")})
  modes=({described})
  local mode=${{words[2]}}
  [[ ${{words[2]}} != {MODE.flag} ]] || mode=${{words[3]}}
  case $mode in
{chr(10).join(modes)}
    *)
      if [[ ${{words[CURRENT-1]}} == {MODE.flag} || ${{words[CURRENT]}} != -* ]]; then
        _describe mode modes
      else
        _arguments -S '*: :' $rest {quote(f"{MODE.flag}=[what this process is]:MODE:({' '.join(EVERY)})")}
      fi ;;
  esac
}}
compdef _argotun argotun
"""


def fish() -> str:
    """For fish: one line for each option of each mode."""
    lines = ["# argotun's completion for fish: argotun --completion fish | source", "complete -c argotun -f"]
    none = f"not __fish_seen_subcommand_from {' '.join(EVERY)}"
    lines += [
        f"complete -c argotun -n {quote(none)} -a {mode} -d {quote(words)}" for mode, words in MODES.items()
    ]
    lines.append(f"complete -c argotun -n {quote(none)} -l mode -x -a {quote(' '.join(EVERY))}")
    lines += [f"complete -c argotun -l {flag[2:]} -d {quote(words)}" for flag, words in PLAIN.items()]
    lines.append(f"complete -c argotun -l {CONFIG[0][2:]} -r -F -d {quote(CONFIG[1])}")
    for mode in EVERY:
        seen = f"__fish_seen_subcommand_from {mode}"
        for option in of_mode(mode):
            value = _fish_value(option.kind)
            lines.append(
                f"complete -c argotun -n {quote(seen)} -l {option.name}{value} -d {quote(option.help)}"
            )
    return "\n".join(lines) + "\n"


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}


def _all() -> Iterable[Option]:
    """Every option once."""
    return {option.name: option for mode in EVERY for option in of_mode(mode)}.values()


def _flags(mode: str) -> list[str]:
    return [*(option.flag for option in of_mode(mode)), CONFIG[0], *PLAIN]


def _bash_values(option: Option) -> str:
    if words := words_of(option.kind):
        found = f'$(compgen -W {quote(" ".join(words))} -- "$cur")'
    elif takes_file(option.kind):
        found = '$(compgen -f -- "$cur")'
    else:
        found = ""
    if option.kind.is_switch:
        # Its value comes behind `=`, if at all.
        return f"    {option.flag}) ;;"
    return f"    {option.flag}) COMPREPLY=({found}); return ;;"


def _zsh(text: str) -> str:
    """Words inside the brackets of a specification."""
    return re.sub(r"([\[\]:\\])", r"\\\1", text)


def _zsh_option(option: Option) -> str:
    told = f"[{_zsh(option.help)}]"
    if option.kind.is_switch:
        return quote(option.flag + told)
    if words := words_of(option.kind):
        value = f"({' '.join(words)})"
    else:
        value = "_files" if takes_file(option.kind) else ""
    return quote(f"{option.flag}={told}:{_zsh(option.kind.metavar)}:{value}")


def _fish_value(kind: Kind) -> str:
    if kind.is_switch:
        return ""
    if words := words_of(kind):
        return f" -x -a {quote(' '.join(words))}"
    return " -r -F" if takes_file(kind) else " -x"
