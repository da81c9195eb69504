"""Requests of Argo CD's kinds, as many as can be had, by wrk."""

from pathlib import Path

from bench import wrk
from bench.errors import BenchError
from bench.scenarios.scene import Figures, Row, Scenario, Stage, costs, cpu_rows

POST = str(Path(__file__).with_name("post.lua"))

_ROWS = (
    Row("rate", "requests/s", 0, more_is_better=True),
    Row("p50", "p50 ms", 2),
    Row("p99", "p99 ms", 2),
    *cpu_rows("µs/request"),
)


def _scenario(name: str, says: str, path: str, connections: int, *options: str) -> Scenario:
    def measure(stage: Stage) -> Figures:
        meter = stage.meter()
        result = wrk.run(f"{stage.running.url}/{path}", connections, stage.effort.seconds, *options)
        cpu = meter.stop()
        if result.errors or not result.requests:
            raise BenchError(
                f"{result.errors:,} requests failed beside {result.requests:,} that were answered"
            )
        figures = {"rate": result.rate, "p50": 1e3 * result.p50, "p99": 1e3 * result.p99}
        return figures | costs(cpu, result.requests, 1e6)

    return Scenario(name, says, _ROWS, measure, rounds=2)


SCENARIOS = (
    _scenario("small", "GET of 1 KiB, 16 kept connections", "small", 16),
    _scenario(
        *("new", "GET of 1 KiB, a new connection for each, 16 at a time", "small", 16),
        *("-H", "Connection: close"),
    ),
    _scenario("post", "POST of 4 KiB, 16 kept connections", "post", 16, "-s", POST),
    _scenario("list", "GET of 1 MiB, 4 kept connections", "list", 4),
)
