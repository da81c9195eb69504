"""Scenarios: who is run when and what becomes of failures, and what is shown of a kept run."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from bench import pages, results
from bench.errors import BenchError
from bench.load import Cpu
from bench.scenarios import ALL, SCENARIOS, choose, shown
from bench.scenarios.runner import Outcome, Runner, medians, what_happened
from bench.scenarios.scene import FULL, Figures, NotMeasured, Row, Scenario, Stage, costs
from bench.subject import Ground, Running, Subject

ROW = Row("p50", "p50 ms", 2)


class _Site:
    """Counts what is stopped."""

    def stop(self, children: list[Any]) -> None:
        assert not children


GROUND = Ground(cast(Any, _Site()), cast(Any, None), cast(Any, None))


def _subject(name: str, log: list[str]) -> Subject:
    def start(_: Ground) -> Running:
        log.append(f"start {name}")
        return Running(f"http://{name}")

    return Subject(name, f"what {name} is", start)


def _run(measure: Callable[[Stage], Figures], names: str, rounds: int = 1) -> tuple[Outcome, list[str]]:
    log: list[str] = []

    def logged(stage: Stage) -> Figures:
        log.append(stage.subject.name)
        return measure(stage)

    scenario = Scenario("some", "what it is", (ROW,), logged, rounds=rounds)
    runner = Runner(
        {"standard": lambda: GROUND}, [_subject(name, log) for name in names], FULL, lambda _: None
    )
    return runner.run([scenario]), log


# The table of scenarios


def test_each_scenario_has_a_name_of_its_own_and_says_what_it_is() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    for scenario in SCENARIOS:
        assert re.fullmatch(r"[a-z0-9-]+", scenario.name)
        assert scenario.says
        assert len({row.key for row in scenario.rows}) == len(scenario.rows) > 0


def test_scenarios_are_chosen_by_name_in_the_order_of_the_table() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert [scenario.name for scenario in choose([names[1], names[0], names[1]])] == names[:2]
    assert choose([ALL]) == list(SCENARIOS)
    assert choose([]) == []
    with pytest.raises(BenchError, match="no scenario is called 'nothing': choose from all, small"):
        choose(["nothing"])


# The run


def test_subjects_take_turns_there_and_back_and_start_once() -> None:
    outcome, log = _run(lambda _: {"p50": 1.0}, "ab", rounds=2)
    assert log == ["start a", "a", "start b", "b", "b", "a"]
    assert outcome.subjects == {"a": {"some.p50": 1.0}, "b": {"some.p50": 1.0}}


def test_a_figure_is_the_median_of_its_rounds_and_the_spread_is_kept() -> None:
    values = iter([1.0, 4.0, 2.0])
    outcome, _ = _run(lambda _: {"p50": next(values)}, "a", rounds=3)
    assert outcome.subjects == {"a": {"some.p50": 2.0}}
    assert outcome.spread == {"some": 1.5}


def test_what_fails_is_kept_with_its_reason_and_the_others_go_on() -> None:
    def measure(stage: Stage) -> Figures:
        if stage.subject.name == "a":
            raise BenchError("no answer\nand a log")
        return {"p50": 1.0}

    outcome, log = _run(measure, "ab", rounds=3)
    assert outcome.failed == {"a": {"some": "no answer"}}
    assert outcome.subjects == {"a": {}, "b": {"some.p50": 1.0}}
    assert log.count("a") == 1


def test_rounds_before_a_failure_are_not_shown_as_a_figure() -> None:
    answers: Iterator[Figures] = iter([{"p50": 1.0}])

    def measure(_: Stage) -> Figures:
        try:
            return next(answers)
        except StopIteration:
            raise OSError("connection refused") from None

    outcome, _ = _run(measure, "a", rounds=3)
    assert outcome.subjects == {"a": {}}
    assert outcome.failed == {"a": {"some": "connection refused"}}


def test_a_subject_that_failed_is_started_anew_for_the_next_scenario() -> None:
    log: list[str] = []

    def fails(_: Stage) -> Figures:
        raise BenchError("died")

    def goes_well(_: Stage) -> Figures:
        return {"p50": 1.0}

    both = [Scenario("one", "1", (ROW,), fails), Scenario("two", "2", (ROW,), goes_well)]
    warm = lambda stage: log.append(f"warm {stage.subject.name}")  # noqa: E731
    outcome = Runner({"standard": lambda: GROUND}, [_subject("a", log)], FULL, warm).run(both)
    assert log == ["start a", "warm a", "start a", "warm a"]
    assert outcome.subjects == {"a": {"two.p50": 1.0}}


def test_what_a_subject_is_not_made_for_is_no_failure() -> None:
    def measure(_: Stage) -> Figures:
        raise NotMeasured("it has no tunnel")

    outcome, _ = _run(measure, "a")
    assert outcome.not_measured == {"a": {"some": "it has no tunnel"}}
    assert not outcome.failed


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("transfer was answered with 502: http://127.0.0.1:1234/bulk", "transfer was answered with 502"),
        ("cannot read /dev/shm/argotun-bench-x/y", "cannot read"),
        ("12 of 200 MB after 20 s", "12 of 200 MB after 20 s"),
        ("", "BenchError"),
    ],
)
def test_a_reason_names_nothing_that_is_only_of_this_machine(said: str, kept: str) -> None:
    assert what_happened(BenchError(said)) == kept


def test_a_figure_that_a_round_lacks_is_left_out() -> None:
    assert medians("s", [{"a": 1.0, "b": 2.0}, {"a": 3.0}]) == {"s.a": 2.0}


def test_cpu_is_that_of_all_processes_between_client_and_api() -> None:
    cpu = Cpu({"server": 0.25, "agent": 0.5, "upstream": 0.125, "driver": 9.0}, others=0.0)
    assert costs(cpu, 1000, 1e6) == {"cpu": 750.0, "cpu_api": 125.0}
    assert costs(Cpu({"upstream": 1.0, "driver": 1.0}, 0.0), 1, 1.0) == {"cpu_api": 1.0}


# What is shown


def _record(**more: Any) -> results.Record:
    machine = dict.fromkeys(["processor", "kernel", "python", "gevent", "nginx", "OpenSSL", "commit"], "x")
    return {
        "when": "2026-01-02T03:04:05+00:00",
        "machine": {**machine, "processors": 2, "load before": 0.5},
        "subjects": {"direct": {"some.p50": 0.5}, "argotun": {"some.p50": 1234.5678}, "peer": {}},
        "failed": {},
        "not_measured": {},
        "versions": {"wrk": "4.1"},
        **more,
    }


SOME = [
    Scenario("some", "what it is", (ROW, Row("never", "nobody has it")), lambda _: {}),
    Scenario("other", "not run", (ROW,), lambda _: {}),
]


def test_the_table_has_argotun_first_and_no_line_that_nobody_has() -> None:
    assert list(shown.table(_record(), SOME, str.upper)) == [
        "| | ARGOTUN | DIRECT | PEER |",
        "|---|---:|---:|---:|",
        "| **what it is** | | | |",
        "| p50 ms | 1,234.57 | 0.50 | |",
    ]


def test_who_fails_alike_has_one_note() -> None:
    record = _record(failed={name: {"some": "it died"} for name in ("direct", "peer")})
    text = shown.block(record, SOME, str)
    assert "| **what it is** | | fails (1) | fails (1) |" in text
    assert "\n1. direct, peer: it died\n" in text


def test_what_a_tunnel_adds_has_a_line_of_its_own() -> None:
    scenario = Scenario("some", "what it is", (Row("p50", "p50 ms", 2, over_direct=True),), lambda _: {})
    lines = list(shown.table(_record(), [scenario], str))
    assert lines[-2:] == ["| p50 ms | 1,234.57 | 0.50 | |", "| p50 ms, over direct | 1,234.07 | | |"]
    record = _record()
    del record["subjects"]["direct"]
    assert list(shown.table(record, [scenario], str))[-1] == "| p50 ms | 1,234.57 | |"


def test_what_failed_is_marked_and_told_below_the_table() -> None:
    record = _record(failed={"peer": {"some": "it died"}}, not_measured={"direct": {"other": "no tunnel"}})
    text = shown.block(record, SOME, str)
    assert "| **what it is** | | | fails (1) |" in text
    assert "| **not run** | | – (2) | |" in text
    assert "\n\n1. peer: it died\n2. direct: no tunnel\n\nMeasured" in text
    assert "Measured on 2026-01-02, on 2 processors (x, Linux x) with a load of 0.5 before" in text


def _drawn(**more: Any) -> results.Record:
    subjects = {
        "direct": dict.fromkeys(shown.DRAWN, 1.0),
        "argotun": dict.fromkeys(shown.DRAWN, 2.0),
        "peer": {},
    }
    return _record(subjects=subjects, **more)


def test_the_picture_has_a_bar_for_each_figure_and_says_who_fails() -> None:
    text = shown.picture(_drawn(failed={"peer": {"exec": "it died"}}), SCENARIOS, str.upper)
    assert "a keystroke there and back: p99: ARGOTUN 2.00 ms; DIRECT 1.00 ms; PEER fails." in text
    assert "hub killed: away for: ARGOTUN 2.00 s; DIRECT 1.00 s." in text
    assert text.count('class="ours"') == len(shown.DRAWN)


def test_a_kept_run_is_drawn_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "kept", lambda name: _drawn() if name == "scenarios" else None)
    assert shown.PICTURE in pages.pictures()
    assert f"(pictures/{shown.PICTURE})" in pages.blocks()[pages.BENCHMARK]["scenarios"]
    monkeypatch.setattr(results, "kept", lambda _: None)
    assert shown.PICTURE not in pages.pictures()


def test_without_a_kept_run_the_document_says_so_and_no_figure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read = results.read
    monkeypatch.setattr(results, "kept", lambda _: None)
    monkeypatch.setattr(results, "read", read)
    block = pages.blocks()[pages.BENCHMARK]["scenarios"]
    assert block == "No run of them is kept. `make scenarios` makes one.\n"
    monkeypatch.undo()
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    assert results.kept("scenarios") is None


def test_a_kept_run_has_only_figures_that_a_scenario_of_today_explains() -> None:
    record = results.kept("scenarios") or {"subjects": {}}
    known = {f"{scenario.name}.{row.key}" for scenario in SCENARIOS for row in scenario.rows}
    assert {key for figures in record["subjects"].values() for key in figures} <= known
