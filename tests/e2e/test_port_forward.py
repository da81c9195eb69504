"""kubectl port-forward: bytes both ways, connections beside each other, over WebSocket and over SPDY."""

import contextlib
import hashlib
import os
import re
import socket
from collections.abc import Iterator

import gevent
import pytest
from gevent.server import StreamServer

from bench.ports import free_port

from .harness.processes import running
from .harness.way import Way

pytestmark = pytest.mark.node
FORWARDING = re.compile(rb"Forwarding from 127\.0\.0\.1:(\d+) -> ")


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets: it stands for one in the pod."""

    def serve(client: socket.socket, _address: object) -> None:
        while data := client.recv(65536):
            client.sendall(data)

    server = StreamServer(("127.0.0.1", free_port()), serve)
    server.start()
    yield server.server_port
    server.stop()


@contextlib.contextmanager
def forwarded(way: Way, pod: str, port: int, protocol: str) -> Iterator[int]:
    """The local port from which kubectl forwards to that port of the pod."""
    setting = {"KUBECTL_PORT_FORWARD_WEBSOCKETS": "true" if protocol == "websocket" else "false"}
    with running(way.kubectl.start("port-forward", f"pod/{pod}", f":{port}", **setting)) as kubectl:
        assert kubectl.stdout
        with gevent.Timeout(20):
            line = kubectl.stdout.readline()
        match = FORWARDING.match(line)
        assert match, (line, kubectl.stderr)
        yield int(match[1])


def exchanged(port: int, data: bytes) -> bytes:
    """The digest of what comes back for data."""
    digest, left = hashlib.sha256(), len(data)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        sender = gevent.spawn(client.sendall, data)
        while left and (part := client.recv(65536)):
            digest.update(part)
            left -= len(part)
        sender.get(timeout=30)
    return digest.digest()


@pytest.mark.parametrize("protocol", ["websocket", "spdy"])
def test_connections_beside_each_other_get_back_what_they_sent(
    way: Way, pod: str, echo: int, protocol: str
) -> None:
    data = [os.urandom(2_000_000) for _ in range(4)]
    with forwarded(way, pod, echo, protocol) as port:
        clients = [gevent.spawn(exchanged, port, one) for one in data]
        gevent.joinall(clients, timeout=60, raise_error=True)
        assert [c.value for c in clients] == [hashlib.sha256(one).digest() for one in data]
        assert exchanged(port, b"once more") == hashlib.sha256(b"once more").digest()


@pytest.mark.parametrize("protocol", ["websocket", "spdy"])
def test_a_port_that_nobody_listens_on_ends_the_connection(way: Way, pod: str, protocol: str) -> None:
    with (
        forwarded(way, pod, free_port(), protocol) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as client,
    ):
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            pass
