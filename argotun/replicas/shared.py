"""The registry of replicas as a server holds it: it announces its own sessions and mirrors the others'."""

import secrets
from collections.abc import Mapping
from time import monotonic

import gevent

import argotun
from argotun.config.models import ServerConfig
from argotun.replicas.announce import Announcer
from argotun.replicas.directory import Directory
from argotun.replicas.engine import Engine
from argotun.replicas.feed import Feed
from argotun.replicas.records import Claim, Record, Route


def new_id() -> str:
    """An id for a replica; each process has its own, so nothing old can be taken for it."""
    return secrets.token_hex(8)


class SharedRegistry:
    """The registry that `config` names, for the replica whose id is `directory.me`.

    `address` is where its peers dial it. `claims` is a live view of its own sessions by cluster; after each
    change of it `changed` is to be called. Raises ConfigError when a file of the options cannot be used.
    """

    def __init__(
        self, config: ServerConfig, directory: Directory, address: str, claims: Mapping[str, Claim]
    ) -> None:
        engine = Engine(config)
        self.tls = engine.tls
        self.directory = directory
        record = Record(address, argotun.__version__)
        self._announcer = Announcer(engine, directory.me, record, claims)
        self._feed = Feed(engine, directory)
        self._greenlets: list[gevent.Greenlet] = []
        self.changed = self._announcer.changed
        self.leaving = self._announcer.leaving
        self.mine = self._announcer.mine

    def start(self) -> None:
        """Begin; nothing waits for the registry, which may be away."""
        self._greenlets = [gevent.spawn(self._announcer.run), gevent.spawn(self._feed.run)]

    def stop(self, timeout: float = 2.0) -> None:
        """Say that this replica has ended, and end. No greenlet is killed: redis-py would not stand it."""
        self._announcer.stop()
        self._feed.stop()
        gevent.joinall(self._greenlets, timeout)

    @property
    def up(self) -> bool:
        """Whether our own beats are heard."""
        return self.directory.follows(monotonic())

    @property
    def beats(self) -> int:
        """Beats that were written."""
        return self._announcer.beats

    @property
    def changes(self) -> int:
        """Routes that were written."""
        return self._announcer.changes

    @property
    def replicas(self) -> int:
        """Live replicas that this one knows, itself too."""
        return len(self.directory.replicas) + 1

    @property
    def routes(self) -> int:
        """Clusters that others hold."""
        return self.directory.clusters

    @property
    def errors(self) -> dict[str, int]:
        """Failures by what was tried: to write, to read, and gaps after which a hash was read again."""
        return {"write": self._announcer.errors, "read": self._feed.errors, "resync": self._feed.gaps}

    def status(self) -> dict[str, object]:
        """For a person: how old the table is, and who is in it."""
        now = monotonic()
        heard = self.directory.heard
        return {
            "up": self.up,
            "heardSecondsAgo": None if heard is None else round(now - heard, 1),
            "replicas": {
                name: {
                    "address": replica.address,
                    "release": replica.release,
                    "leaving": replica.leaving,
                    "clusters": len(replica.routes),
                    "heardSecondsAgo": round(now - replica.heard, 1),
                }
                for name, replica in self.directory.replicas.items()
            },
        }


__all__ = ["Claim", "Route", "SharedRegistry", "new_id"]
