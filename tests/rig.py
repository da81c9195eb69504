"""A server and an agent in this process, over real sockets and TLS, with a scripted API behind them.

    with Rig(api=Api(script)) as rig:
        client = rig.client()
        client.send(b"GET /tunnel/c1/api HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.response().status == 200

A script is called with a `Peer` for each connection that the agent makes to its API; it reads and
writes raw bytes, so that it can break every rule.
"""

import json
import os
import shutil
import ssl
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from socket import socketpair
from time import monotonic
from types import TracebackType
from typing import Any, Self

import gevent
import trustme
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from argotun.agent.app import Agent
from argotun.config import AgentConfig, ServerConfig
from argotun.config.network import parse_proxy, parse_server_url
from argotun.observe import probes
from argotun.server import drain
from argotun.server.app import Server
from argotun.server.registry import Session
from argotun.transport._private import close_notify
from argotun.wire.streams import Stream
from bench import echo
from bench.ports import held
from tests.secrecy import watch

PATIENCE = 30.0
"""Seconds that anything in a test may take before it has failed."""

DRAIN = 2.0
"""Seconds; an agent and a server that have nobody but each other take nearly all of it."""

# No load balancer has to notice a drain here, except in the tests of just that.
drain.NOTICE = 0.2

# What a test looks at has just changed.
probes.FRESH = 0.0


def until(
    condition: Callable[[], object],
    what: str = "the condition",
    seconds: float = PATIENCE,
    explain: Callable[[], object] = lambda: "",
) -> None:
    """Wait until the condition holds; AssertionError, with what `explain` says, when it does not in time."""
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, f"{what} did not come about {explain()}"
        gevent.sleep(0.005)


@dataclass
class Response:
    """One parsed answer."""

    status: int
    head: bytes
    body: bytes
    interim: list[bytes] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """The value of the first field of that name."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name.lower().encode():
                return value.strip().decode("latin-1")
        return None

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Peer:
    """A raw connection: either a test's client or the API's side of an agent's connection.

    What does not come within `patience` seconds is an AssertionError; None waits for ever.
    """

    def __init__(self, sock: Any, patience: float | None = PATIENCE) -> None:
        self.sock = sock
        self.buffer = b""
        self._patience = patience

    def send(self, data: bytes) -> None:
        """Send all of it."""
        watch.sent(data)
        self.sock.sendall(data)

    def read(self, size: int) -> bytes:
        """Exactly so many bytes."""
        with gevent.Timeout(
            self._patience, AssertionError(f"{size} bytes did not arrive; got {self.buffer[:200]!r}")
        ):
            while len(self.buffer) < size:
                self._more()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def until(self, mark: bytes) -> bytes:
        """Up to and with the mark."""
        with gevent.Timeout(
            self._patience, AssertionError(f"{mark!r} did not arrive; got {self.buffer[:200]!r}")
        ):
            while mark not in self.buffer:
                self._more()
        end = self.buffer.index(mark) + len(mark)
        data, self.buffer = self.buffer[:end], self.buffer[end:]
        return data

    def head(self) -> bytes:
        """One HTTP head with its blank line."""
        return self.until(b"\r\n\r\n")

    def response(self, method: str = "GET") -> Response:
        """One answer with its whole body; 1xx answers before it are kept apart."""
        interim = []
        while True:
            head = self.head()
            status = int(head[9:12])
            if status >= 200 or status == 101:
                break
            interim.append(head)
        answer = Response(status, head, b"", interim)
        if method == "HEAD" or status in (101, 204, 304):
            return answer
        if (answer.header("transfer-encoding") or "").lower() == "chunked":
            while size := int(self.until(b"\r\n").split(b";")[0], 16):
                answer.body += self.read(size)
                assert self.read(2) == b"\r\n"
            while self.until(b"\r\n") != b"\r\n":
                pass
        elif (length := answer.header("content-length")) is not None:
            answer.body = self.read(int(length))
        else:
            answer.body = self.rest()
        return answer

    def rest(self) -> bytes:
        """Everything until the other side ends in order; ConnectionResetError when it aborts."""
        with gevent.Timeout(self._patience, AssertionError("the connection did not end")):
            try:
                while True:
                    self._more()
            except EOFError:
                pass
        data, self.buffer = self.buffer, b""
        return data

    def ended(self) -> str:
        """How the connection ends: "closed" or "reset"."""
        try:
            self.rest()
        except OSError:
            return "reset"
        return "closed"

    def record(self, data: bytes) -> bytes:
        """A TLS record of this side with these bytes; its caller sends it, or a part, with `below`."""
        here, there = socketpair()
        with here, there:
            number = self.sock.fileno()
            saved = os.dup(number)
            try:
                os.dup2(there.fileno(), number, inheritable=False)
                self.sock._sslobj.write(data)
            finally:
                os.dup2(saved, number, inheritable=False)
                os.close(saved)
            return here.recv(len(data) + 1024)

    def below(self, data: bytes) -> None:
        """Send all of it as it is, below TLS."""
        self.sock._sock.sendall(data)

    def close(self) -> None:
        """Close it; TLS without a close_notify, as somebody who cuts the line would."""
        self.sock.close()

    def finish(self) -> None:
        """End this direction gracefully: TLS close_notify, then FIN.

        Not by OpenSSL's own shutdown, which also reads, and drops what it finds.
        """
        if hasattr(self.sock, "_sslobj"):
            self.sock._sock.sendall(close_notify(self.sock))
        self.sock._sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Close with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _more(self) -> None:
        try:
            data = self.sock.recv(65536)
        except ValueError as error:
            # What gevent's TLS says of a socket that another greenlet has closed.
            raise EOFError("the connection was closed here") from error
        except ssl.SSLZeroReturnError:
            data = b""
        if not data:
            raise EOFError("the connection ended")
        self.buffer += data


def send_what_is_taken(client: Peer, data: bytes, size: int) -> None:
    """Send in pieces of `size`; the server may have answered and closed before the last of them."""
    try:
        for at in range(0, len(data), size):
            client.send(data[at : at + size])
            if size == 1 and at < 300:
                gevent.sleep(0)
    except OSError:
        pass


Script = Callable[[Peer], None]


def answer(status: str = "200 OK", body: bytes = b"ok", extra: bytes = b"") -> Script:
    """A script that gives every request the same answer and keeps the connection."""

    def script(peer: Peer) -> None:
        while True:
            peer.head()
            peer.send(
                b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status.encode(), len(body), extra, body)
            )

    return script


def answers_its_own(peer: Peer) -> None:
    """A script that says in each answer which request it answers, as `Rig.ask` wants to know it."""
    while True:
        peer.send(echo.echo(peer.head()))


class _Listener(StreamServer):
    """Drops what is in its handshake still when the listener has stopped; gevent's own fails there."""

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> Any:
        with self.wrap_socket(client_socket, **self.ssl_args) as secured:
            handle = getattr(self, "handle", None)
            return handle(secured, address) if handle else None


class Api:
    """A scripted API on loopback, or `host`; `connections` counts, `heads` is for scripts that record."""

    def __init__(self, script: Script | None = None, tls: bool = True, host: str = "127.0.0.1") -> None:
        self.script = script or answer()
        self.tls = tls
        self._host = host
        self.connections = 0
        self.live: list[Peer] = []
        self.heads: list[bytes] = []
        self._server: _Listener | None = None
        self._held: Any = None
        self.port = 0

    def start(self, authority: "Authority") -> None:
        """Listen on a free port (the same one again after `stop`)."""
        if not self.port:
            self._held = held(self._host)
            self.port = self._held.getsockname()[1]
        options: dict[str, Any] = {"ssl_context": authority.server_context()} if self.tls else {}
        self._server = _Listener((self._host, self.port), self._serve, **options)
        self._server.start()

    def stop(self) -> None:
        """Stop listening and cut the connections; nobody else is given the port until `close`."""
        if self._server is not None:
            self._server.stop(timeout=0)
        for peer in list(self.live):
            peer.close()

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        if self._held is not None:
            self._held.close()

    def _serve(self, sock: Any, _peer: Any) -> None:
        self.connections += 1
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # An agent may keep it idle for as long as it takes to test something else.
        peer = Peer(sock, patience=None)
        self.live.append(peer)
        try:
            self.script(peer)
        except (EOFError, OSError):
            # The agent hung up: scripts need not care.
            pass
        finally:
            self.live.remove(peer)
            peer.close()


class Authority:
    """A certificate authority and what it issued, as files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.folder = folder
        self.ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        self.issue("server", "127.0.0.1", "localhost")
        self.issue("agent", "agent.example", "c1", "c2", "c3", "c4")
        self.issue("argocd", common_name="argocd")
        self.issued = self.ca.issue_cert("127.0.0.1", "localhost")

    def issue(self, name: str, *identities: str, **more: Any) -> None:
        """A certificate of these alternative names as `NAME.pem` and `NAME.key`, as trustme makes it."""
        issued = self.ca.issue_cert(*identities, **more)
        issued.private_key_pem.write_to_path(str(self.folder / f"{name}.key"))
        with open(self.folder / f"{name}.pem", "wb") as file:
            file.writelines(part.bytes() for part in issued.cert_chain_pems)

    def path(self, name: str) -> str:
        """Path of `ca.pem`, or of the `.pem` or `.key` of `server`, `agent`, `argocd` or what was issued."""
        return str(self.folder / name)

    def server_context(self) -> ssl.SSLContext:
        """For the scripted API."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.issued.configure_cert(context)
        return context


class Rig:
    """Server, agent and scripted API; everything ends with the `with`.

    `mutual` puts mTLS on the tunnel. `server` and `agent` override fields of their configs;
    `agent=None` starts none. `cluster` adds keys to the entry of the one cluster, `c1`.
    """

    TOKEN = "token-of-agent-c1"
    ACCOUNT = "sa-token"
    """What the agent of `c1` shows its API."""

    def __init__(
        self,
        api: Api | None = None,
        *,
        mutual: bool = True,
        server: dict[str, Any] | None = None,
        agent: dict[str, Any] | None = {},  # noqa: B006  never changed
        cluster: dict[str, Any] | None = None,
    ) -> None:
        self.api = api or Api()
        self._mutual = mutual
        self._server_options = server or {}
        self._agent_options = agent
        self.folder = Path(tempfile.mkdtemp(prefix="argotun-rig-"))
        self.authority = Authority(self.folder)
        self.token_file = self.folder / "sa-token"
        self.token_file.write_text(self.ACCOUNT)
        watch.hold(self.ACCOUNT)
        self.clusters_file = self.folder / "clusters.json"
        self.write_clusters([{"id": "c1", "token": self.TOKEN, **(cluster or {})}])
        self._clients: list[Peer] = []
        self._numbers = count(1)
        self._held: dict[str, Any] = {}
        self.agents: list[Agent] = []
        self.server: Server = None  # type: ignore[assignment]

    @property
    def agent(self) -> Agent:
        """The last agent that was started."""
        return self.agents[-1]

    def write_clusters(self, entries: list[dict[str, Any]]) -> None:
        """Replace the clusters file as one step."""
        watch.hold(
            *(token for entry in entries for token in (entry.get("token"), *entry.get("tokens", ())) if token)
        )
        fresh = self.folder / "clusters.new"
        fresh.write_text(json.dumps(entries))
        os.replace(fresh, self.clusters_file)

    def __enter__(self) -> Self:
        self.api.start(self.authority)
        self.start_server()
        if self._agent_options is not None:
            self.start_agent()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        for agent in self.agents:
            agent.stop()
        self.server.stop()
        self.api.close()
        for port in self._held.values():
            port.close()
        # Until then an agent may look at its files once more, and miss them in the log of the next test.
        gevent.joinall([greenlet for agent in self.agents for greenlet in agent._greenlets], timeout=PATIENCE)
        shutil.rmtree(self.folder)

    def start_server(self, **options: Any) -> Server:
        """A server; the second one takes the ports of the first, which must have ended."""
        for name in ("addr", "internal_addr"):
            # Nobody else may be given one while no server has it.
            self._held[name] = self._held.get(name) or held()
        values: dict[str, Any] = {
            **{name: port.getsockname() for name, port in self._held.items()},
            "clusters": str(self.clusters_file),
            "internal_plain": True,
            "access_log": False,
            "reconnect_grace": 0.5,
            "drain": DRAIN,
            # Agents of version 1 are tried beside those of version 2.
            "min_wire_version": 1,
        }
        if self._mutual:
            values |= {
                "tls_cert": self.authority.path("server.pem"),
                "tls_key": self.authority.path("server.key"),
                "tls_client_ca": self.authority.path("ca.pem"),
            }
        self.server = Server(ServerConfig(**(values | self._server_options | options)))
        self.server.start()
        return self.server

    def agent_config(self, **options: Any) -> AgentConfig:
        """What an agent of this rig is told."""
        scheme = "wss" if self._mutual else "ws"
        values: dict[str, Any] = {
            "server": f"{scheme}://127.0.0.1:{self.server.public_address[1]}/connect",
            "token": self.TOKEN,
            "target": ("127.0.0.1", self.api.port),
            "plain_target": not self.api.tls,
            "ca_cert": self.authority.path("ca.pem"),
            "sa_token_path": str(self.token_file),
            # A scripted API counts who asks.
            "api_check": 0.0,
            # And how often it is dialled.
            "idle_conns": 0,
            "allow_insecure_server": True,
            "health_addr": None,
            "access_log": False,
            "max_retry": 0.2,
            "drain": DRAIN,
        }
        if self._mutual:
            values |= {
                "server_ca_cert": self.authority.path("ca.pem"),
                "client_cert": self.authority.path("agent.pem"),
                "client_key": self.authority.path("agent.key"),
            }
        values |= (self._agent_options or {}) | options
        if isinstance(values.get("proxy"), str):
            values["proxy"] = parse_proxy(values["proxy"])
        values["server"] = parse_server_url(values["server"])
        return AgentConfig(**values)

    def make_agent(self, **options: Any) -> Agent:
        """One more agent, not started; it is stopped when the `with` ends."""
        agent = Agent(self.agent_config(**options))
        self.agents.append(agent)
        return agent

    def start_agent(self, **options: Any) -> Agent:
        """One more agent, connected and known to the server when this returns."""
        agent = self.make_agent(**options)
        before = len(self.server.registry)
        agent.start()
        until(agent.connected.is_set, "the agent's connection")
        until(lambda: len(self.server.registry) > before, "the session")
        return agent

    def client(self, buffer: int = 0) -> Peer:
        """A new connection to the internal port; its kernel holds about `buffer` bytes unread, if given."""
        sock = socket.socket()
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        peer = self.keep(Peer(sock))
        sock.connect(self.server.internal_address)
        return peer

    def keep(self, peer: Peer) -> Peer:
        """Close this connection too when the `with` ends."""
        self._clients.append(peer)
        return peer

    @property
    def session(self) -> Session:
        """The server's side of the newest tunnel."""
        return self.server.registry.all()[-1]

    def streams(self) -> list[Stream]:
        """What lives on either side of any tunnel."""
        tunnels = [session.tunnel for session in self.server.registry.all()]
        tunnels += [tunnel for agent in self.agents for tunnel in agent.tunnels]
        return [stream for tunnel in tunnels for stream in tunnel.mux.streams.values()]

    def settle(self) -> None:
        """Close the clients, and wait until no stream and no connection to the API is left."""
        for client in self._clients:
            client.close()
        until(lambda: not self.server.clients.connections, "the end of the clients' connections")
        until(lambda: not self.streams(), "the end of the streams", explain=self.streams)
        until(lambda: not self.api.live, "the end of the connections to the API")

    def get(
        self, path: str = "/tunnel/c1/api/v1/pods", extra: bytes = b"", client: Peer | None = None
    ) -> Response:
        """One GET on a new or the given connection."""
        client = client or self.client()
        client.send(b"GET %b HTTP/1.1\r\nHost: argotun\r\n%b\r\n" % (path.encode(), extra))
        return client.response()

    def ask(self, cluster: str = "c1", client: Peer | None = None, account: str = "") -> Response:
        """A GET like no other, to an API that `answers_its_own`: a 200 is the answer to it and no other.

        `account` is what the cluster's agent shows its API, where that is not ACCOUNT.
        """
        target = f"/own/{next(self._numbers)}"
        answer = self.get(f"/tunnel/{cluster}{target}", client=client)
        if answer.status == 200:
            own = echo.said(account or self.ACCOUNT, "GET", target)
            assert answer.body == own, f"asked {own!r}, got {answer.body!r}"
        else:
            assert b"argotun: " in answer.body, answer.body
        return answer


class Gate:
    """An event that a script and a test share."""

    def __init__(self) -> None:
        self._event = Event()

    def open(self) -> None:
        """Let those who wait go on."""
        self._event.set()

    def wait(self) -> None:
        """Wait until it is open."""
        assert self._event.wait(PATIENCE), "nobody opened the gate"
