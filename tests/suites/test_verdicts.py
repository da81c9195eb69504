"""Reports of three kinds become verdicts, and two runs are compared test by test."""

import json

from tests.suites import e2e
from tests.suites.verdicts import (
    FAILED,
    PASSED,
    SKIPPED,
    Counts,
    Outcome,
    counts,
    differences,
    listed,
    of_ginkgo,
    of_go,
    of_junit,
    seconds_in_both,
    setup_failures,
    unexplained,
)


def spec(text: str, state: str, message: str = "", kind: str = "It") -> dict[str, object]:
    return {
        "ContainerHierarchyTexts": ["[sig-x] Thing"],
        "LeafNodeType": kind,
        "LeafNodeText": text,
        "State": state,
        "RunTime": 1_500_000_000,
        **({"Failure": {"Message": message}} if message else {}),
    }


def report(*specs: dict[str, object]) -> str:
    return json.dumps([{"SpecReports": list(specs)}, {"SpecReports": None}])


def test_a_spec_of_ginkgo_has_its_whole_name_and_its_seconds() -> None:
    assert of_ginkgo(report(spec("works", "passed"))) == {"[sig-x] Thing works": Outcome(PASSED, 1.5)}


def test_every_bad_end_of_a_spec_is_a_failure() -> None:
    states = ("failed", "panicked", "timedout", "interrupted", "aborted")
    found = of_ginkgo(report(*(spec(state, state, "why") for state in states)))
    assert {each.state for each in found.values()} == {FAILED}
    assert len(found) == len(states)


def test_a_spec_that_was_not_chosen_is_no_verdict() -> None:
    chosen = of_ginkgo(report(spec("a", "skipped"), spec("b", "skipped", "needs two nodes")))
    assert {name: each.state for name, each in chosen.items()} == {"[sig-x] Thing b": SKIPPED}


def test_what_fails_before_the_specs_is_told_apart() -> None:
    broken = report(spec("", "failed", "no nodes", kind="BeforeSuite"), spec("a", "passed"))
    assert setup_failures(broken) == ["BeforeSuite: no nodes"]
    assert setup_failures(report(spec("a", "failed", "why"))) == []


def test_tests_of_go_are_read_without_their_parts() -> None:
    output = """\
=== RUN   TestOne
    --- PASS: TestOne/part (0.01s)
--- PASS: TestOne (0.02s)
--- FAIL: TestTwo (1.00s)
--- SKIP: TestThree (0.00s)
FAIL
"""
    assert of_go(output) == {
        "TestOne": Outcome(PASSED, 0.02),
        "TestTwo": Outcome(FAILED, 1.0),
        "TestThree": Outcome(SKIPPED, 0.0),
    }


def test_cases_of_junit_fail_with_what_they_said() -> None:
    text = """<testsuites><testsuite>
      <testcase name="run_a" time="2.5"/>
      <testcase name="run_b" time="1"><failure type="ScriptError"><![CDATA[
not\x1b found
]]></failure></testcase></testsuite></testsuites>"""
    assert of_junit(text) == {"run_a": Outcome(PASSED, 2.5), "run_b": Outcome(FAILED, 1.0, "not found")}


def test_the_same_verdict_is_no_difference_whichever_it_is() -> None:
    direct = {"a": Outcome(PASSED, 1), "b": Outcome(FAILED, 1, "x"), "c": Outcome(SKIPPED, 0)}
    through = {"a": Outcome(PASSED, 9), "b": Outcome(FAILED, 2, "y"), "c": Outcome(SKIPPED, 0)}
    assert differences(direct, through) == []


def test_another_verdict_or_none_at_all_is_a_difference() -> None:
    direct = {"a": Outcome(PASSED, 1), "b": Outcome(FAILED, 1), "c": Outcome(PASSED, 1)}
    through = {"a": Outcome(FAILED, 1, "502"), "b": Outcome(PASSED, 1), "d": Outcome(PASSED, 1)}
    found = differences(direct, through)
    assert [each.name for each in found] == ["a", "b", "c", "d"]
    assert str(found[0]) == "a: passed directly, failed through argotun\n    502"
    assert str(found[2]) == "c: passed directly, absent through argotun"


def test_a_list_has_a_test_a_line_and_remarks() -> None:
    assert listed("# why\n[sig-x] a # b\n\nc\n") == ["[sig-x] a # b", "c"]


def test_each_explained_spec_is_one_that_runs_and_none_runs_twice() -> None:
    specs = listed(e2e.LIST.read_text())
    assert specs == sorted(set(specs))
    assert set(listed(e2e.EXPLAINED.read_text())) <= set(specs)


def test_only_differences_that_are_listed_are_explained() -> None:
    found = differences({"a": Outcome(PASSED, 1), "b": Outcome(PASSED, 1)}, {})
    assert [each.name for each in unexplained(found, ["a", "z"])] == ["b"]


def test_times_are_compared_for_what_passed_in_both() -> None:
    direct = {"a": Outcome(PASSED, 1), "b": Outcome(PASSED, 10), "c": Outcome(FAILED, 100)}
    through = {"a": Outcome(PASSED, 2), "b": Outcome(FAILED, 20), "c": Outcome(FAILED, 200)}
    assert seconds_in_both(direct, through) == (1, 2)
    assert counts(direct) == Counts(2, 1, 0, 11)
