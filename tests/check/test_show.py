"""How a check is shown: to a person, to a terminal, to a program, and to whoever cannot write a tick."""

import io
import json

import pytest

from argotun.check.advice import ADVICE, advice
from argotun.check.show import Lines, as_json
from argotun.check.steps import FAILED, OK, WARNING, Walk


class Output(io.TextIOWrapper):
    """What a program writes to, a terminal or none, in some encoding."""

    def __init__(self, encoding: str = "utf-8", terminal: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def text(self) -> str:
        self.flush()
        written = self.buffer
        assert isinstance(written, io.BytesIO)
        return written.getvalue().decode(self.encoding)


def filled(walk: Walk) -> Walk:
    walk.ok("server.dns", "tunnel.example is dialled at 192.0.2.1")
    walk.warn("clock", "this machine's clock is 9 seconds behind that of the server")
    walk.fail("server.tcp", "cannot connect to 192.0.2.1:443: connection refused", "look at the firewall")
    return walk


def shown(out: Output, **environ: str) -> str:
    lines = Lines(out, environ)
    lines.end(filled(Walk(lines.tell)))
    return out.text()


def test_each_step_is_a_line_and_what_to_do_stands_below() -> None:
    text = shown(Output())
    assert text.startswith("✓ server.dns      tunnel.example is dialled at 192.0.2.1\n! clock           this")
    assert text.endswith(
        "✗ server.tcp      cannot connect to 192.0.2.1:443: connection refused\n"
        "                  To do: look at the firewall.\n"
        "\n1 failed, 1 to look at\n"
    )


def test_an_output_without_ticks_gets_ascii() -> None:
    text = shown(Output("ascii"))
    assert text.isascii()
    assert [line[0] for line in text.splitlines() if line[:1].strip()] == ["+", "!", "x", "1"]


@pytest.mark.parametrize(
    ("terminal", "environ", "coloured"),
    [
        (True, {}, True),
        (True, {"NO_COLOR": ""}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {}, False),
    ],
)
def test_colours_are_for_a_terminal_that_wants_them(
    terminal: bool, environ: dict[str, str], coloured: bool
) -> None:
    assert ("\x1b[31m✗\x1b[0m" in shown(Output(terminal=terminal), **environ)) is coloured


def test_a_program_reads_the_same_keys_each_time() -> None:
    said = json.loads(as_json("agent", filled(Walk())))
    assert list(said) == ["version", "mode", "ok", "steps"]
    assert (said["mode"], said["ok"]) == ("agent", False)
    assert [list(each) for each in said["steps"]] == [["step", "result", "says", "todo"]] * 3
    assert [each["result"] for each in said["steps"]] == [OK, WARNING, FAILED]


def test_all_that_may_fail_has_something_to_do() -> None:
    assert advice("a step of tomorrow", "whatever") == ADVICE[-1][2]
    assert all(todo and not todo.endswith(".") for _, _, todo in ADVICE)


def test_no_row_of_the_advice_hides_behind_another_one() -> None:
    for index, (step, words, todo) in enumerate(ADVICE):
        before = [each for each in ADVICE[:index] if each[0] in ("", step) and each[1] in words]
        assert not before, (step, words, todo)
