"""Agents through a gateway that ends TLS: the token arrives, a client certificate does not."""

from typing import Any

import pytest

from tests.gateways.conftest import Render
from tests.gateways.envoy import PATIENCE
from tests.gateways.stage import HOST, SECRET, Stage
from tests.rig import until

SERVER: dict[str, Any] = {"mode": "server"}

WAYS: dict[str, dict[str, Any]] = {
    "gateway-api": SERVER
    | {
        "gateway": {
            "create": True,
            "className": "cilium",
            "hostname": HOST,
            "tlsMode": "Terminate",
            "tls": {"secretName": SECRET},
        }
    },
    "istio": SERVER
    | {"exposure": {"kind": "istio", "host": HOST, "tlsMode": "Terminate", "tlsSecret": SECRET}},
}
each_way = pytest.mark.parametrize("values", WAYS.values(), ids=WAYS)


@each_way
def test_a_token_is_enough(render: Render, values: dict[str, Any]) -> None:
    with Stage(render(values).objects, passthrough=False, cilium=True) as stage:
        stage.start_agent()
        assert stage.get().body == b"ok"
        assert stage.session.certificate.content is None


@each_way
def test_a_wrong_token_is_not_let_in(render: Render, values: dict[str, Any]) -> None:
    with Stage(render(values).objects, passthrough=False) as stage:
        agent = stage.make_agent(token="another")
        agent.start()
        until(lambda: stage.refusals("unknown_token"), "the refusal", PATIENCE)
        assert not agent.connected.is_set()


@each_way
def test_a_bound_certificate_is_refused_with_the_reason(
    render: Render, values: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    cluster = {"certNames": ["agent.example"]}
    with Stage(render(values).objects, passthrough=False, cluster=cluster) as stage:
        agent = stage.make_agent()
        agent.start()
        until(lambda: stage.refusals("certificate"), "the refusal", PATIENCE)
        until(
            lambda: caplog.text.count("no client certificate") >= 2,
            "both logs",
            PATIENCE,
            lambda: caplog.text,
        )
        assert not agent.connected.is_set()
        (server, *_), (client, *_) = (
            [
                each.message
                for each in caplog.records
                if each.name.startswith(f"argotun.{role}") and "no client certificate" in each.message
            ]
            for role in ("server", "agent")
        )
        for said in (server, client):
            assert "cluster 'c1'" in said
            assert "a gateway that ends TLS" in said


@each_way
def test_nothing_but_connect_and_healthz_reaches_argotun(render: Render, values: dict[str, Any]) -> None:
    with Stage(render(values).objects, passthrough=False) as stage:
        for path, status in {
            "/healthz": 200,
            "/connect": 401,
            "/metrics": 404,
            "/tunnel/c1/api": 404,
            "/connect/": 404,
            "/healthz/../tunnel/c1/api": 404,
            "/connect%2F": 404,
            "/": 404,
        }.items():
            peer = stage.tls(HOST)
            peer.send(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            assert peer.response().status == status, path
        assert stage.envoy.count("upstream_rq_total") == 2
