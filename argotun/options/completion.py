"""Shells' completion, from the table of options: `argotun --completion bash|zsh|fish` prints a script.

A mode as the first word (or behind --mode) decides which options follow; a kind decides what its value may
be: one of a few words, a file, or anything.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from shlex import quote

from argotun.config.values import FILE, FILE_OR_OFF, FOLDER, Kind
from argotun.options.help import MODES
from argotun.options.table import EVERY, FLAGS, MODE, SHELLS, Flag, Option, of_mode

BESIDE = tuple(flag.flag for flag in FLAGS)


def script(shell: str) -> str:
    """The script for one of SHELLS."""
    return SCRIPTS[shell]()


def words_of(kind: Kind) -> list[str]:
    """The few words that a value may be, none where it is free."""
    return kind.metavar.split("|") if re.fullmatch(r"[a-z0-9.-]+(\|[a-z0-9.-]+)+", kind.metavar) else []


def takes_file(kind: Kind) -> bool:
    """Whether a value names something in the file system."""
    return kind in (FILE, FILE_OR_OFF, FOLDER) or kind.metavar.startswith("FILE")


def bash() -> str:
    """For bash 4: functions and `complete`."""
    cases = [_bash_option(option) for option in _all()]
    cases += [
        _bash_value(flag.flag, flag.choices, "FILE" in flag.values) for flag in FLAGS if _has_value(flag)
    ]
    modes = [f"    {mode}) words={quote(' '.join(_flags(mode)))} ;;" for mode in EVERY]
    first = " ".join((MODE.flag, *BESIDE))
    return f"""\
# argotun's completion for bash: source <(argotun --completion bash)
_argotun() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} mode= word words
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case $word in {"|".join(EVERY)}) mode=$word; break ;; esac
  done
  case $prev in
    {MODE.flag}) COMPREPLY=($(compgen -W {quote(" ".join(EVERY))} -- "$cur")); return ;;
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
    beside = " ".join(map(_zsh_flag, FLAGS))
    chosen = f"{MODE.flag}=[what this process is]:MODE:_argotun_modes"
    described = " ".join(quote(f"{mode}:{_zsh(words)}") for mode, words in MODES.items())
    return f"""\
#compdef argotun
# argotun's completion for zsh: source <(argotun --completion zsh)
_argotun_modes() {{
  local -a modes
  modes=({described})
  _describe mode modes
}}
_argotun() {{
  local -a rest
  rest=({beside})
  local mode=${{words[2]}}
  [[ ${{words[2]}} != {MODE.flag} ]] || mode=${{words[3]}}
  case $mode in
{chr(10).join(modes)}
    *)
      _arguments -S '*:MODE:_argotun_modes' $rest {quote(chosen)} ;;
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
    for flag in FLAGS:
        value = _fish_value(flag.choices, "FILE" in flag.values) if _has_value(flag) else ""
        lines.append(f"complete -c argotun -l {flag.flag[2:]}{value} -d {quote(flag.help)}")
    for mode in EVERY:
        seen = f"__fish_seen_subcommand_from {mode}"
        for option in of_mode(mode):
            kind = option.kind
            value = "" if kind.is_switch else _fish_value(words_of(kind), takes_file(kind))
            lines.append(
                f"complete -c argotun -n {quote(seen)} -l {option.name}{value} -d {quote(option.help)}"
            )
    return "\n".join(lines) + "\n"


SCRIPTS: dict[str, Callable[[], str]] = dict(zip(SHELLS, (bash, zsh, fish), strict=True))


def _all() -> Iterable[Option]:
    """Every option once."""
    return {option.name: option for mode in EVERY for option in of_mode(mode)}.values()


def _flags(mode: str) -> list[str]:
    return [*(option.flag for option in of_mode(mode)), *BESIDE]


def _has_value(flag: Flag) -> bool:
    """Whether the next word is its value."""
    return bool(flag.values or flag.choices) and not flag.alone


def _bash_option(option: Option) -> str:
    if option.kind.is_switch:
        # Its value comes behind `=`, if at all.
        return f"    {option.flag}) ;;"
    return _bash_value(option.flag, words_of(option.kind), takes_file(option.kind))


def _bash_value(flag: str, words: Sequence[str], file: bool) -> str:
    given = f"-W {quote(' '.join(words))}" if words else "-f" if file else ""
    found = f'$(compgen {given} -- "$cur")' if given else ""
    return f"    {flag}) COMPREPLY=({found}); return ;;"


def _zsh(text: str) -> str:
    """Words inside the brackets of a specification."""
    return re.sub(r"([\[\]:\\])", r"\\\1", text)


def _zsh_option(option: Option) -> str:
    told = f"[{_zsh(option.help)}]"
    if option.kind.is_switch:
        return quote(option.flag + told)
    value = _zsh_value(option.kind.metavar, words_of(option.kind), takes_file(option.kind))
    return quote(f"{option.flag}={told}{value}")


def _zsh_flag(flag: Flag) -> str:
    told = f"[{_zsh(flag.help)}]"
    if not _has_value(flag):
        return quote(flag.flag + told)
    values = "".join(_zsh_value(each, flag.choices, each == "FILE") for each in flag.values or ("WORD",))
    # The form behind `=` is that of one value.
    return quote(f"{flag.flag}{'' if len(flag.values) > 1 else '='}{told}{values}")


def _zsh_value(name: str, words: Sequence[str], file: bool) -> str:
    return f":{_zsh(name)}:" + (f"({' '.join(words)})" if words else "_files" if file else "")


def _fish_value(words: Sequence[str], file: bool) -> str:
    return f" -x -a {quote(' '.join(words))}" if words else " -r -F" if file else " -x"
