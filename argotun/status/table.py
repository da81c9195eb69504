"""A `/status` as lines of text, from 80 columns on. Pure: a dict in, lines out.

What comes from the other side is printable text when it is here: no words of an agent reach a terminal as
something that it obeys.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from argotun.observe.words import (
    Said,
    ago,
    by_need,
    ending,
    entries,
    is_agent,
    last_words,
    mapping,
    milliseconds,
    plural,
    release,
    size,
    span,
    totals,
    troubles,
)

NARROW = 80
"""Columns that there are at least; a narrower terminal wraps."""

WIDE = 110
"""Columns from which on there is room for each cluster's traffic."""

MOST = 24
"""Characters of a cell in a column that does not give way: an agent says its release itself."""

GAP = "  "

MARKS = {"bad": "\x1b[31m", "good": "\x1b[32m", "head": "\x1b[2m", "end": "\x1b[0m"}
"""What a terminal is told; nothing where the output is no terminal."""

Row = Sequence[object]


def lines(status: Said, width: int, marks: Mapping[str, str]) -> Iterator[str]:
    """The whole, for a terminal of `width` columns: tables first, and what is wrong last."""
    width = max(width, NARROW)
    paint = _Paint(marks)
    role = "agent" if is_agent(status) else "server"
    up = f", up {span(status['uptimeSeconds'])}" if "uptimeSeconds" in status else ""
    yield clean(f"argotun {role} {status.get('version', '')}{up}")
    whole = _Part(tuple(totals(status)))
    whole.add(list(totals(status).values()))
    yield ""
    yield from _show(whole, width, paint)
    for part in _agent(status) if role == "agent" else _server(status, width >= WIDE):
        yield ""
        yield from _show(part, width, paint)
    wrong = troubles(status)
    yield ""
    if not wrong:
        yield paint("good", "✓ all is well")
    for sentence in wrong:
        first, *more = _wrapped(f"✗ {sentence}", width, "  ")
        yield from (paint("bad", line) for line in (first, *more))


def clean(text: object) -> str:
    """One line of printable text."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(text)
    )


class _Paint:
    def __init__(self, marks: Mapping[str, str]) -> None:
        self._marks = marks

    def __call__(self, kind: str, text: str) -> str:
        return f"{self._marks.get(kind, '')}{text}{self._marks.get('end', '')}"


class _Part:
    """Some rows under heads, each with sentences below it; `shrinks` is the column that gives way."""

    def __init__(self, heads: Sequence[str], shrinks: int = 0) -> None:
        self.heads = heads
        self.shrinks = shrinks
        self.rows: list[tuple[list[str], list[str]]] = []

    def add(self, row: Row, words: Sequence[str] = ()) -> None:
        cells = [clean("" if cell is None else cell) for cell in row]
        cells = [cell if at == self.shrinks else _cut(cell, MOST) for at, cell in enumerate(cells)]
        self.rows.append((cells, list(words)))


def _show(part: _Part, width: int, paint: _Paint) -> Iterator[str]:
    widths = [
        max(len(cells[at]) for cells in (list(part.heads), *(cells for cells, _ in part.rows)))
        for at in range(len(part.heads))
    ]
    others = sum(widths) - widths[part.shrinks] + len(GAP) * (len(widths) - 1)
    widths[part.shrinks] = min(widths[part.shrinks], max(width - others, len(part.heads[part.shrinks])))
    yield paint("head", _row([head.upper() for head in part.heads], widths))
    for cells, words in part.rows:
        yield _row([_cut(cell, most) for cell, most in zip(cells, widths, strict=True)], widths)
        for sentence in words:
            yield from _wrapped(f"  {sentence}", width, "    ")


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(cell.ljust(most) for cell, most in zip(cells, widths, strict=True)).rstrip()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(clean(text), width, subsequent_indent=indent, drop_whitespace=True) or [""]


# ── a server ───────────────────────────────────────────────────────────────────────────────────


def _server(status: Said, wide: bool) -> Iterator[_Part]:
    clusters = status.get("clusters")
    if isinstance(clusters, Mapping) and clusters:
        yield _clusters(status, clusters, wide)
    yield from _links(status)
    yield from _strangers(status)
    yield from _certificates(status)


def _clusters(status: Said, clusters: Said, wide: bool) -> _Part:
    carried = ("to it/s", "from it/s") if wide else ()
    part = _Part(("cluster", "agent", "since", "rtt", "streams", "cert ends", *carried))
    elsewhere = mapping(status.get("elsewhere"))
    for name in by_need(status, clusters):
        history = mapping(mapping(status.get("history")).get(name))
        traffic = mapping(mapping(status.get("traffic")).get(name))
        words = list(last_words(history))
        if traffic.get("takeovers"):
            words.append(f"an agent took over from a living one: {plural(traffic['takeovers'], 'time')}")
        agents = entries(clusters[name])
        for number, agent in enumerate(agents):
            rates = [size(traffic.get(f"{way}ClusterBytesPerSecond")) for way in ("to", "from")]
            rates = (rates if not number else ["", ""]) if wide else []
            part.add(
                [
                    name if not number else "",
                    release(agent) + _drains(agent),
                    span(agent.get("connectedSeconds")),
                    milliseconds(agent.get("rttSeconds")),
                    agent.get("streams"),
                    ending(agent.get("certificateSeconds")),
                    *rates,
                ],
                words if number == len(agents) - 1 else [],
            )
        if not agents:
            others = elsewhere.get(name)
            seen = "" if others else ago(history.get("lastSeenSeconds"))
            part.add([name, "elsewhere" if others else "none", seen, *[""] * (len(part.heads) - 3)], words)
    return part


def _drains(agent: Said) -> str:
    return " drains" if agent.get("draining") else ""


def _links(status: Said) -> Iterator[_Part]:
    part = _Part(("replica", "address", "link", "rtt", "streams"), shrinks=2)
    for link in entries(status.get("links")):
        state = "up" if link.get("up") else "down"
        row = [
            link.get("replica"),
            link.get("address"),
            state + _drains(link),
            milliseconds(link.get("rttSeconds")),
            link.get("streams"),
        ]
        part.add(row, [link["problem"]] if link.get("problem") and not link.get("up") else [])
    if part.rows:
        yield part


def _strangers(status: Said) -> Iterator[_Part]:
    part = _Part(("refused, of no cluster", "last", "times", "why"), shrinks=3)
    for each in entries(status.get("strangers")):
        part.add([each.get("peer"), ago(each.get("secondsAgo")), each.get("count"), each.get("why")])
    if part.rows:
        yield part


# ── an agent ───────────────────────────────────────────────────────────────────────────────────


def _agent(status: Said) -> Iterator[_Part]:
    part = _Part(("", "address", "state", "since"), shrinks=1)
    tunnels = entries(status.get("tunnels"))
    newest = tunnels[-1] if tunnels else {}
    part.add(
        [
            "server",
            status.get("server"),
            "connected" if status.get("connected") else "not connected",
            span(newest.get("connectedSeconds")),
        ]
    )
    reachable = status.get("apiReachable")
    state = "not asked yet" if not isinstance(reachable, bool) else "answers" if reachable else "no answer"
    version = f", {status['apiVersion']}" if status.get("apiVersion") else ""
    part.add(["API", status.get("target"), state + version, span(status.get("apiSinceSeconds"))])
    yield part
    if tunnels:
        part = _Part(("tunnel", "since", "rtt", "streams"))
        for tunnel in tunnels:
            part.add(
                [
                    f"version {tunnel.get('version')}",
                    span(tunnel.get("connectedSeconds")),
                    milliseconds(tunnel.get("rttSeconds")),
                    tunnel.get("streams"),
                ]
            )
        yield part
    refusals = mapping(mapping(status.get("policy")).get("refusals"))
    if refusals:
        part = _Part(("rule of the policy", "requests refused"))
        for rule, count in refusals.items():
            part.add([rule, count])
        yield part
    yield from _certificates(status)


def _certificates(status: Said) -> Iterator[_Part]:
    part = _Part(("certificate", "ends", "at"))
    for name, each in mapping(status.get("certificates")).items():
        said = mapping(each)
        part.add([name, ending(said.get("secondsLeft")), said.get("ends")])
    if part.rows:
        yield part
