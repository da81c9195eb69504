"""What README.md and documents show of bench/results: tables between markers, plots in docs/pictures.

`python -m bench.pages` writes them (`make plots`); a test compares.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from bench import report, results
from bench.argocd import shown as scale
from bench.figures import FLOOR, Figures
from bench.plot import OTHERS, OURS, Bar, Panel, draw
from bench.results import Record
from bench.scenarios import SCENARIOS, shown

CLONE = Path(__file__).resolve().parent.parent
PICTURES = CLONE / "docs" / "pictures"
BENCHMARK = CLONE / "docs" / "benchmark.md"
README = CLONE / "README.md"
ARGOCD = CLONE / "docs" / "argocd.md"

NAMES = {
    "argotun": ("argotun", "argotun"),
    "direct": ("nginx alone, TLS", "nginx alone"),
    FLOOR: ("nginx as two hops", "nginx, 2 hops"),
    "seed": ("the Go system before it*", "Go system*"),
}
"""What heads a column of the comparison, and what stands beside a bar; for other peers it is their name."""

VARIANTS = ("argotun-", "against", "hop")
"""How those columns of `python -m bench` begin that are no peers."""

FLOOD, SEED_FLOOD = "LIST, 3 logs, 50 stalled", "3 logs, 50 stalled"
LESS, MORE = "less is better", "more is better"


def pictures() -> dict[str, str]:
    """Each plot by its file's name."""
    drawn = {"bench.svg": _comparison(), "bench-floods.svg": _fairness(), "bench-link.svg": _link()}
    if (record := results.kept("scenarios")) is not None:
        drawn[shown.PICTURE] = shown.picture(record, SCENARIOS, lambda name: _named(name)[1])
    return drawn


def blocks() -> dict[Path, dict[str, str]]:
    """What stands in each document between `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""
    return {
        README: {"figures": comparison_table()},
        BENCHMARK: {
            "figures": comparison_table() + _origin(),
            "table": _whole_table(),
            "scenarios": shown.block(results.kept("scenarios"), SCENARIOS, lambda name: _named(name)[0]),
        },
        ARGOCD: {"scale": scale.block({name: results.kept(name) for name in scale.WAYS})},
    }


def filled(text: str, found: Mapping[str, str]) -> str:
    """A document with these blocks in their places. Raises ValueError where a marker is missing."""
    for name, block in found.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        at = text.index(begin) + len(begin)
        text = text[:at] + block + text[text.index(end, at) :]
    return text


def _subjects() -> dict[str, Figures]:
    """argotun, what was measured beside it in the same run, and the Go system, which has its own record."""
    measured: dict[str, Figures] = results.read("table")["subjects"]
    seed: dict[str, Figures] = results.read("seed")["subjects"]
    peers = {name: each for name, each in measured.items() if not name.startswith(VARIANTS)}
    return {"argotun": measured["argotun"]} | peers | seed


def _named(subject: str) -> tuple[str, str]:
    return NAMES.get(subject, (subject, subject))


def _beside_floods(subject: str) -> dict[str, float] | None:
    """Latency of a small GET beside slow readers and those that read nothing, in seconds."""
    kept = {"argotun": ("fairness", FLOOD), "seed": ("seed", SEED_FLOOD)}.get(subject)
    return _phase(results.read(kept[0]), kept[1])["latency"] if kept else None


def _phase(record: Record, name: str) -> Record:
    (found,) = (phase for phase in record["phases"] if phase["name"] == name)
    phase: Record = found
    return phase


def comparison_table() -> str:
    """The table that people look at first, as Markdown."""
    subjects = _subjects()
    rows: dict[str, Callable[[str, Figures], str]] = {
        "1 KiB, 1 connection: p50": lambda _, f: _said("{:.2f} ms", f, "p50_1"),
        "1 KiB, 64 connections: requests/s": lambda _, f: _said("{:,.0f}", f, "rate_64"),
        "CPU per request, server and agent": lambda _, f: _said("{:.0f} µs", f, "cpu_together_64"),
        "200 MB down, up": lambda _, f: _bulk(f),
        "memory per idle stream: server, agent": lambda _, f: _said(
            "{:.1f}, {:.1f} KiB", f, "idle_server", "idle_agent"
        ),
        "small GET beside three slow readers and 50 that read nothing: p50, p99": lambda name, _: _floods(
            name
        ),
    }
    heads = [_named(name)[0] for name in subjects]
    lines = [f"| | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for label, cell in rows.items():
        lines.append(f"| {label} | {' | '.join(cell(name, f) for name, f in subjects.items())} |")
    return "\n".join([*(line.replace("|  |", "| |").replace("|  |", "| |") for line in lines), ""])


def _origin() -> str:
    record = results.read("table")
    day, processors = record["when"][:10], record["machine"]["processors"]
    return f"\nMeasured on {day}, on {processors} processors ({record['source']}).\n"


def _said(form: str, figures: Figures, *keys: str) -> str:
    return form.format(*(figures[key] for key in keys)) if all(key in figures for key in keys) else ""


def _bulk(figures: Figures) -> str:
    both = _said("{:,.0f}, {:,.0f} MB/s", figures, "down_rate", "up_rate")
    return both or _said("{:,.0f} MB/s down", figures, "down_rate")


def _floods(subject: str) -> str:
    latency = _beside_floods(subject)
    if latency is None:
        return ""
    values = [1000 * latency[key] for key in ("p50", "p99")]
    said = ", ".join(f"{value:.1f}" if value < 10 else f"{value:.0f}" for value in values)
    return f"{said} ms" + (", a 200 MB LIST running too" if subject == "argotun" else "")


def _whole_table() -> str:
    return report.table(results.read("table")["subjects"]) + "\n"


def _comparison() -> str:
    subjects = _subjects()

    def panel(title: str, better: str, key: str, form: str, others: Figures | None = None) -> Panel:
        values = others or {name: f[key] for name, f in subjects.items() if key in f}
        bars = [
            Bar(_named(name)[1], value, form.format(value), OURS if name == "argotun" else OTHERS)
            for name, value in values.items()
        ]
        return Panel(title, better, bars)

    floods = {name: 1000 * found["p99"] for name in subjects if (found := _beside_floods(name))}
    return draw(
        "argotun beside others",
        "* measured once, earlier, on another machine",
        [
            panel("CPU for a request, both ends", LESS, "cpu_together_64", "{:.0f} µs"),
            panel("requests/s, 64 connections", MORE, "rate_64", "{:,.0f}"),
            panel("p50, 1 connection", LESS, "p50_1", "{:.2f} ms"),
            panel("200 MB down", MORE, "down_rate", "{:,.0f} MB/s"),
            panel("200 MB up", MORE, "up_rate", "{:,.0f} MB/s"),
            panel("p99 beside slow readers", LESS, "", "{:.3g} ms", floods),
        ],
        labels=96,
    )


def _fairness() -> str:
    record = results.read("fairness-link")
    link, phases = record["link"], record["phases"]
    bars = [
        Bar(
            phase["name"],
            phase["latency"]["p99"],
            f"{1000 * phase['latency']['p99']:.1f} ms",
            OTHERS if phase["name"].startswith("direct") else OURS,
        )
        for phase in phases
    ]
    return draw(
        "A small GET beside floods",
        f"a link of {1000 * link['rtt']:g} ms and {link['rate'] * 8 / 1e6:g} Mbit/s; grey: without a tunnel",
        [Panel("p99", LESS, bars)],
        labels=0,
    )


def _link() -> str:
    record = results.read("link")
    link = record["link"]
    rows = (
        ("down", "200 MB down", MORE, "{:.1f} MB/s"),
        ("up", "200 MB up", MORE, "{:.1f} MB/s"),
        ("kept", "GET, kept connection", LESS, "{:.2f} RTTs"),
        ("first", "first GET of a connection", LESS, "{:.2f} RTTs"),
        ("applies", "200 applies, 20 new connections", LESS, "{:.1f} RTTs"),
    )
    return draw(
        "argotun over a long link",
        f"a link of {1000 * link['rtt']:g} ms and {link['rate'] * 8 / 1e6:g} Mbit/s",
        [
            Panel(
                title,
                better,
                [
                    Bar(side, record[side][key], form.format(record[side][key]), kind)
                    for side, kind in (("argotun", OURS), ("direct", OTHERS))
                ],
            )
            for key, title, better, form in rows
        ],
        labels=60,
    )


def main() -> None:
    """Write all of it."""
    PICTURES.mkdir(exist_ok=True)
    for name, text in pictures().items():
        (PICTURES / name).write_text(text, "utf-8")
    for document, found in blocks().items():
        document.write_text(filled(document.read_text("utf-8"), found), "utf-8")


if __name__ == "__main__":
    main()
