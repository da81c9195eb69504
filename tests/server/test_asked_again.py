"""A request that is asked again: what is left of the first answer, who is asked, and who is passed over."""

import ssl
from collections.abc import Iterator

import gevent
import pytest

from argotun.wire.reasons import LOST, NOT_HERE
from tests.replicas import Replicas
from tests.rig import Api, Gate, Peer, answers_its_own, until
from tests.v2_peers import CONNECT, CONNECTED, DATA, ERROR, V2Agent

GET = b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture
def replicas() -> Iterator[Replicas]:
    with Replicas(3, api=Api(answers_its_own)) as replicas:
        yield replicas


def raw_agent(replicas: Replicas, number: int) -> V2Agent:
    """An agent of c1 at this replica, which does as the test says."""
    own = ssl.create_default_context(cafile=replicas.authority.path("ca.pem"))
    own.load_cert_chain(replicas.authority.path("agent.pem"), replicas.authority.path("agent.key"))
    before, replicas.server = replicas.server, replicas.servers[number]
    agent = V2Agent(replicas, context=own, instance=f"raw{number}", reasons=True)
    replicas.server = before
    replicas.known("c1", number)
    return agent


def test_nothing_of_a_head_that_was_lost_is_left_in_the_next_answer(replicas: Replicas) -> None:
    agent = raw_agent(replicas, 0)
    client = replicas.client_of(0)
    client.send(GET)
    stream = agent.expect(CONNECT).stream
    agent.send(CONNECTED, stream)
    agent.send(DATA, stream, b"HTTP/1.1 200 OK\r\nX-Of-The-First: 1\r\nX-Rest: ")
    agent.pong()
    replicas.agent_at(1)
    agent.ws.peer.close()
    answer = client.response()
    assert answer.status == 200
    assert answer.header("x-of-the-first") is None
    assert answer.header("x-rest") is None
