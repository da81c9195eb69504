"""The table: one row per figure, one column per subject, and beside argotun's the aim.

It is a Markdown table with its columns lined up, so that it reads in a terminal and in a document.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from bench.figures import Figures

JUDGED = "argotun"  # the subject that the aims are about


@dataclass(frozen=True)
class Aim:
    """A bound for one figure of argotun; `at_least` is a lower bound, else it is an upper one."""

    bound: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether the value keeps to the bound."""
        return value >= self.bound if self.at_least else value <= self.bound

    def verdict(self, value: float | None) -> str:
        """The bound, and `met` or by how much of the bound it is missed."""
        words = f"{'≥' if self.at_least else '≤'} {self.bound:g}"
        if value is None:
            return words
        if self.met(value):
            return f"{words} met"
        return f"{words} MISSED by {100 * abs(value - self.bound) / self.bound:.0f} %"


@dataclass(frozen=True)
class Row:
    """A line of the table: which figure, what it is, how many decimals."""

    key: str
    label: str
    decimals: int = 0
    aim: Aim | None = None


def _request_rows(connections: int) -> Iterable[Row]:
    what = f"1 KiB, c={connections}"
    yield Row(f"rate_{connections}", f"{what}: requests/s")
    yield Row(f"rate_{connections}_of_direct", f"{what}: % of direct")
    yield Row(f"p50_{connections}", f"{what}: p50 ms", 2, Aim(0.35) if connections == 1 else None)
    yield Row(f"p99_{connections}", f"{what}: p99 ms", 2)


def _cpu_rows(connections: int) -> Iterable[Row]:
    for name, label in PROCESSES:
        aim = Aim(80) if (name, connections) == ("together", 64) else None
        yield Row(f"cpu_{name}_{connections}", f"CPU µs/request, c={connections}: {label}", 1, aim)


def _bulk_rows(direction: str) -> Iterable[Row]:
    what = f"200 MB {direction}"
    yield Row(f"{direction}_rate", f"{what}: MB/s")
    yield Row(f"{direction}_rate_of_direct", f"{what}: % of direct", 0, Aim(30, at_least=True))
    yield Row(f"{direction}_rate_of_local", f"{what}: % of argotun")
    for name, label in PROCESSES:
        yield Row(f"{direction}_cpu_{name}", f"{what}: CPU ms/100 MB, {label}")


PROCESSES = (
    ("server", "server, with the agent"),
    ("ingress", "replica, with the clients"),
    ("replicas", "both replicas"),
    ("agent", "agent"),
    ("together", "servers + agent"),
    ("upstream", "nginx"),
)

ROWS: tuple[Row, ...] = (
    *(row for connections in (1, 16, 64) for row in _request_rows(connections)),
    *_cpu_rows(64),
    *(row for direction in ("down", "up") for row in _bulk_rows(direction)),
    Row("cpu_together_64_of_floor", "CPU/request, c=64: times nginx-hops", 2, Aim(1.3)),
    Row("p50_1_of_floor", "p50, c=1: times nginx-hops", 2, Aim(1.5)),
    Row("p99_64_of_floor", "p99, c=64: times nginx-hops", 2, Aim(2)),
    Row("down_rate_of_floor", "200 MB down: times nginx-hops", 2, Aim(1, at_least=True)),
    Row("up_rate_of_floor", "200 MB up: times nginx-hops", 2, Aim(1, at_least=True)),
    Row("rss_peak_server", "RSS MiB: server, peak"),
    Row("rss_after_server", "RSS MiB: server, after the load"),
    Row("rss_peak_agent", "RSS MiB: agent, peak"),
    Row("rss_after_agent", "RSS MiB: agent, after the load"),
    Row("idle_server", "KiB per idle stream (USS): server", 1, Aim(14)),
    Row("idle_agent", "KiB per idle stream (USS): agent", 1, Aim(34)),
    Row("idle_connections", "idle streams: connections at the API"),
    Row("errors", "requests that failed"),
)


def table(subjects: dict[str, Figures]) -> str:
    """The table of all figures that were measured; a row that nobody has is left out."""
    judged = subjects.get(JUDGED, {})
    with_aims = bool(judged)
    lines = [["", *subjects, *(["aim for argotun"] if with_aims else [])]]
    for row in ROWS:
        if not any(row.key in figures for figures in subjects.values()):
            continue
        cells = [_cell(row, figures.get(row.key)) for figures in subjects.values()]
        if with_aims:
            cells.append(row.aim.verdict(judged.get(row.key)) if row.aim else "")
        lines.append([row.label, *cells])
    return lined_up(lines, words=(0, len(lines[0]) - 1) if with_aims else (0,))


def aims(subjects: dict[str, Figures]) -> list[dict[str, object]]:
    """Each aim with what was measured, for the JSON file."""
    judged = subjects.get(JUDGED, {})
    return [
        {
            "key": row.key,
            "what": row.label,
            "bound": row.aim.bound,
            "at_least": row.aim.at_least,
            "value": judged[row.key],
            "met": row.aim.met(judged[row.key]),
        }
        for row in ROWS
        if row.aim is not None and row.key in judged
    ]


def _cell(row: Row, value: float | None) -> str:
    return "" if value is None else f"{value:,.{row.decimals}f}"


def lined_up(lines: list[list[str]], words: tuple[int, ...]) -> str:
    """Markdown with equal widths; the columns in `words` are left-aligned, figures right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rule = [
        "-" * width if column in words else "-" * (width - 1) + ":" for column, width in enumerate(widths)
    ]
    drawn = []
    for line in [lines[0], rule, *lines[1:]]:
        cells = (
            cell.ljust(width) if column in words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        drawn.append(f"| {' | '.join(cells)} |")
    return "\n".join(drawn)
