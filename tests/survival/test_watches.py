"""Many watches that wait for something to happen: the benchmark's in small, with real processes and TLS."""

import shutil
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from argotun.observe.request import Request
from argotun.server import clients
from bench import watches
from bench.site import Site
from tests.rig import Rig, until

STREAMS = 300
EVENTS = 100

# Of what one idle stream may take, KiB: far above what it does take, which varies with so few of them.
SERVER_KIB = 28
AGENT_KIB = 68


@pytest.fixture(scope="module")
def outcome() -> Iterator[watches.Outcome]:
    if not shutil.which("openssl"):
        pytest.skip("needs the openssl program")
    with Site() as site:
        yield watches.run(site, STREAMS, tunnels=6, processes=2, events=EVENTS, calm=0.5, settle=0.5)


def test_no_event_is_lost_among_many_watches(outcome: watches.Outcome) -> None:
    """Each watch has its own: an event that went astray would be missing elsewhere."""
    assert [delivery.events for delivery in outcome.deliveries] == [EVENTS, STREAMS], str(outcome)


def test_idle_watches_take_little_memory(outcome: watches.Outcome) -> None:
    assert 0 < outcome.server_kib < SERVER_KIB, str(outcome)
    assert 0 < outcome.agent_kib < AGENT_KIB, str(outcome)


def test_watches_end_at_the_api_when_their_clients_have_gone(outcome: watches.Outcome) -> None:
    assert outcome.left == 0


def test_a_request_beside_idle_watches_succeeds(outcome: watches.Outcome) -> None:
    assert outcome.beside.count > 0
    assert not outcome.beside.failed


class Stub(SimpleNamespace):
    __hash__ = object.__hash__


def test_looking_after_many_connections_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "AT_ONCE", 2)
    monkeypatch.setattr(clients, "SWEEP", 0.01)
    turns = 0
    looked: list[int] = []
    connections: set[Any] = {
        # Idle, and nothing to count.
        Stub(sweep=lambda now: looked.append(turns), exchange=Stub(idle=True, request=Request(0.0)))
        for _ in range(20)
    }
    with Rig(mutual=False, agent=None) as rig:
        rig.server.clients.connections |= connections

        def take_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                gevent.sleep(1e-6)

        beside = gevent.spawn(take_turns)
        until(lambda: len(looked) >= len(connections), "a look at every connection")
        beside.kill()
        rig.server.clients.connections -= connections
    assert len(set(looked[: len(connections)])) >= 5
