"""What the agent says it carries, also while a request is in progress: a watch may run for hours."""

import pytest

from tests.rig import Api, Gate, Peer, Rig, until

PIECE = b"3e8\r\n" + bytes(1000) + b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
HEADS = 2000
"""Bytes of heads, at most."""


@pytest.mark.parametrize("way", ["from", "to"])
def test_a_request_in_progress_is_in_bytes_a_second(way: str) -> None:
    gate, apis = Gate(), []

    def script(peer: Peer) -> None:
        peer.head()
        apis.append(peer)
        gate.wait()
        if way == "to":
            peer.until(b"\r\n0\r\n\r\n")
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with Rig(Api(script)) as rig:
        agent, client = rig.agent, rig.client()
        client.send(b"POST /tunnel/c1/api HTTP/1.1\r\nHost: x\r\n")
        client.send(CHUNKED if way == "to" else b"Content-Length: 0\r\n\r\n")
        until(lambda: apis, "the request")
        sender = client if way == "to" else apis[0]
        if way == "from":
            sender.send(b"HTTP/1.1 200 OK\r\n" + CHUNKED)
        sent = 0

        def told() -> object:
            nonlocal sent
            sender.send(PIECE)
            sent += len(PIECE)
            return agent._status()[f"{way}ClusterBytesPerSecond"]

        until(told, "bytes a second")
        sender.send(b"0\r\n\r\n")
        gate.open()
        assert client.response("POST").status == 200
        until(lambda: not agent._busy, "the end of the request")
        # In all they are counted once.
        counted = agent.metrics.bytes_out if way == "from" else agent.metrics.bytes_in
        assert sent <= counted <= sent + HEADS
