"""What bash, zsh and fish offer behind `argotun …`: asked of the shells themselves."""

import os
import pty
import re
import select
import shutil
import subprocess
from pathlib import Path
from time import monotonic

import pytest

from argotun.options.completion import script
from argotun.options.table import EVERY, FLAGS, SHELLS, of_mode

ENOUGH = 30.0
"""Seconds that an interactive zsh may take on a busy machine."""

CASES = [
    ("", {"server", "agent", "demo", "pki", "status"}),
    ("age", {"agent"}),
    ("agent --tok", {"--token", "--token-file"}),
    ("server --internal-client-", {"--internal-client-ca", "--internal-client-names"}),
    ("agent --log-level w", {"warn"}),
    ("--mode pki --pki-re", {"--pki-release", "--pki-renew", "--pki-replicas"}),
    ("agent --pki-", set()),
    ("--policy-c", {"--policy-check"}),
    ("server --che", {"--check"}),
    ("--completion f", {"fish"}),
]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not installed (Debian: apt-get install {request.param})")
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path, shell: str) -> Path:
    (tmp_path / "script").write_text(script(shell))
    (tmp_path / "here.pem").write_text("")
    return tmp_path


def test_the_script_is_one_for_its_shell(shell: str, folder: Path) -> None:
    done = subprocess.run([shell, "-n", "script"], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_what_is_offered(shell: str, folder: Path, line: str, expected: set[str]) -> None:
    assert ASK[shell](folder, line) == expected


def test_a_file_is_offered_where_one_is_wanted(shell: str, folder: Path) -> None:
    assert ASK[shell](folder, "agent --client-cert he") == {"here.pem"}


def test_every_option_of_every_mode_is_there(shell: str) -> None:
    text = script(shell)
    for mode in EVERY:
        for option in of_mode(mode):
            name = f"-l {option.name} " if shell == "fish" else option.flag
            assert name in text


def test_every_flag_beside_the_modes_is_there(shell: str) -> None:
    text = script(shell)
    for flag in FLAGS:
        assert (f"-l {flag.flag[2:]} " if shell == "fish" else flag.flag) in text


def ask_bash(folder: Path, line: str) -> set[str]:
    words = ["argotun", *line.split(" ")]
    quoted = " ".join(f"'{word}'" for word in words)
    asked = (
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _argotun; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    return run(["bash", "-c", f"source ./script; {asked}"], folder)


def ask_fish(folder: Path, line: str) -> set[str]:
    found = run(["fish", "-N", "-c", f"source ./script; complete -C 'argotun {line}'"], folder)
    return {each.split("\t")[0] for each in found}


def run(command: list[str], folder: Path) -> set[str]:
    env = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True)
    return set(filter(None, done.stdout.splitlines()))


def ask_zsh(folder: Path, line: str) -> set[str]:
    """Ask an interactive zsh: its completion works in its line editor only."""
    (folder / ".zshrc").write_text(
        "PS1='READY '; unset zle_bracketed_paste\n"
        "autoload -Uz compinit && compinit -u -D\nsource ./script\n"
        # All of them, one a line, in place of anything on the line.
        "zstyle ':completion:*' list-colors ''\n"
        "compadd() { [[ \" $* \" != *' -O '* && \" $* \" != *' -D '* && \" $* \" != *' -A '* ]] || "
        '{ builtin compadd "$@"; return }\n'
        '  local -a found; builtin compadd -O found "$@"; print -rl -- "<${^found[@]}>" >&9\n'
        '  builtin compadd "$@" }\n'
        "exec 9>offered\n"
        "finish() { print DONE >&9; exit }; zle -N finish; bindkey '^X' finish\n"
    )
    child, screen = pty.fork()
    if not child:
        os.chdir(folder)
        os.execvpe(
            "zsh", ["zsh", "-i"], {**os.environ, "ZDOTDIR": str(folder), "TERM": "dumb", "HOME": str(folder)}
        )
    offered = folder / "offered"
    os.write(screen, f"argotun {line}\t\x18".encode())
    deadline = monotonic() + ENOUGH
    while monotonic() < deadline and "DONE" not in (offered.read_text() if offered.exists() else ""):
        if select.select([screen], [], [], 0.1)[0]:
            try:
                os.read(screen, 4096)
            except OSError:
                break
    os.close(screen)
    os.waitpid(child, 0)
    return {each.rstrip("=") for each in re.findall(r"^<(.+)>$", offered.read_text(), re.M)}


ASK = {"bash": ask_bash, "zsh": ask_zsh, "fish": ask_fish}
