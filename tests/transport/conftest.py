"""Real sockets, real certificates and scripted peers for the tests of transport/."""

import socket
from types import SimpleNamespace

import gevent
import pytest
import trustme

from argotun.errors import HandshakeError
from argotun.transport.tls import handshake_client, handshake_server
from tests.volume import Volume

DEADLINE = 10.0
"""Seconds after which a test that waits has failed; no test depends on its value."""


@pytest.fixture(autouse=True)
def deadline():
    """No test hangs, whatever it waits for."""
    with gevent.Timeout(DEADLINE * 3):
        yield DEADLINE


@pytest.fixture
def close_later():
    """Close what a test opened, in reverse order."""
    opened = []

    def later(thing):
        opened.append(thing)
        return thing

    yield later
    for thing in reversed(opened):
        if isinstance(thing, gevent.Greenlet):
            thing.kill()
        else:
            thing.close()


@pytest.fixture
def pair(close_later):
    """Make two ends of one loopback TCP connection."""

    def make():
        with socket.create_server(("127.0.0.1", 0)) as listening:
            near = close_later(socket.create_connection(listening.getsockname()))
            far, _ = listening.accept()
        return near, close_later(far)

    return make


@pytest.fixture
def serve(close_later):
    """Start a server that runs `script(sock)` for each connection; its (host, port)."""

    def start(script, host="127.0.0.1"):
        listening = close_later(
            socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        )

        def run(sock):
            with sock:
                try:
                    script(sock)
                except OSError:
                    pass

        def accept():
            while True:
                sock, _ = listening.accept()
                close_later(gevent.spawn(run, sock))

        close_later(gevent.spawn(accept))
        return listening.getsockname()[:2]

    return start


def read_head(sock):
    """Read up to the blank line of a head, and not a byte more."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            break
        data += byte
    return data


@pytest.fixture(name="read_head")
def _read_head():
    return read_head


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    """A CA, a server certificate for localhost, a client certificate, and their files."""
    return make_pki(tmp_path_factory.mktemp("pki"))


def make_pki(folder):
    ca = trustme.CA()
    made = SimpleNamespace(
        folder=folder,
        authority=ca,
        server=ca.issue_cert("localhost", "127.0.0.1", "::1"),
        client=ca.issue_cert("agent-1"),
        ca=str(folder / "ca.crt"),
        cert=str(folder / "tls.crt"),
        key=str(folder / "tls.key"),
        client_cert=str(folder / "client.crt"),
        client_key=str(folder / "client.key"),
    )
    ca.cert_pem.write_to_path(made.ca)
    write_pair(made.server, made.cert, made.key)
    write_pair(made.client, made.client_cert, made.client_key)
    return made


def write_pair(leaf, cert, key):
    """Write a trustme certificate and its key as PEM files."""
    with open(cert, "wb") as file:
        file.write(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(key)


@pytest.fixture
def shake(pair, close_later):
    """Both ends shake hands and say a word; what each got: a socket or an error."""

    def run(server, client, name="localhost", timeout=5.0):
        near, far = pair()
        made = SimpleNamespace(server=None, client=None)

        def serve():
            try:
                made.server = close_later(handshake_server(far, server, timeout))
                made.server.sendall(b"hello")
            except (HandshakeError, OSError) as error:
                made.server = error

        serving = gevent.spawn(serve)
        try:
            made.client = close_later(handshake_client(near, client, name, timeout))
            made.client.recv(5)
        except (HandshakeError, OSError) as error:
            made.client = error
        serving.join()
        return made

    return run


@pytest.fixture
def volume(tmp_path):
    """An empty volume."""
    return Volume(tmp_path)
