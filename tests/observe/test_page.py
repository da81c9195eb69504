"""The status page: what is on it, how large it is, and that nothing an agent says becomes markup."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argotun.observe import page, page_clusters, probes
from argotun.observe.markup import tag
from argotun.observe.metrics import ServerMetrics
from argotun.observe.page import HEADERS, pieces, wanted
from argotun.observe.page_clusters import View
from argotun.observe.probes import Probes
from argotun.observe.words import LATELY, REFUSALS
from tests import fleet

ORDINARY = 100
"""Clusters."""

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "</td></table></main><script>alert(1)</script>",
    "<!--",
    "]]>",
    "&lt;script&gt;",
    "javascript:alert(1)",
    "</style><script>alert(1)</script>",
    "\u202egnp.exe\x00\x1b[31m",
]


def render(status: dict[str, Any], query: str = "") -> str:
    return "".join(pieces(status, page_clusters.view(query)))


def named(html: str) -> list[str]:
    """The clusters in a page's table, in order."""
    return re.findall("<tr><th>([^<]+)</th><td", html)


class Outline(HTMLParser):
    """The elements of a page, its texts, and whether they are closed in order."""

    VOID = frozenset(("meta", "link", "input"))

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


# What is on it


def test_a_cluster_is_told_with_all_that_is_known() -> None:
    text = Outline(render(fleet.server(2))).text
    for words in ("customer-0001", "0.4.1", "10.0.1.7:40000", "3 h 5 min", "12 ms", "1.5 KiB/s", "1.9 MiB/s"):
        assert words in text
    assert "in 60 d" in text
    assert "all is well" in text


def test_totals_stand_on_top() -> None:
    html = render(fleet.server(5, lost=2))
    top = Outline(html[html.index("<dl>") : html.index("</dl>") + 5]).text
    assert "clusters connected 3 of 5 agents 3 streams 9" in top


def test_a_lost_cluster_comes_first_with_its_last_words() -> None:
    history = {
        "customer-0003": fleet.past(
            lastSeenSeconds=7400.0,
            lastEnd="the tunnel's connection was closed",
            lastRefusal=fleet.refusal("the certificate is not one of its own", 12),
            lastClaim=fleet.refusal("its key is not one of the cluster's"),
            lastAttempt=fleet.refusal("TLS handshake: it has expired", 3),
        )
    }
    status = fleet.server(5, history=history)
    status["clusters"]["customer-0003"] = []
    html = render(status)
    text = Outline(html).text
    assert html.index("customer-0003</th>") < html.index("customer-0000</th>")
    for words in (
        "no agent 2 h 3 min ago",
        "last end: the tunnel's connection was closed",
        "refused 33 s ago from 203.0.113.9, 12 times: the certificate is not one of its own",
        "somebody who names this cluster was refused 33 s ago from 203.0.113.9: its key",
        "from its last address somebody was refused 33 s ago from 203.0.113.9, 3 times: TLS handshake",
    ):
        assert words in text


def test_an_agent_tells_its_server_its_api_and_its_policy() -> None:
    text = Outline(render(fleet.agent())).text
    for words in ("wss://tunnel.example.com/connect", "v1.36.3", "no-secrets 7", "/etc/policy.yaml, 2 rules"):
        assert words in text
    assert "2.2 KiB/s" in text
    assert "3.0 MiB/s" in text
    text = Outline(render(fleet.agent(apiReachable=False, apiProblem="connection refused"))).text
    assert "the Kubernetes API cannot be asked for 11 min 40 s: connection refused" in text


def test_replicas_are_told_with_their_links() -> None:
    text = Outline(render(fleet.server(1, **fleet.replicas()))).text
    assert "This one is a1b2c3d4. The registry is up, heard 0 s ago." in text
    assert "ffee0011 10.0.0.8:8444 0.4.1 9 up 0.4 ms 3" in text


def test_a_cluster_whose_agents_are_elsewhere_is_well() -> None:
    others = fleet.replicas(elsewhere={"customer-0000": ["ffee0011"]})
    text = Outline(render(fleet.server(1, lost=1, **others))).text
    assert "all is well" in text
    assert "at replica ffee0011" in text
    assert "1 of 1" in text


def test_who_shows_nothing_of_himself_sees_numbers_only() -> None:
    text = Outline(
        render({"mode": "server", "clusters": 3, "connected": 2, "agents": 4, "connections": 7})
    ).text
    assert "clusters connected 2 of 3 agents 4" in text
    assert "1 of 3 clusters has no agent here" in text


def test_one_row_has_as_many_cells_as_the_table_has_heads() -> None:
    status = fleet.server(3, lost=1)
    status["clusters"]["customer-0001"].append(fleet.agent_of(7))
    html = render(status)
    table = html[html.index("<table class=clusters>") :]
    rows = re.findall("<tr>(.*?)</tr>", table[: table.index("</table>")])
    assert len(rows) == 5
    assert {len(re.findall("<t[hd][ >]", row)) for row in rows} == {len(page_clusters.COLUMNS)}


# Size


def test_an_ordinary_fleet_is_under_forty_kilobytes() -> None:
    html = render(fleet.server(ORDINARY, lost=3, **fleet.replicas()))
    assert len(html.encode()) < 40_000


def test_a_hundred_ordinary_clusters_stand_on_one_page() -> None:
    assert named(render(fleet.server(ORDINARY, lost=3))) == sorted(f"customer-{n:04}" for n in range(100))


def test_a_page_comes_in_small_pieces() -> None:
    whole = list(pieces(fleet.server(1000, lost=1000)))
    assert len(whole) > page_clusters.MOST
    assert max(map(len, whole)) < 6000


def talked_about(clusters: int, agents: int = 1) -> dict[str, Any]:
    """A fleet of which much is to be said of each cluster."""
    why = "the certificate is not one of its own: ä" * 5
    words = {kind: fleet.refusal(why, 12) for kind in REFUSALS}
    names = [f"{number:04}-{'x' * 100}" for number in range(clusters)]
    return fleet.server(
        0,
        clusters={name: [fleet.agent_of(n) for n in range(agents)] for name in names},
        history={name: fleet.past(lastEnd=why, **words) for name in names},
        **fleet.replicas(),
    )


@pytest.mark.parametrize("clusters", [1, 100, 1000, 5000])
@pytest.mark.parametrize("ask", ["", "find=0", "from=100", "from=700"])
def test_a_page_is_under_forty_kilobytes_however_many_clusters(clusters: int, ask: str) -> None:
    for status in (
        fleet.server(clusters, lost=clusters // 3),
        talked_about(clusters),
        talked_about(clusters, agents=8),
    ):
        assert len(render(status, ask).encode()) < 40_000


# Which clusters


def test_links_lead_to_every_cluster_once() -> None:
    for status in (fleet.server(1000, lost=10), talked_about(130, agents=4)):
        seen, query = [], ""
        while True:
            html = render(status, query)
            seen += named(html)
            following = re.search(r'<a href="\?([^"]*)">next</a>', html)
            if following is None:
                break
            query = unescape(following[1])
        assert len(seen) == len(set(seen))
        assert set(seen) == set(status["clusters"])
        assert query
        for words in ("first", "before"):
            (back,) = re.findall(rf'<a href="\?([^"]*)">{words}</a>', html)
            assert named(render(status, unescape(back)))[0] != seen[-1]


def test_those_with_a_trouble_stand_before_all_others() -> None:
    status = fleet.server(400)
    status["clusters"]["customer-0390"] = []
    status["clusters"]["customer-0380"][0]["certificateSeconds"] = fleet.DAY
    status["history"]["customer-0370"]["lastClaim"] = fleet.refusal()
    status["history"]["customer-0001"]["lastRefusal"] = fleet.refusal() | {"secondsAgo": 2 * LATELY}
    assert named(render(status))[:5] == [f"customer-{n:04}" for n in (390, 380, 370, 0, 1)]


def test_a_search_finds_by_name_release_and_address() -> None:
    status = fleet.server(1000)
    status["clusters"]["customer-0500"][0]["release"] = "9.9.9"
    for words, found in (
        ("CUSTOMER-0777", ["customer-0777"]),
        (" 0777 ", ["customer-0777"]),
        ("9.9.9", ["customer-0500"]),
        ("10.2.1.7:", ["customer-0501"]),
        ("nowhere", []),
    ):
        html = render(status, urlencode({"find": words}))
        assert named(html) == found
        assert f"{(len(found) and '1 to 1 of 1') or 'none'} found, of 1,000 clusters" in html
        assert '<a href="?">all</a>' in html


def test_what_is_looked_for_goes_with_the_links_and_stays_text() -> None:
    html = render(fleet.server(500), urlencode({"find": 'customer"><b>'}))
    assert 'value="customer&quot;&gt;&lt;b&gt;"' in html
    html = render(fleet.server(500), urlencode({"find": "customer"}))
    assert '<a href="?find=customer&amp;from=100">next</a>' in html


def test_few_clusters_have_no_search_and_no_links() -> None:
    html = render(fleet.server(20))
    assert "<form" not in html
    assert "<a " not in html
    assert "<form" in render(fleet.server(21))


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", View()),
        ("find=a+b&from=100", View("a b", 100)),
        ("find=%C3%A4&x=y", View("ä")),
        ("from=-1", View()),
        ("from=1e3", View()),
        ("from=%D9%A1", View()),
        ("from=99999999999", View()),
        ("find=" + "x" * 5000, View("x" * 128)),
        ("find", View()),
        ("&" * 100, View()),
        ("a=b&" * 100, View()),
        ("%", View()),
        ("find=%ff%00", View("\ufffd\0")),
    ],
)
def test_a_query_says_which_clusters_or_nothing(query: str, asked: View) -> None:
    assert page_clusters.view(query) == asked


@pytest.mark.parametrize("start", [1000, 5000, 999999])
def test_a_page_behind_the_last_is_the_first(start: int) -> None:
    status = fleet.server(1000)
    assert named(render(status, f"from={start}")) == named(render(status))


# What others say


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_is_said_becomes_an_element(text: str) -> None:
    def said(value: object, words: str) -> Any:
        """The same shape with these words in place of every text."""
        if isinstance(value, dict):
            return {key: said(each, words) for key, each in value.items()}
        if isinstance(value, list):
            return [said(each, words) for each in value]
        return words if value and isinstance(value, str) else value

    history = {
        "customer-0000": fleet.past(lastEnd="x", lastRefusal=fleet.refusal(), lastClaim=fleet.refusal())
    }
    statuses = [
        fleet.server(2, history=history, strangers=[fleet.refusal()], **fleet.replicas()),
        fleet.server(0, clusters={text: [fleet.agent_of(1)], text + "2": []}, callers={text: {}}),
        fleet.server(0, **fleet.replicas(links=[{"address": "a", "problem": "p", "up": False}])),
        fleet.agent(policy={"file": "f", "rules": 1, "problem": "p", "refusals": {text: 1}}),
        fleet.agent(connected=False, apiReachable=False, lastError="e", apiProblem="p"),
    ]
    for status in statuses:
        plain, wild = (Outline(render(said(status, words))) for words in ("harmless", text))
        assert [name for name, _ in plain.tags] == [name for name, _ in wild.tags]
        assert [list(attributes) for _, attributes in plain.tags] == [list(a) for _, a in wild.tags]
        assert {name for name, _ in wild.tags}.isdisjoint({"img", "svg", "iframe", "a", "form"})


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_is_looked_for_becomes_an_element(text: str) -> None:
    plain, wild = (
        Outline(render(fleet.server(300), urlencode({"find": words}))) for words in ("harmless", text)
    )
    assert [name for name, _ in plain.tags] == [name for name, _ in wild.tags]
    assert [list(attributes) for _, attributes in plain.tags] == [list(a) for _, a in wild.tags]


@given(st.text(), st.text())
def test_an_element_holds_what_it_was_given_as_text(inside: str, value: str) -> None:
    made = tag("p", inside, title=value)
    assert re.fullmatch('<p title="[^"<>]*">[^<>]*</p>', made, re.DOTALL)


@pytest.mark.parametrize("odd", [None, 1, "x", [], {}, [1], {"a": 1}, {"a": []}, True, float("inf")])
@pytest.mark.parametrize("whole", [fleet.server(1, **fleet.replicas()), fleet.agent()])
def test_a_status_of_other_shapes_has_a_page(whole: dict[str, Any], odd: object) -> None:
    for key in whole:
        Outline(render(whole | {key: odd}))


# The policy that goes with it


def test_the_policy_allows_the_page_itself_and_nothing_else() -> None:
    policy = dict(part.strip().split(" ", 1) for part in dict(HEADERS)["Content-Security-Policy"].split(";"))
    assert policy.pop("default-src") == "'none'"
    assert policy.pop("connect-src") == "'self'"
    assert policy.pop("img-src") == "data:"
    assert policy.pop("form-action") == "'self'"
    html = render(fleet.server(1))
    for kind in ("style", "script"):
        (content,) = re.findall(f"<{kind}>(.*?)</{kind}>", html, re.DOTALL)
        assert (
            policy.pop(f"{kind}-src") == f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
        )
    assert set(policy.values()) == {"'none'"}


def test_the_page_names_no_other_address() -> None:
    for status in (fleet.server(300), fleet.agent()):
        for name, attributes in Outline(render(status)).tags:
            assert name in ("link", "a") or not attributes.keys() & {"src", "href", "action", "style"}
            assert not [each for each in attributes if each.startswith("on")]
            assert (attributes.get("href") or "?").startswith("data:" if name == "link" else "?")


# Who gets it


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("TEXT/HTML; charset=utf-8", True),
        ("application/json;q=0.5, text/html;q=0.9", True),
        ("", False),
        ("*/*", False),
        ("text/*", False),
        ("application/json", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html, application/json", False),
        ("text/html;q=0", False),
        ("text/html;q=x", False),
        ("text/htmlx", False),
        (",;=,q", False),
    ],
)
def test_a_page_is_for_who_would_rather_have_one(accept: str, html: bool) -> None:
    assert wanted(accept) is html


def test_page_and_json_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "FRESH", 1000.0)
    answers = Probes(lambda: True, ServerMetrics(), lambda: fleet.server(1))
    kinds = [(answers.answer(b"/status", accept) or (0, b"", b""))[1] for accept in ("", BROWSER) * 2]
    assert kinds == [b"application/json", page.HTML] * 2


def test_a_page_is_of_a_status_that_is_at_most_a_second_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "FRESH", 1000.0)
    made: list[int] = []

    def status() -> dict[str, Any]:
        made.append(1)
        return fleet.server(300)

    answers = Probes(lambda: True, ServerMetrics(), status)

    def body(query: str) -> bytes:
        return (answers.answer(b"/status", BROWSER, query) or (0, b"", b""))[2]

    pages = {body(f"from={100 * (number % 3)}") for number in range(3 * probes.VIEWS)}
    assert len(pages) == 3
    for number in range(3 * probes.VIEWS):
        assert f"customer-{number:04}</th>".encode() in body(f"find={number:04}")
    assert len(made) == 1
    monkeypatch.setattr(probes, "FRESH", 0.0)
    body("")
    assert len(made) == 2


@pytest.mark.parametrize("accept", [BROWSER, ""])
def test_others_have_their_turn_while_a_large_answer_is_made(
    monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    turns: list[float] = []
    monkeypatch.setattr(probes.gevent, "sleep", turns.append)
    whole = fleet.server(1000)
    _, kind, body = Probes(lambda: True, ServerMetrics(), lambda: whole).answer(b"/status", accept) or (
        0,
        b"",
        b"",
    )
    assert len(turns) >= (5 if accept else 20)
    assert kind == page.HTML or json.loads(body) == whole
