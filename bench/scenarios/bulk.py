"""One large body, on loopback and over links; what stands in for a link is `tests/relay.py`."""

from collections.abc import Iterator

from bench import load, machine
from bench.link import Link
from bench.scenarios.scene import STANDARD, Figures, Row, Scenario, Stage, costs, cpu_rows

LIMIT = 25.0
"""Seconds for a body; a link of 200 Mbit/s needs 8 of them."""

LINKS = {
    f"{name}, {1000 * rtt:g} ms": Link(rtt, rate)
    for name, rate in (("1 Gbit/s", 125e6), ("200 Mbit/s", 25e6))
    for rtt in (0.02, 0.1)
}
"""By the name of their ground: a round trip in s, and bytes/s."""


def _scenario(name: str, says: str, direction: str, on: str, rounds: int) -> Scenario:
    def measure(stage: Stage) -> Figures:
        ground = stage.ground
        moved = load.transfer(
            *(stage.running, ground.upstream, machine.processors(), direction),
            *(ground.certificates.ca, LIMIT),
        )
        return {"rate": moved.rate / 1e6} | costs(moved.cpu, load.BULK / 100e6, 1e3)

    rows = (Row("rate", "MB/s", more_is_better=True), *cpu_rows("ms/100 MB"))
    return Scenario(name, f"200 MB {direction}, {says}", rows, measure, on, rounds)


def _all() -> Iterator[Scenario]:
    for direction in ("down", "up"):
        yield _scenario(f"{direction}-loopback", "on loopback", direction, STANDARD, 2)
    for ground in LINKS:
        short = "-".join(word.rstrip(",") for word in ground.replace("/s", "").lower().split())
        for direction in ("down", "up"):
            yield _scenario(f"{direction}-{short}", f"on a link of {ground}", direction, ground, 1)


SCENARIOS = tuple(_all())
