"""`python -m bench.argocd`: builds what is missing, measures, prints, ends everything."""

import argparse
import resource
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from bench import machine, results
from bench.argocd import network, shown, standin
from bench.argocd.run import Plan, measure
from bench.errors import BenchError
from bench.run import say
from bench.site import end_on_sigterm
from tests.argocd.harness import program
from tests.e2e.harness import binaries

SPARE_FILES = 4096  # descriptors beside one for each watch


def main(argv: Sequence[str] | None = None) -> int:
    """0 when everything was measured, 1 when something failed, 130 on Ctrl-C."""
    options = _options(argv)
    end_on_sigterm()
    described = machine.describe()
    plan = planned(options)
    try:
        kubernetes, argocd = binaries.find(say), program.find(say)
        built = standin.build()
        # Whatever comes from elsewhere is here: from now on there is nobody else.
        network.enter()
        _raise_file_limit(plan)
        found = measure(kubernetes, argocd, built, plan, options.direct)
    except (BenchError, AssertionError, binaries.MissingError, binaries.UnusableError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    versions = {"Argo CD": program.version(), "Kubernetes": binaries.kubernetes_version()}
    record = {"versions": versions, **found}
    print(shown.table({"directly" if options.direct else "through argotun": record}))
    print(", ".join(f"{name} {value}" for name, value in (versions | described).items()))
    if options.json:
        results.write(options.json, described, **record)
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.argocd",
        description="A real Argo CD, and many clusters of which some are cut off.",
    )
    parser.add_argument("--clusters", type=int, default=Plan.clusters, help="(%(default)s)")
    parser.add_argument(
        "--cut", dest="share", type=float, default=Plan.share, help="share that is cut off (%(default)s)"
    )
    parser.add_argument("--outage", type=float, default=Plan.outage, help="seconds (%(default)s)")
    parser.add_argument(
        "--direct", action="store_true", help="let Argo CD reach the clusters itself, without argotun"
    )
    parser.add_argument(
        "--kinds", type=int, default=Plan.kinds, help="how many kinds each API has; all that Kubernetes has"
    )
    parser.add_argument(
        "--first",
        type=float,
        default=Plan.first,
        help="seconds from the cut to the first commit (%(default)s)",
    )
    parser.add_argument(
        "--every", type=float, default=Plan.every, help="seconds between commits in the outage (%(default)s)"
    )
    parser.add_argument(
        "--calm", type=float, default=Plan.calm, help="seconds before and after the outage (%(default)s)"
    )
    parser.add_argument(
        "--limit", type=float, default=Plan.limit, help="seconds that a commit is waited for (%(default)s)"
    )
    parser.add_argument(
        "--reset",
        dest="vanish",
        action="store_false",
        help="cut off by resets of connections; without it packets vanish",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    options = parser.parse_args(argv)
    if options.clusters < 1 or not 0 <= options.share < 1:
        parser.error("--clusters is at least 1, and --cut from 0 on and below 1")
    return options


def planned(options: argparse.Namespace) -> Plan:
    """What the options ask for."""
    return Plan(**{each.name: getattr(options, each.name) for each in fields(Plan)})


def _raise_file_limit(plan: Plan) -> None:
    """Allow a descriptor for each watch; root may have more than the limit that it was given."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = plan.clusters * (plan.kinds or 60) + SPARE_FILES
    if hard != resource.RLIM_INFINITY and hard < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    elif hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    raise SystemExit(main())
