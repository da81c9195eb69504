"""The cases of `bench.micro` do the work that they are named for."""

import pytest

from bench import micro
from bench.profile import summary


def test_every_request_gets_its_answer_however_often_credit_runs_out() -> None:
    answer = bytes(10_000)
    pair = micro._Pair(3, answer)
    for _ in range(200):
        pair.ask(b"request")
    assert [reader.received for reader in pair.readers] == 3 * [200 * len(answer)]


def test_every_case_can_be_called_again_and_again() -> None:
    for case in micro.cases():
        for _ in range(20):
            case.call()


def test_profile_charges_a_line_once_and_its_callers_too() -> None:
    folded = "main (a.py:1);loop (a.py:5);loop (a.py:6);read (b.py:9) 30\nmain (a.py:1);loop (a.py:5) 10\n"
    folded += "run (gevent/threadpool.py:3);acquire_with_timeout (gevent/_threading.py:36) 99\n"
    own, cumulative = summary(folded).split("time in a function")
    assert "  75.0 %  read (b.py:9)" in own
    assert "  25.0 %  loop (a.py:5)" in own
    assert " 100.0 %  loop (a.py)" in cumulative
    assert "  75.0 %  read (b.py)" in cumulative


def test_a_word_that_selects_nothing_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["micro", "no such case"])
    assert micro.main() == 1
    assert "no such case" in capsys.readouterr().err
