"""How an agent comes to its server and to its API, as its options say: proxies, names, token files."""

from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import trustme
from gevent import socket
from gevent.server import StreamServer

from argotun.agent.app import Agent
from argotun.config.models import KUBERNETES
from tests.rig import Api, Peer, Rig, until


class ConnectProxy:
    """An HTTP proxy that knows CONNECT; `heads` is what it was asked."""

    def __init__(self, status: str = "200 OK") -> None:
        self.heads: list[bytes] = []
        self._status = status
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.port: int = self._server.server_port

    def _serve(self, near: socket.socket, _peer: object) -> None:
        head = Peer(near).head()
        self.heads.append(head)
        near.sendall(f"HTTP/1.1 {self._status}\r\n\r\n".encode())
        if not self._status.startswith("200"):
            return
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            ways = [gevent.spawn(self._carry, *way) for way in ((near, far), (far, near))]
            gevent.joinall(ways, count=1)
            gevent.killall(ways)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass

    def stop(self) -> None:
        self._server.stop(timeout=0)


@contextmanager
def proxy(status: str = "200 OK") -> Iterator[ConnectProxy]:
    made = ConnectProxy(status)
    try:
        yield made
    finally:
        made.stop()


def last_error(agent: Agent) -> str:
    """What the agent shows of its last attempt in /status."""
    return str(agent._status()["lastError"])


def test_a_tunnel_through_a_proxy_carries_requests() -> None:
    with Rig(agent=None) as rig, proxy() as way:
        rig.start_agent(proxy=f"http://user:pass@127.0.0.1:{way.port}")
        assert rig.get().status == 200
        where = b"127.0.0.1:%d" % rig.server.public_address[1]
        assert way.heads[0].startswith(b"CONNECT %b HTTP/1.1\r\n" % where)
        assert b"Proxy-Authorization: Basic dXNlcjpwYXNz\r\n" in way.heads[0]
        assert b"token-of-agent-c1" not in way.heads[0]


def test_a_refusal_of_the_proxy_is_said_without_its_password() -> None:
    with Rig(agent=None) as rig, proxy("407 Proxy Authentication Required") as way:
        agent = Agent(rig.agent_config(proxy=f"http://user:hunter2@127.0.0.1:{way.port}"))
        rig.agents.append(agent)
        agent.start()
        until(lambda: "407" in last_error(agent), "the refusal", explain=lambda: last_error(agent))
        assert "hunter2" not in last_error(agent)
        assert not agent.connected.is_set()


class NamedApi(Api):
    """An API whose certificate holds a name that is not where it listens; it answers with its Host."""

    def __init__(self, name: str) -> None:
        def script(peer: Peer) -> None:
            while True:
                head = peer.head()
                host = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"host:"))
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(host), host))

        super().__init__(script)
        self._name = name

    def start(self, authority: object) -> None:
        ca: trustme.CA = authority.ca  # type: ignore[attr-defined]
        authority.issued = ca.issue_cert(self._name)  # type: ignore[attr-defined]
        super().start(authority)  # type: ignore[arg-type]


def test_an_api_behind_another_name_is_known_by_the_one_given() -> None:
    with Rig(NamedApi("kubernetes.example"), agent={"target_host_name": "kubernetes.example"}) as rig:
        answer = rig.get()
        assert (answer.status, answer.body) == (200, b"Host: kubernetes.example")


def in_a_pod(rig: Rig) -> Agent:
    """An agent with the default target, which the platform says is where the rig's API listens."""
    return rig.start_agent(target=KUBERNETES, target_at=("127.0.0.1", rig.api.port))


def test_the_platforms_address_is_dialled_and_the_name_verified() -> None:
    with Rig(NamedApi(KUBERNETES[0]), agent=None) as rig:
        assert in_a_pod(rig).api.address == "kubernetes.default.svc:443"
        answer = rig.get()
        assert (answer.status, answer.body) == (200, b"Host: kubernetes.default.svc")


def test_a_certificate_for_the_platforms_address_alone_is_not_trusted() -> None:
    with Rig(NamedApi("127.0.0.1"), agent=None) as rig:
        in_a_pod(rig)
        refused = rig.get()
        assert (refused.status, rig.api.connections) == (503, 0)
        assert "kubernetes.default.svc" in refused.json()["message"]


def test_an_api_behind_another_name_is_not_trusted_unless_told() -> None:
    with Rig(NamedApi("kubernetes.example")) as rig:
        refused = rig.get()
        assert (refused.status, rig.api.connections) == (503, 0)
        assert "127.0.0.1" in refused.json()["message"]


def test_a_token_file_is_read_again_at_the_next_dial() -> None:
    with Rig(agent=None) as rig:
        file = rig.folder / "agent-token"
        file.write_text("not-yet\n")
        agent = Agent(rig.agent_config(token=None, token_file=str(file)))
        rig.agents.append(agent)
        agent.start()
        until(lambda: "does not accept the token" in last_error(agent), "the refusal")
        file.write_text(f"{rig.TOKEN}\n")
        until(agent.connected.is_set, "the connection with the new token")
        assert "not-yet" not in last_error(agent)


def test_a_token_file_that_is_gone_is_said() -> None:
    with Rig(agent=None) as rig:
        agent = Agent(rig.agent_config(token=None, token_file=str(rig.folder / "none")))
        rig.agents.append(agent)
        agent.start()
        until(lambda: "--token-file" in last_error(agent), "the reason")
