"""The clusters on a server's status page: those that are asked for, in order of need, a part at a time.

Pure. A part ends after MOST clusters, or where it has become large: a page is to be small, however many
clusters there are and however much is said of each. Links lead on from there, without any script.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

from argotun.observe.markup import Markup, begin_table, cells, empty, tag
from argotun.observe.words import (
    Said,
    ago,
    by_need,
    ending,
    entries,
    last_words,
    mapping,
    milliseconds,
    of_cluster,
    release,
    size,
    span,
)

MOST = 100
"""Clusters in one part."""

LARGE = 26_000
"""Bytes of rows after which a part ends; MOST ordinary clusters take fewer, the rest of a page 10,000."""

FEW = 20
"""Clusters among which one is found without a search."""

LONGEST = 128
"""Characters of a search that count; no cluster's name has more."""

COLUMNS = (
    "cluster",
    "agent",
    "since",
    "round trip",
    "streams",
    "to it",
    "from it",
    "certificate ends",
    "takeovers",
)


@dataclass(frozen=True, slots=True)
class View:
    """Which clusters a page is to show: those in which `find` stands, from number `start` on."""

    find: str = ""
    start: int = 0


WHOLE = View()


def view(query: str) -> View:
    """What a URL's query asks for; nonsense in it counts as not said."""
    try:
        said = parse_qs(query, max_num_fields=8)
    except ValueError:
        return WHOLE
    start = said.get("from", [""])[0]
    number = int(start) if start.isascii() and start.isdecimal() and len(start) < 8 else 0
    return View(said.get("find", [""])[0].strip()[:LONGEST], number)


def search(clusters: Said, asked: View) -> Markup:
    """The field in which to name a cluster, where there are many."""
    if len(clusters) <= FEW and not asked.find:
        return Markup("")
    words = "find a cluster"
    field = {"type": "search", "name": "find", "value": asked.find, "placeholder": words, "aria-label": words}
    return tag("form", empty("input", maxlength=LONGEST, **field), id="find")


def parts(status: Said, clusters: Said, asked: View) -> Iterator[str]:
    """The table, a piece for each cluster, and the links to what else there is."""
    names = by_need(status, clusters)
    if asked.find:
        names = [name for name in names if asked.find.lower() in _text(name, clusters).lower()]
    start = asked.start if asked.start < len(names) else 0
    yield tag("h2", "Clusters")
    yield begin_table(COLUMNS, "clusters")
    end, large = start, 0
    for name in names[start : start + MOST]:
        row = _cluster(status, name, entries(clusters[name]))
        large += len(row.encode("utf-8", "replace"))
        if large > LARGE and end > start:
            break
        yield row
        end += 1
    yield "</table>"
    yield _where(View(asked.find, start), end, len(names), len(clusters))


def _text(name: str, clusters: Said) -> str:
    """In what a search looks: the cluster's name, its agents' releases and addresses."""
    agents = entries(clusters[name])
    return " ".join([name, *(f"{release(agent)} {agent.get('peer', '')}" for agent in agents)])


def _where(shown: View, end: int, found: int, clusters: int) -> Markup:
    """Which of the clusters stand above, and the ways to the others; nothing where these are all."""
    if end - shown.start == clusters:
        return Markup("")
    words = f"{shown.start + 1:,} to {end:,} of {found:,}" if found else "none"
    ways = [tag("span", f"{words}{f' found, of {clusters:,}' if shown.find else ''} clusters")]
    if shown.start > 0:
        ways.append(_link("first", View(shown.find)))
        ways.append(_link("before", View(shown.find, max(0, shown.start - MOST))))
    if end < found:
        ways.append(_link("next", View(shown.find, end)))
    if shown.find:
        ways.append(_link("all", WHOLE))
    return tag("p", *(Markup(f"{each} ") for each in ways), class_="ways")


def _link(words: str, to: View) -> Markup:
    said = {"find": to.find} if to.find else {}
    return tag("a", words, href=f"?{urlencode(said | ({'from': to.start} if to.start else {}))}")


def _cluster(status: Said, name: str, agents: list[Said]) -> Markup:
    history = mapping(mapping(status.get("history")).get(name))
    traffic = mapping(mapping(status.get("traffic")).get(name))
    rows = [
        tag(
            "tr",
            tag("th", name if not number else ""),
            *_about_agent(agent),
            *(_about_cluster(traffic) if not number else cells("", "")),
            tag("td", ending(agent.get("certificateSeconds"))),
            tag("td", traffic.get("takeovers", "") if not number else ""),
        )
        for number, agent in enumerate(agents)
    ]
    if not agents:
        others = mapping(status.get("elsewhere")).get(name)
        where = f"at replica {', '.join(map(str, others))}" if others else "no agent"
        seen = "" if others else ago(history.get("lastSeenSeconds"))
        blank = cells(where, seen, "", "", "", "", "", traffic.get("takeovers", ""))
        rows = [tag("tr", tag("th", name), *blank)]
    rows += [
        tag("tr", tag("td", words, colspan=len(COLUMNS)), class_="words") for words in last_words(history)
    ]
    wrong = any(of_cluster(status, name, agents))
    return tag("tbody", *rows, **({"class_": "bad"} if wrong else {}))


def _about_agent(agent: Said) -> list[Markup]:
    drains = ", drains" if agent.get("draining") else ""
    return [
        tag("td", f"{release(agent)}{drains} ", tag("small", agent.get("peer", ""))),
        *cells(
            span(agent.get("connectedSeconds")),
            milliseconds(agent.get("rttSeconds")),
            agent.get("streams", ""),
        ),
    ]


def _about_cluster(traffic: Said) -> list[Markup]:
    rates = (traffic.get(f"{way}ClusterBytesPerSecond") for way in ("to", "from"))
    return cells(*(f"{size(rate)}/s" if rate is not None else "–" for rate in rates))
