"""Ports and tunnels that are crowded: others get their turn, and their place."""

import ipaddress
import logging
import socket as plain_socket
from collections.abc import Callable

import gevent
import pytest
from gevent import socket
from gevent.ssl import create_default_context

from argotun.observe import probes
from tests.rig import Api, Peer, Rig, answer, until

WATCH = b"GET /tunnel/c1/api/v1/pods?watch=1 HTTP/1.1\r\nHost: a\r\n\r\n"
GET = b"GET /tunnel/c1/api/v1/pods HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"GET /tunnel/c1/%b HTTP/1.1\r\nHost: a\r\n\r\n"


def watches(peer: Peer) -> None:
    """An API that answers at once, and keeps watches open."""
    while True:
        if b"watch=1" in peer.head():
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
            peer.rest()
            return
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def watching(rig: Rig) -> int:
    """Ask for a watch on a new connection; the status."""
    client = rig.client()
    client.send(WATCH)
    return int(client.head().split(b" ")[1])


# ── the agent's streams ────────────────────────────────────────────────────────────────────────────


def test_idle_clients_give_their_streams_up_for_others() -> None:
    with Rig(agent={"max_conns": 10}) as rig:
        idle = [rig.client() for _ in range(30)]
        assert [rig.get(client=client).status for client in idle] == [200] * 30
        assert len(rig.session.tunnel.mux.streams) <= 10
        # Those whose stream was given up open another one, and nobody is told anything.
        assert [rig.get(client=client).status for client in idle] == [200] * 30


def test_watches_leave_the_last_tenth_to_short_requests(caplog: pytest.LogCaptureFixture) -> None:
    with Rig(Api(watches), agent={"max_conns": 20}) as rig:
        statuses = [watching(rig) for _ in range(24)]
        assert statuses == [200] * 18 + [429] * 6
        assert rig.get().status == 200
        for words in ("limit of streams (--max-conns)", "streams are taken (--max-conns)"):
            (line,) = [record for record in caplog.records if words in record.getMessage()]
            assert (line.levelno, line.fields["limit"]) == (logging.WARNING, 20)  # type: ignore[attr-defined]


def test_a_kept_stream_becomes_no_watch_in_the_last_tenth() -> None:
    with Rig(Api(watches), agent={"max_conns": 20}) as rig:
        kept = rig.client()
        assert rig.get(client=kept).status == 200
        assert [watching(rig) for _ in range(17)] == [200] * 17
        kept.send(WATCH)
        assert kept.response().status == 429
        assert rig.get(client=kept).status == 200


# ── the internal port's places ─────────────────────────────────────────────────────────────────────


def test_watches_leave_the_last_tenth_of_the_port_to_short_requests(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Rig(Api(watches), server={"internal_connections": 20}) as rig:
        assert [watching(rig) for _ in range(18)] == [200] * 18
        late = rig.client()
        for _ in range(2):
            late.send(WATCH)
            assert late.response().status == 429
        assert rig.get(client=late).status == 200
    (line,) = [record for record in caplog.records if "--internal-connections" in record.getMessage()]
    assert (line.levelno, line.fields["limit"]) == (logging.WARNING, 20)  # type: ignore[attr-defined]


def test_who_has_asked_nothing_makes_room_for_who_asks() -> None:
    with Rig(server={"internal_connections": 16, "internal_connections_per_address": 16}) as rig:
        asked = rig.client()
        assert rig.get(client=asked).status == 200
        silent = [rig.client() for _ in range(40)]
        assert rig.get().status == 200
        assert rig.get(client=asked).status == 200
        assert silent[0].ended() in ("closed", "reset")


def test_where_all_have_asked_a_new_client_is_sent_away() -> None:
    with Rig(server={"internal_connections": 16}) as rig:
        asked = [rig.client() for _ in range(16)]
        assert {rig.get(client=client).status for client in asked} == {200}
        assert rig.client().ended() in ("closed", "reset")
        assert {rig.get(client=client).status for client in asked} == {200}
        asked[0].close()
        until(lambda: rig.server._internal_listener.places.taken == 15, "the free place")
        assert rig.get().status == 200


def test_a_client_that_never_says_a_byte_is_not_kept() -> None:
    with Rig(server={"head_timeout": 0.3, "idle_timeout": 600.0}) as rig:
        silent, kept = rig.client(), rig.client()
        assert rig.get(client=kept).status == 200
        assert silent.ended() == "closed"
        assert rig.get(client=kept).status == 200


# ── answers of our own ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "request_head",
    [
        b"HEAD /status HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD /nothing HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /tunnel/unknown/api/v1/pods HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_others_have_their_turn_between_answers_of_our_own(request_head: bytes) -> None:
    """A client that pipelines a thousand of them, and another one that asks meanwhile."""
    count = 1000
    with Rig(agent=None) as rig:
        client, other = rig.client(), rig.client()
        client.send(request_head * count)
        answered = 0

        def drain() -> None:
            nonlocal answered
            while answered < count:
                client.until(b"HTTP/1.1 ")
                answered += 1

        draining = gevent.spawn(drain)
        until(lambda: answered > 0, "the first answer")
        assert rig.get("/healthz", client=other).status == 200
        assert answered < count / 2
        draining.join(30)
        assert answered == count


@pytest.mark.parametrize("path", ["/status", "/metrics"])
def test_what_costs_much_is_made_once_a_second(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "FRESH", 60.0)
    with Rig(agent=None) as rig:
        first = rig.get(path).body
        rig.server.metrics.auth_failures("origin")
        assert rig.get(path).body == first
        monkeypatch.setattr(probes, "FRESH", 0.0)
        assert rig.get(path).body != first


def test_a_clusters_own_limit_takes_nothing_from_the_servers() -> None:
    with Rig(cluster={"rateLimit": 1}, server={"rate_limit": 20.0}) as rig:
        rig.write_clusters(
            [{"id": "c1", "token": rig.TOKEN, "rateLimit": 1}, {"id": "c2", "token": "token-of-agent-c2"}]
        )
        rig.server.clusters.refresh()
        rig.start_agent(token="token-of-agent-c2")
        client = rig.client()
        assert [rig.get(client=client).status for _ in range(60)].count(429) > 40
        assert {rig.get("/tunnel/c2/x", client=client).status for _ in range(10)} == {200}


# ── the public port ────────────────────────────────────────────────────────────────────────────────


def context(rig: Rig) -> object:
    made = create_default_context(cafile=rig.authority.path("ca.pem"))
    made.load_cert_chain(rig.authority.path("agent.pem"), rig.authority.path("agent.key"))
    return made


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x0a\x00\x00\x01\xdc\x04\x01\xbb",
    ],
    ids=["version 1", "version 2"],
)
def test_a_trusted_proxy_says_whose_the_connection_is(
    header: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    trusted = (ipaddress.ip_network("127.0.0.0/8"),)
    with Rig(agent=None, server={"trusted_proxies": trusted}) as rig:
        sock = socket.create_connection(rig.server.public_address)
        sock.sendall(header)
        tls = context(rig).wrap_socket(sock, server_hostname="127.0.0.1")  # type: ignore[attr-defined]
        peer = rig.keep(Peer(tls))
        peer.send(
            b"GET /connect HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer wrong\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\n\r\n"
        )
        assert peer.response().status == 401
        (record,) = (record for record in caplog.records if "an agent was refused" in record.msg)
        assert record.fields["peer"] == "192.0.2.7:56324"  # type: ignore[attr-defined]


def test_from_a_trusted_proxy_nothing_passes_without_its_header() -> None:
    trusted = (ipaddress.ip_network("127.0.0.1"),)
    with Rig(mutual=False, agent=None, server={"trusted_proxies": trusted}) as rig:
        peer = rig.keep(Peer(socket.create_connection(rig.server.public_address)))
        peer.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert peer.ended() in ("closed", "reset")


def test_from_anybody_else_a_header_is_no_head() -> None:
    with Rig(mutual=False, agent=None) as rig:
        peer = rig.keep(Peer(socket.create_connection(rig.server.public_address)))
        peer.send(b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert peer.response().status == 400


@pytest.mark.parametrize("mutual", [True, False], ids=["tls", "plain"])
def test_an_agent_is_in_while_strangers_fill_the_public_port(mutual: bool) -> None:
    """They drip a hello, or a head where a gateway ends TLS, and come again when they are dropped."""
    patient = {"public_connections": 32, "hello_timeout": 60.0, "head_timeout": 60.0}
    first = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" if mutual else b"GET /"
    with Rig(mutual=mutual, agent=None, server=patient) as rig:
        over = False

        def drip() -> None:
            while not over:
                sock = plain_socket.socket()
                try:
                    sock.connect(rig.server.public_address)
                    sock.sendall(first)
                    while not over:
                        sock.sendall(b"x")
                        gevent.sleep(0.05)
                except OSError:
                    gevent.sleep(0.01)
                finally:
                    sock.close()

        strangers = [gevent.spawn(drip) for _ in range(100)]
        until(lambda: rig.server._public_listener.places.dropped, "a full port")
        try:
            rig.start_agent()
            assert rig.get().status == 200
        finally:
            over = True
            gevent.joinall(strangers, timeout=30)


def test_a_tunnel_is_not_ended_for_strangers(until_dropped: Callable[[Rig], None]) -> None:
    with Rig(Api(answer()), server={"public_connections": 16}) as rig:
        session = rig.session
        until_dropped(rig)
        assert rig.session is session
        assert rig.get().status == 200


@pytest.fixture
def until_dropped() -> Callable[[Rig], None]:
    def fill(rig: Rig) -> None:
        for _ in range(60):
            rig.keep(Peer(socket.create_connection(rig.server.public_address)))
        until(lambda: rig.server._public_listener.places.dropped > 30, "a full port")

    return fill
