"""argocd-server behind Envoy, as the chart and the values that its NOTES print make it."""

import ssl
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from gevent import socket

from bench.ports import free_port
from tests.chart.helm import CHART, Helm
from tests.gateways.argocd import ArgoServer, frame, native_call
from tests.gateways.envoy import Envoy
from tests.gateways.model import Site, envoy_config
from tests.rig import Authority, Peer, Response

HOST = "argocd.example.com"
CLI = "argocd-client/v3.5.6"
"""How the CLI calls itself, with gRPC and with gRPC-web."""
BROWSER = "Mozilla/5.0"


CILIUM = {"gateway": {"className": "cilium"}}
QUIET = {"cilium": {"createClass": True}}
WAYS: dict[str, tuple[dict[str, Any], bool]] = {
    "gateway-passthrough": (CILIUM, True),
    "gateway-terminate": (QUIET, False),
    "gateway-split": (QUIET, True),
    "istio-passthrough": ({}, True),
    "istio-terminate": ({}, False),
    "istio-split": ({}, True),
}
"""Way → its values, and whether the CLI's native gRPC gets through. gRPC-web and the UI always do."""


@dataclass
class Entrance:
    """An argocd-server behind Envoy, and the three clients that people have."""

    envoy: Envoy
    server: ArgoServer
    ports: dict[int, int]
    authority: Authority

    def native(self, user_agent: str = CLI) -> str:
        """`argocd login`: gRPC over HTTP/2."""
        return native_call(self.ports[443], HOST, self.authority.path("ca.pem"), user_agent)

    def web(self) -> Response:
        """`argocd login --grpc-web`: a POST over HTTP/1.1, of the same User-Agent."""
        body = frame(0, b"login")
        return self._ask(
            b"POST /session.SessionService/Create HTTP/1.1\r\nUser-Agent: %b\r\n"
            b"Content-Type: application/grpc-web+proto\r\nContent-Length: %d\r\n" % (CLI.encode(), len(body)),
            body,
        )

    def page(self) -> Response:
        """A browser."""
        return self._ask(b"GET / HTTP/1.1\r\nUser-Agent: %b\r\n" % BROWSER.encode())

    def cluster(self, method: str = "GET", action: str = "") -> Response:
        """A cluster's page, whose path has the cluster's URL in it."""
        url = "http%3A%2F%2Fargotun-internal.argotun.svc%3A8080%2Ftunnel%2Fcustomer-a"
        return self._ask(
            f"{method} /api/v1/clusters/{url}{action} HTTP/1.1\r\nContent-Length: 0\r\n".encode()
        )

    def plain(self) -> Response:
        """A browser that was not told https."""
        with socket.create_connection(("127.0.0.1", self.ports[80])) as sock:
            peer = Peer(sock)
            peer.send(f"GET /applications?q=1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            return peer.response()

    def _ask(self, head: bytes, body: bytes = b"") -> Response:
        context = ssl.create_default_context(cafile=self.authority.path("ca.pem"))
        sock = socket.create_connection(("127.0.0.1", self.ports[443]))
        with context.wrap_socket(sock, server_hostname=HOST) as tls:
            peer = Peer(tls)
            peer.send(head + f"Host: {HOST}\r\n\r\n".encode() + body)
            return peer.response()


def objects_and_values(
    helm: Helm, exposure: dict[str, Any], host: str = HOST
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What the chart renders for a way, and the values for Argo CD's own chart that its NOTES print."""
    values = {"mode": "server", "argocdServer": {"exposure": {"host": host, **exposure}}}
    done = helm.run("install", "argotun", str(CHART), "--dry-run=client", values=values)
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2].splitlines()
    start = next(at for at, line in enumerate(notes) if "Values for Argo CD's own chart:" in line) + 1
    end = next(at for at in range(start, len(notes)) if not notes[at].startswith("    "))
    printed = yaml.safe_load(textwrap.dedent("\n".join(notes[start:end])))
    return helm.render(values).objects, printed


def service(values: dict[str, Any]) -> dict[str, Any]:
    """The Service that Argo CD's own chart makes of its values: both ports lead to the one of the pod."""
    ports: list[dict[str, Any]] = [{"name": "http", "port": 80}, {"name": "https", "port": 443}]
    given = values.get("server", {}).get("service", {})
    if protocol := given.get("servicePortHttpsAppProtocol"):
        ports[1]["appProtocol"] = protocol
    if name := given.get("servicePortHttpsName"):
        ports[1]["name"] = name
    return {"kind": "Service", "metadata": {"name": "argocd-server"}, "spec": {"ports": ports}}


@dataclass(frozen=True)
class Certificates:
    """A CA and the certificate of one host, as files."""

    authority: Authority
    certificate: str
    key: str

    @classmethod
    def make(cls, folder: Path, host: str) -> "Certificates":
        """Write them into the folder."""
        authority = Authority(folder)
        issued = authority.ca.issue_cert(host)
        certificate, key = folder / "argocd.pem", folder / "argocd.key"
        issued.private_key_pem.write_to_path(str(key))
        with certificate.open("wb") as file:
            file.writelines(part.bytes() for part in issued.cert_chain_pems)
        return cls(authority, str(certificate), str(key))


@contextmanager
def gateway(
    objects: list[dict[str, Any]],
    values: dict[str, Any],
    pod: int,
    certificates: Certificates,
    cilium: bool,
    envoy_gateway: bool = False,
) -> Iterator[tuple[Envoy, dict[int, int]]]:
    """Envoy with these objects before an argocd-server with these values; and its ports."""
    ports = {443: free_port(), 80: free_port()}
    site = Site(
        pods={"argocd-server": pod},
        ports=ports,
        secrets={"argocd-certificate": (certificates.certificate, certificates.key)},
        cilium=cilium,
        envoy_gateway=envoy_gateway,
    )
    with Envoy(envoy_config([*objects, service(values)], site)) as envoy:
        yield envoy, ports


@contextmanager
def entrance(
    folder: Path,
    objects: list[dict[str, Any]],
    values: dict[str, Any],
    cilium: bool = False,
    envoy_gateway: bool = False,
) -> Iterator[Entrance]:
    """The stand-in with these values, behind Envoy with these objects."""
    made = Certificates.make(folder, HOST)
    with (
        ArgoServer(insecure(values), (made.certificate, made.key)) as server,
        gateway(objects, values, server.port, made, cilium, envoy_gateway) as (envoy, ports),
    ):
        yield Entrance(envoy, server, ports, made.authority)


def insecure(values: dict[str, Any]) -> bool:
    """Whether argocd-server has no TLS of its own."""
    return bool(values["configs"]["params"]["server.insecure"])


def by_user_agent(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The way of istio-split, but split by User-Agent as it was commonly written."""
    objects = deepcopy(objects)
    (virtual,) = [each for each in objects if each["kind"] == "VirtualService"]
    virtual["spec"]["http"][0]["match"] = [{"headers": {"user-agent": {"prefix": "argocd-client"}}}]
    return objects
