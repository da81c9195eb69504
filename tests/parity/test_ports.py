"""What each port serves, and that it serves nothing else."""

from gevent import socket

from tests.rig import Peer, Response, Rig, until


def ask(address: tuple[str, int], path: str) -> Response:
    with socket.create_connection(address) as sock:
        peer = Peer(sock)
        peer.send(f"GET {path} HTTP/1.1\r\nHost: argotun\r\nConnection: close\r\n\r\n".encode())
        return peer.response()


def test_agents_are_not_let_in_by_the_internal_port() -> None:
    with Rig(mutual=False, agent=None) as rig:
        assert rig.get("/connect", f"Authorization: Bearer {rig.TOKEN}\r\n".encode()).status == 400
        assert len(rig.server.registry) == 0


def test_a_server_without_agents_is_not_ready() -> None:
    with Rig(mutual=False, agent=None) as rig:
        assert rig.get("/healthz").status == 200
        assert rig.get("/readyz").status == 503
        rig.start_agent()
        answer = rig.get("/readyz")
        assert (answer.status, answer.body.strip()) == (200, b"ok")


def test_an_agent_without_a_tunnel_is_not_ready() -> None:
    with Rig(mutual=False, agent={"health_addr": ("127.0.0.1", 0)}) as rig:
        assert rig.agent.health is not None
        health = rig.agent.health.address
        assert [ask(health, path).status for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]
        rig.server.stop()
        until(lambda: not rig.agent.connected.is_set(), "the loss of the tunnel")
        assert [ask(health, path).status for path in ("/healthz", "/readyz")] == [200, 503]
