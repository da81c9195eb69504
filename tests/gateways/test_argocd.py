"""The ways to argocd-server, and the faults that two of them are known for."""

import ssl
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from gevent import socket

from tests.chart.helm import CHART, Helm
from tests.gateways.argocd import ArgoServer, frame, native_call
from tests.gateways.envoy import Envoy, free_port
from tests.gateways.model import Site, envoy_config
from tests.rig import Authority, Peer, Response

HOST = "argocd.example.com"
CLI = "argocd-client/v3.5.6"
"""How the CLI calls itself, with gRPC and with gRPC-web."""
BROWSER = "Mozilla/5.0"


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


def objects_and_values(helm: Helm, exposure: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What the chart renders for a way, and the values for Argo CD's own chart that its NOTES print."""
    values = {"mode": "server", "argocdServer": {"exposure": {"host": HOST, **exposure}}}
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


@contextmanager
def entrance(
    folder: Path, objects: list[dict[str, Any]], values: dict[str, Any], cilium: bool = False
) -> Iterator[Entrance]:
    """argocd-server with these values, behind Envoy with these objects."""
    authority = Authority(folder)
    issued = authority.ca.issue_cert(HOST)
    pair = (str(folder / "argocd.pem"), str(folder / "argocd.key"))
    issued.private_key_and_cert_chain_pem.write_to_path(pair[0])
    issued.private_key_pem.write_to_path(pair[1])
    ports = {443: free_port(), 80: free_port()}
    with ArgoServer(values["configs"]["params"]["server.insecure"], pair) as server:
        site = Site(
            pods={"argocd-server": server.port},
            ports=ports,
            secrets={"argocd-certificate": pair},
            cilium=cilium,
        )
        with Envoy(envoy_config([*objects, service(values)], site)) as envoy:
            yield Entrance(envoy, server, ports, authority)


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


@pytest.mark.parametrize("way", WAYS)
def test_a_way_to_argocd_server_lets_less_through_than_its_row_says(
    helm: Helm, tmp_path: Path, way: str
) -> None:
    options, native = WAYS[way]
    objects, values = objects_and_values(helm, {"way": way, **options})
    with entrance(tmp_path, objects, values, cilium=way.startswith("gateway-")) as door:
        assert door.page().body == b"<title>Argo CD</title>"
        web = door.web()
        assert web.status == 200
        assert web.header("content-type") == "application/grpc-web+proto"
        assert web.body == frame(0, b"web login") + frame(0x80, b"grpc-status: 0\r\n")
        assert (door.native() == "OK native login") == native, door.native()
        assert (door.native("grpc-client") == "OK native login") == native
        plain = door.plain()
        assert plain.status == 301
        assert plain.header("location") == f"https://{HOST}/applications?q=1"


@pytest.mark.parametrize("way", ["gateway-terminate", "gateway-split"])
def test_ciliums_fault_is_another_one_than_the_documents_say(helm: Helm, tmp_path: Path, way: str) -> None:
    """Envoy's filter makes gRPC of gRPC-web, for which the HTTP/1.1 side of argocd-server has no page.

    A route for gRPC does not help: it was chosen before the filter has changed the content type.
    """
    objects, values = objects_and_values(helm, {"way": way, **CILIUM})
    with entrance(tmp_path, objects, values, cilium=True) as door:
        assert door.page().status == 200
        web = door.web()
        assert web.status == 404
        assert web.header("grpc-status") == "12"
        seen = door.server.heads[-1].lower()
        assert seen.startswith(b"post /session.sessionservice/create http/1.1\r\n")
        assert b"\r\ncontent-type: application/grpc\r\n" in seen


@pytest.mark.parametrize(
    "cure",
    [{"way": "gateway-passthrough", **CILIUM}, {"way": "gateway-terminate", **QUIET}],
    ids=["passthrough", "class-option"],
)
def test_a_cure_of_ciliums_fault_cures_nothing(helm: Helm, tmp_path: Path, cure: dict[str, Any]) -> None:
    objects, values = objects_and_values(helm, cure)
    with entrance(tmp_path, objects, values, cilium=True) as door:
        assert door.web().status == 200


def by_user_agent(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The way of istio-split, but split by User-Agent as it was commonly written."""
    objects = deepcopy(objects)
    (virtual,) = [each for each in objects if each["kind"] == "VirtualService"]
    virtual["spec"]["http"][0]["match"] = [{"headers": {"user-agent": {"prefix": "argocd-client"}}}]
    return objects


def test_the_user_agents_fault_is_another_one_than_the_documents_say(helm: Helm, tmp_path: Path) -> None:
    """gRPC-web of the CLI goes to the gRPC port, and gRPC of anybody else does not."""
    objects, values = objects_and_values(helm, {"way": "istio-split"})
    with entrance(tmp_path, by_user_agent(objects), values) as door:
        assert door.page().status == 200
        assert door.native() == "OK native login"
        assert door.web().status == 503
        assert door.native("grpc-client").startswith("UNIMPLEMENTED")


def test_istio_does_not_take_the_old_port_name_for_the_protocol(helm: Helm, tmp_path: Path) -> None:
    objects, values = objects_and_values(helm, {"way": "istio-split"})
    values["server"]["service"] = {"servicePortHttpsName": "grpc"}
    with entrance(tmp_path, objects, values) as door:
        assert door.native() == "OK native login"
        assert door.web().status == 200


def test_without_the_ports_protocol_grpc_arrives_all_the_same(helm: Helm, tmp_path: Path) -> None:
    """What the value that NOTES print for the split ways is for."""
    objects, values = objects_and_values(helm, {"way": "istio-split"})
    del values["server"]["service"]
    with entrance(tmp_path, objects, values) as door:
        assert door.native().startswith("UNIMPLEMENTED")


def test_a_secured_argocd_server_behind_termination_does_not_redirect_for_ever(
    helm: Helm, tmp_path: Path
) -> None:
    """Why the ways that end TLS need server.insecure."""
    objects, values = objects_and_values(helm, {"way": "istio-terminate"})
    values["configs"]["params"]["server.insecure"] = False
    with entrance(tmp_path, objects, values) as door:
        assert door.page().status == 307
