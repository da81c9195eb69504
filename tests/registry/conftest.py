"""A Redis of the test's own, and replicas that share it; nothing of either is left behind."""

import gc
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest

from argotun.config import ServerConfig
from argotun.config.network import parse_registry
from argotun.replicas.directory import Directory
from argotun.replicas.records import Claim, Route
from argotun.replicas.shared import SharedRegistry, new_id
from tests import leaks
from tests.redis_server import RedisServer
from tests.rig import PATIENCE, until


class Member:
    """A replica with sessions that the test says it has."""

    def __init__(self, url: str, **options: Any) -> None:
        self.claims: dict[str, Claim] = {}
        self.changes: list[str] = []
        self.directory = Directory(new_id(), self.changes.append)
        config = ServerConfig(registry=parse_registry(url), **options)
        self.shared = SharedRegistry(config, self.directory, "127.0.0.1:8444", self.claims)
        self.shared.start()

    @property
    def id(self) -> str:
        return self.directory.me

    def has(self, *clusters: str, flags: int = 0, since: float = 0.0) -> None:
        """From now on; its newest session came so many seconds ago."""
        for cluster in clusters:
            self.claims[cluster] = Claim(monotonic() - since, 1, flags)
            self.shared.changed(cluster)

    def loses(self, *clusters: str) -> None:
        for cluster in clusters:
            del self.claims[cluster]
            self.shared.changed(cluster)

    def where(self, cluster: str) -> set[str]:
        """Who has a cluster, as this replica believes."""
        return {replica for replica, _ in self.directory.routes(cluster)}

    def route(self, cluster: str) -> Route:
        [(_, route)] = self.directory.routes(cluster)
        return route


class Party:
    """Replicas on one registry."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url
        self.options = options
        self.members: list[Member] = []

    def join(self, *clusters: str, **options: Any) -> Member:
        member = Member(self.url, **(self.options | options))
        self.members.append(member)
        member.has(*clusters)
        return member

    def agree(self) -> bool:
        """Whether each one's table is exactly what the others have."""
        truth = {member.id: set(member.claims) for member in self.members}
        return all(
            {name: set(replica.routes) for name, replica in member.directory.replicas.items()}
            == {name: has for name, has in truth.items() if name != member.id}
            for member in self.members
        )

    def settle(self, seconds: float = PATIENCE) -> None:
        until(
            lambda: all(m.shared.up for m in self.members) and self.agree(), "agreement", seconds, self.tell
        )

    def tell(self) -> object:
        return [member.shared.status() for member in self.members]

    def leave(self, member: Member) -> None:
        self.members.remove(member)
        member.shared.stop()

    def close(self) -> None:
        for member in self.members:
            member.shared.stop(timeout=0)
        for member in self.members:
            member.shared.stop(5.0)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    yield server
    server.close()


@pytest.fixture
def party(redis_server: RedisServer) -> Iterator[Party]:
    party = Party(redis_server.url)
    yield party
    party.close()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    gevent.sleep(0)
    before = leaks.greenlets()
    yield
    gc.collect()
    until(
        lambda: len(leaks.greenlets()) <= len(before), "the end of all", leaks.SOON, explain=leaks.greenlets
    )
