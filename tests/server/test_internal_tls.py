"""The internal port behind mutual TLS: the same rules, and ends that TLS can tell apart."""

import ssl
from collections.abc import Iterator
from time import monotonic

import gevent
import pytest
from gevent import socket
from gevent import ssl as gevent_ssl

from tests.rig import PATIENCE, Gate, Peer, Rig, answer, until
from tests.tokens import Issuer, account
from tests.v2_peers import SUBPROTOCOL

GET = b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n"
SPDY = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
BULK = bytes(range(256)) * 12_000
UPGRADE = (
    b"GET /connect HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"%bAuthorization: Bearer %%b\r\n\r\n"
) % SUBPROTOCOL


@pytest.fixture(scope="module")
def shared() -> Iterator[Rig]:
    """One rig; each test brings its own script and its own client."""
    with Rig(server={"internal_plain": False}) as rig:
        yield rig


@pytest.fixture
def rig(shared: Rig) -> Iterator[Rig]:
    shared.api.connections = 0
    yield shared
    shared.settle()


def connected(rig: Rig, certificate: bool = True) -> Peer:
    """A client that sees a truncated answer for what it is."""
    context = gevent_ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(rig.authority.path("ca.pem"))
    if certificate:
        context.load_cert_chain(rig.authority.path("argocd.pem"), rig.authority.path("argocd.key"))
    plain = socket.create_connection(rig.server.internal_address)
    sock = context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False)
    return rig.keep(Peer(sock))


def test_a_client_without_a_certificate_is_not_served(rig: Rig) -> None:
    with pytest.raises((OSError, EOFError)):
        rig.get(client=connected(rig, certificate=False))
    assert rig.api.connections == 0


def test_requests_are_answered_in_a_row(rig: Rig) -> None:
    rig.api.script = answer(body=BULK)
    client = connected(rig)
    for _ in range(3):
        assert rig.get(client=client).body == BULK
    assert rig.api.connections == 1


def test_a_bad_head_is_answered_and_the_end_is_in_order(rig: Rig) -> None:
    client = connected(rig)
    client.send(b"nonsense\r\n\r\n")
    assert client.response().status == 400
    assert client.ended() == "closed"


def test_a_body_until_the_end_ends_in_order(rig: Rig) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + BULK)
        peer.finish()

    rig.api.script = script
    assert rig.get(client=connected(rig)).body == BULK


def test_a_cut_body_does_not_end_in_order(rig: Rig) -> None:
    go = Gate()

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        go.wait()
        peer.abort()

    rig.api.script = script
    client = connected(rig)
    client.send(GET)
    client.until(b"half")
    go.open()
    assert client.ended() == "reset"


def test_a_client_that_cuts_its_connection_leaves_nothing(rig: Rig) -> None:
    rig.api.script = lambda peer: peer.rest() and None
    client = connected(rig)
    client.send(GET)
    until(lambda: rig.api.live, "the request")
    client.close()
    until(lambda: not rig.api.live, "the end of the connection to the API")


def test_the_apis_end_loses_nothing_of_what_the_client_is_just_saying(rig: Rig) -> None:
    received: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(SWITCH + b"go on")
        peer.finish()
        received.append(peer.rest())

    rig.api.script = script
    client = connected(rig)
    client.send(SPDY)
    assert client.response().status == 101
    client.send(BULK)
    assert client.rest() == b"go on"
    client.send(BULK)
    client.finish()
    until(lambda: received, "the upload")
    assert [len(each) for each in received] == [len(BULK) * 2]
    assert received == [BULK * 2]


def test_the_clients_end_loses_nothing_of_what_the_api_is_just_saying(rig: Rig) -> None:
    received: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(SWITCH + BULK)
        received.append(peer.rest())
        peer.send(BULK + b"exit status 3")
        peer.finish()

    rig.api.script = script
    client = connected(rig)
    client.send(SPDY)
    assert client.response().status == 101
    client.send(b"that is all")
    # The answer is read whole first: OpenSSL's own half-close would drop it on this side, too.
    body = client.read(len(BULK))
    client.finish()
    assert body + client.rest() == BULK * 2 + b"exit status 3"
    assert received == [b"that is all"]


def test_what_waits_in_the_kernel_when_both_halves_have_ended_is_delivered(rig: Rig) -> None:
    """TCP is through with the connection then, as it is after a reset; the limits are looked at meanwhile."""
    go = Gate()
    received: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(SWITCH)
        peer.finish()
        go.wait()
        received.append(peer.rest())

    rig.api.script = script
    client = connected(rig)
    client.send(SPDY)
    assert client.response().status == 101
    assert client.rest() == b""
    (connection,) = rig.server.clients.connections
    sent = b""
    while not connection.exchange.channel.waiting:
        client.send(BULK[:4096])
        sent += BULK[:4096]
        gevent.sleep(0.001)
    client.send(BULK[:8192])
    client.finish()
    until(lambda: connection._reader.peer_left(halves=True), "the client's FIN in the server's kernel")
    connection.sweep(monotonic())
    go.open()
    until(lambda: received, "the upload")
    assert received == [sent + BULK[:8192]]


def test_a_handshake_that_a_drain_finds_is_finished_and_the_request_behind_it_answered() -> None:
    with Rig(agent=None, server={"internal_plain": False, "drain": 60.0}) as rig:
        context = ssl.create_default_context(cafile=rig.authority.path("ca.pem"))
        context.load_cert_chain(rig.authority.path("argocd.pem"), rig.authority.path("argocd.key"))
        heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(heard, said, server_hostname="127.0.0.1")
        sock = socket.create_connection(rig.server.internal_address)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        sock.sendall(said.read())
        heard.write(sock.recv(65536))
        draining = gevent.spawn(rig.server.drain)
        until(lambda: rig.server._internal_listener._listening is None, "the end of the port")
        assert not draining.dead
        tls.do_handshake()
        tls.write(GET)
        sock.sendall(said.read())
        answer = b""
        while True:
            try:
                if not (more := tls.read()):
                    break
                answer += more
            except ssl.SSLWantReadError:
                heard.write(data) if (data := sock.recv(65536)) else heard.write_eof()
        sock.close()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nConnection: close\r\n" in answer
        draining.join(PATIENCE)
        assert draining.successful()


@pytest.mark.parametrize("own_ca", [False, True], ids=["one CA", "a CA for callers"])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_session_of_the_public_port_stands_for_no_certificate(version: str, own_ca: bool) -> None:
    """There some agents need none: what begins so is no caller later, nor an agent that must have one."""
    issuer = Issuer()
    entry = {"serviceAccount": account(issuer), "certNames": ["c1"]}
    rig = Rig(agent=None, cluster=entry, server={"internal_plain": False})
    if own_ca:
        rig._server_options["internal_client_ca"] = rig.authority.path("ca.pem")
    context = gevent_ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(rig.authority.path("ca.pem"))
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]

    def dial(address: tuple[str, int], session: object = None) -> Peer:
        plain = socket.create_connection(address)
        return rig.keep(Peer(context.wrap_socket(plain, server_hostname="127.0.0.1", session=session)))

    with rig:
        client = dial(rig.server.public_address)
        client.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.response().status == 200
        session = client.sock.session
        assert session is not None
        # Nothing that a client could keep comes with it, be it for the port where it began.
        assert not session.has_ticket
        # Some builds of OpenSSL resume it by its id on the port where it began, others nowhere.
        agent = dial(rig.server.public_address, session)
        agent.send(UPGRADE % issuer.token().encode())
        assert agent.response().status == 403
        with pytest.raises((OSError, EOFError)):
            # TLS 1.2 refuses within the handshake, 1.3 behind it.
            rig.get(client=dial(rig.server.internal_address, session))
        assert rig.api.connections == 0
