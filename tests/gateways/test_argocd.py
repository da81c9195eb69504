"""The ways to argocd-server, and the faults that two of them are known for."""

from pathlib import Path
from typing import Any

import pytest

from tests.chart.helm import Helm
from tests.gateways.argocd import frame
from tests.gateways.door import (
    CILIUM,
    HOST,
    QUIET,
    WAYS,
    by_user_agent,
    entrance,
    objects_and_values,
)


@pytest.mark.parametrize("way", WAYS)
def test_a_way_to_argocd_server_lets_through_what_its_row_says(helm: Helm, tmp_path: Path, way: str) -> None:
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
def test_ciliums_fault_is_the_one_that_the_documents_say(helm: Helm, tmp_path: Path, way: str) -> None:
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
def test_every_cure_of_ciliums_fault_cures_it(helm: Helm, tmp_path: Path, cure: dict[str, Any]) -> None:
    objects, values = objects_and_values(helm, cure)
    with entrance(tmp_path, objects, values, cilium=True) as door:
        assert door.web().status == 200


ENVOY = {"gateway": {"className": "eg"}}


def test_envoy_gateways_fault_is_the_one_that_the_documents_say(helm: Helm, tmp_path: Path) -> None:
    """%2F becomes a slash by a redirect, and there is nothing at that path."""
    objects, values = objects_and_values(helm, {"way": "gateway-terminate", **ENVOY})
    with entrance(tmp_path, objects, values, envoy_gateway=True) as door:
        assert door.page().status == 200
        moved = door.cluster()
        assert moved.status == 307
        assert "%2F" not in moved.header("location")
        assert door.cluster("POST", "/invalidate-cache").status == 307


@pytest.mark.parametrize("way", ["gateway-passthrough", "gateway-terminate", "gateway-split"])
def test_a_clusters_page_is_reached_through_envoy_gateway(helm: Helm, tmp_path: Path, way: str) -> None:
    policy = {} if way == "gateway-passthrough" else {"envoyGateway": {"createPolicy": True}}
    objects, values = objects_and_values(helm, {"way": way, **ENVOY, **policy})
    with entrance(tmp_path, objects, values, envoy_gateway=True) as door:
        assert door.cluster().status == 200
        assert door.cluster("POST", "/invalidate-cache").status == 200
        assert door.server.heads[0].startswith(b"GET /api/v1/clusters/http%3A%2F%2Fargotun-internal")
        assert door.web().status == 200


def test_the_user_agents_fault_is_the_one_that_the_documents_say(helm: Helm, tmp_path: Path) -> None:
    """gRPC-web of the CLI goes to the gRPC port, and gRPC of anybody else does not."""
    objects, values = objects_and_values(helm, {"way": "istio-split"})
    with entrance(tmp_path, by_user_agent(objects), values) as door:
        assert door.page().status == 200
        assert door.native() == "OK native login"
        assert door.web().status == 503
        assert door.native("grpc-client").startswith("UNIMPLEMENTED")


def test_istio_takes_the_old_port_name_for_the_protocol(helm: Helm, tmp_path: Path) -> None:
    objects, values = objects_and_values(helm, {"way": "istio-split"})
    values["server"]["service"] = {"servicePortHttpsName": "grpc"}
    with entrance(tmp_path, objects, values) as door:
        assert door.native() == "OK native login"
        assert door.web().status == 200


def test_without_the_ports_protocol_no_grpc_arrives(helm: Helm, tmp_path: Path) -> None:
    """What the value that NOTES print for the split ways is for."""
    objects, values = objects_and_values(helm, {"way": "istio-split"})
    del values["server"]["service"]
    with entrance(tmp_path, objects, values) as door:
        assert door.native().startswith("UNIMPLEMENTED")


def test_a_secured_argocd_server_behind_termination_redirects_for_ever(helm: Helm, tmp_path: Path) -> None:
    """Why the ways that end TLS need server.insecure."""
    objects, values = objects_and_values(helm, {"way": "istio-terminate"})
    values["configs"]["params"]["server.insecure"] = False
    with entrance(tmp_path, objects, values) as door:
        assert door.page().status == 307
