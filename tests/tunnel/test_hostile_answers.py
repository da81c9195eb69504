"""A hostile agent's answers: where they may lead a client, and whose request they may answer."""

from collections.abc import Iterator

import gevent
import pytest

from tests.rig import Peer, Rig, until
from tests.v2_peers import CLOSE, CONNECT, CONNECTED, DATA, END, ERROR, GOAWAY, V2Agent, frame, hello

REQUEST = b"GET /tunnel/c1/%b HTTP/1.1\r\nHost: argotun\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(mutual=False, agent=None, server={"reconnect_grace": 0.3})
    rig.write_clusters([{"id": "c1", "token": Rig.TOKEN}, {"id": "c2", "token": "token-of-agent-c2"}])
    with rig:
        yield rig


@pytest.fixture
def agent(rig: Rig) -> V2Agent:
    return V2Agent(rig)


def asked(rig: Rig, agent: V2Agent, path: bytes = b"x", client: Peer | None = None) -> tuple[Peer, int]:
    """A client whose request has reached the agent, and the stream that it is on."""
    client = client or rig.client()
    client.send(REQUEST % path)
    stream = agent.expect(CONNECT).stream
    agent.until(b"\r\n\r\n", stream)
    agent.send(CONNECTED, stream)
    return client, stream


def redirect(status: bytes, location: bytes) -> bytes:
    return b"HTTP/1.1 %b Elsewhere\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (status, location)


@pytest.mark.parametrize("status", [b"301", b"302", b"303", b"307", b"308", b"300", b"305", b"399"])
def test_a_redirect_to_a_path_stays_in_the_cluster(rig: Rig, agent: V2Agent, status: bytes) -> None:
    client, stream = asked(rig, agent)
    agent.send(DATA, stream, redirect(status, b"/api/v1/namespaces/a/pods/b/proxy/?x=//y/../z"))
    response = client.response()
    assert response.status == int(status)
    assert response.header("location") == "/tunnel/c1/api/v1/namespaces/a/pods/b/proxy/?x=//y/../z"


@pytest.mark.parametrize(
    "location",
    [
        b"https://evil.example/",
        b"http://127.0.0.1/",
        b"//evil.example/x",
        b"/..",
        b"/../c2/api/v1/secrets",
        b"/api/../../c2/api",
        b"/./x",
        b"/%2e%2e/c2/api",
        b"/%2E./c2/api",
        b"/.%2e",
        b"/a/..;x/b",
        b"/x//../../c2",
        b"/a//b",
        b"/\\evil.example",
        b"\\\\evil.example",
        b"tunnel/c2/api",
        b"../c2/api",
        b"?x",
        b"",
        b"javascript:alert(1)",
        b"/a#b",
        b"/a\xe4",
        b"/a b",
        b"/ok\r\nLocation: /tunnel/c2/api",
        b"/ok, https://evil.example/",
    ],
)
def test_a_redirect_that_leads_elsewhere_is_a_502(rig: Rig, agent: V2Agent, location: bytes) -> None:
    client, stream = asked(rig, agent)
    agent.send(DATA, stream, redirect(b"302", location))
    response = client.response()
    assert (response.status, response.header("location"), response.header("retry-after")) == (502, None, None)
    assert "redirect" in response.json()["message"]
    assert rig.session.usable


def test_not_modified_passes_with_its_location(rig: Rig, agent: V2Agent) -> None:
    client, stream = asked(rig, agent)
    agent.send(DATA, stream, b"HTTP/1.1 304 Not Modified\r\nLocation: https://a.example/\r\n\r\n")
    assert client.response().status == 304


def test_a_location_that_no_client_follows_passes_as_it_is(rig: Rig, agent: V2Agent) -> None:
    client, stream = asked(rig, agent)
    agent.send(
        DATA, stream, b"HTTP/1.1 201 Created\r\nLocation: https://a.example/\r\nContent-Length: 0\r\n\r\n"
    )
    assert client.response().header("location") == "https://a.example/"


def test_an_answer_ahead_of_its_request_reaches_nobody(rig: Rig, agent: V2Agent) -> None:
    client, stream = asked(rig, agent, b"first")
    agent.send(DATA, stream, OK % (5, b"first") + OK % (6, b"poison"))
    assert client.response().body == b"first"
    agent.expect(CLOSE, stream)
    second = gevent.spawn(asked, rig, agent, b"second", client)
    _, stream = second.get(timeout=30)
    agent.send(DATA, stream, OK % (6, b"second"))
    assert client.response().body == b"second"


def test_bytes_between_two_requests_reach_nobody(rig: Rig, agent: V2Agent) -> None:
    client, stream = asked(rig, agent, b"first")
    agent.send(DATA, stream, OK % (5, b"first"))
    assert client.response().body == b"first"
    agent.send(DATA, stream, OK % (6, b"poison"))
    agent.expect(CLOSE, stream)
    _, stream = asked(rig, agent, b"second", client)
    agent.send(DATA, stream, OK % (6, b"second"))
    assert client.response().body == b"second"


@pytest.mark.parametrize(
    "last", [CLOSE, ERROR, END, DATA, None], ids=["CLOSE", "ERROR", "END", "DATA", "lost"]
)
@pytest.mark.parametrize("cluster", [b"c1", b"c2"])
def test_a_draining_streams_end_is_no_answer_to_the_next_request(
    rig: Rig, agent: V2Agent, last: int | None, cluster: bytes
) -> None:
    """The client asks again while no agent is there; what still comes from the old one is not for it."""
    client, stream = asked(rig, agent, b"first")
    agent.send(DATA, stream, OK % (5, b"first"))
    assert client.response().body == b"first"
    agent.send(GOAWAY, 0, b"draining")
    until(lambda: not rig.session.usable, "GOAWAY")
    client.send(REQUEST.replace(b"/c1/", b"/%b/" % cluster) % b"second")
    until(lambda: any(not c.idle for c in rig.server.clients.connections), "the request")
    if last is None:
        agent.ws.peer.abort()
    else:
        agent.send(last, stream, OK % (6, b"poison") if last == DATA else b"")
        agent.pong()
    refused = client.response()
    assert refused.status == 503
    assert b"connected" in refused.body
    client.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.response().body == b"ok"


def test_a_cluster_cannot_answer_what_was_asked_of_another(rig: Rig, agent: V2Agent) -> None:
    other = V2Agent(rig, token="token-of-agent-c2")
    client, stream = asked(rig, agent, b"first")
    agent.send(DATA, stream, OK % (5, b"first"))
    assert client.response().body == b"first"
    client.send(REQUEST.replace(b"/c1/", b"/c2/") % b"second")
    theirs = other.expect(CONNECT).stream
    agent.ws.send(frame(DATA, stream, OK % (6, b"poison")))
    agent.pong()
    other.until(b"\r\n\r\n", theirs)
    other.send(CONNECTED, theirs)
    other.send(DATA, theirs, OK % (6, b"second"))
    assert client.response().body == b"second"


@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 \r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_a_flood_of_interim_answers_costs_one_request(rig: Rig, agent: V2Agent, interim: bytes) -> None:
    client, stream = asked(rig, agent)
    agent.send(DATA, stream, interim * 6)
    assert client.response().status == 502
    agent.expect(CLOSE, stream)
    agent.send(DATA, stream, interim * 10_000)
    agent.pong()


SIZE = 100_000
BYTE_FOR_BYTE = b"".join(frame(DATA, 1, b"x") for _ in range(SIZE))
IN_CHUNKS = frame(DATA, 1, b"1\r\nx\r\n" * SIZE + b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("framing", "body"),
    [(b"Content-Length: %d" % SIZE, BYTE_FOR_BYTE), (b"Transfer-Encoding: chunked", IN_CHUNKS)],
    ids=["a hundred thousand frames", "a hundred thousand chunks"],
)
def test_others_get_their_turn_in_the_middle_of_one_message(
    rig: Rig, agent: V2Agent, framing: bytes, body: bytes
) -> None:
    client, stream = asked(rig, agent)
    assert stream == 1
    agent.send(DATA, 1, b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
    client.head()
    (connection,) = rig.server.clients.connections
    request = connection.exchange.request
    begun, seen = request.bytes_out, set()

    def look() -> None:
        while request.ended == 0.0:
            seen.add(request.bytes_out - begun)
            gevent.sleep(1e-6)

    # More than an agent may have under way at once: what is beyond waits for no credit here.
    connection.exchange.session.tunnel.mux.streams[1].receive_credit += len(body)
    looking = gevent.spawn(look)
    reading = gevent.spawn(
        client.read if framing.startswith(b"C") else client.until,
        *((SIZE,) if framing.startswith(b"C") else (b"0\r\n\r\n",)),
    )
    agent.ws.send(body)
    reading.join(60)
    looking.join(60)
    assert len(seen) > 5


def test_hello_is_said_once(rig: Rig, agent: V2Agent) -> None:
    agent.ws.send(hello())
    assert agent.ws.close_code() == 1002
