"""The clusters file changes under a running server with tunnels and requests."""

import logging
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from argotun.config import ServerConfig
from argotun.server import app
from argotun.server.app import REFRESH, Server
from tests.raw_websocket import Refused
from tests.rig import Peer, Rig, until
from tests.v2_peers import CONNECT, CONNECTED, DATA, V2Agent, hello

C1: dict[str, Any] = {"id": "c1", "token": "token-of-agent-c1"}
C2: dict[str, Any] = {"id": "c2", "token": "token-of-agent-c2"}


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """Clusters c1 and c2, each with a scripted agent's session."""
    monkeypatch.setattr(app, "REFRESH", 0.05)
    rig = Rig(mutual=False, agent=None, server={"reconnect_grace": 0.0})
    rig.write_clusters([C1, C2])
    with rig:
        yield rig


@pytest.fixture
def agents(rig: Rig) -> dict[str, V2Agent]:
    return {name: V2Agent(rig, f"token-of-agent-{name}") for name in ("c1", "c2")}


def ask(rig: Rig, cluster: str) -> Peer:
    client = rig.client()
    client.send(b"GET /tunnel/%b/x HTTP/1.1\r\nHost: a\r\n\r\n" % cluster.encode())
    return client


def serves(rig: Rig, agent: V2Agent, cluster: str) -> None:
    """A request of the cluster goes through this agent."""
    client = ask(rig, cluster)
    stream = agent.expect(CONNECT).stream
    agent.send(CONNECTED, stream)
    agent.until(b"\r\n\r\n", stream)
    agent.send(DATA, stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    assert client.response().body == b"ok"


def test_a_look_at_the_file_comes_within_two_seconds() -> None:
    assert REFRESH < 2


def test_a_removed_cluster_loses_its_tunnel_and_no_other(rig: Rig, agents: dict[str, V2Agent]) -> None:
    client = ask(rig, "c1")
    agents["c1"].expect(CONNECT)
    rig.write_clusters([C2])
    assert client.response().status == 502
    assert agents["c1"].ws.close_code() == 1001
    answer = ask(rig, "c1").response()
    assert (answer.status, answer.header("retry-after")) == (503, "1")
    assert "c1" in answer.json()["message"]
    serves(rig, agents["c2"], "c2")
    with pytest.raises(Refused) as caught:
        V2Agent(rig, "token-of-agent-c1")
    assert caught.value.status == 401


def test_a_new_cluster_is_served(rig: Rig, agents: dict[str, V2Agent]) -> None:
    rig.write_clusters([C1, C2, {"id": "c3", "token": "token-of-agent-c3"}])
    until(lambda: "c3" in rig.server.clusters.clusters, "the new cluster")
    third = V2Agent(rig, "token-of-agent-c3")
    serves(rig, third, "c3")
    serves(rig, agents["c1"], "c1")


def test_a_session_whose_token_was_taken_away_ends(rig: Rig, agents: dict[str, V2Agent]) -> None:
    rig.write_clusters([{"id": "c1", "token": "token-of-agent-new"}, C2])
    assert agents["c1"].ws.close_code() == 1001
    serves(rig, V2Agent(rig, "token-of-agent-new"), "c1")
    serves(rig, agents["c2"], "c2")


def test_a_rotated_token_keeps_the_session_while_both_are_listed(
    rig: Rig, agents: dict[str, V2Agent]
) -> None:
    rig.write_clusters([{"id": "c1", "tokens": ["token-of-agent-new", "token-of-agent-c1"]}, C2])
    until(lambda: len(rig.server.clusters.clusters["c1"].tokens) == 2, "the change")
    gevent.sleep(0.1)
    serves(rig, agents["c1"], "c1")


def test_a_changed_target_ends_the_session_that_was_told_the_old_one(
    rig: Rig, agents: dict[str, V2Agent]
) -> None:
    rig.write_clusters([{**C1, "targetAddr": "api.example:443"}, C2])
    assert agents["c1"].ws.close_code() == 1001
    again = V2Agent(rig)
    assert again.said["target"] == "api.example:443"
    serves(rig, agents["c2"], "c2")


def test_a_changed_rate_limit_touches_no_session(rig: Rig, agents: dict[str, V2Agent]) -> None:
    rig.write_clusters([{**C1, "rateLimit": 1}, C2])
    until(lambda: rig.server.clusters.clusters["c1"].rate_limit == 1, "the change")
    gevent.sleep(0.1)
    serves(rig, agents["c1"], "c1")
    answer = ask(rig, "c1").response()
    assert (answer.status, answer.header("retry-after")) == (429, "1")


def test_names_that_the_certificate_does_not_have_end_the_session(
    rig: Rig, agents: dict[str, V2Agent]
) -> None:
    rig.write_clusters([{**C1, "certNames": ["agent.example"]}, C2])
    assert agents["c1"].ws.close_code() == 1001
    serves(rig, agents["c2"], "c2")


@pytest.mark.parametrize(
    "text", ["", "[", "{}", '[{"id": "c1"}]', '[{"id":"c1","token":"token-of-agent-c1"},']
)
def test_a_broken_file_keeps_the_last_good_one(
    rig: Rig, agents: dict[str, V2Agent], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    rig.clusters_file.write_text(text)
    until(lambda: rig.server.clusters.errors == 1, "the refusal")
    gevent.sleep(0.15)
    for name, agent in agents.items():
        serves(rig, agent, name)
    said = [r.getMessage() for r in caplog.records if "clusters file" in r.getMessage()]
    assert len(said) == 1
    assert "token-of-agent-" not in said[0]
    assert b'argotun_reload_errors_total{what="clusters"} 1.0' in rig.server.metrics.exposition()[0]
    rig.write_clusters([C2])
    assert agents["c1"].ws.close_code() == 1001


def test_a_file_that_vanishes_keeps_the_last_good_one(rig: Rig, agents: dict[str, V2Agent]) -> None:
    rig.clusters_file.unlink()
    until(lambda: rig.server.clusters.errors == 1, "the refusal")
    serves(rig, agents["c1"], "c1")


def test_a_removed_clusters_series_vanish(rig: Rig, agents: dict[str, V2Agent]) -> None:
    serves(rig, agents["c1"], "c1")
    assert b'cluster="c1"' in rig.server.metrics.exposition()[0]
    rig.write_clusters([C2])
    assert agents["c1"].ws.close_code() == 1001
    until(lambda: not rig.server.registry.of("c1"), "the end of the session")
    ask(rig, "c1").response()
    assert b'cluster="c1"' not in rig.server.metrics.exposition()[0]
    assert b'cluster="c2"' in rig.server.metrics.exposition()[0]


def test_an_agent_that_says_hello_after_its_cluster_has_left_is_not_kept(rig: Rig) -> None:
    """It was let in by its token before the change, and took its time."""
    late = V2Agent(rig, greet=False)
    rig.write_clusters([C2])
    until(lambda: "c1" not in rig.server.clusters.clusters, "the change")
    late.ws.send(hello())
    assert late.ws.close_code() == 1001
    assert not rig.server.registry.of("c1")


def test_a_change_is_said_once_and_without_tokens(
    rig: Rig, agents: dict[str, V2Agent], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    rig.write_clusters([C1, {"id": "c4", "token": "token-of-agent-c4"}])
    assert agents["c2"].ws.close_code() == 1001
    until(lambda: "c4" in rig.server.clusters.clusters, "the change")
    said = [r.getMessage() for r in caplog.records if "re-read" in r.getMessage()]
    assert len(said) == 1
    assert "token-of-agent-" not in caplog.text


def test_a_server_without_a_cluster_says_so(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(ServerConfig(clusters="[]", addr=("127.0.0.1", 0), internal_addr=("127.0.0.1", 0)))
    server.start()
    server.stop()
    assert "there is no cluster in --clusters: no agent is let in until there is one" in caplog.messages
