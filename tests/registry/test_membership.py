"""Servers that find each other by a real Redis, and what one who can write there may not do to them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from argotun.agent import backoff
from argotun.config import ServerConfig
from argotun.config.network import parse_advertised, parse_registry
from argotun.errors import ConfigError
from argotun.replicas.engine import TIMEOUT
from argotun.replicas.records import (
    EXCLUSIVE,
    LEAVING,
    Beat,
    Record,
    Route,
    beat_message,
    gone_message,
    hash_entry,
)
from argotun.server import registry
from argotun.server.addresses import advertised
from argotun.server.app import Server
from argotun.server.membership import HEARD, JOINED
from bench.echo import echo
from tests.balancer import Balancer
from tests.redis_server import RedisServer
from tests.replicas import Joined
from tests.rig import PATIENCE, Api, Authority, Peer, answers_its_own, until

FAKE = "f" * 16
ROOT = Path(__file__).parents[2]


@pytest.fixture
def joined(redis_server: RedisServer) -> Iterator[Joined]:
    with Joined(redis_server.url, api=Api(answers_its_own)) as replicas:
        yield replicas


def publish(server: RedisServer, beat: Beat) -> None:
    """Say something in the feed, as whoever can write to the registry may."""
    with server.client() as client:
        client.publish("{argotun}:feed", beat_message(beat))


def claims(joined: Joined, server: RedisServer, replica: str, route: Route, address: str = "") -> None:
    """Say that a replica has agents of c1, and wait until the first one believes it.

    Of one that lives, its own next beat may follow at once and end the belief.
    """
    directory = joined.membership(joined.servers[0]).directory
    tell, believed = directory.on_change, Event()

    def told(cluster: str) -> None:
        if replica in joined.where(0, cluster):
            believed.set()
        tell(cluster)

    directory.on_change = told
    own = joined.membership(joined.servers[1]).address
    record = Record(address or f"127.0.0.1:{own[1]}")
    with server.client() as client:
        seq = 1 << 40
        key = f"{{argotun}}:routes:{replica}"
        client.hset(key, mapping={"": hash_entry(seq, record), "c1": json.dumps(route)})
    publish(server, Beat(replica, seq, record, True, {"c1": route}))
    assert believed.wait(PATIENCE), "nobody believed the claim"
    directory.on_change = tell


# ── joining ────────────────────────────────────────────────────────────────────────────────────


def test_agents_that_come_and_go_are_known_elsewhere(joined: Joined) -> None:
    agent = joined.agent_at(1)
    assert joined.get_from(0).status == 200
    assert joined.servers[1].metrics.cluster("c1").relayed == 1
    agent.stop()
    until(lambda: not joined.where(0), "the end of the route")


def test_a_replica_that_ends_is_forgotten_at_once(joined: Joined) -> None:
    joined.servers[1].drain()
    until(lambda: not joined.membership(joined.servers[0]).directory.replicas, "the end of the replica")
    until(lambda: not list(joined.links(0)), "the end of the link")


def test_an_agent_that_drains_serves_others_until_another_one_is_there(joined: Joined) -> None:
    agent = joined.agent_at(1, drain=PATIENCE)
    [session] = joined.servers[1].registry.of("c1")
    draining = gevent.spawn(agent.drain)
    directory = joined.membership(joined.servers[0]).directory
    until(lambda: directory.routes("c1")[0][1].flags & LEAVING, "the word that it goes")
    assert joined.get_from(0).status == 200
    assert not session.leaving
    joined.agent_at(0)
    until(lambda: not joined.where(0), "the end of the route")
    assert joined.get_from(1).status == 200
    draining.join()


def test_an_agent_that_drains_at_two_replicas_serves_until_there_is_another(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "BESIDE", 0.1)
    with Balancer([server.public_address for server in joined.servers]) as balancer:
        agent = joined.make_agent(server=f"wss://127.0.0.1:{balancer.port}/connect", drain=30.0)
        agent.start()
        joined.known("c1", 0)
        joined.known("c1", 1)
        sessions = [session for server in joined.servers for session in server.registry.all()]
        draining = gevent.spawn(agent.drain)
        until(lambda: all(session.lingering for session in sessions), "the word at both")
        gevent.sleep(2 * HEARD)
        for number in (0, 1):
            assert joined.get_from(number).status == 200
        assert not any(session.leaving for session in sessions)
        joined.agent_at(0)
        until(lambda: all(session.leaving for session in sessions), "the end of both")
        # It does not wait for its time to be over.
        draining.join(15)
        assert draining.dead
        assert joined.get_from(1).status == 200


def test_an_agent_that_drains_beside_one_of_another_replica_goes_at_once(redis_server: RedisServer) -> None:
    def answers_after_the_body(peer: Peer) -> None:
        head = peer.head()
        peer.read(1)
        peer.send(echo(head))

    with Joined(redis_server.url, api=Api(answers_after_the_body)) as joined:
        agent = joined.agent_at(1, drain=PATIENCE)
        client = joined.client_of(0)
        client.send(b"POST /tunnel/c1/slow HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
        until(lambda: joined.servers[1].metrics.cluster("c1").relayed == 1, "the request")
        joined.agent_at(0)
        draining = gevent.spawn(agent.drain)
        until(lambda: not joined.where(0), "the end of the route")
        assert joined.servers[1].registry.of("c1")[0].leaving
        client.send(b"x")
        assert client.response().status == 200
        draining.join()


def test_rate_limits_are_shared_by_the_replicas_that_live(redis_server: RedisServer) -> None:
    with Joined(redis_server.url, server={"rate_limit": 6.0}) as joined:
        clients = joined.servers[0].clients

        def allowed() -> int:
            assert clients._bucket is not None
            now = monotonic()
            return sum(clients._bucket.take(now) for _ in range(10))

        until(lambda: clients._replicas == 2, "the other replica")
        assert allowed() == 3
        joined.servers[1].stop()
        until(lambda: clients._replicas == 1, "its end")
        assert allowed() == 6


def test_a_replica_has_joined_once_it_knows_the_others(joined: Joined, redis_server: RedisServer) -> None:
    for number in range(2):
        until(lambda at=number: joined.get_from(at, "/joined").status == 200, "it has joined")  # type: ignore[misc]
    redis_server.kill()
    with Joined(redis_server.url, count=1) as alone:
        assert alone.get_from(0, "/joined").status == 503
        alone.membership(alone.servers[0])._since -= JOINED
        assert alone.get_from(0, "/joined").status == 200


def test_status_says_who_has_what(joined: Joined) -> None:
    joined.agent_at(1)
    status = joined.get_from(0, "/status").json()
    assert status["replica"] == joined.ids[0]
    assert status["elsewhere"] == {"c1": [joined.ids[1]]}
    assert [link["up"] for link in status["links"]] == [True]
    assert status["registry"]["replicas"][joined.ids[1]]["clusters"] == 1


def test_metrics_count_hops_and_links(joined: Joined) -> None:
    joined.agent_at(1)
    assert joined.get_from(0).status == 200
    until(lambda: joined.servers[0].metrics.cluster("c1").hops == 1, "the count")
    until(lambda: joined.membership(joined.servers[0]).directory.follows(monotonic()), "our own beat")
    port = joined.membership(joined.servers[1]).address[1]
    lines = {
        'argotun_hops_total{cluster="c1"} 1.0',
        f'argotun_peer_up{{peer="127.0.0.1:{port}"}} 1.0',
        "argotun_registry_up 1.0",
        "argotun_replicas 2.0",
    }
    # A beat that comes late on a busy machine is a registry that is down for so long.
    until(lambda: lines <= set(joined.get_from(0, "/metrics").body.decode().splitlines()), "the lines")


def test_a_server_by_itself_imports_no_redis() -> None:
    code = (
        "import sys\nfrom argotun.config import ServerConfig\nfrom argotun.server.app import Server\n"
        "Server(ServerConfig(clusters='[]'))\n"
        "print([name for name in sys.modules if name.startswith('redis') or name.endswith('membership')])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert said.stdout == "[]\n"


# ── one agent only ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_that_come_at_once_exactly_the_later_one_stays(
    first: int, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Joined(redis_server.url, cluster={"agents": 1}) as joined:
        for number in (first, 1 - first):
            # By more than two replicas may differ in what they know of Redis' clock.
            earlier = 5 * TIMEOUT if number == first else 0.0
            monkeypatch.setattr(registry, "monotonic", lambda earlier=earlier: monotonic() - earlier)
            url = f"wss://127.0.0.1:{joined.servers[number].public_address[1]}/connect"
            # One that was replaced stays away for half of that.
            joined.make_agent(server=url, max_retry=60.0).start()
            until(lambda at=number: joined.servers[at].registry.of("c1"), "the session")  # type: ignore[misc]
        later = joined.servers[1 - first].registry.of("c1")[0]
        until(lambda: not any(s.usable for s in joined.servers[first].registry.of("c1")), "the end of one")
        until(lambda: joined.where(first) == {joined.ids[1 - first]}, "the route")
        assert later.usable


# ── who can write to the registry ──────────────────────────────────────────────────────────────


def test_a_claim_of_a_newer_agent_ends_no_session(redis_server: RedisServer) -> None:
    with Joined(redis_server.url, cluster={"agents": 1}) as joined:
        joined.agent_at(0)
        [session] = joined.servers[0].registry.of("c1")
        shared = joined.membership(joined.servers[0]).shared
        assert shared is not None
        until(lambda: shared.mine("c1"), "our own route")
        claims(joined, redis_server, joined.ids[1], Route(1 << 52, 1, EXCLUSIVE))
        # The replica that is said to have one has been asked, and has had time to say so.
        gevent.sleep(1.0)
        assert joined.servers[0].registry.of("c1") == [session]
        assert session.usable
        assert joined.get_from(0).status == 200


def test_agents_that_share_a_cluster_are_not_set_against_each_other(
    joined: Joined, redis_server: RedisServer
) -> None:
    """The other replica has an agent, but none that stands alone: on its link it says so."""
    for number in (0, 1):
        joined.agent_at(number)
    [session] = joined.servers[0].registry.of("c1")
    membership = joined.membership(joined.servers[0])
    until(lambda: membership.shared is not None and membership.shared.mine("c1"), "our own route")
    heard: list[tuple[Any, ...]] = []
    had, membership.links.had = membership.links.had, lambda *said: (heard.append(said), had(*said))
    claims(joined, redis_server, joined.ids[1], Route(1 << 52, 1, EXCLUSIVE))
    until(lambda: heard, "the other replica's own word")
    assert session.usable
    assert heard[0][:2] == ("c1", joined.ids[1])


def test_a_claim_of_an_agent_that_is_not_there_costs_a_moment(
    joined: Joined, redis_server: RedisServer
) -> None:
    claims(joined, redis_server, joined.ids[1], Route(1, 1))
    assert joined.get_from(0).status == 503
    joined.agent_at(1)
    assert joined.get_from(0).status == 200


def test_a_replica_of_somebody_elses_gets_no_request(joined: Joined, redis_server: RedisServer) -> None:
    heard: list[bytes] = []

    def listen(sock: Any, _peer: Any) -> None:
        heard.append(sock.recv(65536))
        sock.close()

    thief = StreamServer(("127.0.0.1", 0), listen)
    thief.start()
    try:
        claims(joined, redis_server, FAKE, Route(1 << 52, 1), f"127.0.0.1:{thief.server_port}")
        joined.agent_at(1)
        until(lambda: len(heard) > 2, "several dials")
        assert joined.get_from(0).status == 200
        # The first record of a TLS handshake, and nothing that follows one.
        assert all(data[:1] == b"\x16" for data in heard)
    finally:
        thief.stop()


def test_a_replica_at_the_address_of_another_gets_no_request(
    joined: Joined, redis_server: RedisServer
) -> None:
    """Its certificate is a replica's, but it is not the one that was looked for."""
    claims(joined, redis_server, FAKE, Route(1 << 52, 1))
    [link] = [link for link in joined.links(0) if link.replica == FAKE]
    until(lambda: "another replica answers" in link.problem, "its end", explain=lambda: link.problem)
    assert joined.get_from(0).status == 503


def test_a_false_word_that_a_replica_has_ended_ends_nothing_that_runs(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[object] = []

    def begins(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n")
        while more := peer.sock.recv(100):
            peer.send(b"%x\r\n%b\r\n" % (len(more), more))

    with Joined(redis_server.url, api=Api(begins)) as joined:
        joined.agent_at(1)
        client = joined.client_of(0)
        client.send(b"GET /tunnel/c1/api/v1/pods?watch=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        client.until(b"{}\n\r\n")
        [link] = joined.links(0)
        tunnel = link.tunnel
        directory = joined.membership(joined.servers[0]).directory
        # The truth may follow so soon that nobody sees the replica away.
        gone = directory.gone
        monkeypatch.setattr(directory, "gone", lambda replica: ended.append(gone(replica)))
        with redis_server.client() as writer:
            writer.publish("{argotun}:feed", gone_message(joined.ids[1]))
        until(lambda: ended, "the false word")
        # Its next beat says the truth.
        until(lambda: joined.where(0) == {joined.ids[1]}, "the route")
        assert [link.tunnel for link in joined.links(0)] == [tunnel]
        (peer,) = joined.api.live
        peer.send(b"3\r\n[]\n\r\n")
        client.until(b"[]\n\r\n")


def test_a_false_address_of_a_replica_is_forgotten_with_its_next_beat(redis_server: RedisServer) -> None:
    """It was said before the replica itself was heard for the first time."""
    with Joined(redis_server.url, count=1, api=Api(answers_its_own)) as joined:
        joined.ids.append("0" * 15 + "9")
        shared = joined.membership(joined.servers[0]).shared
        until(lambda: shared is not None and shared.up, "the registry")
        publish(redis_server, Beat(joined.ids[1], 0, Record("127.0.0.1:1"), True, {}))
        until(lambda: any(link.tried for link in joined.links(0)), "a dial")
        joined.servers.append(joined._start(1, None))
        joined._count = 2
        until(lambda: joined.meets(0) == 1, "the link")
        joined.agent_at(1)
        assert joined.get_from(0).status == 200


# ── what the operator must not do ──────────────────────────────────────────────────────────────


def options(folder: Path, **more: Any) -> ServerConfig:
    authority = Authority(folder)
    authority.issue("peer", "argotun-peer")
    return ServerConfig(
        clusters="[]",
        registry=parse_registry("redis://127.0.0.1:1"),
        peer_cert=authority.path("peer.pem"),
        peer_key=authority.path("peer.key"),
        peer_ca=authority.path("ca.pem"),
        tls_cert=authority.path("server.pem"),
        tls_key=authority.path("server.key"),
        **more,
    )


def test_a_ca_that_names_agents_too_is_refused(tmp_path: Path) -> None:
    """Under another path, beside other ones: what is in the files counts."""
    config = options(tmp_path)
    other = Authority(tmp_path)
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(other.ca.cert_pem.bytes() + Path(str(config.peer_ca)).read_bytes())
    with pytest.raises(ConfigError, match="a CA for replicas only, and this one is in --tls-client-ca too"):
        Server(replace(config, tls_client_ca=str(bundle), peer_ca=str(tmp_path / "ca.pem")))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1"])
def test_an_address_that_others_cannot_dial_is_refused(host: str) -> None:
    config = ServerConfig(registry=parse_registry("redis://redis.example"), advertise=(host, 8444))
    with pytest.raises(ConfigError, match=r"--advertise: .* an address that other replicas can dial"):
        advertised(config, 8444)


def test_beside_a_registry_of_this_machine_it_may_be_of_this_machine() -> None:
    for url in ("redis://127.0.0.1", "redis://localhost:1", "unix:///run/redis.sock"):
        config = ServerConfig(registry=parse_registry(url), advertise=("127.0.0.1", 8444))
        assert advertised(config, 1) == ("127.0.0.1", 8444)


def test_what_is_advertised_is_where_the_port_is() -> None:
    config = ServerConfig(registry=parse_registry("redis://r.example"), peer_addr=("192.0.2.7", 0))
    assert advertised(config, 4711) == ("192.0.2.7", 4711)


@pytest.mark.parametrize("host", ["10.0.3.7", "fd00::7", "replica.example"])
def test_an_address_without_a_port_is_that_of_the_peer_port(host: str) -> None:
    config = ServerConfig(registry=parse_registry("redis://r.example"), advertise=parse_advertised(host))
    assert advertised(config, 4711) == (host, 4711)


def test_of_every_interface_the_address_of_the_host_is_advertised(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("192.0.2.9", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    config = ServerConfig(registry=parse_registry("redis://r.example"))
    assert advertised(config, 8444) == ("192.0.2.9", 8444)
