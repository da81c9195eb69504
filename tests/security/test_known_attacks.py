"""Attacks that other proxies of the Kubernetes API fell for, by their numbers, with raw peers on both sides.

What each was: docs/security.md, "Known attacks".
"""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from gevent import socket
from gevent.ssl import create_default_context

from argotun.config.clusters import parse_clusters
from argotun.errors import ClustersError
from tests.raw_websocket import Listening, Refused, dial
from tests.rig import Api, Authority, Peer, Rig, until
from tests.server.conftest import no_fault  # noqa: F401  (the same care)
from tests.v2_peers import CONNECT, CONNECTED, DATA, ERROR, SUBPROTOCOL, V2Agent, V2Server

EVIL, EVIL_TOKEN = "evil", "token-of-the-evil-cluster"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Recorder:
    """An API that notes each request's head and says ok."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.api = Api(self.script, tls=False)

    def script(self, peer: Peer) -> None:
        while True:
            self.heads.append(peer.head())
            peer.send(OK)


@pytest.fixture
def seen() -> Recorder:
    return Recorder()


@pytest.fixture
def rig(seen: Recorder) -> Iterator[Rig]:
    """The honest cluster c1, whose API notes what it is asked, and a place for an evil one beside it."""
    rig = Rig(seen.api, mutual=False)
    rig.write_clusters([{"id": "c1", "token": Rig.TOKEN}, {"id": EVIL, "token": EVIL_TOKEN}])
    with rig:
        yield rig
        rig.settle()


@pytest.fixture
def evil(rig: Rig) -> V2Agent:
    return V2Agent(rig, EVIL_TOKEN)


# ── CVE-2022-3172: an aggregated API server redirects its client ──────────────────────────────────


@pytest.mark.parametrize("status", [b"301", b"302", b"303", b"307", b"308"])
@pytest.mark.parametrize(
    "location",
    [
        b"/tunnel/c1/api/v1/namespaces/default/configmaps/cm",
        b"/../c1/api/v1/namespaces/default/configmaps/cm",
        b"//argotun/tunnel/c1/api",
        b"http://argotun/tunnel/c1/api",
        b"https://169.254.169.254/latest",
    ],
)
def test_cve_2022_3172_an_agent_cannot_lead_a_write_elsewhere(
    rig: Rig, evil: V2Agent, seen: Recorder, status: bytes, location: bytes
) -> None:
    client = rig.client()
    client.send(b"PATCH /tunnel/evil/x HTTP/1.1\r\nHost: argotun\r\nContent-Length: 2\r\n\r\n{}")
    stream = evil.expect(CONNECT).stream
    evil.until(b"{}", stream)
    evil.send(CONNECTED, stream)
    evil.send(
        DATA,
        stream,
        b"HTTP/1.1 %b Elsewhere\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (status, location),
    )
    response = client.response()
    target = response.header("location")
    # It may lead to a path of the evil cluster itself, and nowhere else.
    assert (response.status, target) == (502, None) or (target or "").startswith("/tunnel/evil/")
    if target is not None:
        follower = rig.client()
        follower.send(b"PATCH %b HTTP/1.1\r\nHost: argotun\r\nContent-Length: 2\r\n\r\n{}" % target.encode())
        assert evil.expect(CONNECT).kind == CONNECT
    assert seen.heads == []


# ── CVE-2018-1002105: a refused upgrade leaves a raw connection to the API ────────────────────────


@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request", b"403 Forbidden", b"426 Upgrade Required"])
@pytest.mark.parametrize("protocol", [b"websocket", b"SPDY/3.1"])
def test_cve_2018_1002105_a_refused_upgrade_carries_nothing_more(
    rig: Rig, seen: Recorder, status: bytes, protocol: bytes
) -> None:
    late: list[bytes] = []

    def refuses(peer: Peer) -> None:
        seen.heads.append(peer.head())
        peer.send(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nno" % status)
        late.append(peer.rest())

    rig.api.script = refuses
    client = rig.client()
    client.send(
        b"GET /tunnel/c1/api/v1/namespaces/d/pods/p/exec HTTP/1.1\r\nHost: argotun\r\n"
        b"Connection: Upgrade\r\nUpgrade: %b\r\n\r\n"
        b"GET /api/v1/secrets HTTP/1.1\r\nHost: kubernetes\r\n\r\n" % protocol
    )
    assert client.response().body == b"no"
    assert client.rest() == b""
    until(lambda: late, "the end of the connection to the API")
    assert late == [b""]
    assert len(seen.heads) == 1


def test_cve_2018_1002105_a_switch_that_was_not_asked_for_is_none(rig: Rig, evil: V2Agent) -> None:
    client = rig.client()
    client.send(b"GET /tunnel/evil/x HTTP/1.1\r\nHost: argotun\r\n\r\n")
    stream = evil.expect(CONNECT).stream
    evil.until(b"\r\n\r\n", stream)
    evil.send(CONNECTED, stream)
    evil.send(
        DATA,
        stream,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nraw bytes",
    )
    assert client.response().status == 502


# ── CVE-2021-31999, CVE-2022-23652: Connection strips the headers that lower rights ────────────────

STRIPS = [
    b"Connection: Impersonate-User",
    b"Connection: close, impersonate-group",
    b"Connection: Impersonate-Extra-Scopes",
    b"Connection: IMPERSONATE-UID,keep-alive",
    b"Connection: keep-alive\r\nConnection: Impersonate-User",
    b"Connection: Impersonate_User",
    b"Connection: Authorization",
    b"Connection: Host",
    b"Connection: Content-Length",
    b"Connection: \tImpersonate-User\t",
    b"Connection: Upgrade, Impersonate-User\r\nUpgrade: SPDY/3.1",
]


@pytest.mark.parametrize("strips", STRIPS)
@pytest.mark.parametrize("number", ["CVE-2021-31999", "CVE-2022-23652"])
def test_cve_2022_23652_connection_strips_no_impersonation(
    rig: Rig, seen: Recorder, strips: bytes, number: str
) -> None:
    """The two differ in who reads `Connection`: Rancher's own proxy, and capsule-proxy's library."""
    # One through server and agent, one past a hostile server that lets it through.
    head = (
        b"GET /tunnel/c1/api/v1/secrets HTTP/1.1\r\nHost: argotun\r\nImpersonate-User: nobody\r\n"
        b"Impersonate-Group: none\r\n%b\r\n\r\n" % strips
    )
    if number == "CVE-2021-31999":
        client = rig.client()
        client.send(head)
        assert client.response().status == 400
    else:
        with Listening() as listening:
            agent = rig.make_agent(server=f"ws://127.0.0.1:{listening.address[1]}/connect")
            agent.start()
            server = V2Server(listening)
            stream = server.connect()
            server.send(DATA, stream, head)
            server.expect(CONNECTED, stream)
            assert server.until(b"\r\n\r\n", stream).startswith(b"HTTP/1.1 400 ")
            agent.stop()
    assert seen.heads == []


@pytest.mark.parametrize("name", [b"Impersonate_User", b"impersonate_group", b"Impersonate_Extra-Scopes"])
def test_an_impersonation_that_the_api_would_overlook_is_refused(
    rig: Rig, seen: Recorder, name: bytes
) -> None:
    assert rig.get(extra=name + b": nobody\r\n").status == 400
    assert seen.heads == []


# ── CVE-2026-66794: the path of a request chooses what the agent's side dials ─────────────────────

LEADS = [
    b"/tunnel/c1/api/v1/../../../../decoy",
    b"/tunnel/c1:DECOY/x",
    b"/tunnel/c1/proxy-service/default/decoy:DECOY/x",
    b"/tunnel/c1/http://127.0.0.1:DECOY/x",
    b"/tunnel/c1//127.0.0.1:DECOY/x",
    b"/tunnel/c1@127.0.0.1:DECOY/x",
    b"/tunnel/%63%31/x",
    b"/tunnel//c1/x",
    b"//127.0.0.1:DECOY/tunnel/c1/x",
    b"http://127.0.0.1:DECOY/tunnel/c1/x",
]
FIELDS = [
    b"Host: 127.0.0.1:DECOY",
    b"X-Forwarded-Host: 127.0.0.1:DECOY",
    b"X-Original-Url: http://127.0.0.1:DECOY/",
    b"X-Target: 127.0.0.1:DECOY",
    b"Forwarded: host=127.0.0.1:DECOY",
]


@pytest.fixture
def decoy() -> Iterator[Api]:
    """Somewhere that an agent must never dial."""
    decoy = Api(tls=False)
    decoy.start(None)  # type: ignore[arg-type]
    yield decoy
    decoy.close()


@pytest.mark.parametrize("lead", LEADS)
def test_cve_2026_66794_no_path_leads_an_agent_elsewhere(
    rig: Rig, seen: Recorder, decoy: Api, lead: bytes
) -> None:
    client = rig.client()
    client.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % lead.replace(b"DECOY", b"%d" % decoy.port))
    assert client.response().status in (200, 400)
    assert decoy.connections == 0
    for head in seen.heads:
        assert f"\r\nHost: 127.0.0.1:{rig.api.port}\r\n".encode() in head


@pytest.mark.parametrize("given", FIELDS)
def test_cve_2026_66794_no_header_leads_an_agent_elsewhere(
    rig: Rig, seen: Recorder, decoy: Api, given: bytes
) -> None:
    field = given.replace(b"DECOY", b"%d" % decoy.port)
    host = b"" if field.startswith(b"Host") else b"Host: a\r\n"
    client = rig.client()
    client.send(b"GET /tunnel/c1/x HTTP/1.1\r\n%b%b\r\n\r\n" % (host, field))
    assert client.response().status == 200
    assert decoy.connections == 0
    assert f"\r\nHost: 127.0.0.1:{rig.api.port}\r\n".encode() in seen.heads[0]


def test_cve_2026_66794_no_server_leads_an_agent_elsewhere(rig: Rig, decoy: Api) -> None:
    with Listening() as listening:
        agent = rig.make_agent(server=f"ws://127.0.0.1:{listening.address[1]}/connect")
        agent.start()
        server = V2Server(listening)
        for target in (f"127.0.0.1:{decoy.port}", f"localhost:{decoy.port}", "169.254.169.254:80"):
            stream = server.connect(target)
            server.send(DATA, stream, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"not allowed" in server.expect(ERROR, stream).payload
        agent.stop()
    assert decoy.connections == 0


def test_cve_2026_66794_a_caller_without_a_certificate_is_nobody(seen: Recorder) -> None:
    with Rig(seen.api, server={"internal_plain": False}) as rig:
        context = create_default_context(cafile=rig.authority.path("ca.pem"))
        plain = socket.create_connection(rig.server.internal_address)
        peer = rig.keep(Peer(context.wrap_socket(plain, server_hostname="127.0.0.1")))
        peer.send(b"GET /tunnel/c1/api/v1/secrets HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises((OSError, EOFError)):
            peer.response()
    assert seen.heads == []


# ── CVE-2026-16242: whoever reaches the agents' port joins the pool ──────────────────────────────


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        pytest.param(b"", 401, id="no token"),
        pytest.param(b"Authorization: Bearer guessed-token-of-c1\r\n", 401, id="another token"),
        pytest.param(b"Authorization: Bearer \r\n", 401, id="an empty token"),
        pytest.param(b"Authorization: Basic YTpi\r\n", 401, id="another scheme"),
    ],
)
def test_cve_2026_16242_an_agent_without_a_token_is_not_let_in(
    rig: Rig, seen: Recorder, fields: bytes, status: int
) -> None:
    before = len(rig.server.registry)
    with pytest.raises(Refused) as refused:
        dial(rig.server.public_address, SUBPROTOCOL + fields)
    assert refused.value.status == status
    assert len(rig.server.registry) == before
    assert rig.get().status == 200
    assert len(seen.heads) == 1


@pytest.mark.parametrize("certificate", ["none", "of another CA"])
def test_cve_2026_16242_a_token_without_a_certificate_is_not_enough(
    seen: Recorder, certificate: str, tmp_path: Path
) -> None:
    with Rig(seen.api) as rig:
        context = create_default_context(cafile=rig.authority.path("ca.pem"))
        if certificate != "none":
            other = Authority(tmp_path)
            context.load_cert_chain(other.path("agent.pem"), other.path("agent.key"))
        with pytest.raises((OSError, EOFError, ssl.SSLError)):
            dial(
                rig.server.public_address,
                SUBPROTOCOL + b"Authorization: Bearer %b\r\n" % Rig.TOKEN.encode(),
                context=context,
            )
        assert len(rig.server.registry) == 1
        assert rig.get().status == 200


@pytest.mark.parametrize("entry", ['{"id": "c1"}', '{"id": "c1", "token": ""}', '{"id": "c1", "tokens": []}'])
def test_cve_2026_16242_a_cluster_that_nobody_must_prove_to_be_is_refused(entry: str) -> None:
    with pytest.raises(ClustersError, match="token"):
        parse_clusters(f"[{entry}]")


def test_an_agent_gets_no_request_of_another_cluster(rig: Rig, evil: V2Agent, seen: Recorder) -> None:
    assert rig.get().status == 200
    assert len(seen.heads) == 1
    evil.pong()
    assert not evil._frames
