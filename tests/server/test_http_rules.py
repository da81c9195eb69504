"""What HTTP demands of somebody in the middle: bodies, answers without one, old clients, paths."""

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from argotun.server import clients, drain
from argotun.server.connection import Connection
from tests.rig import PATIENCE, Api, Gate, Peer, Rig, answer, send_what_is_taken, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BIG_POST = b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 90000000\r\n\r\n"


@pytest.fixture(scope="module")
def shared() -> Iterator[Rig]:
    """One rig; each test brings its own script and its own client."""
    with Rig(server={"reconnect_grace": 0.0}) as rig:
        yield rig


@pytest.fixture
def rig(shared: Rig) -> Iterator[Rig]:
    shared.api.connections = 0
    yield shared
    shared.settle()


# ── request bodies ─────────────────────────────────────────────────────────────────────────────


def test_chunks_and_trailers_of_an_upload_arrive_as_they_were_sent(rig: Rig) -> None:
    body = b"5;ext=1\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nX-Checksum: 42\r\n\r\n"
    seen: list[bytes] = []

    def script(peer: Peer) -> None:
        head = peer.head()
        seen.append(peer.until(b"42\r\n\r\n"))
        peer.send(OK if b"\r\nTransfer-Encoding: chunked\r\n" in head else b"nonsense")
        peer.head()
        peer.send(OK)

    rig.api.script = script
    client = rig.client()
    client.send(
        b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Checksum\r\n\r\n"
    )
    for at in range(len(body)):
        client.send(body[at : at + 1])
        gevent.sleep(0)
    assert client.response().status == 200
    assert seen == [body]
    assert rig.get(client=client).status == 200
    assert rig.api.connections == 1


def test_chunks_and_trailers_of_an_answer_arrive_as_they_were_sent(rig: Rig) -> None:
    body = b"5;ext=1\r\nhello\r\n0\r\nX-Checksum: 42\r\n\r\n"

    def script(peer: Peer) -> None:
        while True:
            peer.head()
            peer.send(b"HTTP/1.1 200 OK\r\nTrailer: X-Checksum\r\nTransfer-Encoding: chunked\r\n\r\n" + body)

    rig.api.script = script
    client = rig.client()
    for _ in range(2):
        client.send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n")
        client.head()
        assert client.read(len(body)) == body
    assert rig.api.connections == 1


def test_a_client_that_expects_100_continue_gets_it_from_the_api(rig: Rig) -> None:
    def script(peer: Peer) -> None:
        assert b"\r\nExpect: 100-continue\r\n" in peer.head()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert peer.read(5) == b"hello"
        peer.send(OK)
        peer.rest()

    rig.api.script = script
    client = rig.client()
    client.send(b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert client.head().startswith(b"HTTP/1.1 100 Continue\r\n")
    client.send(b"hello")
    assert client.response().body == b"ok"


def test_a_refusal_in_place_of_100_continue_ends_the_connection(rig: Rig) -> None:
    rig.api.script = answer("417 Expectation Failed", b"no")
    client = rig.client()
    client.send(b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    response = client.response()
    assert (response.status, response.header("connection")) == (417, "close")
    assert client.ended() == "closed"
    until(lambda: not rig.api.live, "the end of the connection that awaits a body")


@pytest.mark.parametrize("then", ["rest", "finish", "close"])
def test_an_answer_before_the_upload_is_complete_is_heard_over_the_upload(rig: Rig, then: str) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        getattr(peer, then)()

    rig.api.script = script
    client = rig.client()
    client.send(BIG_POST)
    sending = gevent.spawn(send_what_is_taken, client, b"x" * 8_000_000, 1 << 18)
    response = client.response()
    assert (response.status, response.body, response.header("connection")) == (413, b"big", "close")
    sending.kill()
    client.close()
    rig.settle()
    assert rig.api.connections == 1


def test_an_answer_that_came_before_a_write_failed_is_heard(rig: Rig) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        (stream,) = rig.agent.tunnels[0].mux.streams.values()
        # In one turn of the event loop: the agent learns of the end by its write, not by its read.
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        peer.abort()
        for _ in range(2):
            stream.sink.on_data(b"more of the upload")

    rig.api.script = script
    client = rig.client()
    client.send(BIG_POST)
    response = client.response()
    assert (response.status, response.body) == (413, b"big")


def test_an_answer_to_an_upload_that_nobody_reads_frees_the_stalled_client(rig: Rig) -> None:
    go = Gate()

    def script(peer: Peer) -> None:
        peer.head()
        go.wait()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        gevent.sleep(0.1)

    rig.api.script = script
    client = rig.client()
    client.send(BIG_POST)
    sending = gevent.spawn(send_what_is_taken, client, b"x" * 40_000_000, 1 << 20)
    until(lambda: any(stream.waiter for stream in rig.streams()), "the stall")
    go.open()
    assert client.response().status == 413
    sending.kill()
    client.close()
    until(lambda: not rig.server.clients.connections, "the end of the client's connection")


def test_an_answer_over_an_unread_upload_gives_its_credit_back_to_the_stream(rig: Rig) -> None:
    go = Gate()

    def script(peer: Peer) -> None:
        peer.head()
        go.wait()
        peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        peer.finish()
        gevent.sleep(0.05)

    rig.api.script = script
    client = rig.client()
    client.send(b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    until(lambda: rig.agent.tunnels[0].mux.streams, "the stream")
    (stream,) = rig.agent.tunnels[0].mux.streams.values()
    upstream: Any = stream.sink
    until(lambda: upstream._request, "the head")
    record = upstream._request
    due = record.bytes_in
    outlet = upstream._leg.upstream.outlet
    while not outlet.pending:
        client.send(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
        due += 0x4000 + 8
        until(lambda due=due: record.bytes_in == due or outlet.pending, "the chunk")
    client.send(b"0\r\n\r\n")
    (connection,) = rig.server.clients.connections
    until(lambda: connection.request_done, "the end of the request")
    go.open()
    assert client.response().header("connection") is None
    until(
        lambda: stream.receive_credit + stream.consumed == stream.window,
        "all of the credit",
        explain=lambda: stream.window - stream.receive_credit - stream.consumed,
    )


# ── answers ────────────────────────────────────────────────────────────────────────────────────


def test_answers_without_a_body_do_not_make_the_client_wait_for_one(rig: Rig) -> None:
    def script(peer: Peer) -> None:
        while True:
            status = peer.head().split(b" ")[1][1:]
            length = b"" if status == b"204" else b"Content-Length: 5\r\n"
            peer.send(b"HTTP/1.1 %b X\r\n%b\r\n" % (status, length))

    rig.api.script = script
    client = rig.client()
    for method, status, length in (
        (b"HEAD", 200, "5"),
        (b"GET", 204, None),
        (b"GET", 304, "5"),
        (b"HEAD", 404, "5"),
    ):
        client.send(b"%b /tunnel/c1/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (method, status))
        response = client.response(method.decode())
        assert (response.status, response.header("content-length")) == (status, length)
    assert rig.api.connections == 1


def test_interim_answers_arrive_before_the_final_one(rig: Rig) -> None:
    def script(peer: Peer) -> None:
        while True:
            peer.head()
            peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
            gevent.sleep(0.005)
            peer.send(b"HTTP/1.1 102 Processing\r\n\r\n" + OK)

    rig.api.script = script
    client = rig.client()
    for _ in range(2):
        response = rig.get(client=client)
        assert [head.split(b" ")[1] for head in response.interim] == [b"103", b"102"]
        assert response.body == b"ok"


def test_a_head_answer_of_our_own_has_no_body(rig: Rig) -> None:
    client = rig.client()
    for path in (b"/tunnel/nobody/x", b"/nowhere", b"/healthz"):
        client.send(b"HEAD %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        response = client.response("HEAD")
        assert int(response.header("content-length") or 0) > 0
    rig.api.script = answer()
    assert rig.get(client=client).body == b"ok"


# ── the client's own connection ────────────────────────────────────────────────────────────────


def test_an_http_1_0_client_gets_one_answer_and_the_end(rig: Rig) -> None:
    rig.api.script = answer()
    client = rig.client()
    client.send(b"GET /tunnel/c1/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    response = client.response()
    assert (response.body, response.header("connection")) == (b"ok", "close")
    assert client.rest() == b""


def test_connection_close_gets_one_answer_and_the_end(rig: Rig) -> None:
    rig.api.script = answer()
    client = rig.client()
    response = rig.get(extra=b"Connection: close\r\n", client=client)
    assert (response.body, response.header("connection")) == (b"ok", "close")
    assert client.rest() == b""


def test_what_comes_behind_connection_close_is_not_answered(rig: Rig) -> None:
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        while True:
            heads.append(peer.head())
            peer.send(OK)

    rig.api.script = script
    client = rig.client()
    client.send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" * 2)
    assert client.response().body == b"ok"
    assert client.rest() == b""
    assert len(heads) == 1


def test_a_large_last_answer_is_delivered_whole_to_a_client_that_reads_late(rig: Rig) -> None:
    size = 6_000_000
    rig.api.script = answer(body=b"x" * size)
    client = rig.client(buffer=4096)
    client.send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    until(lambda: any(c.pending for c in rig.server.clients.connections), "a full socket")
    assert len(client.response().body) == size
    assert client.rest() == b""


# ── where a request goes ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/tunnel/c1/a%2Fb//c/../d/./;x=1?y=%20&z=//", "/a%2Fb//c/../d/./;x=1?y=%20&z=//"),
        ("/tunnel/c1/", "/"),
        ("/tunnel/c1", "/"),
        ("/tunnel/c1?x=1", "/?x=1"),
        ("/tunnel/c1/%00%ff%c3%a4", "/%00%ff%c3%a4"),
        ("/tunnel/c1//", "//"),
        ("/tunnel/c1/tunnel/c2/x", "/tunnel/c2/x"),
        ("/tunnel/c1/../c2/x", "/../c2/x"),
        ("/tunnel/c1/x?" + "q" * 20_000, "/x?" + "q" * 20_000),
    ],
)
def test_the_path_reaches_the_api_byte_for_byte(rig: Rig, path: str, seen: str) -> None:
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        heads.append(peer.head())
        peer.send(OK)
        peer.rest()

    rig.api.script = script
    assert rig.get(path).status == 200
    assert heads[0].split(b" ")[1].decode() == seen


@pytest.mark.parametrize(
    "path",
    [
        "/tunnel",
        "/tunnel/",
        "//tunnel/c1/x",
        "/tunnel//c1/x",
        "/tunnel/.c1/x",
        "/Tunnel/c1/x",
        "/api/v1",
    ],
)
def test_a_path_to_no_cluster_is_a_400_and_never_a_404(rig: Rig, path: str) -> None:
    response = rig.get(path)
    assert response.status == 400
    assert response.json()["message"].startswith("argotun: ")
    assert rig.api.connections == 0


@pytest.mark.parametrize("path", ["/tunnel/c2/api/v1/pods", "/tunnel/c%31/x", "/tunnel/C1/x"])
def test_an_unknown_cluster_is_a_503_with_retry_after(rig: Rig, path: str) -> None:
    response = rig.get(path)
    if response.status == 400:
        # Not even the form of an id.
        assert "%" in path
        return
    assert (response.status, response.header("retry-after")) == (503, "1")
    status = response.json()
    assert (status["kind"], status["reason"], status["code"]) == ("Status", "ServiceUnavailable", 503)
    assert status["details"] == {"retryAfterSeconds": 1}


@pytest.mark.parametrize(
    "path", ["/version", "/api", "/apis", "/apis?timeout=32s", "/openapi/v2", "/openapi/v3/x"]
)
def test_discovery_of_a_cluster_without_agent_is_a_502_in_plain_text(rig: Rig, path: str) -> None:
    response = rig.get("/tunnel/c2" + path)
    assert (response.status, response.header("retry-after")) == (502, "1")
    assert (response.header("content-type") or "").startswith("text/plain")
    assert response.body.startswith(b"argotun: ")


LOST = b"without --append-server-path"


@pytest.mark.parametrize("path", ["/api?timeout=32s", "/apis", "/version", "/openapi/v3"])
def test_a_url_without_its_prefix_is_answered_in_words_that_kubectl_shows(rig: Rig, path: str) -> None:
    """That is a 5xx in plain text, and no other, on what kubectl asks first."""
    response = rig.get(path)
    assert (response.status, response.header("retry-after")) == (502, None)
    assert (response.header("content-type") or "").startswith("text/plain")
    assert LOST in response.body


@pytest.mark.parametrize("path", ["/api/v1/pods", "/apis/apps/v1/deployments"])
def test_a_lost_prefix_is_a_status_where_kubectl_reads_one(rig: Rig, path: str) -> None:
    response = rig.get(path)
    assert (response.status, response.json()["code"]) == (400, 400)
    assert LOST in response.body
    assert LOST not in rig.get("/apiary").body


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_that_an_api_serves_passes(rig: Rig, method: str) -> None:
    seen: list[bytes] = []

    def script(peer: Peer) -> None:
        seen.append(peer.head())
        peer.send(OK if method != "HEAD" else OK[:-2])
        peer.rest()

    rig.api.script = script
    client = rig.client()
    client.send(b"%b /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" % method.encode())
    assert client.response(method).status == 200
    assert seen[0].startswith(method.encode() + b" /x ")


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/status"])
def test_our_own_paths_are_for_reading_only(rig: Rig, path: str) -> None:
    client = rig.client()
    assert rig.get(path, client=client).status == 200
    client.send(b"DELETE %b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
    assert client.response().status == 400


def test_an_agents_path_on_the_internal_port_is_told_where_agents_are_let_in(rig: Rig) -> None:
    answer = rig.get("/connect")
    assert answer.status == 400
    assert "agents are let in at the server's public port (--addr)" in answer.json()["message"]


def test_two_clusters_on_one_connection_get_their_own_answers() -> None:
    other = Api(answer(body=b"second"))
    with Rig(Api(answer(body=b"first"))) as rig:
        rig.write_clusters([{"id": "c1", "token": rig.TOKEN}, {"id": "c2", "token": "token-of-agent-c2"}])
        rig.server.clusters.refresh()
        other.start(rig.authority)
        rig.start_agent(token="token-of-agent-c2", target=("127.0.0.1", other.port))
        client = rig.client()
        for _ in range(3):
            assert rig.get("/tunnel/c1/x", client=client).body == b"first"
            assert rig.get("/tunnel/c2/x", client=client).body == b"second"
        rig.settle()
        other.close()


def test_a_client_that_keeps_its_idle_connection_does_not_hold_up_a_drain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clients, "LINGER", 60.0)
    with Rig(server={"drain": 60.0}) as rig:
        client = rig.client()
        assert rig.get(client=client).status == 200
        rig.session.moved = True
        with gevent.Timeout(PATIENCE, AssertionError("the drain waits for the client")):
            rig.server.drain()
        assert client.ended() == "closed"


def test_a_drain_waits_until_the_last_answer_is_taken() -> None:
    size = 6_000_000
    with Rig(Api(answer(body=b"x" * size)), server={"drain": 60.0}) as rig:
        client = rig.client(buffer=4096)
        client.send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: any(c.pending for c in rig.server.clients.connections), "a full socket")
        rig.session.moved = True
        draining = gevent.spawn(rig.server.drain)
        assert len(client.response().body) == size
        draining.join(PATIENCE)
        assert draining.successful()


def test_a_drain_waits_until_the_client_has_what_only_the_kernel_keeps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pod's network goes with its last process."""
    monkeypatch.setattr(drain, "NOTICE", 0.1)
    size = 50_000
    with Rig(Api(answer(body=b"x" * size)), server={"drain": 60.0}) as rig:
        client = rig.client(buffer=4096)
        client.send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n")
        (connection,) = until_served(rig)
        assert not connection.pending
        rig.session.moved = True
        draining = gevent.spawn(rig.server.drain)
        # Long enough for a drain that waits for nothing.
        draining.join(1.5)
        assert not draining.ready()
        assert len(client.response().body) == size
        draining.join(PATIENCE)
        assert draining.successful()


def until_served(rig: Rig) -> list[Connection]:
    """The connections, once each has had an answer."""
    found = rig.server.clients.connections
    until(lambda: found and all(each.exchange.idle and not each.unspoken for each in found), "the answer")
    return list(found)


# ── the tunnel ─────────────────────────────────────────────────────────────────────────────────


def test_a_tunnel_that_ends_before_the_answer_is_a_502_without_retry_after() -> None:
    with Rig(Api(lambda peer: peer.rest() and None)) as rig:
        client = rig.client()
        client.send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: rig.api.live, "the request")
        rig.agent.stop()
        response = client.response()
        assert (response.status, response.header("retry-after")) == (502, None)
        until(lambda: not rig.api.live, "the end of the connection to the API")


def test_a_tunnel_that_ends_within_the_answer_aborts_it() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        peer.rest()

    with Rig(Api(script)) as rig:
        client = rig.client()
        client.send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n")
        client.until(b"half\r\n")
        rig.agent.stop()
        assert client.ended() == "reset"


def test_a_request_waits_for_an_agent_that_is_on_its_way_back() -> None:
    with Rig(server={"reconnect_grace": PATIENCE}) as rig:
        client = rig.client()
        assert rig.get(client=client).status == 200
        rig.agent.stop()
        until(lambda: not len(rig.server.registry), "the end of the session")
        client.send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n")
        rig.start_agent()
        assert client.response().status == 200


def test_a_request_that_was_refused_before_the_agent_came_is_not_sent(
    pass_time: Callable[[Rig, float], None],
) -> None:
    """While an agent is waited for no API is silent: `--reconnect-grace` is the one limit."""
    with Rig(server={"reconnect_grace": 0.5, "response_timeout": 60.0}) as rig:
        rig.agent.stop()
        until(lambda: not len(rig.server.registry), "the end of the session")
        client = rig.client()
        client.send(b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        until(lambda: any(not each.idle for each in rig.server.clients.connections), "the request")
        pass_time(rig, 0.0)
        pass_time(rig, 61.0)
        refused = client.response()
        assert (refused.status, refused.header("retry-after")) == (503, "1")
        assert "no agent of cluster 'c1'" in refused.json()["message"]
        rig.start_agent()
        gevent.sleep(0.02)
        assert rig.api.connections == 0
        assert rig.get(client=client).status == 200
