"""A small GET beside what makes tunnels unusable: large bodies, and readers that take little or nothing."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from bench import probe
from bench.fairness import LOG_RATE, Background, Reader
from bench.probe import RATE
from bench.scenarios.grounds import SPARING
from bench.scenarios.scene import Figures, Row, Scenario, Stage, costs, cpu_rows
from bench.upstream import BULK

LOOK, PATIENCE = 0.5, 10.0
"""Seconds of each look whether anything still moves, and after which it counts as it is."""

_ROWS = (Row("p50", "p50 ms", 2), Row("p99", "p99 ms", 2), Row("worst", "worst ms"))


def _probed(stage: Stage) -> tuple[Figures, int]:
    """GETs at a steady rate, by a process of their own; and how many there were."""
    ca, seconds = stage.ground.certificates.ca, stage.effort.seconds + 1
    found = probe.run(f"{stage.running.url}/small", ca, seconds)
    figures = {"p50": 1e3 * found.p50, "p99": 1e3 * found.p99, "worst": 1e3 * found.worst}
    return figures, found.count


def _alone(stage: Stage) -> Figures:
    meter = stage.meter()
    found, count = _probed(stage)
    return found | costs(meter.stop(), count, 1e6)


def _beside_bulk(stage: Stage) -> Figures:
    """The large body again and again, so that its cost can be told; that of the GETs is small beside it."""
    meter = stage.meter()
    with Background(stage.running.url, stage.ground.certificates.ca, []) as background:
        time.sleep(0.5)
        found, _ = _probed(stage)
        found["rate"] = background.stop()
        return found | costs(meter.stop(), background.transfers * BULK / 100e6, 1e3)


def _beside_logs(stage: Stage) -> Figures:
    with _readers(stage, 2, LOG_RATE) as slow, _readers(stage, 1) as stalled:
        logs = [*slow, *stalled]
        for reader in logs:
            reader.begin()
        meter = stage.meter()
        with Background(stage.running.url, stage.ground.certificates.ca, logs, lists=0) as background:
            found, count = _probed(stage)
            background.stop()
        return found | costs(meter.stop(), count, 1e6)


def _beside_stalled(stage: Stage) -> Figures:
    with _readers(stage, stage.effort.streams) as stalled:
        for reader in stalled:
            reader.begin()
        _settle(stage)
        return _alone(stage)


def _settle(stage: Stage) -> None:
    """Wait until buffers are full and nothing moves any more, or for as long as patience lasts."""
    deadline = time.monotonic() + PATIENCE
    busy = True
    while busy and time.monotonic() < deadline:
        meter = stage.meter()
        time.sleep(LOOK)
        used = meter.stop().by_process
        busy = sum(seconds for name, seconds in used.items() if name != "driver") > LOOK / 10


@contextmanager
def _readers(stage: Stage, count: int, rate: int = 0) -> Iterator[list[Reader]]:
    """Connections with a live stream and nothing on its way; `rate` bytes/s is what each will take."""
    with ExitStack() as stack:
        readers = []
        for _ in range(count):
            readers.append(Reader(stage.running.url, stage.ground.certificates.ca, rate))
            stack.callback(readers[-1].close)
            readers[-1].idle()
        yield readers


def _scenario(name: str, says: str, measure: Callable[[Stage], Figures], *rows: Row) -> Scenario:
    says = f"GET of 1 KiB, {RATE:.0f}/s, {says}"
    return Scenario(name, says, (*_ROWS, *rows), measure, SPARING)


SCENARIOS = (
    _scenario("alone", "alone", _alone, *cpu_rows("µs/request")),
    _scenario(
        *("beside-bulk", "beside 200 MB down, again and again", _beside_bulk),
        *(Row("rate", "MB/s of the body", more_is_better=True), *cpu_rows("ms/100 MB")),
    ),
    _scenario(
        *("beside-logs", "beside three logs, two read at 1 KiB/s and one not at all", _beside_logs),
        *cpu_rows("µs/request"),
    ),
    _scenario(
        *("beside-stalled", "beside 1,000 downloads that nobody reads", _beside_stalled),
        *cpu_rows("µs/request"),
    ),
)
