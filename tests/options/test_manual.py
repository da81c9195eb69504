"""The man page: every option is on it, and man reads it as it is meant."""

import re
import shutil
import subprocess

import pytest

from argotun.options.manual import manual, roff
from argotun.options.table import EVERY, FLAGS, OPTIONS


def test_every_option_and_mode_is_on_the_page() -> None:
    page = manual()
    for option in OPTIONS:
        assert page.count(f"\n\\fB{roff(option.flag)}") >= 1, option.flag
        assert roff(option.help) in page
        assert option.environment[0] in page
    for mode in EVERY:
        assert f"\n\\fB{mode}\\fR\n" in page
    for flag in FLAGS:
        assert f"\n\\fB{roff(flag.shown)}\\fR\n{roff(flag.help)}\n" in page


def test_no_text_is_taken_for_a_macro() -> None:
    macros = {line.split()[0] for line in manual().splitlines() if line[0] in ".'"}
    assert macros == {".TH", ".SH", ".TP", ".PP", ".br", ".nf", ".fi"}
    assert roff(".x \\ -") == r"\&.x \e \-"


def test_no_text_is_taken_for_an_escape() -> None:
    escapes = set(re.findall(r"\\(?:f.|\(..|\[u[0-9A-F]{4}\]|.)", manual()))
    assert {each for each in escapes if not each.startswith(r"\[u")} <= {
        r"\fB",
        r"\fI",
        r"\fR",
        r"\-",
        r"\e",
        r"\&",
        r"\(aq",
        r"\(ga",
        r"\(ti",
        r"\(ha",
    }


def test_groff_finds_nothing_wrong() -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("needs groff (Debian: groff-base)")
    done = subprocess.run(
        [groff, "-man", "-Tutf8", "-ww", "-z"],
        input=manual(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
