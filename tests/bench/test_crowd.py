"""Many agents of a peer: who is counted as back, and what is said of those who are not."""

import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any, cast

import pytest

from bench import crowd, sockets
from bench.crowd import Crowd
from bench.errors import BenchError
from bench.peers import konnectivity, programs
from bench.ports import free_port, held
from bench.scenarios import choose, outages
from bench.scenarios.scene import SHORT, NotMeasured, Stage
from bench.site import Site
from bench.subject import Ground, Running, Subject

COUNT = 5

HUB = """
import socket, sys
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
kept = []
while True:
    kept.append(listening.accept())
    # What has been reset is let go.
    for each in list(kept):
        each[0].setblocking(False)
        try:
            gone = not each[0].recv(1)
        except BlockingIOError:
            gone = False
        except OSError:
            gone = True
        if gone:
            each[0].close()
            kept.remove(each)
"""

AGENTS = """
import signal, socket, sys, threading, time
port, count = map(int, sys.argv[1:])
cuts = 0
def cut(*_):
    global cuts
    cuts += 1
signal.signal(signal.SIGUSR1, cut)
def agent():
    while True:
        before = cuts
        try:
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.settimeout(0.02)
                while cuts == before:
                    try:
                        if not sock.recv(1):
                            break
                    except TimeoutError:
                        pass
        except OSError:
            pass
        time.sleep(0.05)
for _ in range(count):
    threading.Thread(target=agent, daemon=True).start()
while True:
    signal.pause()
"""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(crowd, "LOOK", 0.02)
    monkeypatch.setattr(crowd, "DOWN", 0.1)
    monkeypatch.setattr(crowd, "CALM", 0.1)
    with Site() as site:
        yield site


def _crowd(site: Site) -> Crowd:
    port = free_port()
    return Crowd(
        hub=site.start("hub", [sys.executable, "-c", HUB, str(port)]),
        agents=site.start("agents", [sys.executable, "-c", AGENTS, str(port), str(COUNT)]),
        port=port,
        there=lambda: len(sockets.accepted(port)),
    )


def _stage(site: Site, subject: Subject) -> Stage:
    ground = Ground(site, cast(Any, None), cast(Any, None))
    return Stage(ground, subject, Running("http://nobody"), replace(SHORT, agents=COUNT))


def _subject(made: Any) -> Subject:
    return Subject("peer", "what it is", lambda _: Running("http://nobody"), crowd=made)


def test_a_peer_is_cut_and_its_hub_killed(site: Site) -> None:
    (storm,) = choose(["storm"])
    found = storm.measure(_stage(site, _subject(lambda ground, _: _crowd(ground.site))))
    assert found.keys() == {"last", "cpu", "restart", "restart_cpu"}
    # An agent pauses for that long when it has lost its connection.
    assert 0.05 <= found["last"] < crowd.LIMIT
    assert 0 <= found["restart"] < crowd.LIMIT


def test_agents_that_cannot_be_cut_see_a_restart_only(site: Site) -> None:
    (storm,) = choose(["storm"])
    made = _subject(lambda ground, _: replace(_crowd(ground.site), cuts=False))
    assert storm.measure(_stage(site, made)).keys() == {"restart", "restart_cpu"}


def test_agents_that_stay_away_are_counted_in_what_is_said(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = _crowd(site)
    crowd.gather(many, COUNT)
    monkeypatch.setattr(crowd, "LIMIT", 0.2)
    with pytest.raises(BenchError, match=r"^restart: 3 of 5 agents were there after 0 s$"):
        crowd.restart(replace(many, there=lambda: 3), COUNT, site)


def test_who_was_not_seen_to_go_has_not_come_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    many = _crowd(site)
    crowd.gather(many, COUNT)
    monkeypatch.setattr(crowd, "LIMIT", 0.1)
    # A signal that breaks nothing.
    monkeypatch.setattr(crowd, "CUT", 0)
    with pytest.raises(BenchError, match=r"^cut: 0 of 5 agents were there"):
        crowd.cut(many, COUNT)


def test_a_process_that_ends_is_named(site: Site) -> None:
    many = replace(_crowd(site), there=lambda: 0)
    many.agents.process.kill()
    with pytest.raises(BenchError, match=r"^at first: agents ended, with 0 of 5 agents there$"):
        crowd.gather(many, COUNT)


def test_a_hub_that_does_not_answer_has_nobody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "LIMIT", 0.05)
    with held() as nobody:
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        many = replace(_crowd(site), there=lambda: int(crowd.asked(address, "/-/agents")))
        with pytest.raises(BenchError, match=r"^at first: 0 of 5 agents"):
            crowd.gather(many, COUNT)


def test_why_a_subject_has_no_agents_is_said(site: Site) -> None:
    with pytest.raises(NotMeasured, match="two proxies have no agents"):
        outages.SCENARIOS[1].measure(_stage(site, _subject("two proxies have no agents")))


def test_a_program_that_was_given_without_its_agents_is_no_failure(site: Site) -> None:
    made = _subject(lambda *_: programs.beside("/nowhere/chisel", programs.CHISEL_AGENTS))
    with pytest.raises(NotMeasured, match="no chisel-agents beside the program that is given"):
        outages.SCENARIOS[1].measure(_stage(site, made))


# What the kernel and the hubs say

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:4E20 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0
   1: 0100007F:4E20 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0
   2: 0100007F:4E20 0100007F:8001 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0
   3: 0100007F:8000 0100007F:4E20 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0
"""


def test_sockets_are_found_by_their_state() -> None:
    assert sockets.parse(TABLE, sockets.LISTENING) == [(20000, 111)]
    assert sockets.parse(TABLE, sockets.ESTABLISHED) == [(20000, 222), (20000, 0), (32768, 333)]


def test_a_connection_that_nobody_has_taken_is_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_read", lambda: TABLE)
    assert sockets.accepted(20000) == {222}


def test_only_ports_that_somebody_listens_on_are_counted() -> None:
    with held() as silent, closing(held()) as listening:
        listening.listen()
        ports = [each.getsockname()[1] for each in (silent, listening)]
        assert sockets.listening(ports) == 1


def test_a_figure_is_found_among_others() -> None:
    text = f"# HELP {konnectivity.READY} words\n{konnectivity.READY}_more 1\n{konnectivity.READY} 1e+03\n"
    assert konnectivity.metric(text, konnectivity.READY) == 1000
    assert konnectivity.metric("", konnectivity.READY) == 0
