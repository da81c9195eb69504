"""`/status` as a page for a browser: a dict in, HTML out.

Pure, and needs nothing but itself: style and script stand in it, and the policy that goes with it (HEADERS)
allows these two by their hashes and a fetch of the page itself, nothing else. Texts become HTML in `markup`
alone, which escapes all that it did not make: what an agent says of itself, and what a stranger did wrong.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from html import escape
from urllib.parse import quote

from argotun.observe import page_clusters
from argotun.observe.markup import Markup, begin_table, cells, tag
from argotun.observe.page_clusters import WHOLE, View
from argotun.observe.page_parts import SCRIPT, STYLE
from argotun.observe.words import (
    Said,
    ago,
    ending,
    entries,
    is_agent,
    mapping,
    milliseconds,
    plural,
    reachable,
    span,
    totals,
    troubles,
)

HTML = b"text/html; charset=utf-8"

MOST_TROUBLES = 8
"""Sentences at the top; where more is wrong the table has it."""


def _hash(text: str) -> str:
    """A source expression of CSP for an inline element with this content (CSP 3 §2.3.1)."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


HEADERS = (
    (
        "Content-Security-Policy",
        f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Vary", "Accept"),
)
"""What goes with the page."""

FIELDS = "".join(f"{name}: {value}\r\n" for name, value in HEADERS).encode()


def wanted(accept: str) -> bool:
    """Whether who sent this Accept header would rather have HTML than JSON (RFC 9110 §12.5.1)."""
    weights = {"text/html": 0.0, "application/json": 0.0}
    for part in accept.lower().split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        if kind in weights:
            weights[kind] = _weight(parameters)
    return weights["text/html"] > weights["application/json"]


def _weight(parameters: list[str]) -> float:
    for each in parameters:
        name, _, value = each.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def pieces(status: Said, asked: View = WHOLE) -> Iterator[str]:
    """The page of a server's or an agent's `/status`, in pieces: one for each cluster, a little work each.

    `asked` says which of the clusters are to be on it; the totals and the troubles are of all.
    """
    role = "agent" if is_agent(status) else "server"
    wrong = troubles(status)
    title = f"argotun {role}: {plural(len(wrong), 'trouble') if wrong else 'all is well'}"
    yield f"<!doctype html><html lang=en><head><meta charset=utf-8>{_META}<title>{escape(title)}</title>"
    yield _icon("#b3261e" if wrong else "#146c2e")
    yield f"<style>{STYLE}</style></head><body>"
    clusters = status.get("clusters")
    if isinstance(clusters, Mapping):
        yield page_clusters.search(clusters, asked)
    yield "<main>"
    yield tag(
        "header",
        tag("h1", f"argotun {role}"),
        tag("p", f"{status.get('version', '')}, up {span(status.get('uptimeSeconds'))}"),
        tag(
            "strong",
            plural(len(wrong), "trouble") if wrong else "all is well",
            class_="bad" if wrong else "ok",
        ),
    )
    yield _totals(totals(status))
    yield _troubles(wrong)
    yield from _agent(status) if role == "agent" else _server(status, asked)
    yield from _certificates(status)
    yield "</main><footer><p id=stale></p><p>For programs: <code>Accept: application/json</code>. "
    yield "In a terminal: <code>argotun status URL</code>.</p></footer>"
    yield f"<script>{SCRIPT}</script></body></html>\n"


_META = (
    '<meta name=viewport content="width=device-width,initial-scale=1">'
    '<meta name=color-scheme content="light dark">'
    "<noscript><meta http-equiv=refresh content=5></noscript>"
)


def _icon(colour: str) -> str:
    """A dot for the browser's tab; without an icon of its own a browser asks for one."""
    dot = f"<circle cx='1' cy='1' r='1' fill='{colour}'/>"
    drawing = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 2 2'>{dot}</svg>"
    return f'<link rel=icon href="data:image/svg+xml,{quote(drawing)}">'


def _troubles(wrong: list[str]) -> Markup:
    shown = [tag("li", sentence) for sentence in wrong[:MOST_TROUBLES]]
    if len(wrong) > MOST_TROUBLES:
        shown.append(tag("li", f"and {len(wrong) - MOST_TROUBLES} more"))
    return tag("ul", *shown, class_="troubles") if shown else Markup("")


def _totals(numbers: Mapping[str, object]) -> Markup:
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in numbers.items()))


def _table(
    name: str, heads: Iterable[str], rows: Iterable[Iterable[object]], kind: str = ""
) -> Iterator[str]:
    yield tag("h2", name)
    yield begin_table(heads, kind)
    for row in rows:
        yield tag("tbody", tag("tr", *cells(*row)))
    yield "</table>"


# ── a server ───────────────────────────────────────────────────────────────────────────────────


def _server(status: Said, asked: View) -> Iterator[str]:
    clusters = status.get("clusters")
    if isinstance(clusters, Mapping):
        yield from page_clusters.parts(status, clusters, asked)
    yield from _replicas(status)
    yield from _callers(status)
    yield from _strangers(status)


def _replicas(status: Said) -> Iterator[str]:
    if "replica" not in status:
        return
    registry = mapping(status.get("registry"))
    heard = registry.get("heardSecondsAgo")
    yield tag("h2", "Replicas")
    yield tag(
        "p",
        f"This one is {status['replica']}. The registry is {'up' if registry.get('up') else 'down'}",
        f", heard {ago(heard)}." if heard is not None else ".",
    )
    links = {link.get("replica"): link for link in entries(status.get("links"))}
    rows = []
    for name, each in mapping(registry.get("replicas")).items():
        link = mapping(links.pop(name, None))
        rows.append([name, each.get("address"), each.get("release"), each.get("clusters"), *_link(link)])
    rows += [[name, link.get("address"), "", "", *_link(link)] for name, link in links.items()]
    heads = ("replica", "address", "release", "clusters", "link", "round trip", "streams")
    yield from _table("Links", heads, rows)


def _link(link: Said) -> tuple[object, str, object]:
    if not link:
        return "–", "–", "–"
    state = "up" if link.get("up") else f"down: {link.get('problem') or 'not yet'}"
    state += ", used last" if link.get("suspect") else ""
    return (
        f"{state}, drains" if link.get("draining") else state,
        milliseconds(link.get("rttSeconds")),
        link.get("streams"),
    )


def _callers(status: Said) -> Iterator[str]:
    callers = mapping(status.get("callers"))
    rows = [
        [name, *(mapping(each).get(what, 0) for what in ("connections", "requests", "refused"))]
        for name, each in callers.items()
    ]
    if rows:
        yield from _table("Callers", ("caller", "connections", "requests", "refused"), rows)


def _strangers(status: Said) -> Iterator[str]:
    rows = [
        [each.get("peer"), ago(each.get("secondsAgo")), each.get("count"), each.get("why")]
        for each in entries(status.get("strangers"))
    ]
    if rows:
        yield from _table("Refused, of no cluster", ("address", "last", "times", "why"), rows)


# ── an agent ───────────────────────────────────────────────────────────────────────────────────


def _agent(status: Said) -> Iterator[str]:
    facts: dict[str, object] = {
        "server": status.get("server"),
        "API": status.get("target"),
        "API's version": status.get("apiVersion") or "–",
        f"{reachable(status.get('apiReachable'))} for": span(status.get("apiSinceSeconds")),
        "API's problem": status.get("apiProblem"),
        "last error": status.get("lastError"),
        "attempts": status.get("attempts") or "",
    }
    yield from _table(
        "Both ends", ("what", "is"), [(what, said) for what, said in facts.items() if said], "facts"
    )
    rows = [
        [
            tunnel.get("version"),
            span(tunnel.get("connectedSeconds")),
            milliseconds(tunnel.get("rttSeconds")),
            tunnel.get("streams"),
        ]
        for tunnel in entries(status.get("tunnels"))
    ]
    if rows:
        yield from _table("Tunnels", ("version", "since", "round trip", "streams"), rows)
    policy = mapping(status.get("policy"))
    if policy:
        refusals = mapping(policy.get("refusals"))
        yield from _table("Policy", ("rule", "requests refused"), refusals.items() or [("–", "none")])
        yield tag("p", f"{policy.get('file')}, {policy.get('rules')} rules")


def _certificates(status: Said) -> Iterator[str]:
    rows = [
        [name, ending(mapping(each).get("secondsLeft")), mapping(each).get("ends")]
        for name, each in mapping(status.get("certificates")).items()
    ]
    if rows:
        yield from _table("Certificates of this process", ("certificate", "ends", "at"), rows)
