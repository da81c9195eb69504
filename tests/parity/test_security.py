"""The list of security properties, those that need a server and an agent together."""

import logging
from collections.abc import Iterator

import pytest

from argotun.wire.mux import Multiplexer
from tests.rig import Api, Gate, Peer, Rig, until


def test_a_credential_never_crosses_the_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    crossed: list[bytes] = []
    steps = Multiplexer.steps

    def listen(mux: Multiplexer, message: bytes) -> Iterator[None]:
        crossed.append(bytes(message))
        return steps(mux, message)

    monkeypatch.setattr(Multiplexer, "steps", listen)
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        heads.append(peer.head())
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        peer.rest()

    with Rig(Api(script)) as rig:
        assert rig.get(extra=b"Authorization: Bearer of-argo\r\nCookie: of-argo\r\n").status == 200
        rig.settle()
    tunnel = b"".join(crossed)
    assert b"GET /api/v1/pods" in tunnel
    assert b"of-argo" not in tunnel
    assert b"sa-token" not in tunnel
    assert b"Authorization: Bearer sa-token\r\n" in heads[0]


def test_an_agent_does_not_dial_what_the_server_names(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    other = Api(tls=False)
    other.start(None)  # type: ignore[arg-type]
    with Rig(cluster={"targetAddr": f"127.0.0.1:{other.port}"}) as rig:
        refused = rig.get()
        assert (refused.status, refused.header("retry-after")) == (503, "1")
        assert "not allowed" in refused.json()["message"]
        assert (other.connections, rig.api.connections) == (0, 0)
        said = [(record.name, record.getMessage()) for record in caplog.records]
        for name in ("argotun.server", "argotun.agent"):
            assert any(name == who and str(other.port) in text for who, text in said), (name, said)
    other.close()


def test_an_agent_dials_its_own_target_when_the_server_names_it() -> None:
    api = Api()
    with Rig(api, agent=None) as rig:
        rig.write_clusters([{"id": "c1", "token": rig.TOKEN, "targetAddr": f"127.0.0.1:{api.port}"}])
        until(lambda: rig.server.clusters.clusters["c1"].target_addr, "the clusters file being read again")
        rig.start_agent()
        assert rig.get().status == 200


def test_requests_beside_each_other_do_not_wait_for_each_other() -> None:
    gate, calls = Gate(), 20

    def script(peer: Peer) -> None:
        peer.head()
        gate.wait()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        peer.rest()

    with Rig(Api(script)) as rig:
        clients = [rig.client() for _ in range(calls)]
        for client in clients:
            client.send(b"GET /tunnel/c1/api HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: rig.api.connections == calls, "all of them at the API at once")
        assert len(rig.server.registry) == 1
        gate.open()
        assert {client.response().status for client in clients} == {200}


def test_an_api_is_not_verified_where_insecure_was_said() -> None:
    with Rig(agent={"insecure": True, "ca_cert": None}) as rig:
        assert rig.get().status == 200


def test_an_api_of_another_ca_is_not_trusted() -> None:
    with Rig() as stranger, Rig(agent={"ca_cert": stranger.authority.path("ca.pem")}) as rig:
        refused = rig.get()
        assert refused.status == 503
        assert "CA certificates" in refused.json()["message"]
