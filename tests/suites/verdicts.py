"""What a suite said of each of its tests, and where two runs of it differ; pure.

A suite is run directly and through argotun. What is asked of argotun is the same verdict for each test,
whichever that is: a test that fails both ways says nothing of it.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from xml.etree import ElementTree

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"

_GO = re.compile(r"^--- (PASS|FAIL|SKIP): (\S+) \((\d+\.\d+)s\)$", re.MULTILINE)
_GO_STATES = {"PASS": PASSED, "FAIL": FAILED, "SKIP": SKIPPED}
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_SECOND = 1e9  # Ginkgo counts in nanoseconds


class Outcome(NamedTuple):
    """The verdict on one test, the seconds that it took, and what the suite said of a failure."""

    state: str
    seconds: float
    said: str = ""


Outcomes = Mapping[str, Outcome]


class Difference(NamedTuple):
    """A test on which two runs do not agree; None stands for a run that has no such test."""

    name: str
    direct: Outcome | None
    through: Outcome | None

    def __str__(self) -> str:
        states = [each.state if each else "absent" for each in (self.direct, self.through)]
        said = "".join(f"\n    {each.said}" for each in (self.direct, self.through) if each and each.said)
        return f"{self.name}: {states[0]} directly, {states[1]} through argotun{said}"


class Counts(NamedTuple):
    """How a run went, and the seconds of what passed in it."""

    passed: int
    failed: int
    skipped: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped, {self.seconds:.0f} s"


def listed(text: str) -> list[str]:
    """The tests of a list, one a line, with remarks behind #."""
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def of_ginkgo(report: str) -> dict[str, Outcome]:
    """The tests of a report by --ginkgo.json-report that were chosen to run, by their full names."""
    found = {}
    for suite in json.loads(report):
        for spec in suite["SpecReports"] or []:
            # What was not chosen is there as well, as skipped, and without a word of why.
            if spec["LeafNodeType"] == "It" and (spec["State"] != SKIPPED or _said(spec)):
                name = " ".join([*(spec["ContainerHierarchyTexts"] or []), spec["LeafNodeText"]])
                state = spec["State"] if spec["State"] in (PASSED, SKIPPED, "pending") else FAILED
                found[name] = Outcome(
                    SKIPPED if state == "pending" else state, spec["RunTime"] / _SECOND, _said(spec)
                )
    return found


def setup_failures(report: str) -> list[str]:
    """What went wrong before and after the tests of such a report; no verdict counts where there is any."""
    return [
        f"{spec['LeafNodeType']}: {_said(spec)}"
        for suite in json.loads(report)
        for spec in suite["SpecReports"] or []
        if spec["LeafNodeType"] != "It" and spec["State"] not in (PASSED, SKIPPED)
    ]


def of_go(output: str) -> dict[str, Outcome]:
    """The tests of what a test binary of Go prints with -test.v, without their parts."""
    return {
        found[2]: Outcome(_GO_STATES[found[1]], float(found[3]))
        for found in _GO.finditer(output)
        if "/" not in found[2]
    }


def of_junit(report: str) -> dict[str, Outcome]:
    """The cases of a report in JUnit's XML, by their names."""
    found = {}
    # What a program printed may hold what no XML may.
    for case in ElementTree.fromstring(_UNPRINTABLE.sub("", report)).iter("testcase"):
        failure = case.find("failure")
        state, said = (PASSED, "") if failure is None else (FAILED, (failure.text or "").strip()[-500:])
        found[case.attrib["name"]] = Outcome(state, float(case.attrib["time"]), said)
    return found


def counts(outcomes: Outcomes) -> Counts:
    """How a run went."""
    states = [each.state for each in outcomes.values()]
    seconds = sum(each.seconds for each in outcomes.values() if each.state == PASSED)
    return Counts(states.count(PASSED), states.count(FAILED), states.count(SKIPPED), seconds)


def differences(direct: Outcomes, through: Outcomes) -> list[Difference]:
    """The tests whose verdicts differ, by name."""
    return [
        Difference(name, direct.get(name), through.get(name))
        for name in sorted({*direct, *through})
        if name not in direct or name not in through or direct[name].state != through[name].state
    ]


def unexplained(found: Iterable[Difference], explained: Iterable[str]) -> list[Difference]:
    """Those differences whose tests are not in the list of explained ones."""
    known = frozenset(explained)
    return [each for each in found if each.name not in known]


def seconds_in_both(direct: Outcomes, through: Outcomes) -> tuple[float, float]:
    """The seconds of what passed in both runs: in the one, and in the other."""
    both = [
        (direct[name].seconds, through[name].seconds)
        for name in direct.keys() & through.keys()
        if direct[name].state == through[name].state == PASSED
    ]
    return sum(each[0] for each in both), sum(each[1] for each in both)


def _said(spec: dict[str, Any]) -> str:
    return str((spec.get("Failure") or {}).get("Message", ""))[:500]
