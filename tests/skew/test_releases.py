"""The present release against older ones, on each side: real processes of both (docs/skew.md)."""

import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent import socket

from bench.echo import said
from tests.skew.site import FIRST, PRESENT, PREVIOUS, STARTED, Release, Site, unpack

BIG = 8_000_000

PAIRS = [
    (PREVIOUS, PRESENT),
    (PRESENT, PREVIOUS),
    (FIRST, PRESENT),
    (PRESENT, FIRST),
]


def name(pair: tuple[Release, Release]) -> str:
    return f"server-{pair[0].name}-agent-{pair[1].name}"


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("releases")


@pytest.fixture(scope="module", params=PAIRS, ids=name)
def pair(request: pytest.FixtureRequest, releases: Path) -> tuple[Path, Path]:
    """The folders of a server's release and an agent's."""
    server, agent = request.param
    return unpack(server, releases), unpack(agent, releases)


@pytest.fixture(scope="module")
def site(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Both of them, for all tests; each leaves it whole."""
    site = Site(tmp_path_factory.mktemp("site"), *pair)
    yield site
    site.close()


def test_requests_watches_upgrades_and_big_bodies_pass(site: Site) -> None:
    for number in range(20):
        answer = site.get(f"/api/{number}")
        assert (answer.status, answer.body) == (200, said("sa-token", "GET", f"/api/{number}"))
    posted = site.ask("/posted", "POST").response()
    assert posted.body == said("sa-token", "POST", "/posted")

    watch = site.ask("/api/v1/pods?watch=1")
    watch.until(b"begin\r\n")
    site.heard("/api/v1/pods?watch=1").send(b"5\r\nevent\r\n")
    watch.until(b"event\r\n")
    watch.close()

    upgraded = site.ask("/upgrade", extra="Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n")
    assert upgraded.response().status == 101
    upgraded.send(b"said and done" * 10_000)
    upgraded.sock.shutdown(socket.SHUT_WR)
    assert upgraded.rest() == b"said and done" * 10_000 + b"!"

    data = bytes(range(250)) * (BIG // 250)
    digest = hashlib.sha256(data).hexdigest().encode()
    both = [
        gevent.spawn(lambda: site.ask(f"/upload/{BIG}", "POST", data=data).response()),
        gevent.spawn(lambda: site.get(f"/download/{BIG}")),
    ]
    gevent.joinall(both, STARTED, raise_error=True)
    assert [each.value.status for each in both] == [201, 200]
    assert both[0].value.body == digest
    assert len(both[1].value.body) == BIG
    assert site.agent.running
    assert site.server.running


def test_a_client_that_does_not_read_holds_no_other_up(site: Site) -> None:
    lazy = site.ask(f"/download/{BIG}")
    lazy.until(b"\r\n\r\n")
    for number in range(20):
        assert site.get(f"/api/{number}").status == 200
    lazy.read(BIG)


def test_a_rotated_token_counts_from_the_next_request_on(site: Site) -> None:
    assert site.get("/before").body == said("sa-token", "GET", "/before")
    site.give("another-sa-token")
    assert site.get("/after").body == said("another-sa-token", "GET", "/after")
    site.give("sa-token")


def test_an_api_that_is_away_gets_a_503_to_be_asked_again(site: Site) -> None:
    site.api.stop()
    refused = site.get("/away")
    assert (refused.status, refused.header("retry-after")) == (503, "1")
    assert refused.json()["message"].startswith("argotun: ")
    site.api.start(site.authority)
    assert site.get("/back").status == 200


def test_a_server_that_drains_finishes_what_it_has_and_its_agent_comes_back(site: Site) -> None:
    held = site.ask("/held")
    api = site.heard("/held")
    site.server.signal(signal.SIGTERM)
    site.server.says("drain")
    api.let_go = True  # type: ignore[attr-defined]
    answer = held.response()
    assert (answer.status, answer.body) == (200, said("sa-token", "GET", "/held"))
    assert site.server.code() == 0
    site.server = site.start_server()
    assert site.get("/again").body == said("sa-token", "GET", "/again")


def test_an_agent_of_the_other_release_takes_over(site: Site, pair: tuple[Path, Path]) -> None:
    """As while a Deployment of agents is replaced, pod by pod."""
    held = site.ask("/held")
    api = site.heard("/held")
    before, site.agent = site.agent, site.start_agent(pair[0])
    before.signal(signal.SIGTERM)
    before.says("drain")
    api.let_go = True  # type: ignore[attr-defined]
    answer = held.response()
    assert (answer.status, answer.body) == (200, said("sa-token", "GET", "/held"))
    assert before.code() == 0
    for number in range(20):
        assert site.get(f"/api/{number}").status == 200
    assert site.agent.running
