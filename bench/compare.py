"""`python -m bench.compare BASE`: an older commit and this tree in turn, and what differs by more than noise.

Both stand at the same time and each round asks both, so that whatever the machine does meets both. A figure's
pairs, one for each round, say whether a difference is real: where all lie on the same side and their median
is beyond TRIFLE, chance would have it so once in 2^(rounds-1) (the sign test); anything else is noise.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import certificates, history, report, subjects, upstream
from bench.errors import BenchError
from bench.run import Plan, Run
from bench.site import Site
from bench.subject import Ground

ROUNDS = 8
TRIFLE = 0.03
"""Share below which a difference is nobody's concern, however sure it is."""

FIGURES = (
    ("cpu_server_64", "CPU µs/request, c=64: server", False),
    ("cpu_agent_64", "CPU µs/request, c=64: agent", False),
    ("cpu_together_64", "CPU µs/request, c=64: both", False),
    ("rate_64", "1 KiB, c=64: requests/s", True),
    ("p50_1", "1 KiB, c=1: p50 ms", False),
    ("down_rate", "200 MB down: MB/s", True),
    ("down_cpu_together", "200 MB down: CPU ms/100 MB", False),
    ("up_rate", "200 MB up: MB/s", True),
    ("up_cpu_together", "200 MB up: CPU ms/100 MB", False),
)
"""What is compared: key, words, and whether more is better."""


@dataclass(frozen=True)
class Difference:
    """Of one figure: the medians, the median of the rounds' factors (now / base), and what it means."""

    base: float
    now: float
    factor: float
    verdict: str


def main(argv: Sequence[str] | None = None) -> int:
    """0 where nothing is slower beyond noise, 1 where something is or the run failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__.splitlines()[0])
    parser.add_argument("base", metavar="BASE", help="a commit of this clone")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="pairs for each figure (%(default)s)")
    options = parser.parse_args(argv)
    if options.rounds < 2:
        parser.error("--rounds is at least 2: one pair says nothing of noise")
    try:
        found, others = measure(options.base, options.rounds)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(table(found, options.base))
    print(f"\nother programs took {others:.0%} of the machine; {options.rounds} rounds")
    return int(any(each.verdict == "slower" for each in found.values()))


def measure(base: str, rounds: int) -> tuple[dict[str, Difference], float]:
    """The differences by key, and the median share of the machine that others had."""
    with checkout(base) as program, Site() as site:
        made = certificates.make(site.folder)
        ground = Ground(site, upstream.start(site, made, 4096), made)
        pair = [each for each in subjects.available(program) if each.name in ("against", "argotun")]
        plan = Plan(seconds=2, rounds=rounds, streams=0, bulk=True, connections=(1, 64))
        outcome = Run(ground, plan).measure(pair)
    if outcome.failed:
        raise BenchError("; ".join(outcome.failed))
    old, new = outcome.rounds["against"], outcome.rounds["argotun"]
    found = {key: compare(old[key], new[key], more) for key, _, more in FIGURES}
    return found, outcome.others[0]


def compare(base: Sequence[float], now: Sequence[float], more_is_better: bool) -> Difference:
    """Judge the rounds of one figure, pair by pair."""
    factors = [after / before for before, after in zip(base, now, strict=True)]
    factor = median(factors)
    sided = all(each > 1 for each in factors) or all(each < 1 for each in factors)
    if not sided or abs(factor - 1) <= TRIFLE:
        verdict = "noise"
    else:
        verdict = "faster" if (factor > 1) == more_is_better else "slower"
    return Difference(median(base), median(now), factor, verdict)


def table(found: dict[str, Difference], base: str) -> str:
    """A line for each figure."""
    lines = [["", base, "now", "factor", ""]]
    for key, words, _ in FIGURES:
        one = found[key]
        lines.append([words, f"{one.base:.2f}", f"{one.now:.2f}", f"{one.factor:.2f}", one.verdict])
    return report.lined_up(lines, words=(0, 4))


@contextmanager
def checkout(base: str) -> Iterator[Path]:
    """The program of a commit, in a folder that is gone afterwards; BenchError for one that is not there."""
    with tempfile.TemporaryDirectory(prefix="argotun-base-") as folder:
        yield history.unpack(base, Path(folder)) / "argotun.py"


if __name__ == "__main__":
    raise SystemExit(main())
