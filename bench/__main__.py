"""`python -m bench`: starts everything on free ports of 127.0.0.1, measures, prints, ends everything."""

import argparse
import os
import resource
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

from bench import certificates, layers, load, machine, peers, profile, report, results, subjects, upstream
from bench.errors import BenchError
from bench.run import FULL, QUICK, Outcome, Run, say
from bench.scenarios import ALL, choose, command
from bench.site import Site
from bench.subject import Ground, Subject

NEEDED = {"nginx": "nginx-light", "wrk": "wrk", "openssl": "openssl"}  # program: Debian package
FILES = 16384  # descriptors wanted; the hard limit where that is lower
SPARE_FILES = 200  # descriptors that a process needs beside one for each idle stream
NOISE = 0.10  # share from which spread or strangers are called out
PROFILE_SECONDS = 10


def main(argv: list[str] | None = None) -> int:
    """0 when everything was measured (aims missed or not), 1 when something failed, 130 on Ctrl-C."""
    options = _options(argv)
    signal.signal(signal.SIGTERM, _end_in_order)
    try:
        _check_programs()
        beside, left_out = peers.at_hand() if options.peers else ([], {})
        for name, why in left_out.items():
            say(f"{name} is left out: {why}")
        names = _names(options)
        if options.scenario and not names:
            names = [*command.SUBJECTS, *(subject.name for subject in beside)]
        chosen = subjects.choose([*subjects.available(options.against), *beside], names)
        files = _raise_file_limit(options.streams)
        with Site() as site:
            if options.scenario:
                return command.run(site, files, chosen, options)
            made = certificates.make(site.folder)
            ground = Ground(site, upstream.start(site, made, files), made)
            if options.profile:
                return _profile(ground, chosen, options)
            return _measure(ground, chosen, options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure argotun beside nginx alone."
    )
    parser.add_argument(
        "--quick", action="store_true", help="argotun alone, a few seconds: a look before and after"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="measure this subject; repeatable"
    )
    parser.add_argument(
        "--against", type=Path, metavar="FILE", help="another clone's argotun.py, in the same table"
    )
    parser.add_argument(
        "--peers", action="store_true", help="what others use beside argotun, as far as it is at hand"
    )
    parser.add_argument(
        "--scenario",
        action="append",
        default=[],
        metavar="NAME",
        help=f"no table: this scenario, or {ALL}; repeatable, with --quick to see that it works",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    parser.add_argument(
        "--rounds", type=int, default=FULL.rounds, help="how often each load is repeated (%(default)s)"
    )
    parser.add_argument(
        "--streams", type=int, default=FULL.streams, help="idle streams (%(default)s; 0: none)"
    )
    parser.add_argument(
        "--profile", choices=["server", "agent"], help="no table: where this process spends its time"
    )
    parser.add_argument(
        "--load", choices=["requests", "down", "up"], default="requests", help="with --profile (%(default)s)"
    )
    parser.add_argument(
        "--folded", type=Path, metavar="FILE", help="with --profile: keep the stacks, for a flame graph"
    )
    options = parser.parse_args(argv)
    if options.rounds < 1 or options.streams < 0:
        parser.error("--rounds is at least 1 and --streams at least 0")
    try:
        choose(options.scenario)
    except BenchError as error:
        parser.error(f"--scenario: {error}")
    if options.against is not None:
        options.against = options.against.resolve()
    return options


def _names(options: argparse.Namespace) -> list[str]:
    if options.only:
        return list(options.only)
    if (options.quick and not options.scenario) or options.profile:
        return ["argotun", "against"] if options.against else ["argotun"]
    return []


def _check_programs() -> None:
    # Debian keeps nginx where only root's PATH leads.
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    missing = {program: package for program, package in NEEDED.items() if shutil.which(program) is None}
    if missing:
        packages = " ".join(sorted(missing.values()))
        raise BenchError(f"{' and '.join(missing)} not found: apt-get install {packages}")


def _raise_file_limit(streams: int) -> int:
    """Allow as many descriptors as can be had, for the children too."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if files < streams + SPARE_FILES:
        raise BenchError(
            f"{streams} idle streams need {streams + SPARE_FILES} descriptors, the limit is {files}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return files


def _measure(ground: Ground, chosen: list[Subject], options: argparse.Namespace) -> int:
    described = machine.describe()
    plan = QUICK if options.quick else replace(FULL, rounds=options.rounds, streams=options.streams)
    outcome = Run(ground, plan).measure(chosen)
    if outcome.subjects:
        print(report.table(outcome.subjects))
        print("\n" + _below(chosen, described, outcome))
    if options.json:
        results.write(
            options.json,
            described,
            subjects=outcome.subjects,
            aims=report.aims(outcome.subjects),
            spread=outcome.spread[0],
            others=outcome.others,
            failed=outcome.failed,
        )
    for failure in outcome.failed:
        print(f"FAILED {failure}")
    return 1 if outcome.failed else 0


def _below(chosen: list[Subject], described: dict[str, object], outcome: Outcome) -> str:
    """What must be known to read the table."""
    width = max(len(subject.name) for subject in chosen)
    lines = [f"{subject.name:{width}}  {subject.says}" for subject in chosen]
    lines.append(", ".join(f"{name} {value}" for name, value in described.items()))
    share, where = outcome.spread
    if share > NOISE:
        lines.append(f"Noise: rounds lie up to {share:.0%} apart ({where}).")
    usual, most = outcome.others
    if most > NOISE:
        lines.append(f"Noise: other programs took {usual:.0%} of the machine, at times {most:.0%}.")
    return "\n".join(lines)


def _profile(ground: Ground, chosen: list[Subject], options: argparse.Namespace) -> int:
    running = chosen[0].start(ground)
    if options.profile not in running.children:
        raise BenchError(f"{chosen[0].name} has no {options.profile}")

    def under_load() -> None:
        if options.load == "requests":
            load.requests(running, ground.upstream, machine.processors(), connections=64, seconds=2)
        else:
            load.transfer(
                running, ground.upstream, machine.processors(), options.load, ground.certificates.ca
            )

    say(f"{chosen[0].name}: {options.profile} under {options.load} for {PROFILE_SECONDS} s")
    folded = options.folded or ground.site.folder / "stacks.folded"
    pid = running.children[options.profile].pid
    shares = layers.record(pid, PROFILE_SECONDS, ground.site.folder / "perf.data", under_load)
    print(layers.table("by layer", shares) if shares else "no table by layer: there is no perf")
    lines = profile.record(pid, PROFILE_SECONDS, folded, under_load)
    print(layers.table("by room, with what it calls", layers.by_room(folded.read_text())))
    print(lines)
    return 0


def _end_in_order(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
