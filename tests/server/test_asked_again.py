"""A request that is asked again: what is left of the first answer, who is asked, and who is passed over."""

import ssl
from collections.abc import Iterator

import gevent
import pytest

from argotun.wire.reasons import LOST, NOT_HERE
from tests.replicas import Replicas
from tests.rig import Api, answers_its_own, until
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


@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
@pytest.mark.parametrize("current", [True, False], ids=["followed", "away"])
def test_an_agent_that_comes_back_to_its_replica_is_asked(
    request_: bytes, current: bool, replicas: Replicas
) -> None:
    """Its link lives: the only way to it is the one on which the request was lost."""
    for server, directory in zip(replicas.servers, replicas.directories, strict=True):
        server.clients._reconnect_grace = 30.0
        directory.current = current
    agent = raw_agent(replicas, 1)
    client = replicas.client_of(0)
    if request_ is GET:
        client.send(request_)
        stream = agent.expect(CONNECT).stream
        agent.send(CONNECTED, stream)
        agent.pong()
    agent.ws.peer.close()
    until(lambda: not replicas.servers[1].registry.of("c1"), "the end of the session")
    if request_ is POST:
        client.send(request_)
    until(lambda: replicas.directories[0].resting, "the word that no agent is there")
    if current:
        # As the registry says in that case.
        replicas.directories[0].where.clear()
    gevent.sleep(1.0)
    replicas.agent_at(1)
    assert client.response().status == 200


def test_what_may_have_been_carried_out_is_never_said_not_to_have_been(replicas: Replicas) -> None:
    """It was lost, asked again, and then nobody was there: Retry-After would say that nobody had it."""
    agent = raw_agent(replicas, 1)
    client = replicas.client_of(0)
    client.send(GET)
    stream = agent.expect(CONNECT).stream
    agent.send(CONNECTED, stream)
    agent.pong()
    agent.ws.peer.close()
    answer = client.response()
    assert (answer.status, answer.header("retry-after")) == (502, None)
    # The next one on the same connection is another request.
    client.send(POST)
    answer = client.response()
    assert (answer.status, answer.header("retry-after")) == (503, "1")


def test_a_link_that_has_just_ended_gets_no_request(replicas: Replicas) -> None:
    replicas.agent_at(1)
    replicas.agent_at(2)
    for link in replicas.links(0):
        if link.replica == replicas.ids[1]:
            tunnel = link.tunnel
    assert tunnel is not None
    # Its reader has not had its turn yet.
    tunnel.end("lost")
    way = replicas.servers[0].placement.pick("c1")
    assert way is not None
    assert way.via == replicas.ids[2]
    assert not next(link for link in replicas.links(0) if link.replica == replicas.ids[1]).up


@pytest.mark.parametrize("reason", [NOT_HERE, LOST])
def test_an_agent_may_not_speak_for_a_replica(reason: int, replicas: Replicas) -> None:
    """What only a replica can know is worth no more than a failure when an agent says it."""
    agent = raw_agent(replicas, 0)
    for _ in range(2):
        client = replicas.client_of(0)
        client.send(GET)
        stream = agent.expect(CONNECT).stream
        agent.expect(DATA, stream)
        agent.send(ERROR, stream, bytes((reason,)) + b"as a replica says it")
        answer = client.response()
        assert (answer.status, answer.header("retry-after")) == (503, "1")
    assert not any(replicas.servers[0].metrics.cluster("c1").repeated.values())


def test_a_replica_passes_over_an_agent_that_fails_behind_it(replicas: Replicas) -> None:
    """It has fewer streams than one that works, always, and would be asked first again and again."""
    replicas.agent_at(1)
    replicas.agent_at(1, target=("127.0.0.1", 1))
    replicas.known("c1", 1, sessions=2)
    for request in (POST, GET, POST, GET):
        client = replicas.client_of(0)
        client.send(request)
        assert client.response().status == 200
    assert replicas.servers[1].metrics.cluster("c1").relayed == 5


def test_a_replica_whose_agent_fails_is_passed_over_too(replicas: Replicas) -> None:
    replicas.agent_at(1, target=("127.0.0.1", 1))
    replicas.agent_at(2)
    for _ in range(4):
        assert replicas.get_from(0).status == 200
    assert replicas.servers[1].metrics.cluster("c1").relayed <= 1
