"""Requests through a server and an agent, over real sockets with mutual TLS."""

from tests.rig import Api, Gate, Peer, Rig, answer, until


def test_a_request_arrives_with_the_agents_credential_only() -> None:
    seen: list[bytes] = []

    def script(peer: Peer) -> None:
        seen.append(peer.head())
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        peer.rest()

    with Rig(Api(script)) as rig:
        response = rig.get("/tunnel/c1/api?x=%2F", b"Authorization: Bearer argo\r\nX-Remote-User: root\r\n")
        assert (response.status, response.body) == (200, b"hi")
    head = seen[0]
    assert head.startswith(b"GET /api?x=%2F HTTP/1.1\r\n")
    assert head.count(b"Authorization: ") == 1
    assert b"Authorization: Bearer sa-token\r\n" in head
    assert b"argo\r\n" not in head
    assert b"X-Remote-User" not in head
    assert b"Audit-ID: " in head


def test_requests_of_one_connection_share_one_connection_to_the_api() -> None:
    with Rig() as rig:
        client = rig.client()
        for _ in range(5):
            assert rig.get(client=client).status == 200
        assert rig.api.connections == 1


def test_a_large_body_goes_up_and_down_whole() -> None:
    size = 5_000_000

    def script(peer: Peer) -> None:
        peer.head()
        body = peer.read(size)
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, size, 70_000):
            part = body[at : at + 70_000]
            peer.send(b"%x\r\n%b\r\n" % (len(part), part))
        peer.send(b"0\r\n\r\n")
        peer.rest()

    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with Rig(Api(script)) as rig:
        client = rig.client()
        client.send(b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + body)
        assert client.response().body == body


def test_a_watch_ends_in_order_when_the_server_drains() -> None:
    started = Gate()

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcd\n\r\n")
        started.open()
        peer.rest()

    with Rig(Api(script), server={"drain": 1.0}) as rig:
        client = rig.client()
        client.send(b"GET /tunnel/c1/api/v1/pods?watch=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        started.wait()
        client.until(b"abcd\n\r\n")
        rig.server.drain()
        assert client.rest() == b"0\r\n\r\n"


def test_an_api_that_cannot_be_reached_is_a_503_with_retry_after() -> None:
    with Rig() as rig:
        rig.api.stop()
        response = rig.get()
        assert (response.status, response.header("retry-after")) == (503, "1")
        assert response.json()["message"].startswith("argotun: ")


def test_a_cut_answer_is_never_completed() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcd\n\r\n")

    with Rig(Api(script)) as rig:
        client = rig.client()
        client.send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n")
        client.until(b"abcd\n\r\n")
        assert client.ended() == "reset"


def test_streams_are_gone_when_their_clients_are() -> None:
    with Rig(Api(answer())) as rig:
        client = rig.client()
        assert rig.get(client=client).status == 200
        session = rig.server.registry.all()[0]
        assert len(session.tunnel.mux.streams) == 1
        client.close()
        until(lambda: not session.tunnel.mux.streams, "the end of the stream on the server")
        until(lambda: not rig.agent.tunnels[0].mux.streams, "the end of the stream on the agent")
