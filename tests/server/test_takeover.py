"""A second agent of a cluster, from another address, while the first is alive: counted and logged."""

import logging
from collections.abc import Iterator

import pytest
from gevent import socket

from tests.raw_websocket import RawWebSocket, _upgrade
from tests.rig import Peer, Rig, until
from tests.v2_peers import GOAWAY, SUBPROTOCOL, V2, hello


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(mutual=False, agent=None) as rig:
        yield rig


def agent_at(rig: Rig, address: str, instance: str = "") -> V2:
    """A raw agent that dials from this address."""
    peer = rig.keep(Peer(socket.create_connection(rig.server.public_address, source_address=(address, 0))))
    fields = SUBPROTOCOL + b"Authorization: Bearer %b\r\n" % rig.TOKEN.encode()
    websocket: RawWebSocket = _upgrade(peer, fields, b"/connect", b"GET", b"13")
    before = rig.server.registry.all()
    websocket.send(hello(instance=instance))
    until(lambda: set(rig.server.registry.all()) - set(before), "the session")
    return V2(websocket)


def takeovers(rig: Rig) -> int:
    return rig.server.metrics.cluster("c1").takeovers


def test_a_takeover_is_counted_and_logged_with_both_addresses(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    agent_at(rig, "127.0.0.1")
    agent_at(rig, "127.0.0.2")
    assert takeovers(rig) == 1
    (record,) = (each for each in caplog.records if "took over" in each.message)
    assert record.levelno == logging.WARNING
    said: dict[str, str] = record.fields  # type: ignore[attr-defined]
    assert said["cluster"] == "c1"
    assert said["peer"].startswith("127.0.0.2:")
    assert said["before"].startswith("127.0.0.1:")


def test_an_agent_that_comes_back_from_its_address_is_none(rig: Rig) -> None:
    agent_at(rig, "127.0.0.1")
    agent_at(rig, "127.0.0.1")
    assert takeovers(rig) == 0


def test_the_same_process_on_another_way_is_none(rig: Rig) -> None:
    agent_at(rig, "127.0.0.1", "3f2a")
    agent_at(rig, "127.0.0.2", "3f2a")
    assert takeovers(rig) == 0
    agent_at(rig, "127.0.0.3", "other")
    assert takeovers(rig) == 1


def test_a_successor_of_an_agent_that_drains_is_none(rig: Rig) -> None:
    old = agent_at(rig, "127.0.0.1")
    old.send(GOAWAY, 0, b"\x02draining")
    until(lambda: not rig.session.usable, "the drain")
    agent_at(rig, "127.0.0.2")
    assert takeovers(rig) == 0


def test_an_agent_names_its_process_on_all_its_tunnels() -> None:
    with Rig() as rig:
        first = rig.session.instance
        assert len(first) == 16
        cut = rig.session
        cut.tunnel.end("the test cuts the tunnel")
        until(lambda: rig.server.registry.of("c1") not in ([], [cut]), "the agent's return")
        assert rig.session.instance == first
        rig.make_agent().start()
        until(
            lambda: {session.instance for session in rig.server.registry.all()} - {first},
            "an agent of another process",
        )
