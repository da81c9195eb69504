"""From what was measured to the figures of the table: pure functions, no load.

The figures of one subject are a flat dict, key -> number; `report.ROWS` says what each key means.
"""

from collections.abc import Sequence
from statistics import median

from bench.idle import Idle
from bench.load import Cpu, Requests, Transfer
from bench.procfs import Memory
from bench.upstream import BULK

Figures = dict[str, float]

TUNNEL = ("server", "agent")  # the processes whose cost is argotun's
FLOOR = "nginx-hops"  # the subject that is two proxies in C
OF_FLOOR = ("cpu_together_64", "p50_1", "p99_64", "down_rate", "up_rate")
REPLICAS = ("ingress", "server")  # … and those of a hop


def of_requests(connections: int, runs: Sequence[Requests]) -> Figures:
    """Medians over the rounds; CPU in µs per request from the totals of all rounds."""
    figures = {
        f"rate_{connections}": median(run.result.rate for run in runs),
        f"p50_{connections}": median(run.result.p50 for run in runs) * 1e3,
        f"p99_{connections}": median(run.result.p99 for run in runs) * 1e3,
    }
    requests = sum(run.result.requests for run in runs)
    for name, seconds in _cpu_seconds([run.cpu for run in runs]).items():
        figures[f"cpu_{name}_{connections}"] = seconds * 1e6 / requests
    return figures


def of_transfers(direction: str, runs: Sequence[Transfer]) -> Figures:
    """MB/s as the median over the rounds; CPU in ms per 100 MB from the totals."""
    figures = {f"{direction}_rate": median(run.rate for run in runs) / 1e6}
    hundreds = len(runs) * BULK / 100e6
    for name, seconds in _cpu_seconds([run.cpu for run in runs]).items():
        figures[f"{direction}_cpu_{name}"] = seconds * 1e3 / hundreds
    return figures


def of_memory(memory: dict[str, Memory]) -> Figures:
    """Peak and present RSS in MiB."""
    figures = {}
    for name, now in memory.items():
        figures[f"rss_peak_{name}"] = now.peak / 1024
        figures[f"rss_after_{name}"] = now.rss / 1024
    return figures


def of_idle(idle: Idle) -> Figures:
    """KiB per idle stream, and the connections that the API held for them."""
    figures = {f"idle_{name}": grown / 1024 for name, grown in idle.bytes_per_stream.items()}
    return {**figures, "idle_connections": float(idle.upstream_connections)}


def add_ratios(subjects: dict[str, Figures]) -> None:
    """To each subject, in percent, how its rates stand to the subject `direct` of the same run.

    To `hop` also how its bulk stands to that of `argotun`, whose agent is at the clients' server; to
    `argotun` how it stands to two proxies in C, as a factor.
    """
    local, hop = (subjects.get(name, {}) for name in ("argotun", "hop"))
    for key in ("down_rate", "up_rate"):
        if local.get(key) and hop.get(key):
            hop[f"{key}_of_local"] = 100 * hop[key] / local[key]
    floor = subjects.get(FLOOR, {})
    for key in OF_FLOOR:
        if local.get(key) and floor.get(key):
            local[f"{key}_of_floor"] = local[key] / floor[key]
    direct = subjects.get("direct")
    if direct is None:
        return
    for name, figures in subjects.items():
        if name == "direct":
            continue
        for key in [key for key in figures if key.startswith("rate_") or key.endswith("_rate")]:
            if direct.get(key):
                figures[f"{key}_of_direct"] = 100 * figures[key] / direct[key]


def spread(values: Sequence[float]) -> float:
    """How far the rounds lie apart: (highest - lowest) / median; 0 for fewer than two."""
    return (max(values) - min(values)) / median(values) if len(values) > 1 else 0.0


def _cpu_seconds(measured: Sequence[Cpu]) -> Figures:
    """Totals by process; argotun's also `together`, and the `replicas` of a hop."""
    names = measured[0].by_process
    totals = {name: sum(cpu.by_process[name] for cpu in measured) for name in names}
    if all(name in totals for name in TUNNEL):
        totals["together"] = sum(totals[name] for name in {*TUNNEL, *REPLICAS} & totals.keys())
    if all(name in totals for name in REPLICAS):
        totals["replicas"] = sum(totals[name] for name in REPLICAS)
    return totals
