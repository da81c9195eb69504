"""A kept run of the scenarios as Markdown: pure functions of the record."""

from collections.abc import Callable, Iterator, Sequence

from bench.plot import OTHERS, OURS, Bar, Panel, draw
from bench.results import Record
from bench.scenarios.scene import Row, Scenario

COMMAND = "make scenarios"
"""What keeps a run."""

DIRECT = "direct"
PICTURE = "bench-scenarios.svg"
DRAWN = {
    "first-byte.p50": ("connect to first byte: p50", "ms"),
    "exec.p99": ("a keystroke there and back: p99", "ms"),
    "watches.p99": ("events of 100 watches: p99", "ms"),
    "down-200-mbit-100-ms.rate": ("200 MB down, 200 Mbit/s, 100 ms", "MB/s"),
    "up-200-mbit-100-ms.rate": ("200 MB up, 200 Mbit/s, 100 ms", "MB/s"),
    "beside-bulk.p99": ("GET beside 200 MB: p99", "ms"),
    "beside-stalled.p99": ("GET beside 1,000 stalled: p99", "ms"),
    "killed.away": ("hub killed: away for", "s"),
}
"""The figures that the picture has, each with its title and unit."""

FAILS, NOT_MEASURED = "fails", "–"


def block(record: Record | None, scenarios: Sequence[Scenario], head: Callable[[str], str]) -> str:
    """What docs/benchmark.md shows; `head` says how a subject is called there."""
    if record is None:
        return f"No run of them is kept. `{COMMAND}` makes one.\n"
    drawn = f"![Scenarios beside others: figures of the table below, as bars](pictures/{PICTURE})"
    parts = ([drawn], table(record, scenarios, head), _notes(record, scenarios, head), _origin(record))
    return "\n\n".join(text for part in parts if (text := "\n".join(part))) + "\n"


def picture(record: Record, scenarios: Sequence[Scenario], label: Callable[[str], str]) -> str:
    """The figures of DRAWN as bars; who fails has one of no length, and who was not measured none."""
    rows = {f"{scenario.name}.{row.key}": (scenario, row) for scenario in scenarios for row in scenario.rows}
    panels = []
    for key, (title, unit) in DRAWN.items():
        scenario, row = rows[key]
        bars = []
        for name in _ordered(record["subjects"]):
            kind = OURS if name == "argotun" else OTHERS
            value = record["subjects"][name].get(key)
            if value is not None:
                bars.append(Bar(label(name), value, f"{value:,.{row.decimals}f} {unit}", kind))
            elif scenario.name in record["failed"].get(name, ()):
                bars.append(Bar(label(name), 0.0, FAILS, kind))
        if any(bar.value for bar in bars):
            panels.append(Panel(title, "more is better" if row.more_is_better else "less is better", bars))
    return draw("Scenarios, argotun beside others", "on one machine, in one run", panels, labels=96)


def table(record: Record, scenarios: Sequence[Scenario], head: Callable[[str], str]) -> Iterator[str]:
    """A line that names each scenario, and below it one for each figure that anybody has."""
    names = _ordered(record["subjects"])
    numbers = {reason: number for number, reason in enumerate(_reasons(record, scenarios), 1)}
    yield f"| | {' | '.join(map(head, names))} |"
    yield f"|---|{'---:|' * len(names)}"
    for scenario in scenarios:
        marks = {
            name: f"{word} ({numbers[scenario.name, record[kept][name][scenario.name]]})"
            for kept, word in _KINDS.items()
            for name in names
            if scenario.name in record[kept].get(name, ())
        }
        rows = [row for row in scenario.rows if _anybody_has(record, scenario, row)]
        if rows or marks:
            # What fails has one mark, and its other cells are empty.
            yield _line(f"**{scenario.says}**", [marks.get(name, "") for name in names])
        for row in rows:
            key = f"{scenario.name}.{row.key}"
            values = [record["subjects"][name].get(key) for name in names]
            yield _line(row.label, _cells(values, row))
            direct = record["subjects"].get(DIRECT, {}).get(key)
            if row.over_direct and direct is not None:
                more = [
                    None if value is None or name == DIRECT else value - direct
                    for name, value in zip(names, values, strict=True)
                ]
                yield _line(f"{row.label}, over direct", _cells(more, row))


_KINDS = {"failed": FAILS, "not_measured": NOT_MEASURED}
"""Where a record keeps what has no figures, and what stands in their place."""


def _reasons(record: Record, scenarios: Sequence[Scenario]) -> dict[tuple[str, str], list[str]]:
    """Scenario and why of each note, in the order of the table, with the subjects that it is about."""
    found: dict[tuple[str, str], list[str]] = {}
    for scenario in scenarios:
        for name in _ordered(record["subjects"]):
            if why := _why(record, scenario, name):
                found.setdefault((scenario.name, why), []).append(name)
    return found


def _why(record: Record, scenario: Scenario, subject: str) -> str | None:
    for kept in _KINDS:
        if (why := record[kept].get(subject, {}).get(scenario.name)) is not None:
            return str(why)
    return None


def _notes(record: Record, scenarios: Sequence[Scenario], head: Callable[[str], str]) -> Iterator[str]:
    for number, ((_, why), names) in enumerate(_reasons(record, scenarios).items(), 1):
        yield f"{number}. {', '.join(map(head, names))}: {why}"


def _origin(record: Record) -> Iterator[str]:
    machine = record["machine"]
    versions = ", ".join(f"{name} {value}" for name, value in record["versions"].items())
    yield (
        f"Measured on {record['when'][:10]}, on {machine['processors']} processors ({machine['processor']}, "
        f"Linux {machine['kernel']}) with a load of {machine['load before']} before; "
        f"Python {machine['python']}, gevent {machine['gevent']}, nginx {machine['nginx']}, "
        f"OpenSSL {machine['OpenSSL']}, {versions}; commit {machine['commit']}."
    )


def _cells(values: Sequence[float | None], row: Row) -> list[str]:
    return ["" if value is None else f"{value:,.{row.decimals}f}" for value in values]


def _anybody_has(record: Record, scenario: Scenario, row: Row) -> bool:
    return any(f"{scenario.name}.{row.key}" in figures for figures in record["subjects"].values())


def _ordered(subjects: Record) -> list[str]:
    """argotun, then all others as they were measured."""
    return sorted(subjects, key=lambda name: name != "argotun")


def _line(first: str, cells: Sequence[str]) -> str:
    return f"| {first} |{''.join(f' {cell} |' if cell else ' |' for cell in cells)}"
