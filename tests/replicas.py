"""Several servers that know each other by a directory in memory, and links of real TLS between them.

with Replicas(2) as replicas:
    replicas.agent(1)                      # an agent of c1 at the second replica
    replicas.known("c1", 1)                # the first one knows
    assert replicas.get(0).status == 200   # by a hop
"""

from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Self

from gevent import socket

from argotun.agent.app import Agent
from argotun.config import ServerConfig
from argotun.config.network import parse_registry
from argotun.replicas.directory import Directory, Replica
from argotun.replicas.records import Route
from argotun.server.app import Server
from argotun.server.links import Links
from argotun.server.membership import Membership
from argotun.server.registry import Session
from argotun.wire.streams import Stream
from tests.rig import Api, Authority, Peer, Response, Rig, until

NAME = "argotun-peer"


class StaticDirectory(Directory):
    """What a test says of the other replicas."""

    def __init__(self) -> None:
        super().__init__("")
        self.where: dict[str, dict[str, Route]] = {}
        self.resting: dict[tuple[str, str], float] = {}
        self.alive: set[str] = set()
        self.current = True
        self.asked = 0

    def routes(self, cluster: str) -> Sequence[tuple[str, Route]]:
        now = monotonic()
        return [
            (replica, route)
            for replica, route in self.where.get(cluster, {}).items()
            if self.resting.get((cluster, replica), 0.0) <= now
        ]

    def follows(self, now: float) -> bool:
        return self.current

    def have(self, cluster: str, replica: str, route: Route, now: float) -> None:
        self.where.setdefault(cluster, {})[replica] = route
        self.resting.pop((cluster, replica), None)

    def forget(self, cluster: str, replica: str, until: float) -> None:
        self.resting[cluster, replica] = until

    def link_alive(self, replica: str) -> None:
        self.alive.add(replica)

    def link_dead(self, replica: str) -> None:
        self.alive.discard(replica)


class Replicas(Rig):
    """A rig whose server is replica 0 of `count`; replicas that are stopped stay in the list."""

    def __init__(self, count: int = 2, *, peers: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(agent=None, **options)
        folder = self.folder / "peers"
        folder.mkdir()
        # A CA of their own, which gives certificates to nobody else.
        self.peers = Authority(folder)
        self.peers.issue("peer", NAME)
        self._count = count
        self._peer_options = peers or {}
        self.servers: list[Server] = []
        self.directories: list[StaticDirectory] = []
        self.ids = [f"{number:016x}" for number in range(1, count + 1)]

    def __enter__(self) -> Self:
        self.api.start(self.authority)
        for number in range(self._count):
            directory = StaticDirectory()
            self.directories.append(directory)
            self.servers.append(self._start(number, directory))
        self.server = self.servers[0]
        for number, server in enumerate(self.servers):
            for other, directory in enumerate(self.directories):
                if other != number:
                    address = f"127.0.0.1:{self.membership(server).address[1]}"
                    directory.replicas[self.ids[number]] = Replica(
                        address, release="", leaving=False, heard=0.0
                    )
        for server in self.servers:
            self.links(server).sync()
        until(lambda: all(len(each.alive) == self._count - 1 for each in self.directories), "the links")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.servers[1:]:
            server.stop()
        super().__exit__(kind, error, trace)

    def _start(self, number: int, directory: StaticDirectory | None) -> Server:
        path = self.authority.path
        values: dict[str, Any] = {
            "addr": ("127.0.0.1", 0),
            "internal_addr": ("127.0.0.1", 0),
            "peer_addr": ("127.0.0.1", 0),
            "peer_cert": self.peers.path("peer.pem"),
            "peer_key": self.peers.path("peer.key"),
            "peer_ca": self.peers.path("ca.pem"),
            "clusters": str(self.clusters_file),
            "internal_plain": True,
            "access_log": False,
            "reconnect_grace": 0.5,
            "min_wire_version": 1,
        }
        if self._mutual:
            values |= {
                "tls_cert": path("server.pem"),
                "tls_key": path("server.key"),
                "tls_client_ca": path("ca.pem"),
            }
        server = Server(
            ServerConfig(**(values | self._server_options | self._peer_options)),
            self.ids[number],
            directory,
        )
        server.start()
        return server

    def links(self, server: Server | int) -> Links:
        """The links that a replica dials."""
        return self.membership(self.servers[server] if isinstance(server, int) else server).links

    def membership(self, server: Server) -> Membership:
        """What a replica has for being one."""
        assert server.membership is not None
        return server.membership

    def agent_at(self, number: int, cluster: str = "c1", *, known: bool = True, **options: Any) -> Agent:
        """An agent at one replica, which all others know of when this returns, unless it is not `known`."""
        server = self.servers[number]
        scheme = "wss" if self._mutual else "ws"
        agent = self.make_agent(server=f"{scheme}://127.0.0.1:{server.public_address[1]}/connect", **options)
        before = len(server.registry.of(cluster))
        agent.start()
        until(lambda: len(server.registry.of(cluster)) > before, "the session")
        if known:
            self.known(cluster, number)
        return agent

    def known(self, cluster: str, number: int, **route: int) -> None:
        """All other replicas know that this one has agents of a cluster."""
        for other, directory in enumerate(self.directories):
            if other != number:
                directory.where.setdefault(cluster, {})[self.ids[number]] = Route(
                    **({"since": 0, "sessions": 1} | route)
                )
                self.servers[other].placement.changed(cluster)

    def client_of(self, number: int) -> Peer:
        """A new connection to a replica's internal port."""
        sock = socket.socket()
        peer = self.keep(Peer(sock))
        sock.connect(self.servers[number].internal_address)
        return peer

    def get_from(self, number: int, path: str = "/tunnel/c1/api/v1/pods") -> Response:
        """A GET that is asked of this replica."""
        return self.get(path, client=self.client_of(number))


class Joined(Replicas):
    """As `Replicas`, but they find each other by a registry."""

    def __init__(self, url: str, count: int = 2, **options: Any) -> None:
        super().__init__(count, peers={"registry": parse_registry(url)}, **options)

    def __enter__(self) -> Self:
        self.api.start(self.authority)
        self.servers = [self._start(number, None) for number in range(self._count)]
        self.server = self.servers[0]
        until(
            lambda: all(self.meets(number) == self._count - 1 for number in range(self._count)), "the links"
        )
        return self

    def meets(self, number: int) -> int:
        """To how many others a replica has a link."""
        return sum(link.up for link in self.links(number))

    def where(self, number: int, cluster: str = "c1") -> set[str]:
        """Who has agents of a cluster, as a replica believes."""
        return {replica for replica, _ in self.membership(self.servers[number]).directory.routes(cluster)}

    def known(self, cluster: str, number: int, **route: int) -> None:
        others = [other for other in range(self._count) if other != number]
        until(lambda: all(self.ids[number] in self.where(other, cluster) for other in others), "the route")


class ByHop(Replicas):
    """A rig as any other, but client and agent are at different replicas."""

    def __init__(self, api: Api | None = None, *, agent: dict[str, Any] | None = {}, **options: Any) -> None:  # noqa: B006  never changed
        super().__init__(api=api, **options)
        self._agent_options = agent

    def __enter__(self) -> Self:
        super().__enter__()
        if self._agent_options is not None:
            self.start_agent()
        return self

    def start_agent(self, **options: Any) -> Agent:
        return self.agent_at(1, **options)

    @property
    def session(self) -> Session:
        return self.servers[1].registry.all()[-1]

    def streams(self) -> list[Stream]:
        """What lives on any link or tunnel, the client's replica first."""
        tunnels = [link.tunnel for server in self.servers for link in self.links(server) if link.tunnel]
        tunnels += [session.tunnel for server in self.servers for session in server.registry.all()]
        tunnels += [tunnel for agent in self.agents for tunnel in agent.tunnels]
        return [stream for tunnel in tunnels for stream in tunnel.mux.streams.values()]


__all__ = ["Api", "ByHop", "Joined", "Replicas", "Route", "StaticDirectory"]
