"""A kept run of the scenarios as Markdown: pure functions of the record."""

from collections.abc import Callable, Iterator, Sequence

from bench.results import Record
from bench.scenarios.scene import Row, Scenario

COMMAND = "make scenarios"
"""What keeps a run."""

FAILS, NOT_MEASURED = "fails", "–"


def block(record: Record | None, scenarios: Sequence[Scenario], head: Callable[[str], str]) -> str:
    """What docs/benchmark.md shows; `head` says how a subject is called there."""
    if record is None:
        return f"No run of them is kept. `{COMMAND}` makes one.\n"
    return "\n".join(
        [*table(record, scenarios, head), "", *_notes(record, scenarios, head), *_origin(record), ""]
    )


def table(record: Record, scenarios: Sequence[Scenario], head: Callable[[str], str]) -> Iterator[str]:
    """A line that names each scenario, and below it one for each figure that anybody has."""
    names = _ordered(record["subjects"])
    numbers = {place: number for number, place in enumerate(_places(record, scenarios), 1)}
    yield f"| | {' | '.join(map(head, names))} |"
    yield f"|---|{'---:|' * len(names)}"
    for scenario in scenarios:
        marks = {
            name: f"{word} ({numbers[kept, scenario.name, name]})"
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
            yield _line(row.label, ["" if each is None else f"{each:,.{row.decimals}f}" for each in values])


_KINDS = {"failed": FAILS, "not_measured": NOT_MEASURED}
"""Where a record keeps what has no figures, and what stands in their place."""


def _places(record: Record, scenarios: Sequence[Scenario]) -> list[tuple[str, str, str]]:
    """Kind, scenario and subject of each note, in the order of the table."""
    return [
        (kept, scenario.name, name)
        for scenario in scenarios
        for name in _ordered(record["subjects"])
        for kept in _KINDS
        if scenario.name in record[kept].get(name, ())
    ]


def _notes(record: Record, scenarios: Sequence[Scenario], head: Callable[[str], str]) -> Iterator[str]:
    for number, (kept, scenario, name) in enumerate(_places(record, scenarios), 1):
        yield f"{number}. {head(name)}: {record[kept][name][scenario]}"


def _origin(record: Record) -> Iterator[str]:
    machine = record["machine"]
    versions = ", ".join(f"{name} {value}" for name, value in record["versions"].items())
    yield ""
    yield (
        f"Measured on {record['when'][:10]}, on {machine['processors']} processors ({machine['processor']}, "
        f"Linux {machine['kernel']}) with a load of {machine['load before']} before; "
        f"Python {machine['python']}, gevent {machine['gevent']}, nginx {machine['nginx']}, "
        f"OpenSSL {machine['OpenSSL']}, {versions}; commit {machine['commit']}."
    )


def _anybody_has(record: Record, scenario: Scenario, row: Row) -> bool:
    return any(f"{scenario.name}.{row.key}" in figures for figures in record["subjects"].values())


def _ordered(subjects: Record) -> list[str]:
    """argotun, then all others as they were measured."""
    return sorted(subjects, key=lambda name: name != "argotun")


def _line(first: str, cells: Sequence[str]) -> str:
    return f"| {first} |{''.join(f' {cell} |' if cell else ' |' for cell in cells)}"
