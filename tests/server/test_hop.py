"""Requests for a cluster whose agents are at another replica: credit, ends, drains, stale routes."""

from collections.abc import Iterator
from dataclasses import replace
from time import monotonic

import gevent
import pytest
from gevent import socket

from argotun.server.links import CALLERS, LEAVING, SINGLE
from argotun.server.ratelimit import TokenBucket
from argotun.tunnel.channel import HIGH_WATER
from argotun.wire.frames import INITIAL_WINDOW, PING
from tests.replicas import Replicas
from tests.rig import PATIENCE, Api, Gate, Peer, answers_its_own, until
from tests.v1_peers import CLOSE, CONNECT, CONNECTED, DATA, V1Agent

POST = b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n"
WATCH = b"GET /tunnel/c1/api/v1/pods?watch=1 HTTP/1.1\r\nHost: a\r\n\r\n"
BIG = 16 << 20


@pytest.fixture
def replicas() -> Iterator[Replicas]:
    with Replicas(3, api=Api(answers_its_own)) as replicas:
        yield replicas


def repeated(replicas: Replicas) -> dict[str, int]:
    """What the first replica has asked again, by why."""
    counted = replicas.servers[0].metrics.cluster("c1").repeated
    return {reason: count for reason, count in counted.items() if count}


def test_a_kept_connection_keeps_its_stream_of_the_link(replicas: Replicas) -> None:
    replicas.agent_at(1)
    client = replicas.client_of(0)
    for _ in range(3):
        assert replicas.ask(client=client).status == 200
    assert replicas.servers[1].metrics.cluster("c1").relayed == 1
    assert replicas.servers[0].metrics.cluster("c1").hops == 3


def test_an_agent_of_this_replica_is_used_before_one_elsewhere(replicas: Replicas) -> None:
    replicas.agent_at(1)
    replicas.agent_at(0)
    for _ in range(5):
        assert replicas.ask().status == 200
    assert replicas.servers[0].metrics.cluster("c1").hops == 0


def test_a_request_takes_one_hop_at_most(replicas: Replicas) -> None:
    replicas.agent_at(2)
    # The first replica knows of the second only, and that one of the third.
    replicas.directories[0].where["c1"] = {replicas.ids[1]: replicas.directories[0].where["c1"].popitem()[1]}
    answer = replicas.get_from(0)
    assert (answer.status, answer.header("retry-after")) == (503, "1")
    assert replicas.get_from(1).status == 200


def test_a_stale_route_costs_a_round_trip_and_the_next_is_used(replicas: Replicas) -> None:
    replicas.known("c1", 1)
    replicas.agent_at(2)
    for _ in range(4):
        client = replicas.client_of(0)
        client.send(POST)
        assert client.response().status == 200
    assert set(repeated(replicas)) == {"not_here"}


def test_a_request_waits_for_an_agent_that_comes_elsewhere() -> None:
    with Replicas(3, server={"reconnect_grace": PATIENCE}) as replicas:
        asked = gevent.spawn(replicas.get_from, 0)
        gevent.sleep(0)
        replicas.agent_at(1)
        assert asked.get(timeout=PATIENCE).status == 200


def stalling(gate: Gate, sent: list[int]) -> Api:
    def script(peer: Peer) -> None:
        # The kernel would take megabytes of each, all of them encrypted by this process.
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        while True:
            if b"/big" in peer.head():
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG)
                for _ in range(BIG >> 16):
                    peer.send(bytes(1 << 16))
                    sent[0] += 1 << 16
            else:
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n" + bytes(1 << 20))

    return Api(script)


def stand_still(sent: list[int]) -> None:
    """Wait until the API can send no more."""
    before = -1
    while before != sent[0]:
        before = sent[0]
        gevent.sleep(0.5)


def test_a_reader_that_stalls_stops_its_agent_within_two_windows() -> None:
    sent = [0]
    with Replicas(2, api=stalling(Gate(), sent)) as replicas:
        replicas.agent_at(1)
        client = replicas.client_of(0)
        client.send(b"GET /tunnel/c1/big HTTP/1.1\r\nHost: a\r\n\r\n")
        client.until(b"\r\n\r\n")
        stand_still(sent)
        (near,) = replicas.links(0)._links[replicas.ids[1]].tunnel.mux.streams.values()
        (far,) = replicas.servers[1].registry.all()[0].tunnel.mux.streams.values()
        (port,) = replicas.membership(replicas.servers[1]).peers._links
        (relay,) = port.mux.streams.values()
        # What the agent may have given beyond what the client's replica has taken.
        assert relay.queued <= HIGH_WATER + far.window
        assert far.window <= 8 * INITIAL_WINDOW >= near.window
        for _ in range(BIG >> 20):
            assert client.read(1 << 20) == bytes(1 << 20)


def test_stalled_streams_of_one_cluster_leave_another_alone() -> None:
    sent = [0]
    with Replicas(2, api=stalling(Gate(), sent)) as replicas:
        replicas.write_clusters(
            [{"id": "c1", "token": replicas.TOKEN}, {"id": "c2", "token": "token-of-agent-c2"}]
        )
        until(lambda: all("c2" in each.clusters.clusters for each in replicas.servers), "the cluster")
        replicas.agent_at(1)
        replicas.agent_at(1, "c2", token="token-of-agent-c2")
        for _ in range(200):
            replicas.client_of(0).send(b"GET /tunnel/c1/big HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: len(replicas.servers[1].registry.of("c1")[0].tunnel.mux.streams) == 200, "the streams")
        stand_still(sent)
        for _ in range(5):
            client = replicas.client_of(0)
            client.send(b"GET /tunnel/c2/small HTTP/1.1\r\nHost: a\r\n\r\n")
            client.head()
            # Piece by piece, for a test's patience is that for one of them.
            for _ in range(1 << 4):
                assert client.read(1 << 16) == bytes(1 << 16)
        replicas.settle()


def hanging(begun: Gate, end: Gate, first_hangs: bool = True) -> Api:
    """An API whose first request hangs; a watch says one event."""
    first = [first_hangs]

    def script(peer: Peer) -> None:
        while True:
            head = peer.head()
            if b"watch=1" in head:
                peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n")
                begun.open()
                end.wait()
            elif first[0]:
                first[0] = False
                if head.startswith(b"POST"):
                    peer.read(5)
                begun.open()
                end.wait()
            else:
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    return Api(script)


@pytest.mark.parametrize("what", ["the link", "the tunnel behind it", "the tunnel here"])
@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
def test_what_is_lost_on_its_way_is_asked_again_if_that_does_no_harm(what: str, request_: bytes) -> None:
    begun, end = Gate(), Gate()
    with Replicas(3, api=hanging(begun, end)) as replicas:
        replicas.agent_at(0 if "here" in what else 1)
        client = replicas.client_of(0)
        client.send(request_)
        begun.wait()
        replicas.agent_at(2)
        if what == "the link":
            replicas.links(0)._links[replicas.ids[1]].tunnel.end("lost")
        else:
            replicas.servers[0 if "here" in what else 1].registry.all()[0].tunnel.end("lost")
        answer = client.response()
        end.open()
        assert answer.status == (200 if request_ == GET else 502)
        assert answer.header("retry-after") is None
        assert repeated(replicas) == ({"lost": 1} if request_ == GET else {})


def test_one_replica_asks_its_other_agent_for_a_get_that_was_lost() -> None:
    begun, end = Gate(), Gate()
    with Replicas(1, api=hanging(begun, end)) as replicas:
        replicas.agent_at(0)
        client = replicas.client_of(0)
        client.send(GET)
        begun.wait()
        replicas.agent_at(0)
        first = replicas.servers[0].registry.all()[0]
        assert first.usable
        first.tunnel.end("lost")
        assert client.response().status == 200
        end.open()


def test_a_part_of_an_answer_is_cut_when_its_link_is_lost() -> None:
    begun, end = Gate(), Gate()
    with Replicas(2, api=hanging(begun, end)) as replicas:
        replicas.agent_at(1)
        client = replicas.client_of(0)
        client.send(WATCH)
        client.until(b"{}\n\r\n")
        replicas.links(0)._links[replicas.ids[1]].tunnel.end("lost")
        assert client.ended() == "reset"
        end.open()


def test_a_post_that_an_agent_cannot_deliver_goes_to_another_with_its_body(replicas: Replicas) -> None:
    replicas.agent_at(0, target=("127.0.0.1", 1))
    replicas.agent_at(1)
    client = replicas.client_of(0)
    client.send(POST)
    assert client.response().status == 200
    # It is passed over for a while.
    assert replicas.get_from(0).status == 200
    assert repeated(replicas) == {"refused": 1}


@pytest.mark.parametrize("who", ["agent", "replica"])
def test_watches_end_in_order_when_what_carries_them_drains(who: str) -> None:
    begun, end = Gate(), Gate()
    with Replicas(3, api=hanging(begun, end, False), server={"drain": PATIENCE}) as replicas:
        agent = replicas.agent_at(1, drain=PATIENCE)
        idle = replicas.client_of(0)
        assert replicas.get(client=idle).status == 200
        client = replicas.client_of(0)
        client.send(WATCH)
        client.until(b"{}\n\r\n")
        replicas.agent_at(2)
        if who == "replica":
            replicas.known("c1", 1, flags=LEAVING)
        draining = gevent.spawn((agent if who == "agent" else replicas.servers[1]).drain)
        assert client.until(b"0\r\n\r\n").endswith(b"0\r\n\r\n")
        end.open()
        assert replicas.get(client=idle).status == 200
        # No other agent can be told of here: it would go on until its time is up.
        draining.kill()


def test_an_agent_that_moved_is_found_by_asking_while_the_registry_is_away() -> None:
    with Replicas(3, server={"reconnect_grace": PATIENCE}) as replicas:
        for directory in replicas.directories:
            directory.current = False
        asked = gevent.spawn(replicas.get_from, 0)
        until(lambda: replicas.links(0).asked, "the question")
        # Nobody but the replica itself says so.
        agent = replicas.agent_at(1, known=False)
        assert agent.connected.is_set()
        assert asked.get(timeout=PATIENCE).status == 200
        # Its agents want to hear who asks, whoever says where they are.
        assert replicas.directories[0].where["c1"][replicas.ids[1]].flags == CALLERS
        assert replicas.get_from(2).status == 200


def test_a_request_that_may_not_wait_asks_for_an_agent_all_the_same_while_the_registry_is_away() -> None:
    """So the next one finds it: to a cluster that was away for long none but watches wait."""
    with Replicas(3, server={"reconnect_grace": 0.0}) as replicas:
        replicas.agent_at(1, known=False)
        for directory in replicas.directories:
            directory.current = False
        assert replicas.get_from(0).status == 503
        until(lambda: replicas.directories[0].where.get("c1"), "the answer to the question")
        assert replicas.get_from(0).status == 200


def test_a_link_that_was_lost_is_dialled_again(replicas: Replicas) -> None:
    replicas.agent_at(1)
    link = replicas.links(0)._links[replicas.ids[1]]
    link.tunnel.end("lost")
    until(lambda: not link.up, "the end of the link")
    until(lambda: link.up, "the link")
    assert replicas.get_from(0).status == 200


def test_a_link_is_dialled_where_the_directory_says_that_its_replica_is_now(replicas: Replicas) -> None:
    other = replicas.ids[1]
    link = replicas.links(0)._links[other]
    right = replicas.directories[0].replicas[other]
    wrong = replace(right, address="127.0.0.1:1")
    replicas.directories[0].replicas[other] = wrong
    replicas.links(0).sync()
    link.tunnel.end("lost")
    until(lambda: wrong.address in link.problem, "a dial that fails", explain=lambda: link.problem)
    replicas.directories[0].replicas[other] = right
    replicas.links(0).sync()
    until(lambda: link.up, "the link", explain=lambda: link.problem)


def test_a_replica_that_hears_nothing_is_in_doubt_whatever_it_says(replicas: Replicas) -> None:
    replicas.agent_at(1)
    replicas.agent_at(2)
    [link] = [link for link in replicas.links(0) if link.replica == replicas.ids[1]]
    # Its own PINGs go on.
    for tunnel in replicas.membership(replicas.servers[1]).peers._links:
        tunnel.mux._handlers[PING] = lambda stream, payload: None
    until(lambda: link.suspect, "doubt")
    assert monotonic() - link.tunnel.heard < replicas.links(0).patience
    for _ in range(3):
        assert replicas.get_from(0).status == 200
    assert replicas.servers[1].metrics.cluster("c1").relayed == 0


def test_a_version_1_agent_serves_by_a_hop() -> None:
    with Replicas(2, mutual=False) as replicas:
        replicas.known("c1", 1, flags=SINGLE)
        ingress, replicas.server = replicas.server, replicas.servers[1]
        agent = V1Agent(replicas)
        replicas.server = ingress
        until(lambda: replicas.servers[1].registry.of("c1"), "the session")
        client = replicas.client_of(0)
        client.send(GET)
        stream = agent.expect(CONNECT).stream
        agent.send(CONNECTED, stream)
        assert b"connection: close" in agent.until(b"\r\n\r\n", stream).lower()
        agent.send(DATA, stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        agent.send(CLOSE, stream)
        assert client.response().status == 200


def test_a_clusters_rate_is_one_for_all_of_its_agents_and_each_hop(monkeypatch: pytest.MonkeyPatch) -> None:
    # A second in which no bucket fills.
    take = TokenBucket.take
    monkeypatch.setattr(TokenBucket, "take", lambda bucket, _: take(bucket, 1000.0))
    with Replicas(3, api=Api(answers_its_own), cluster={"rateLimit": 4}) as replicas:
        # One route is a wrong one: a request on it is asked again.
        replicas.known("c1", 1)
        replicas.agent_at(2)
        replicas.agent_at(2)
        client = replicas.client_of(0)
        statuses = [replicas.ask(client=client).status for _ in range(7)]
        assert statuses == [200] * 4 + [429] * 3
