"""Scenarios on their real parts: they measure what they are named for, and say what goes wrong."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench import client
from bench.errors import BenchError
from bench.peers import nginx
from bench.ports import held
from bench.scenarios import beside, choose, outages
from bench.scenarios.grounds import LIVE, grounds
from bench.scenarios.scene import Effort, Figures, NotMeasured, Stage
from bench.site import Site
from bench.subject import Ground, Running, Subject
from bench.upstream import BULK

BRIEF = Effort(seconds=1, rounds=1, streams=20, agents=5)
DIRECT = Subject("direct", "no tunnel", lambda ground: Running(f"https://{ground.via(ground.upstream.tls)}"))
HOPS = Subject("nginx-hops", "two hops", nginx.start)

Grounds = dict[str, Callable[[], Ground]]


@pytest.fixture(scope="module")
def made() -> Iterator[Grounds]:
    """Each ground, made when it is first asked for."""
    # Debian keeps nginx where only root's PATH leads.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if missing := [name for name in ("nginx", "openssl", "wrk") if shutil.which(name) is None]:
            pytest.skip(f"there is no {missing[0]}")
        with Site() as site:
            yield grounds(site, 1024)


def _measured(made: Grounds, name: str, subject: Subject = DIRECT) -> Figures:
    (scenario,) = choose([name])
    ground = made[scenario.on]()
    running = subject.start(ground)
    try:
        found = scenario.measure(Stage(ground, subject, running, BRIEF))
    finally:
        ground.site.stop(list(running.children.values()))
    assert {row.key for row in scenario.rows} - {"cpu"} == found.keys() - {"cpu"}
    return found


@pytest.mark.parametrize("name", ["post", "first-byte", "exec", "watches"])
def test_each_load_finds_its_figures_without_a_tunnel(made: Grounds, name: str) -> None:
    found = _measured(made, name)
    assert 0 < found["p50"] <= found["p99"]
    assert "cpu" not in found


def test_what_is_between_client_and_api_has_its_cost(made: Grounds) -> None:
    found = _measured(made, "small", HOPS)
    assert found["cpu"] > 0
    assert found["rate"] > 0


@pytest.mark.parametrize("name", ["exec", "watches"])
def test_two_hops_of_nginx_carry_upgrades_and_events(made: Grounds, name: str) -> None:
    assert _measured(made, name, HOPS)["p50"] > 0


def test_requests_that_are_not_answered_with_200_fail_the_scenario(made: Grounds) -> None:
    lost = Subject(
        "lost", "asks for nothing", lambda ground: Running(f"https://{ground.upstream.tls}/nowhere")
    )
    with pytest.raises(BenchError, match="requests failed"):
        _measured(made, "small", lost)
    with pytest.raises(BenchError, match="not answered with 200"):
        _measured(made, "first-byte", lost)


def test_who_does_not_upgrade_is_told_by_the_answer(made: Grounds) -> None:
    ground = made[LIVE]()
    small = Subject(
        "small", "never upgrades", lambda _: Running(f"https://{made['standard']().upstream.tls}")
    )
    (scenario,) = choose(["exec"])
    with pytest.raises(BenchError, match="an upgrade was answered with 404"):
        scenario.measure(Stage(ground, small, small.start(ground), BRIEF))


def test_a_post_whose_body_comes_in_pieces_is_answered(made: Grounds) -> None:
    with client.Client(f"http://{made['standard']().upstream.plain}/post") as connection:
        head = b"POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
        connection.send(head + b"abc")
        connection.send(b"d")
        assert connection.receive(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize("name", ["beside-logs", "beside-stalled"])
def test_a_small_get_is_asked_beside_slow_readers(
    made: Grounds, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "PATIENCE", 0.0)
    found = _measured(made, name)
    assert 0 < found["p50"] <= found["p99"] <= found["worst"]


def test_memory_is_that_of_both_ends(made: Grounds) -> None:
    tunnel, stream = (_measured(made, name, HOPS) for name in ("idle-tunnel", "idle-stream"))
    assert min(tunnel["server"], tunnel["agent"]) > 0
    assert stream.keys() == {"server", "agent", "connections"}


@pytest.mark.parametrize("name", ["idle-tunnel", "idle-stream", "killed", "storm"])
def test_no_tunnel_is_no_failure_of_what_is_about_tunnels(made: Grounds, name: str) -> None:
    with pytest.raises(NotMeasured):
        _measured(made, name)


def test_a_killed_hub_loses_requests_until_it_is_back(made: Grounds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "CALM", 0.1)
    found = _measured(made, "killed", HOPS)
    assert found["lost"] >= 1
    assert found["away"] > 0


def test_a_body_that_takes_too_long_says_how_far_it_came(made: Grounds) -> None:
    upstream = made["standard"]().upstream
    for direction, path in (("down", "bulk"), ("up", "upload/slow")):
        with pytest.raises(BenchError, match=r"^\d+ of 200 MB after 0 s$"):
            client.timed(direction, f"http://{upstream.plain}/{path}", None, BULK, limit=0.0)


@pytest.mark.parametrize("start", [DIRECT.start, nginx.start])
def test_what_an_agent_dials_can_have_a_link_in_the_way(
    made: Grounds, start: Callable[[Ground], Running]
) -> None:
    asked: list[str] = []

    def via(address: str) -> str:
        asked.append(address)
        return address

    ground = replace(made["standard"](), via=via)
    running = start(ground)
    ground.site.stop(list(running.children.values()))
    assert len(asked) == 1


# Losing requests


class _Answers(BaseHTTPRequestHandler):
    """Answers with what is due: a status for each request, 200 at the end."""

    protocol_version = "HTTP/1.1"
    due: list[int]

    def do_GET(self) -> None:
        self.send_response(self.due.pop(0) if self.due else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def asker(monkeypatch: pytest.MonkeyPatch) -> Iterator[outages.Asker]:
    monkeypatch.setattr(outages, "CALM", 0.05)
    monkeypatch.setattr(outages, "EVERY", 0.001)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    asking = outages.Asker(f"http://127.0.0.1:{server.server_port}/small", Path("unused"))
    yield asking
    asking.close()
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_answer_that_is_not_200_is_a_lost_request(asker: outages.Asker) -> None:
    _Answers.due = [503, 502, 500]
    asker.ask_until_calm()
    assert asker.lost == 3
    assert not _Answers.due


def test_a_server_that_never_comes_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "PATIENCE", 0.02)
    with held() as nobody:
        asking = outages.Asker(f"http://127.0.0.1:{nobody.getsockname()[1]}", Path("unused"))
        with pytest.raises(BenchError, match="no answer for"):
            asking.ask_until_calm()


def test_a_benchmark_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "STORM_LIMIT", 0.01)
    with pytest.raises(BenchError, match="not over"):
        outages.run_to_its_end("http.server", "0", "--bind", "127.0.0.1")
