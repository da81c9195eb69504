"""mTLS on both ports: the checks that an operator makes, and certificates exchanged while it runs."""

import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from gevent import socket

from argotun.agent.app import Agent
from tests.rig import Authority, Peer, Response, Rig, until


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(server={"internal_plain": False}) as rig:
        yield rig


def context(authority: Authority, certificate: bool) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=authority.path("ca.pem"))
    if certificate:
        made.load_cert_chain(authority.path("argocd.pem"), authority.path("argocd.key"))
    return made


def connect(address: tuple[str, int], tls: ssl.SSLContext) -> Any:
    return tls.wrap_socket(socket.create_connection(address), server_hostname=address[0])


def ask(address: tuple[str, int], path: str, tls: ssl.SSLContext) -> Response:
    with connect(address, tls) as sock:
        peer = Peer(sock)
        peer.send(f"GET {path} HTTP/1.1\r\nHost: argotun\r\nConnection: close\r\n\r\n".encode())
        return peer.response()


def addresses(rig: Rig) -> dict[str, tuple[str, int]]:
    return {"public": rig.server.public_address, "internal": rig.server.internal_address}


@pytest.mark.parametrize("port", ["public", "internal"])
def test_a_client_without_a_certificate_is_not_answered(rig: Rig, port: str) -> None:
    with pytest.raises(OSError, match=r"(?i)certificate.required"):
        ask(addresses(rig)[port], "/healthz", context(rig.authority, certificate=False))


@pytest.mark.parametrize("port", ["public", "internal"])
def test_a_client_without_tls_is_not_answered(rig: Rig, port: str) -> None:
    with socket.create_connection(addresses(rig)[port]) as sock:
        peer = Peer(sock)
        peer.send(b"GET /healthz HTTP/1.1\r\nHost: argotun\r\n\r\n")
        try:
            assert b"HTTP/1.1 200" not in peer.rest()
        except ConnectionResetError:
            pass


def test_a_client_with_a_certificate_is_answered(rig: Rig) -> None:
    known = context(rig.authority, certificate=True)
    for port, path in (("public", "/healthz"), ("internal", "/healthz"), ("internal", "/readyz")):
        answer = ask(addresses(rig)[port], path, known)
        assert (answer.status, answer.body.strip()) == (200, b"ok")
    assert ask(rig.server.internal_address, "/tunnel/c1/api", known).body == b"ok"


def test_the_token_alone_lets_no_agent_in() -> None:
    with Rig(agent=None) as rig:
        agent = Agent(rig.agent_config(client_cert=None, client_key=None))
        rig.agents.append(agent)
        agent.start()
        until(lambda: rig.server.metrics.exposition()[0].count(b'reason="handshake"} 0.0') == 0, "a refusal")
        assert not agent.connected.is_set()
        assert len(rig.server.registry) == 0


def issue(authority: Authority, name: str, *identities: str) -> int:
    """A new certificate in place of `name`'s, as cert-manager would write it; its serial number."""
    issued = authority.ca.issue_cert(*identities)
    issued.private_key_pem.write_to_path(authority.path(f"{name}.key"))
    chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
    (authority.folder / f"{name}.pem").write_bytes(chain)
    return serial(ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode()))


def serial(der: bytes | None) -> int:
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def test_a_renewed_server_certificate_ends_no_tunnel(rig: Rig) -> None:
    session = rig.session
    fresh = issue(rig.authority, "server", "127.0.0.1", "localhost")
    for address in addresses(rig).values():
        with connect(address, context(rig.authority, certificate=True)) as sock:
            assert serial(sock.getpeercert(binary_form=True)) == fresh
    assert rig.session is session
    assert not session.tunnel.ended.is_set()


def test_a_renewed_agent_certificate_is_shown_at_the_next_dial(rig: Rig) -> None:
    fresh = issue(rig.authority, "agent", "c1")
    session = rig.session
    session.tunnel.end("the test ends it")
    until(lambda: rig.server.registry.of("c1") not in ([], [session]), "the agent's return")
    certificate = rig.session.certificate.content
    assert certificate is not None
    assert int(certificate["serialNumber"], 16) == fresh


def test_probes_on_the_health_port_need_no_certificate() -> None:
    with Rig(server={"internal_plain": False, "health_addr": ("127.0.0.1", 0)}) as rig:
        assert rig.server._health is not None
        for path in ("/healthz", "/readyz", "/metrics"):
            with socket.create_connection(rig.server._health.address) as sock:
                peer = Peer(sock)
                peer.send(f"GET {path} HTTP/1.1\r\nHost: argotun\r\nConnection: close\r\n\r\n".encode())
                assert peer.response().status == 200
        with socket.create_connection(rig.server._health.address) as sock:
            peer = Peer(sock)
            peer.send(b"GET /tunnel/c1/api HTTP/1.1\r\nHost: argotun\r\nConnection: close\r\n\r\n")
            assert peer.response().status == 404
