"""A rig whose files all lie in volumes that are swapped, and what its metrics and logs say of that."""

import json
import logging
import re
import ssl
from itertools import count
from typing import Any

import gevent
import pytest
import trustme
from cryptography import x509
from gevent import socket

from argotun.agent.app import Agent
from argotun.observe.metrics import Metrics
from argotun.server.registry import Session
from argotun.tunnel.tunnel import Tunnel
from tests.rig import Api, Rig, answers_its_own, until
from tests.volume import Volume

LONG = 30.0
"""Seconds that a loaded machine may take for what is done in milliseconds."""

Files = dict[str, bytes]


def issued(ca: trustme.CA, *names: str, trust: bytes = b"", **options: Any) -> Files:
    """A Secret as cert-manager makes them: certificate, key, and the CA (or `trust` in its place)."""
    leaf = ca.issue_cert(*names, **options)
    return {
        "tls_crt": b"".join(part.bytes() for part in leaf.cert_chain_pems),
        "tls_key": leaf.private_key_pem.bytes(),
        "ca_crt": trust or ca.cert_pem.bytes(),
    }


class Site(Rig):
    """A rig whose files all lie in volumes; `ca` issued the server's certificate and the agent's."""

    ACCOUNT = "account-old"

    def __init__(self, api: Api | None = None, *, server: dict[str, Any] | None = None, **agent: Any) -> None:
        super().__init__(api or Api(answers_its_own), agent=None)
        self.ca = trustme.CA()
        names = ("server", "agent", "api", "identity", "clusters", "token", "account")
        self.volumes = {name: Volume(self.folder / name) for name in names}
        self.agent_files = issued(self.ca, "agent.old")
        self.publish("server", **issued(self.ca, "127.0.0.1"))
        self.publish("agent", **self.agent_files)
        self.publish("api", ca_crt=self.authority.ca.cert_pem.bytes())
        self.publish("identity", **issued(self.authority.ca, "identity.old"))
        self.publish("token", token=self.TOKEN.encode())
        self.publish("account", token=f"{self.ACCOUNT}\n".encode())
        self.let_in({"id": "c1", "token": self.TOKEN})
        self._server_options = {
            "clusters": self.path("clusters", "clusters.json"),
            "tls_cert": self.path("server", "tls.crt"),
            "tls_key": self.path("server", "tls.key"),
            "tls_client_ca": self.path("server", "ca.crt"),
        } | (server or {})
        self._agent_options = {
            "server_ca_cert": self.path("agent", "ca.crt"),
            "client_cert": self.path("agent", "tls.crt"),
            "client_key": self.path("agent", "tls.key"),
            "ca_cert": self.path("api", "ca.crt"),
            "sa_token_path": self.path("account", "token"),
            "token": None,
            "token_file": self.path("token", "token"),
        } | agent
        self._strangers = count()

    def path(self, volume: str, name: str) -> str:
        return self.volumes[volume].path(name)

    def publish(self, volume: str, **files: bytes) -> None:
        self.volumes[volume].publish(**files)

    def let_in(self, *entries: dict[str, Any]) -> None:
        """Publish a clusters file, in which any certificate of the CA will do for a cluster."""
        listed = [{"certNames": ["*"], **entry} for entry in entries]
        self.publish("clusters", clusters_json=json.dumps(listed).encode())

    def redial(self) -> None:
        """Cut the agent's tunnel, and wait until it is back."""
        self.returned(self.cut())

    def cut(self) -> tuple[Tunnel, Session]:
        """Cut the agent's tunnel; both sides of it."""
        both = self.both_sides()
        both[0].end("the test cuts the tunnel")
        return both

    def both_sides(self) -> tuple[Tunnel, Session]:
        """The one tunnel, as the agent and as the server know it."""
        (tunnel,) = self.agent.tunnels
        return tunnel, self.session

    def returned(self, before: tuple[Tunnel, Session]) -> None:
        """Wait until the agent has another tunnel than this one, and the server serves through it."""
        tunnel, session = before
        until(lambda: self.agent.tunnels and tunnel not in self.agent.tunnels, "another tunnel", LONG)
        until(lambda: self.server.registry.all() and self.session is not session, "another session", LONG)
        until(lambda: len(self.server.registry) == 1, "the end of the old session", LONG)
        until(self.agent.connected.is_set, "the connection", LONG)

    def shake(self, files: Files, trust: trustme.CA | None = None, port: int = 0) -> dict[str, Any]:
        """Shake hands as a client with this certificate: what the server shows; OSError when it refuses."""
        context = ssl.create_default_context(cadata=(trust or self.ca).cert_pem.bytes().decode())
        stranger = Volume(self.folder / f"stranger-{next(self._strangers)}")
        stranger.publish(**files)
        context.load_cert_chain(stranger.path("tls.crt"), stranger.path("tls.key"))
        plain = socket.create_connection(("127.0.0.1", port or self.server.public_address[1]))
        with gevent.Timeout(LONG), context.wrap_socket(plain, server_hostname="127.0.0.1") as tls:
            tls.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            # With TLS 1.3 a refusal comes behind the handshake.
            assert tls.recv(12) == b"HTTP/1.1 200"
            found: dict[str, Any] = tls.getpeercert()
            return found

    def agent_name(self) -> str:
        """The name in the certificate that the newest session was let in with."""
        certificate = self.session.certificate
        assert certificate is not None
        return str(certificate.content["subjectAltName"][0][1])


def serial(pem: bytes) -> str:
    """The serial number, as `getpeercert()` writes it."""
    digits = f"{x509.load_pem_x509_certificate(pem).serial_number:X}"
    return digits.rjust(len(digits) + len(digits) % 2, "0")


def last_error(agent: Agent) -> str:
    return str(agent._status()["lastError"])


def value(metrics: Metrics, name: str) -> float:
    """One sample of a scrape."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics.exposition()[0].decode(), re.M)
    assert found, name
    return float(found[1])


def reload_errors(metrics: Metrics, what: str) -> float:
    return value(metrics, f'argotun_reload_errors_total{{what="{what}"}}')


def expiry(metrics: Metrics, certificate: str) -> float:
    return value(metrics, f'argotun_certificate_expiry_timestamp_seconds{{certificate="{certificate}"}}')


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
