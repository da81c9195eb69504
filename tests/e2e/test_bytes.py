"""Answers and bodies pass as they are: encodings, compression, sizes, methods and the raw path."""

import gzip
import socket

import pytest

from .harness import objects
from .harness.http import Answer, Endpoint
from .harness.tunnel import CLIENT_TOKEN, Tunnel

PROTOBUF = "application/vnd.kubernetes.protobuf"
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
# Of each request its own; and the watch cache of the moment, which no request can hold still.
VARYING = {"date", "audit-id"}
MAPS = "/api/v1/namespaces/bytes/configmaps"

GETS = {
    "version": ("/version", {}),
    "discovery": ("/apis", {"Accept": DISCOVERY}),
    "legacy discovery": ("/api", {}),
    "openapi v2": ("/openapi/v2", {"Accept": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"}),
    "openapi v3": ("/openapi/v3", {}),
    "openapi v3 of a group": ("/openapi/v3/apis/apps/v1", {"Accept-Encoding": "gzip"}),
    "json": (MAPS, {}),
    "protobuf": (MAPS, {"Accept": PROTOBUF}),
    "gzip": (MAPS, {"Accept-Encoding": "gzip"}),
    "protobuf with gzip": (MAPS, {"Accept": PROTOBUF, "Accept-Encoding": "gzip"}),
    "table": (MAPS, {"Accept": TABLE}),
    "yaml": (MAPS + "/one", {"Accept": "application/yaml"}),
    "an encoded slash": (MAPS + "/a%2Fb", {}),
    "dots": (MAPS + "/..%2fconfigmaps", {}),
    "two slashes": ("/api/v1//namespaces", {}),
    "a semicolon": (MAPS + "/one;x=1", {}),
    "an encoded query": (MAPS + "?labelSelector=a%20in%20%28b%2Cc%29&fieldSelector=metadata.name%3Done", {}),
    "an unknown path": ("/nothing/here", {}),
    "an unacceptable type": (MAPS, {"Accept": "image/png"}),
    "a range of names": ("/api/v1/namespaces?limit=1", {}),
}


@pytest.fixture(scope="module", autouse=True)
def maps(tunnel: Tunnel) -> None:
    """Enough configmaps that the API compresses a list, which it does from 128 KiB on."""
    tunnel.cluster.create_namespace("bytes")
    for name in ("one", "two", "three"):
        tunnel.cluster.create(MAPS, objects.configmap(name, text=f"{name}\n" * 20_000))


def comparable(answer: Answer) -> tuple[int, list[tuple[str, str]], bytes]:
    return answer.status, [(k, v) for k, v in answer.headers if k.lower() not in VARYING], answer.body


@pytest.mark.parametrize(("path", "headers"), GETS.values(), ids=GETS)
def test_an_answer_is_the_same_as_without_the_tunnel(
    path: str, headers: dict[str, str], direct: Endpoint, tunnel: Tunnel
) -> None:
    expected = comparable(direct("GET", path, headers=headers))
    assert comparable(tunnel.endpoint("GET", path, headers=headers)) == expected


def test_protobuf_and_gzip_are_really_spoken(tunnel: Tunnel) -> None:
    answer = tunnel.endpoint("GET", MAPS, headers={"Accept": PROTOBUF, "Accept-Encoding": "gzip"})
    assert answer.header("Content-Type") == PROTOBUF
    assert answer.header("Content-Encoding") == "gzip"
    assert gzip.decompress(answer.body).startswith(b"k8s\0")


def test_a_protobuf_body_is_stored_as_sent(tunnel: Tunnel) -> None:
    stored = tunnel.endpoint.get(f"{MAPS}/two", Accept=PROTOBUF).body
    changed = stored.replace(b"two\n", b"TWO\n")
    put = tunnel.endpoint("PUT", f"{MAPS}/two", changed, {"Content-Type": PROTOBUF})
    assert put.status == 200, put
    assert tunnel.endpoint.get(f"{MAPS}/two").json()["data"] == {"text": "TWO\n" * 20_000}


def test_a_head_request_has_the_head_of_a_get_and_no_body(direct: Endpoint, tunnel: Tunnel) -> None:
    expected = comparable(direct("HEAD", "/readyz"))
    assert comparable(tunnel.endpoint("HEAD", "/readyz")) == expected
    assert expected[2] == b""


def test_one_connection_carries_many_requests_in_order(tunnel: Tunnel) -> None:
    with tunnel.endpoint.connection() as conn:
        for name in ("one", "three", "one", "absent", "three"):
            response = tunnel.endpoint.send(conn, "GET", f"{MAPS}/{name}")
            body = response.read()
            assert response.status == (404 if name == "absent" else 200)
            assert f'"{name}'.encode() in body
        assert response.getheader("Connection") is None


def test_a_chunked_request_body_arrives_whole(tunnel: Tunnel) -> None:
    body = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"chunked"},"data":{"k":"%s"}}' % (
        b"v" * 300_000
    )
    parts = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
    with tunnel.endpoint.connection() as conn:
        headers = tunnel.endpoint.headers({"Content-Type": "application/json"})
        conn.request("POST", tunnel.endpoint.prefix + MAPS, iter(parts), headers, encode_chunked=True)
        response = conn.getresponse()
        assert response.status == 201, response.read()
        assert b"v" * 300_000 in response.read()


def test_a_client_that_waits_for_100_continue_gets_it_from_the_api(tunnel: Tunnel) -> None:
    body = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"patient"}}'
    head = (
        f"POST {tunnel.endpoint.prefix}{MAPS} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {CLIENT_TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", tunnel.endpoint.port), timeout=10) as client:
        client.sendall(head.encode())
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert client.recv(1000).startswith(b"HTTP/1.1 201 Created\r\n")
