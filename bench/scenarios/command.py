"""`python -m bench --scenario NAME`: measures, prints the table, and keeps it where asked to."""

import argparse
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, replace

from bench import machine, report, results
from bench.client import Client
from bench.peers import programs
from bench.scenarios import choose, grounds, shown
from bench.scenarios.runner import Outcome, Runner
from bench.scenarios.scene import FULL, SHORT, Scenario, Stage
from bench.site import Site
from bench.subject import Subject

WARM = 0.5
"""Seconds of requests before anything is measured."""

SUBJECTS = ("direct", "argotun")
"""Who is measured beside the peers where nobody is named: argotun as it is installed, in one form."""


def run(site: Site, files: int, chosen: Sequence[Subject], options: argparse.Namespace) -> int:
    """0, since what fails is a result as well."""
    described = machine.describe()
    scenarios = choose(options.scenario)
    effort = SHORT if options.quick else replace(FULL, rounds=options.rounds)
    outcome = Runner(grounds.grounds(site, files), chosen, effort, warm_up).run(scenarios)
    record = {"machine": described, **_record(outcome, scenarios, chosen), "effort": asdict(effort)}
    print(_lined_up(shown.table(record, scenarios, str)))
    print("\n" + ", ".join(f"{name} {value}" for name, value in described.items()))
    for kept in ("failed", "not_measured"):
        for name, whys in record[kept].items():
            for scenario, why in whys.items():
                print(f"{kept.replace('_', ' ').upper()} {scenario}: {name}: {why}")
    if options.json:
        results.write(options.json, record.pop("machine"), **record)
    return 0


def warm_up(stage: Stage) -> None:
    """Requests for a moment: code is loaded late, and memory costs the first time that it is touched."""
    over = time.monotonic() + WARM
    with Client(f"{stage.running.url}/small", stage.ground.certificates.ca) as client:
        while time.monotonic() < over:
            client.get()


def _record(outcome: Outcome, scenarios: Sequence[Scenario], chosen: Sequence[Subject]) -> results.Record:
    return {
        "subjects": outcome.subjects,
        "failed": outcome.failed,
        "not_measured": outcome.not_measured,
        "spread": outcome.spread,
        "scenarios": {scenario.name: scenario.says for scenario in scenarios},
        "says": {subject.name: subject.says for subject in chosen},
        "versions": versions([subject.name for subject in chosen]),
    }


def versions(subjects: Sequence[str]) -> dict[str, str]:
    """Of what `bench.machine` does not name."""
    # wrk says it when asked for a thing that it does not know, and ends with 1.
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True, timeout=10, check=False).stdout
    found = {"wrk": said.split()[1].partition("/")[2]}
    found |= {name: each() for name, each in programs.VERSIONS.items() if name in subjects}
    return found


def _lined_up(lines: Sequence[str]) -> str:
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    return report.lined_up([head, *rows], words=(0,))
