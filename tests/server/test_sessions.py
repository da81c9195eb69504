"""Agents come, replace each other, are lost and come back."""

import json
import logging
from collections.abc import Iterator

import gevent
import pytest

from argotun.agent.app import Agent
from argotun.agent.backoff import Backoff
from argotun.server import placement
from tests.raw_websocket import Listening
from tests.relay import Relay
from tests.rig import PATIENCE, Api, Gate, Peer, Rig, until
from tests.v1_peers import V1Agent
from tests.v2_peers import CLOSE, CONNECT, CONNECTED, DATA, GOAWAY, V2Agent, V2Server, hello

WATCH = b"GET /tunnel/c1/api/v1/pods?watch=1 HTTP/1.1\r\nHost: argotun\r\n\r\n"
GET = b"GET /tunnel/c1/x HTTP/1.1\r\nHost: argotun\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A server to which scripted agents dial."""
    with Rig(mutual=False, agent=None, server={"reconnect_grace": 0.0}) as rig:
        yield rig


def take(agent: V2Agent) -> int:
    """Accept the next request; its stream."""
    stream = agent.expect(CONNECT).stream
    agent.send(CONNECTED, stream)
    agent.until(b"\r\n\r\n", stream)
    return stream


def ask(rig: Rig, request: bytes = GET) -> Peer:
    client = rig.client()
    client.send(request)
    return client


def test_a_second_agent_takes_over_at_once(rig: Rig) -> None:
    first = V2Agent(rig)
    second = V2Agent(rig)
    client = ask(rig)
    stream = take(second)
    second.send(DATA, stream, OK + b"2!")
    assert client.response().body == b"2!"
    assert first.expect(GOAWAY).payload == b"replaced by a newer agent"


def test_the_end_of_a_replaced_agent_takes_nothing_away(rig: Rig) -> None:
    first = V2Agent(rig)
    second = V2Agent(rig)
    first.ws.abort()
    until(lambda: len(rig.server.registry) == 1, "the end of the first session")
    client = ask(rig)
    second.send(DATA, take(second), OK + b"2!")
    assert client.response().body == b"2!"
    assert rig.server.metrics.cluster("c1").sessions == 1


def test_a_running_request_of_a_replaced_agent_finishes(rig: Rig) -> None:
    first = V2Agent(rig)
    client = ask(rig)
    stream = take(first)
    first.send(DATA, stream, OK)
    client.head()
    V2Agent(rig)
    first.expect(GOAWAY)
    first.send(DATA, stream, b"1!")
    assert client.read(2) == b"1!"
    # Then the first tunnel has nothing left to do.
    assert first.ws.close_code() == 1001


def test_the_next_request_of_a_kept_connection_goes_to_the_newer_agent(rig: Rig) -> None:
    first = V2Agent(rig)
    client = ask(rig)
    first.send(DATA, take(first), OK + b"1!")
    assert client.response().body == b"1!"
    second = V2Agent(rig)
    client.send(GET)
    second.send(DATA, take(second), OK + b"2!")
    assert client.response().body == b"2!"


def test_a_watch_of_a_replaced_agent_ends_with_its_final_chunk(rig: Rig) -> None:
    first = V2Agent(rig)
    client = ask(rig, WATCH)
    stream = take(first)
    first.send(DATA, stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n")
    client.until(b"event\r\n")
    V2Agent(rig)
    assert client.rest() == b"0\r\n\r\n"
    first.expect(GOAWAY)
    first.expect(CLOSE, stream)
    assert first.ws.close_code() == 1001


def test_a_replaced_version_1_agent_is_ended_at_once(rig: Rig) -> None:
    first = V1Agent(rig)
    until(lambda: len(rig.server.registry) == 1, "the first session")
    client = ask(rig)
    first.expect(CONNECT)
    V2Agent(rig)
    assert first.ws.close_code() == 1001
    # A GET that was lost with it is asked again; its CONNECT may have come before the new agent looks for it.
    until(lambda: any(each.tunnel.mux.streams for each in rig.server.registry.of("c1")), "the GET")
    client.close()
    until(lambda: len(rig.server.registry) == 1, "one session")


def test_agents_that_take_turns_leave_nothing_behind(rig: Rig) -> None:
    agents = [V2Agent(rig) for _ in range(20)]
    until(lambda: len(rig.server.registry) == 1, "one session")
    assert rig.server.metrics.cluster("c1").sessions == 1
    for agent in agents[:-1]:
        assert agent.ws.close_code() == 1001
    agents[-1].pong()
    agents[-1].ws.close()
    until(lambda: len(rig.server.registry) == 0, "the end of the last session")
    assert rig.server.registry._sessions == {}


def test_agents_that_come_all_at_once_leave_one_session(rig: Rig) -> None:
    def arrive() -> None:
        V2Agent(rig, greet=False).ws.send(hello())

    gevent.joinall([gevent.spawn(arrive) for _ in range(20)], raise_error=True)
    until(lambda: len(rig.server.registry) == 1, "one session")
    newest = rig.server.registry.all()[0]
    assert rig.server.placement.pick("c1") is newest


def test_a_replaced_agent_does_not_fight_back() -> None:
    """However long it had lived: its next dial is at least half the longest delay away."""
    with Rig(agent={"max_retry": 60.0}, cluster={"agents": 1}) as rig:
        first = rig.agent
        first.tunnels[0].since -= 3600
        first.connector._backoff._jitter = lambda low, high: low
        second = Agent(rig.agent_config())
        rig.agents.append(second)
        second.start()
        until(second.connected.is_set, "the second agent's connection")
        until(lambda: not first.tunnels, "the end of the first agent's tunnel")
        gevent.sleep(0.3)
        assert not first.tunnels
        assert second.connected.is_set()
        assert len(rig.server.registry) == 1


def test_a_server_that_sends_away_again_and_again_is_not_dialled_in_a_loop(rig: Rig) -> None:
    with Listening() as listening:
        agent = Agent(
            rig.agent_config(server=f"ws://127.0.0.1:{listening.address[1]}/connect", max_retry=60.0)
        )
        agent.connector._backoff = Backoff(60.0, jitter=lambda low, high: high)
        rig.agents.append(agent)
        agent.start()
        V2Server(listening).send(GOAWAY)
        V2Server(listening).send(GOAWAY)
        with pytest.raises(AssertionError, match="nobody connected"):
            listening.peer(0.3)
        agent.stop()


def test_goaway_makes_the_agent_dial_anew_before_the_old_tunnel_ends(rig: Rig) -> None:
    with Listening() as listening:
        agent = Agent(rig.agent_config(server=f"ws://127.0.0.1:{listening.address[1]}/connect"))
        rig.agents.append(agent)
        agent.start()
        old = V2Server(listening)
        old.send(GOAWAY, 0, b"draining")
        new = V2Server(listening)
        for server in (old, new):
            stream = server.connect()
            server.send(DATA, stream, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            server.expect(CONNECTED, stream)
            server.until(b"\r\n\r\nok", stream)
        old.ws.close()
        until(lambda: len(agent.tunnels) == 1, "the end of the old tunnel")
        assert agent.connected.is_set()
        new.pong()
        agent.stop()


def test_a_target_that_the_agent_does_not_serve_is_a_warning_in_both_logs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    with Rig(cluster={"targetAddr": "rival.example:443"}) as rig:
        answer = rig.get()
        assert (answer.status, answer.header("retry-after")) == (503, "1")
        assert "address not allowed" in answer.json()["message"]
        assert rig.api.connections == 0
        served = f"127.0.0.1:{rig.api.port}"
    for name in ("argotun.server", "argotun.agent"):
        said = [
            r.getMessage() for r in caplog.records if r.name == name and "rival.example:443" in r.getMessage()
        ]
        assert any(served in line for line in said), name


def test_a_target_that_the_agent_serves_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with Rig(agent=None) as rig:
        target = f"127.0.0.1:{rig.api.port}"
        rig.write_clusters([{"id": "c1", "token": rig.TOKEN, "targetAddr": target}])
        rig.server.clusters.refresh()
        rig.start_agent()
        assert rig.get().status == 200
    assert not [r for r in caplog.records if "refused" in r.getMessage()]


def test_an_agent_that_vanishes_fails_what_is_in_flight_at_once() -> None:
    def script(peer: Peer) -> None:
        if b"/watch" in peer.head():
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        else:
            asked.open()
        peer.ended()

    asked = Gate()
    with Rig(Api(script), server={"reconnect_grace": 0.0}) as rig:
        half = ask(rig, b"GET /tunnel/c1/watch HTTP/1.1\r\nHost: a\r\n\r\n")
        half.until(b"half\r\n")
        none = ask(rig)
        asked.wait()
        agent = rig.agent
        gevent.killall(agent._greenlets, block=True)
        agent.tunnels[0]._writer.abort()
        answer = none.response()
        assert (answer.status, answer.header("retry-after")) == (502, None)
        assert half.ended() == "reset"
        assert half.buffer == b""
        until(lambda: not rig.api.live, "the end of the connections to the API")
        assert rig.get().status == 503


def test_a_tunnel_that_only_looks_alive_is_given_up_by_both_sides() -> None:
    """Nothing arrives any more and nothing is reset, as behind a firewall that forgot the connection."""
    options = {"keepalive": 0.2, "keepalive_timeout": 3.0}
    with Rig(server={**options, "reconnect_grace": 0.0}, agent=None) as rig:
        rig.api.script = lambda peer: peer.head() and peer.ended() and None
        with Relay(rig.server.public_address) as relay:
            rig.start_agent(server=f"wss://127.0.0.1:{relay.address[1]}/connect", max_retry=9.0, **options)
            client = ask(rig)
            until(lambda: rig.api.live, "the connection to the API")
            ours, theirs = rig.session.tunnel, rig.agent.tunnels[0]
            relay.freeze()
            assert client.response().status == 502
            until(theirs.ended.is_set, "the end on the agent's side")
            until(lambda: not rig.api.live, "the end of the connection to the API")
            assert "no sign of life for" in ours.reason
            assert "no sign of life for" in theirs.reason


def test_a_new_agent_within_the_grace_serves_the_waiting_request() -> None:
    with Rig(agent=None, server={"reconnect_grace": PATIENCE}) as rig:
        client = ask(rig)
        gevent.sleep(0.1)
        rig.start_agent()
        assert client.response().status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [(b"/version", 502), (b"/apis", 502), (b"/api/v1", 503), (b"/apis/apps", 503), (b"/apis/apps/v1", 503)],
)
def test_discovery_does_not_wait_so_long_that_its_client_gives_up_before_our_words(
    path: bytes, status: int
) -> None:
    """All attempts of client-go's discovery have 32 s together; other requests have no such limit."""
    with Rig(agent=None, server={"reconnect_grace": 60.0}) as rig:
        other = ask(rig)
        answer = ask(rig, b"GET /tunnel/c1%b?timeout=32s HTTP/1.1\r\nHost: a\r\n\r\n" % path).response()
        assert (answer.status, answer.header("retry-after")) == (status, "1")
        assert b"no agent of cluster" in answer.body
        rig.start_agent()
        assert other.response().status == 200


def test_only_a_watch_waits_for_an_agent_that_has_been_away_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a lost cluster keeps something of the client's from all the others meanwhile."""
    monkeypatch.setattr(placement, "LONG_GONE", 0.0)
    with Rig(agent=None, server={"reconnect_grace": 0.1}) as rig:
        assert ask(rig).response().status == 503
        rig.server.clients._reconnect_grace = PATIENCE
        watch = ask(rig, WATCH)
        answer = ask(rig).response()
        assert (answer.status, answer.header("retry-after")) == (503, "1")
        rig.start_agent()
        assert watch.response().status == 200

        rig.agent.stop()
        until(lambda: not len(rig.server.registry), "the end of the session")
        client = ask(rig)
        gevent.sleep(0.1)
        rig.start_agent()
        assert client.response().status == 200


def test_a_cluster_that_leaves_the_file_and_comes_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "LONG_GONE", 0.0)
    with Rig(agent=None, server={"reconnect_grace": 0.0}) as rig:
        assert ask(rig).response().status == 503
        assert rig.server.placement.gone("c1")
        rig.server.clients.forget("c1")
        assert not rig.server.placement.gone("c1")


def test_nothing_stays_of_a_cluster_that_leaves_the_file_while_a_request_waits() -> None:
    with Rig(agent=None, server={"reconnect_grace": 0.5}) as rig:
        client = ask(rig)
        until(lambda: rig.server.placement._arrivals, "the request to wait")
        del rig.server.clusters.clusters["c1"]
        rig.server.clients.forget("c1")
        assert client.response().status == 503
        assert not rig.server.placement._missed
        assert not rig.server.placement._arrivals


def test_status_shows_the_sessions(rig: Rig) -> None:
    agent = V2Agent(rig, release="9.9", target="api.example:443")
    client = rig.client()
    client.send(b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n")
    shown = json.loads(client.response().body)["clusters"]["c1"]
    assert [(s["release"], s["version"], s["target"]) for s in shown] == [("9.9", 2, "api.example:443")]
    agent.pong()
