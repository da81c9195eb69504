"""What leads to a pod that is gone: one connection's packets vanish, and another one's arrive.

So it is behind a Service for whoever dials in the moment in which a pod is deleted: the packets of that one
port go to an address where nobody is. Here the listener drops them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest

from argotun.transport import race
from tests.agent.test_ways import proxy
from tests.deaf import Attempts, hear_all_but, hear_nobody
from tests.rig import PATIENCE, Api, Rig, answers_its_own, until


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Attempts:
    made = Attempts(race.socket)
    monkeypatch.setattr(race, "socket", made)
    return made


@contextmanager
def first_port_lost(listening: Any, attempts: Attempts) -> Iterator[None]:
    """Hear nobody until somebody dials, and from then on all but that one; another is to dial meanwhile."""
    attempts.clear()
    hear_nobody(listening)

    def lose() -> None:
        until(lambda: attempts, "the first attempt")
        hear_all_but(listening, attempts[0].getsockname()[1])

    losing = gevent.spawn(lose)
    yield
    losing.get()
    # A third takes the place of the second where this process stood still for as long as one waits.
    assert len(attempts) > 1


def test_an_agent_reaches_its_server_from_another_port(attempts: Attempts) -> None:
    with Rig(Api(answers_its_own), agent=None) as rig:
        with first_port_lost(rig.server._public_listener._listening, attempts):
            rig.start_agent(dial_timeout=2 * PATIENCE)
        assert rig.ask().status == 200


def test_an_agent_reaches_its_proxy_from_another_port(attempts: Attempts) -> None:
    with Rig(Api(answers_its_own), agent=None) as rig, proxy() as way:
        with first_port_lost(way._server.socket, attempts):
            rig.start_agent(proxy=f"http://127.0.0.1:{way.port}", dial_timeout=2 * PATIENCE)
        assert rig.ask().status == 200


def test_a_request_reaches_the_api_from_another_port(attempts: Attempts) -> None:
    with Rig(Api(answers_its_own)) as rig:
        client = rig.client()
        with first_port_lost(rig.api._server.socket, attempts):  # type: ignore[union-attr]
            assert rig.ask(client=client).status == 200
        assert rig.ask(client=client).status == 200
        assert rig.api.connections == 1, "a kept connection is not dialled again"
