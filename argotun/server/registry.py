"""Which agents are connected: a cluster's id leads to the set of its live sessions."""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from gevent.event import Event

from argotun.tunnel.tunnel import Tunnel


class Session:
    """One agent's tunnel, as the server knows it: whose it is, and who the agent says that it is.

    `named` is the target that the clusters file names, if it does; `target` the address that
    CONNECT carries, where empty means the agent's own; `token` is the digest and `certificate` the
    client certificate, as `getpeercert()` gives it, that let the agent in.
    """

    def __init__(
        self,
        cluster: str,
        tunnel: Tunnel,
        *,
        peer: str,
        named: str,
        target: str,
        token: bytes,
        certificate: Mapping[str, Any] | None = None,
    ) -> None:
        self.cluster = cluster
        self.tunnel = tunnel
        self.peer = peer
        self.named = named
        self.target = target
        self.token = token
        self.certificate = certificate
        self.since = monotonic()
        self.replaced = False

    @property
    def usable(self) -> bool:
        """Whether new streams may be opened: alive, and the agent is not going away."""
        tunnel = self.tunnel
        return not (tunnel.mux.peer_going_away or self.replaced or tunnel.ended.is_set())

    @property
    def release(self) -> str:
        """The agent's release as its HELLO says it; empty in version 1."""
        theirs = self.tunnel.mux.theirs
        return theirs.release if theirs is not None else ""


class Registry:
    """The live sessions of every cluster.

    `replace` decides what a new session means for the others of its cluster: it gets the older
    ones and ends those that are to go. `changed` is called with a cluster's id after each change.
    """

    def __init__(
        self, replace: Callable[[Session], None], changed: Callable[[str], None] = lambda cluster: None
    ) -> None:
        self._sessions: dict[str, list[Session]] = {}
        self._arrivals: dict[str, Event] = {}
        self._replace = replace
        self._changed = changed

    def add(self, session: Session) -> None:
        """Take a new session in use at once; the older ones of its cluster are handed to `replace`.

        They stay known until they end, since what they still serve counts as the cluster's.
        """
        sessions = self._sessions.setdefault(session.cluster, [])
        older = [old for old in sessions if not old.replaced]
        sessions.append(session)
        for old in older:
            old.replaced = True
        arrival = self._arrivals.pop(session.cluster, None)
        if arrival is not None:
            arrival.set()
        self._changed(session.cluster)
        for old in older:
            self._replace(old)

    def remove(self, session: Session) -> None:
        """Forget this session and no other: the end of a replaced one takes nothing away."""
        sessions = self._sessions.get(session.cluster, [])
        if session in sessions:
            sessions.remove(session)
            if not sessions:
                del self._sessions[session.cluster]
            self._changed(session.cluster)

    def pick(self, cluster: str) -> Session | None:
        """The session for a new request: the newest that is usable."""
        for session in reversed(self._sessions.get(cluster, ())):
            if session.usable:
                return session
        return None

    def wait(self, cluster: str, seconds: float) -> Session | None:
        """As `pick`, but give an agent that is on its way back `seconds` to arrive."""
        session = self.pick(cluster)
        deadline = monotonic() + seconds
        while session is None and (left := deadline - monotonic()) > 0:
            arrival = self._arrivals.setdefault(cluster, Event())
            if not arrival.wait(left):
                return None
            session = self.pick(cluster)
        return session

    def of(self, cluster: str) -> list[Session]:
        """The sessions of one cluster."""
        return list(self._sessions.get(cluster, ()))

    def all(self) -> list[Session]:
        """Every live session."""
        return [session for sessions in self._sessions.values() for session in sessions]

    def __len__(self) -> int:
        return sum(map(len, self._sessions.values()))
