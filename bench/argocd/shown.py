"""What is kept of runs, as a table: one column for each way to the clusters. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from bench.results import Record

WAYS = {"argocd": "through argotun", "argocd-direct": "directly"}
"""The records in bench/results, and what heads their columns."""

Cell = Callable[[Record], str]


def block(kept: Mapping[str, Record | None]) -> str:
    """The table of the runs that were kept, and where they come from."""
    there = {WAYS[name]: record for name, record in kept.items() if record is not None}
    if not there:
        return "Not measured yet.\n"
    return "\n".join([table(there), "", *_origins(there), ""])


def table(records: Mapping[str, Record]) -> str:
    """One row for each figure that one of the runs has."""
    lines = [f"| | {' | '.join(records)} |", f"|---|{'---|' * len(records)}"]
    for label, cell in ROWS.items():
        cells = [cell(record) for record in records.values()]
        if any(cells):
            lines.append(f"| {label} |{''.join(f' {each} |' if each else ' |' for each in cells)}")
    return "\n".join(lines)


def _phase(record: Record, name: str) -> Record:
    (found,) = (phase for phase in record["phases"] if phase["name"] == name)
    phase: Record = found
    return phase


def _clusters(record: Record) -> str:
    plan = record["plan"]
    rounds = _phase(record, "before")["rounds"]
    cut = rounds[0]["cut"]["of"] if rounds else round(plan["clusters"] * plan["share"])
    minutes = plan["outage"] / 60
    return f"{plan['clusters']}, {record['watches']:,} watches; {cut} cut off for {minutes:g} min"


def _filled(record: Record) -> str:
    return f"{record['fill']:.0f} s"


def _rounds(name: str, group: str) -> Cell:
    """The commits of a phase in their order: when all had it, or how many had it in time."""

    def cell(record: Record) -> str:
        limit = record["plan"]["limit"]
        rounds = [each[group] for each in _phase(record, name)["rounds"]]
        return "; ".join(
            f"{each['last']:.0f} s"
            if each["synced"] == each["of"]
            else f"{each['synced']} of {each['of']} within {limit:.0f} s"
            for each in rounds
        )

    return cell


def _memory(process: str) -> Cell:
    def cell(record: Record) -> str:
        phases = [_phase(record, name)["memory"].get(process) for name in ("before", "outage", "after")]
        if None in phases:
            return ""
        before, outage, after = (each for each in phases if each is not None)
        return f"{before['last']:,}; {outage['peak']:,}; {after['peak']:,}; {after['last']:,} MiB"

    return cell


def _cpu(process: str) -> Cell:
    def cell(record: Record) -> str:
        shares = [_phase(record, name)["cpu"].get(process) for name in ("before", "outage", "after")]
        return "; ".join(f"{100 * each:.0f} %" for each in shares if each is not None)

    return cell


def _errors(record: Record) -> str:
    return "; ".join(f"{_phase(record, name)['errors']:,}" for name in ("before", "outage", "after"))


def _relists(record: Record) -> str:
    back = record["back"]
    cut = _phase(record, "before")["requests"]["cut"].get("open", 0)
    if not back["lists"]:
        return "none"
    of = f", {back['lists'] / cut:.1f} for each watch" if cut else ""
    return f"{back['lists']:,}{of}, the last after {back['listed']:.0f} s"


def _group(what: str) -> Cell:
    def cell(record: Record) -> str:
        found = record["back"].get(what)
        if not found:
            return ""
        said = f"{found['synced']} of {found['of']} within {record['plan']['calm']:.0f} s"
        if "median" in found:
            said += f", half of these after {found['median']:.0f} s, the last after {found['last']:.0f} s"
        return said

    return cell


def _unsettled(record: Record) -> str:
    """The other clusters' applications that were shown as something worse than being synced."""
    states = _phase(record, "outage")["states"]["kept"]
    worse = {state: count for state, count in states.items() if not state.endswith(", Healthy")}
    return ", ".join(f"{count} {state}" for state, count in sorted(worse.items())) or "none"


def _agents(record: Record) -> str:
    memory = _phase(record, "outage")["agents_memory"]
    return f"{memory / record['plan']['clusters']:.0f} MiB" if memory else ""


ROWS: dict[str, Cell] = {
    "clusters": _clusters,
    "all Synced for the first time, and watched, after": _filled,
    "commits before the outage: all other clusters have it after": _rounds("before", "kept"),
    "… in the outage": _rounds("outage", "kept"),
    "… after the return": _rounds("after", "kept"),
    "… after the return, the clusters that came back": _rounds("after", "cut"),
    "other clusters' applications shown in the outage as anything but Healthy": _unsettled,
    "controller's memory: before; highest in the outage; after it; at the end": _memory("controller"),
    "server's memory": _memory("server"),
    "an agent's memory": _agents,
    "controller's error lines: before; in the outage; after it": _errors,
    "controller's CPU, of one core": _cpu("controller"),
    "server's CPU": _cpu("server"),
    "agents connected again": _group("agents"),
    "applications that caught up after the return without another commit": _group("healed"),
    "lists of the clusters that came back, before another commit": _relists,
}


def _origins(records: Mapping[str, Record]) -> list[str]:
    found = []
    for way, record in records.items():
        machine: dict[str, Any] = record["machine"]
        versions = ", ".join(f"{name} {value}" for name, value in record["versions"].items())
        how = "packets vanish" if record["plan"]["vanish"] else "connections are reset"
        found.append(
            f"{way[0].upper()}{way[1:]}: measured on {record['when'][:10]}, on {machine['processors']} "
            f"processors with a load of {machine['load before']} before; {how}; {versions}; "
            f"commit {machine['commit']}.\n"
        )
    return found
