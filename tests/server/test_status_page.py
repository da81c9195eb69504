"""The status page over the wire and in a browser: who gets it, what it shows there, and what it cannot do."""

from collections.abc import Iterator
from typing import Any

import pytest
from gevent import socket

from argotun.observe.metrics import ServerMetrics
from argotun.observe.page import HEADERS, HTML
from argotun.observe.probes import HealthServer, Probes
from tests import fleet
from tests.browser import MISSING, PROGRAM, Browser, Page
from tests.rig import Peer, Rig, until
from tests.v2_peers import V2Agent

BROWSER = b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"

in_browser = pytest.mark.skipif(PROGRAM is None, reason=MISSING)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig() as rig:
        yield rig


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def shown() -> Iterator[tuple[str, dict[str, Any]]]:
    """The address of a status that the test changes."""
    status = fleet.server(0)
    health = HealthServer("127.0.0.1", 0, Probes(lambda: True, ServerMetrics(), lambda: status))
    health.start()
    yield "http://{}:{}/status".format(*health.address), status
    health.stop()


def url(rig: Rig) -> str:
    return "http://{}:{}/status".format(*rig.server.internal_address)


# Over the wire


def test_the_internal_port_gives_who_asks_for_html_a_page(rig: Rig) -> None:
    answer = rig.get("/status", BROWSER)
    assert answer.status == 200
    assert answer.header("content-type") == HTML.decode()
    for name, value in HEADERS:
        assert answer.header(name) == value
    assert b"c1" in answer.body


@pytest.mark.parametrize(
    "accept", [b"", b"Accept: */*\r\n", b"Accept: application/json\r\nAccept: text/html;q=0.5\r\n"]
)
def test_everybody_else_hears_json(rig: Rig, accept: bytes) -> None:
    answer = rig.get("/status", accept)
    assert answer.header("content-type") == "application/json"
    assert answer.header("content-security-policy") is None
    assert answer.json()["mode"] == "server"


def test_the_health_port_gives_it_too_and_tells_numbers_only() -> None:
    with Rig(server={"health_addr": ("127.0.0.1", 0)}) as rig:
        assert rig.server._health is not None
        client = rig.keep(Peer(socket.create_connection(rig.server._health.address)))
        answer = rig.get("/status", BROWSER, client)
        assert answer.header("content-security-policy") == dict(HEADERS)["Content-Security-Policy"]
        assert b"1 of 1" in answer.body
        assert b"c1" not in answer.body
        assert b"127.0.0.1" not in answer.body


def test_an_agent_has_a_page_of_its_own() -> None:
    with Rig(agent={"health_addr": ("127.0.0.1", 0)}) as rig:
        assert rig.agent.health is not None
        client = rig.keep(Peer(socket.create_connection(rig.agent.health.address)))
        answer = rig.get("/status", BROWSER, client)
        assert b"argotun agent" in answer.body
        assert b"argotun agent: all is well" in answer.body
        assert rig.agent_config().server.text.encode() in answer.body


# In a browser


def wide(page: Page) -> int:
    """How wide the page is with all that stands in it."""
    width: int = page.value("document.documentElement.scrollWidth")
    return width


@in_browser
@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("kind", ["server", "agent", "long"])
def test_it_fits_the_screen_and_asks_for_nothing_else(
    browser: Browser, shown: tuple[str, dict[str, Any]], kind: str, dark: bool, width: int
) -> None:
    address, status = shown
    long = {"x" * 128: [fleet.agent_of(1, release="y" * 200)]}
    status |= {
        "server": fleet.server(12, lost=2, **fleet.replicas()),
        "agent": fleet.agent(connected=False, lastError="w" * 200),
        "long": fleet.server(1, clusters=long, strangers=[fleet.refusal("z" * 200)]),
    }[kind]
    if kind == "agent":
        status.pop("clusters")
    page = browser.open(address, width=width, dark=dark)
    assert wide(page) == width
    assert page.problems() == []
    assert set(page.asked()) == {address}
    ground = page.value("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 200) is dark


@in_browser
def test_it_is_refreshed_by_itself(browser: Browser, shown: tuple[str, dict[str, Any]]) -> None:
    address, status = shown
    status |= fleet.server(2)
    page = browser.open(address)
    assert page.value("document.title") == "argotun server: all is well"
    status["clusters"]["customer-0001"] = []
    watch = "new MutationObserver(() => done(1)).observe(document.head, {subtree: true, childList: true})"
    page.value(f"new Promise(done => {watch})")
    assert page.value("document.title") == "argotun server: 1 trouble"
    assert page.value("document.querySelector('tbody.bad th').textContent") == "customer-0001"
    assert page.problems() == []


@in_browser
def test_a_page_that_is_cut_off_says_so_and_comes_back(browser: Browser) -> None:
    with Rig() as rig:
        page = browser.open(url(rig))
        rig.server.stop()
        # Its own clock may have it look at the same moment, and the newest look is what counts.
        said = "show().then(() => stale.textContent)"
        until(lambda: page.value(said).startswith("Not heard of it since "), "the word that nobody answers")
        rig.start_server()
        until(lambda: len(rig.server.registry), "the agent")
        until(lambda: page.value(said) == "", "the word that somebody does")
        assert page.value("document.querySelector('tbody th').textContent") == "c1"


@in_browser
@pytest.mark.parametrize(
    "release",
    ["<img src=x onerror=document.title=1>", "<script>document.title=1</script>", '"><svg/onload=alert(1)>'],
)
def test_what_an_agent_calls_itself_stays_text(browser: Browser, release: str) -> None:
    with Rig(mutual=False, agent=None) as rig:
        V2Agent(rig, release=release, target="<b>api</b>:443")
        until(lambda: len(rig.server.registry), "the session")
        page = browser.open(url(rig))
        assert release in page.value("document.body.textContent")
        assert page.value("document.querySelectorAll('main img, main svg, main script, main b').length") == 0
        assert page.value("document.title") == "argotun server: all is well"
        assert page.problems() == []


@in_browser
def test_markup_that_got_in_all_the_same_could_do_nothing(
    browser: Browser, shown: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy holds where the escaping would not."""
    address, status = shown
    status |= fleet.server(1, strangers=[fleet.refusal(markup) for markup in ATTACKS])
    monkeypatch.setattr("argotun.observe.markup.escape", str)
    page = browser.open(address)
    assert page.value("document.querySelectorAll('main script, main img').length") > 0
    assert page.value("[window.done, document.title]") == [None, "argotun server: all is well"]
    assert any("Content Security Policy" in problem for problem in page.problems())
    assert not [asked for asked in page.asked() if "evil" in asked]


ATTACKS = (
    "<script>window.done = 1</script>",
    "<img src=x onerror='window.done = 1'>",
    "<img src=http://evil.example/x.png>",
    "<script src=http://evil.example/x.js></script>",
    "<iframe src=http://evil.example/></iframe>",
)


@in_browser
def test_one_of_a_thousand_clusters_is_found(browser: Browser, shown: tuple[str, dict[str, Any]]) -> None:
    address, status = shown
    status |= fleet.server(1000, lost=60)
    page = browser.open(address, width=360)
    assert page.value(VISIBLE) == 100
    page.value("find.value = 'CUSTOMER-0777'; find.dispatchEvent(new Event('input'))")
    # The page's own clock may have it look once more.
    until(lambda: page.value(f"show().then(() => {VISIBLE})") == 1, "the one that was looked for")
    page.value("look()")
    assert page.value(VISIBLE) == 1
    assert page.value("document.querySelector('.clusters tbody th').textContent") == "customer-0777"
    assert wide(page) == 360
    assert page.problems() == []


@in_browser
def test_links_and_search_need_no_script(browser: Browser, shown: tuple[str, dict[str, Any]]) -> None:
    address, status = shown
    status |= fleet.server(1000, lost=3)
    page = browser.open(address, script=False)
    first = "document.querySelector('.clusters tbody th').textContent"
    assert page.value(first) == "customer-0000"
    page.go("[...document.querySelectorAll('.ways a')].at(-1).click()")
    assert page.value(first) == "customer-0100"
    page.go("document.querySelector('#find input').value = '0777'; document.querySelector('#find').submit()")
    assert page.value("location.search") == "?find=0777"
    assert page.value(first) == "customer-0777"
    assert page.value("document.querySelector('#find input').value") == "0777"
    assert page.value(VISIBLE) == 1
    page.go("[...document.querySelectorAll('.ways a')].at(-1).click()")
    assert page.value(VISIBLE) == 100
    assert page.problems() == []


VISIBLE = "[...document.querySelectorAll('.clusters tbody')].filter(each => each.offsetHeight).length"
