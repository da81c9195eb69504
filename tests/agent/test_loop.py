"""The agent's loop: how long it waits, what it says, and that nothing stops it for good."""

import logging
from collections.abc import Iterator

import pytest

from argotun.agent import connector
from argotun.agent.app import Agent
from argotun.agent.backoff import FIRST, GOOD_LIFE, NAMELESS, Backoff
from argotun.agent.connector import TUNNELS
from argotun.config.models import ServerConfig
from argotun.config.network import parse_server_url
from argotun.transport.dial import Destination
from tests.raw_websocket import Listening
from tests.rig import Peer, Rig, until
from tests.v2_peers import GOAWAY, V2Server


def most(low: float, high: float) -> float:
    return high


def bounds(backoff: Backoff, count: int) -> list[float]:
    return [backoff.delay() for _ in range(count)]


def test_delays_grow_by_half_up_to_the_longest() -> None:
    got = bounds(Backoff(60.0, most), 20)
    assert got[:4] == pytest.approx([0.5, 0.75, 1.125, 1.6875])
    assert got[-5:] == [60.0] * 5
    assert got == sorted(got)


def test_a_minute_without_dns_costs_a_minute_more() -> None:
    backoff = Backoff(60.0, most)
    nameless = [backoff.delay(nameless=True) for _ in range(20)]
    assert nameless[:4] == pytest.approx([0.5, 0.75, 1.125, 1.6875])
    assert nameless[-5:] == [NAMELESS] * 5
    assert backoff.delay() < 10
    bounds(backoff, 20)
    assert backoff.delay(nameless=True) == NAMELESS


def test_jitter_is_full() -> None:
    asked: list[tuple[float, float]] = []

    def jitter(low: float, high: float) -> float:
        asked.append((low, high))
        return low

    backoff = Backoff(60.0, jitter)
    bounds(backoff, 10)
    assert all(low == 0 for low, _ in asked)
    plain = Backoff(60.0)
    for _ in range(200):
        assert 0 <= plain.delay() <= 60
    assert len(set(bounds(plain, 20))) > 10


def test_the_longest_may_be_shorter_than_the_first() -> None:
    assert bounds(Backoff(0.1, most), 3) == [0.1, 0.1, 0.1]


def test_a_million_attempts_do_not_overflow() -> None:
    backoff = Backoff(60.0, most)
    backoff._attempts = 1_000_000
    assert backoff.delay() == 60.0


def test_a_good_life_is_forgotten_failures_and_a_short_one_is_not() -> None:
    backoff = Backoff(60.0, most)
    bounds(backoff, 10)
    backoff.lived(GOOD_LIFE - 0.1)
    assert backoff.delay() > 10
    backoff.lived(GOOD_LIFE)
    assert backoff.delay() == FIRST


def test_a_replaced_agent_waits_at_least_half_of_the_longest_however_long_it_lived() -> None:
    for jitter, expected in ((most, 60.0), (lambda low, high: low, 30.0)):
        backoff = Backoff(60.0, jitter)
        backoff.replaced()
        backoff.lived(3600)
        assert backoff.delay() == expected
        assert backoff.delay() <= FIRST


def test_a_handover_is_at_once_the_first_time_only() -> None:
    backoff = Backoff(60.0, most)
    assert backoff.handover() == 0.0
    assert backoff.handover() > 0
    backoff.lived(GOOD_LIFE)
    assert backoff.handover() == 0.0


def test_attempts_beside_a_living_tunnel_leave_time_for_a_dial_to_requests_at_the_next_server() -> None:
    backoff = Backoff(60.0, most)
    assert max(backoff.delay(covered=True) for _ in range(50)) < 0.6 * ServerConfig().reconnect_grace


@pytest.mark.parametrize("url", ["ws://server.example", "ws://server.example/", "ws://server.example:80"])
def test_a_url_without_a_path_is_connect(url: str) -> None:
    assert parse_server_url(url).text.endswith("/connect")


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(mutual=False, agent=None) as rig:
        yield rig


@pytest.fixture
def listening() -> Iterator[Listening]:
    with Listening() as listening:
        yield listening


def start(rig: Rig, listening: Listening, **options: object) -> Agent:
    url = f"ws://127.0.0.1:{listening.address[1]}/connect"
    agent = rig.make_agent(**{"server": url, "max_retry": 0.02, **options})
    agent.start()
    return agent


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        r.getMessage() for r in caplog.records if r.name == "argotun.agent" and r.levelno >= logging.WARNING
    ]


def refuse(peer: Peer, status: bytes) -> None:
    peer.head()
    peer.send(b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
    peer.close()


def test_a_refused_token_is_said_once_and_tried_again(
    rig: Rig, listening: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    agent = start(rig, listening)
    for _ in range(5):
        refuse(listening.peer(), b"401 Unauthorized")
    V2Server(listening)
    until(agent.connected.is_set, "the connection")
    said = warnings(caplog)
    assert len(said) == 1
    assert "401" in said[0]
    assert agent.metrics.reconnects == 6


def test_what_stays_the_problem_is_told_again_in_time_with_the_attempts(
    rig: Rig, listening: Listening, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "REMIND", 0.0)
    agent = start(rig, listening)
    for _ in range(3):
        refuse(listening.peer(), b"401 Unauthorized")
    until(lambda: len(warnings(caplog)) == 3, "a third line")
    records = [each for each in caplog.records if each.getMessage() in warnings(caplog)]
    assert [vars(each)["fields"]["attempts"] for each in records] == [1, 2, 3]
    status = agent._status()
    assert status["attempts"] == 3
    V2Server(listening)
    until(agent.connected.is_set, "the connection")
    assert agent._status()["attempts"] == 0


def test_another_problem_is_said_anew(
    rig: Rig, listening: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    start(rig, listening)
    for status in (b"401 Unauthorized", b"401 Unauthorized", b"503 Service Unavailable", b"401 Unauthorized"):
        refuse(listening.peer(), status)
    V2Server(listening)
    assert [line.partition("(")[2][:3] for line in warnings(caplog)] == ["401", "503", "401"]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 1000,
    ],
    ids=["nothing", "TLS alert", "ssh", "redirect", "101 without fields", "wrong accept", "200 and more"],
)
def test_a_server_that_is_no_server_does_not_stop_the_agent(
    rig: Rig, listening: Listening, answer: bytes
) -> None:
    start(rig, listening)
    peer = listening.peer()
    peer.head()
    peer.send(answer)
    peer.close()
    V2Server(listening)


def test_an_agent_that_gives_up_a_dial_closes_its_socket(rig: Rig, listening: Listening) -> None:
    start(rig, listening)
    peer = listening.peer()
    peer.head()
    peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!")
    assert peer.ended() in ("closed", "reset")
    V2Server(listening)


def test_a_token_file_is_read_for_each_dial_and_may_be_missing_for_a_while(
    rig: Rig, listening: Listening
) -> None:
    file = rig.folder / "agent-token"
    agent = start(rig, listening, token=None, token_file=str(file))
    until(lambda: agent.metrics.reconnects > 2, "attempts without a token")
    file.write_text("first\n")
    # Connections of the attempts that found no token are closed without a word.
    while True:
        peer = listening.peer()
        try:
            head = peer.head()
            break
        except (EOFError, OSError):
            continue
    assert b"Authorization: Bearer first\r\n" in head
    file.write_text("second")
    peer.close()
    assert b"Authorization: Bearer second\r\n" in listening.accept().head


def test_a_fault_of_our_own_does_not_end_the_loop(
    rig: Rig, listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a dial raises, an agent that no longer dials would be alive and useless for ever."""
    calls: list[int] = []
    real = Destination.resolve

    def broken(*arguments: object) -> object:
        calls.append(1)
        if len(calls) < 3:
            raise ValueError("a name that no resolver likes")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Destination, "resolve", broken)
    start(rig, listening)
    V2Server(listening)
    assert len(calls) == 3


def test_a_server_that_sends_away_without_end_leaves_few_tunnels(rig: Rig, listening: Listening) -> None:
    agent = start(rig, listening)
    servers = []
    for _ in range(3 * TUNNELS):
        server = V2Server(listening)
        servers.append(server)
        # The agent has read the HELLO.
        server.pong()
        until(lambda: len(agent.tunnels) <= TUNNELS, "the end of the oldest")
        server.send(GOAWAY)
    assert servers[0].ws.close_code() == 1001
    assert len(agent.tunnels) == TUNNELS
    assert [bool(tunnel.mux.away) for tunnel in agent.tunnels][:-1] == [True] * (TUNNELS - 1)


def test_readiness_follows_the_tunnel(rig: Rig, listening: Listening) -> None:
    agent = start(rig, listening)
    assert not agent.connected.is_set()
    server = V2Server(listening, greet=False)
    assert not agent.connected.is_set()
    server.ws.close()
    server = V2Server(listening)
    until(agent.connected.is_set, "the connection")
    server.ws.abort()
    until(lambda: not agent.connected.is_set(), "the loss")
    assert agent.metrics.connected == 0
