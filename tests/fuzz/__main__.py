"""Fuzz the wire, guided by coverage: python -m tests.fuzz [--seconds 7] [--keep] [TARGET…]

Each target runs by itself, from the seeds of its module, the corpus in the repository and what earlier runs
here have found (build/fuzz). An input that breaks a promise is left there too, and its path is printed; with
`--replay FILE` it is tried once more, without atheris. `--keep` puts into the repository's corpus what
reaches code that it did not reach before.
"""

import argparse
import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tests.conftest
from tests.fuzz.keep import worth_keeping
from tests.fuzz.targets import TARGETS

assert tests.conftest, "what the tests' modules expect to have been imported"

HERE = Path(__file__).parent
FOUND = HERE.parents[1] / "build" / "fuzz"
LIMITS = ("-max_len=512", "-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1")


def prepared(name: str, seeds: list[bytes]) -> Path:
    """The folder that a run of this target begins with and adds to."""
    folder = FOUND / name / "corpus"
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / hashlib.sha256(seed).hexdigest()[:40]).write_bytes(seed)
    return folder


def fuzz(name: str, *arguments: str) -> tuple[int, str]:
    """Run one target; the exit code, and what libFuzzer has said."""
    command = [sys.executable, "-m", "tests.fuzz.one", name, f"-artifact_prefix={FOUND / name}/", *LIMITS]
    done = subprocess.run([*command, *arguments], capture_output=True, check=False)
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


def summary(said: str) -> str:
    """How much was tried, and how much of the code was reached."""
    figures = [line for line in said.splitlines() if line.startswith("stat::number_of_executed_units")]
    cover = [word for line in said.splitlines() if "cov: " in line for word in [line.split("cov: ")[1]]]
    return (
        f"{figures[0].split()[-1] if figures else 0} inputs, coverage {cover[-1].split()[0] if cover else 0}"
    )


def main() -> int:
    """1 when any target found something."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=7, help="for each target")
    parser.add_argument("--jobs", type=int, default=2, help="targets at once")
    parser.add_argument("--keep", action="store_true", help="add to the corpus in the repository")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try one input on the one TARGET")
    options = parser.parse_args()
    if options.replay:
        TARGETS[options.targets[0]].check(options.replay.read_bytes())
        print("it holds")
        return 0

    def run(name: str) -> bool:
        kept = HERE / "corpus" / name
        kept.mkdir(parents=True, exist_ok=True)
        folder = prepared(name, TARGETS[name].seeds())
        code, said = fuzz(name, f"-max_total_time={options.seconds}", str(folder), str(kept))
        print(f"{name}: {summary(said) if not code else 'FOUND SOMETHING'}", flush=True)
        if code:
            print("\n".join(said.splitlines()[-60:]), flush=True)
        elif options.keep:
            check = TARGETS[name].check
            known = [*TARGETS[name].seeds(), *(path.read_bytes() for path in kept.iterdir())]
            for data in worth_keeping(check, known, [path.read_bytes() for path in folder.iterdir()]):
                (kept / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        return code == 0

    with ThreadPoolExecutor(options.jobs) as pool:
        return 0 if all(list(pool.map(run, options.targets or TARGETS))) else 1


if __name__ == "__main__":
    sys.exit(main())
