"""The public port: who is let in, and what everybody else hears."""

import ssl
from collections.abc import Iterator
from time import perf_counter

import gevent
import pytest
from gevent import socket
from gevent.ssl import create_default_context

from argotun.config import ServerConfig
from argotun.server import agents, guesses
from argotun.wire.head import parse_request
from tests.raw_websocket import RawWebSocket, Refused, dial
from tests.rig import PATIENCE, Peer, Rig, until
from tests.v2_peers import SUBPROTOCOL, V2Agent, hello

BEARER = b"Authorization: Bearer token-of-agent-c1\r\n"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """A public port with mTLS, and no agent."""
    with Rig(agent=None) as rig:
        yield rig


@pytest.fixture(scope="module")
def plain() -> Iterator[Rig]:
    """A public port without TLS."""
    with Rig(mutual=False, agent=None) as rig:
        yield rig


@pytest.fixture(params=[True, False], ids=["tls", "plain"])
def hasty(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A public port that waits for nobody."""
    with Rig(mutual=request.param, agent=None, server={"head_timeout": 0.3, "handshake_timeout": 0.3}) as rig:
        yield rig


def context(rig: Rig, certificate: bool = True) -> ssl.SSLContext:
    """An agent's TLS."""
    made = create_default_context(cafile=rig.authority.path("ca.pem"))
    if certificate:
        made.load_cert_chain(rig.authority.path("agent.pem"), rig.authority.path("agent.key"))
    return made


def upgrade(rig: Rig, fields: bytes = b"", **options: object) -> RawWebSocket:
    """Ask for a tunnel; Refused when there is none."""
    return dial(rig.server.public_address, SUBPROTOCOL + fields, context=context(rig), **options)  # type: ignore[arg-type]


def refused(rig: Rig, fields: bytes = b"", **options: object) -> Refused:
    with pytest.raises(Refused) as caught:
        upgrade(rig, fields, **options)
    return caught.value


def failures(rig: Rig) -> dict[str, int]:
    return dict(rig.server.metrics._auth_failures)


def raw(rig: Rig, data: bytes) -> Peer:
    """Bytes to a port without TLS."""
    peer = rig.keep(Peer(socket.create_connection(rig.server.public_address)))
    peer.send(data)
    return peer


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (b"", "no_token"),
        (b"Authorization: Bearer token-of-agent-c2\r\n", "unknown_token"),
        (b"Authorization: Bearer token-of-agent-c1x\r\n", "unknown_token"),
        (b"Authorization: Bearer token-of-agent-c\r\n", "unknown_token"),
        (b"Authorization: Bearer TOK-C1\r\n", "unknown_token"),
        (b"Authorization: Bearer\r\n", "unknown_token"),
        (b"Authorization: Basic token-of-agent-c1\r\n", "unknown_token"),
        (b"Authorization: token-of-agent-c1\r\n", "unknown_token"),
        (b"Authorization:\r\n", "unknown_token"),
        (BEARER + BEARER, "unknown_token"),
        (BEARER + b"authorization: Bearer token-of-agent-c2\r\n", "unknown_token"),
        (b"Proxy-Authorization: Bearer token-of-agent-c1\r\n", "no_token"),
        (b"Cookie: token=token-of-agent-c1\r\n", "no_token"),
    ],
)
def test_a_token_that_is_not_the_clusters_is_401_and_counted(rig: Rig, fields: bytes, reason: str) -> None:
    before = failures(rig)
    refusal = refused(rig, fields)
    assert refusal.status == 401
    assert b"WWW-Authenticate: Bearer\r\n" in refusal.head
    assert b"tok" not in refusal.body.replace(b"token", b"")
    after = failures(rig)
    assert after[reason] == before[reason] + 1
    assert sum(after.values()) == sum(before.values()) + 1


def test_a_token_in_the_query_is_no_token(rig: Rig) -> None:
    assert refused(rig, path=b"/connect?token=token-of-agent-c1").status == 401


def test_a_certificate_of_another_name_is_403_and_counted() -> None:
    with Rig(agent=None, cluster={"certNames": ["other.example"]}) as rig:
        assert refused(rig, BEARER).status == 403
        assert failures(rig)["certificate"] == 1
        # Without the token nobody learns that a name is asked for.
        assert refused(rig).status == 401


def test_a_certificate_of_the_clusters_name_is_let_in() -> None:
    with Rig(agent=None, cluster={"certNames": ["AGENT.example"]}) as rig:
        V2Agent(rig, context=context(rig))
        until(lambda: len(rig.server.registry) == 1, "the session")


def test_names_that_are_asked_for_refuse_a_port_without_certificates() -> None:
    with Rig(mutual=False, agent=None, cluster={"certNames": ["agent.example"]}) as rig:
        with pytest.raises(Refused) as caught:
            dial(rig.server.public_address, BEARER)
        assert caught.value.status == 403


def test_a_browser_is_403_and_counted(rig: Rig) -> None:
    before = failures(rig)["origin"]
    assert refused(rig, BEARER + b"Origin: https://evil.example\r\n").status == 403
    assert refused(rig, BEARER + b"origin:\r\n").status == 403
    assert failures(rig)["origin"] == before + 2


def test_no_client_certificate_is_a_failed_handshake_and_counted(rig: Rig) -> None:
    before = failures(rig)["handshake"]
    with pytest.raises((ssl.SSLError, EOFError, ConnectionError)):
        dial(rig.server.public_address, BEARER, context=context(rig, certificate=False))
    until(lambda: failures(rig)["handshake"] == before + 1, "the count")


def test_plain_http_to_the_tls_port_is_a_failed_handshake(rig: Rig) -> None:
    before = failures(rig)["handshake"]
    raw(rig, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").ended()
    until(lambda: failures(rig)["handshake"] == before + 1, "the count")


@pytest.mark.parametrize("sent", [b"", b"GET /connect HTTP/1.1\r\nHost: "], ids=["nothing", "half a head"])
def test_a_silent_client_is_let_go(hasty: Rig, sent: bytes) -> None:
    assert raw(hasty, sent).ended() in ("closed", "reset")


@pytest.mark.parametrize("hasty", [False], indirect=True)
def test_a_head_that_comes_byte_by_byte_for_ever_is_let_go(hasty: Rig) -> None:
    peer = raw(hasty, b"GET /connect HTTP/1.1\r\n")
    ended = gevent.spawn(peer.ended)
    with gevent.Timeout(PATIENCE, AssertionError("the head may take for ever")):
        while not ended.ready():
            try:
                peer.send(b"x")
            except OSError:
                break
            gevent.sleep(0.02)


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /healthz", 200),
        (b"GET /healthz?verbose", 200),
        (b"HEAD /healthz", 200),
        (b"GET /", 200),
        (b"HEAD /", 200),
        (b"GET /?x", 200),
        (b"POST /", 405),
        (b"GET /metrics", 404),
        (b"GET /readyz", 404),
        (b"GET /status", 404),
        (b"GET /tunnel/c1/api", 404),
        (b"GET /connect/", 404),
        (b"GET //connect", 404),
        (b"GET /CONNECT", 404),
        (b"GET /%63onnect", 404),
        (b"GET /connect/../healthz", 404),
        (b"POST /tunnel/c1/api", 404),
        (b"POST /connect", 405),
        (b"HEAD /connect", 405),
        (b"PUT /healthz", 405),
        (b"GET /connect", 401),
    ],
)
def test_nothing_but_connect_and_healthz_is_served(plain: Rig, request_line: bytes, status: int) -> None:
    method = request_line.partition(b" ")[0].decode()
    peer = raw(plain, request_line + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = peer.response(method)
    assert answer.status == status
    assert not peer.rest()
    assert answer.header("connection") == "close"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /connect HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 400),
        (b"GET /connect HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /connect HTTP/1.1\nHost: a\n\n\r\n\r\n", 400),
        (b"GET /connect HTTP/1.1\r\nHost: a\r\nA: b\x00\r\n\r\n", 400),
        (b"GET /connect HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n", 400),
        (b"GET /connect HTTP/9.9\r\nHost: a\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /connect HTTP/1.1\r\n" + b"A: b\r\n" * 20000 + b"\r\n", 431),
        (b"GET /connect HTTP/1.1\r\nA: " + b"x" * 70000, 431),
    ],
)
def test_a_bad_head_is_refused_in_words(plain: Rig, head: bytes, status: int) -> None:
    answer = raw(plain, head).response()
    assert answer.status == status
    assert answer.body.endswith(b"\n")


@pytest.mark.parametrize(
    ("options", "status"),
    [({"version": b"8"}, 426), ({"version": b"0"}, 426), ({"method": b"POST"}, 405)],
)
def test_another_kind_of_upgrade_is_refused(rig: Rig, options: dict[str, bytes], status: int) -> None:
    refusal = refused(rig, BEARER, **options)
    assert refusal.status == status
    if status == 426:
        assert b"Sec-WebSocket-Version: 13\r\n" in refusal.head
        assert b"Upgrade: websocket\r\n" in refusal.head


def test_connect_without_an_upgrade_is_426(plain: Rig) -> None:
    answer = raw(plain, b"GET /connect HTTP/1.1\r\nHost: a\r\n" + BEARER + b"\r\n").response()
    assert answer.status == 426


@pytest.mark.parametrize("offer", [b"argotun.v22", b"xargotun.v2", b"ARGOTUN.V2", b"argotun"])
def test_a_subprotocol_that_only_looks_like_ours_is_version_1(plain: Rig, offer: bytes) -> None:
    ws = dial(plain.server.public_address, BEARER + b"Sec-WebSocket-Protocol: %b\r\n" % offer)
    plain.keep(ws.peer)
    assert b"sec-websocket-protocol" not in ws.head.lower()
    until(lambda: [s.tunnel.version for s in plain.server.registry.all()] == [1], "the session")
    ws.close()
    until(lambda: not plain.server.registry.all(), "its end")


@pytest.mark.parametrize("offer", [b"", b"Sec-WebSocket-Protocol: argotun.v1\r\n"])
def test_version_1_is_refused_unless_it_is_asked_for(offer: bytes) -> None:
    with Rig(agent=None, server={"min_wire_version": ServerConfig().min_wire_version}) as rig:
        with pytest.raises(Refused) as caught:
            dial(rig.server.public_address, BEARER + offer, context=context(rig))
        assert caught.value.status == 426
        assert b"--min-wire-version" in caught.value.body
        assert b"Upgrade: websocket\r\n" in caught.value.head
        assert failures(rig)["version"] == 1
        V2Agent(rig, context=context(rig))
        until(lambda: len(rig.server.registry) == 1, "the session")


def test_frames_that_came_with_the_upgrade_are_read(plain: Rig) -> None:
    sock = socket.create_connection(plain.server.public_address)
    peer = plain.keep(Peer(sock))
    ws = RawWebSocket(peer, True, b"")
    peer.send(
        b"GET /connect HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        + SUBPROTOCOL
        + BEARER
        + b"\r\n"
        + ws.frame(hello())
    )
    until(lambda: len(plain.server.registry) == 1, "the session")
    peer.close()
    until(lambda: not plain.server.registry.all(), "its end")


def test_a_draining_server_lets_no_agent_in() -> None:
    with Rig(mutual=False, agent=None) as rig:
        rig.server.agents.draining = True
        with pytest.raises(Refused) as caught:
            dial(rig.server.public_address, BEARER)
        assert caught.value.status == 503
        assert b"Retry-After: " in caught.value.head


def test_a_field_is_found_in_linear_time() -> None:
    """A value of blanks made a pattern with two greedy halves look at every pair of them."""

    def seconds(size: int) -> float:
        value = b"x" + b" " * size + b"x"
        head = parse_request(b"GET /connect HTTP/1.1\r\nHost: a\r\nAuthorization: " + value + b"\r\n\r\n")
        times = []
        for _ in range(5):
            began = perf_counter()
            assert agents._field(head, b"authorization") == value
            times.append(perf_counter() - began)
        return min(times)

    assert seconds(32000) < 100 * seconds(1000)


def test_many_refused_agents_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "LONGEST", 0.2)
    with Rig(agent=None) as rig:
        jobs = [gevent.spawn(refused, rig, b"Authorization: Bearer wrong\r\n") for _ in range(30)]
        gevent.joinall(jobs, timeout=PATIENCE, raise_error=True)
        assert all(job.get().status in (401, 429) for job in jobs)
        assert len(rig.server.registry) == 0
