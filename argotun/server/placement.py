"""Which session gets a request, and what a new session means for the older ones of its cluster.

A session of this replica serves before a link to another one, that with the fewest streams first, and the
newest of those. Agents that say which process they are stand beside each other; one that does not, or whose
cluster has one agent only, takes the place of the older ones. These stay in the registry until they end,
since what they still serve counts as the cluster's.

A request waits for an agent that is on its way back. Once a cluster has been without one for long, only
watches wait: whoever asks for anything else may hold up what others need meanwhile, as Argo CD does, which
has ten processors for the syncs of all clusters.
"""

from collections.abc import Callable
from time import monotonic
from typing import Protocol

from gevent.event import Event

from argotun.server.registry import Registry, Session, Way

ASK_AGAIN = 0.25
"""Seconds between two times that others are asked for an agent while a request waits for one."""

LONG_GONE = 30.0
"""Seconds after the first request that waited for an agent in vain from which on nobody waits but a watch."""


class Elsewhere(Protocol):
    """The other replicas."""

    def pick(self, cluster: str, but: Way | None) -> tuple[Way, bool] | None:
        """The best way there, and whether it is only a last resort; never the way `but`."""

    def ask(self, cluster: str) -> None:
        """Ask for an agent, if nobody would say by himself that there is one."""


class Placement:
    """The policy over a registry; `replace(session)` is called for each session that is to give way.

    `elsewhere` are the other replicas, None where there are none.
    """

    def __init__(self, registry: Registry, replace: Callable[[Session], None]) -> None:
        self.elsewhere: Elsewhere | None = None
        self._registry = registry
        self._replace = replace
        self._arrivals: dict[str, Event] = {}
        self._missed: dict[str, float] = {}

    def arrived(self, session: Session) -> None:
        """Use a new session at once, in place of the older ones that may not stand beside it."""
        older = [
            old
            for old in self._registry.of(session.cluster)
            if not old.replaced
            and (session.exclusive or old.exclusive or old.lingering or old.instance == session.instance)
        ]
        for old in older:
            old.replaced = True
        self._registry.add(session)
        self.changed(session.cluster)
        for old in older:
            self._replace(old)

    def changed(self, cluster: str) -> None:
        """There may be a way to this cluster now."""
        self._missed.pop(cluster, None)
        arrival = self._arrivals.pop(cluster, None)
        if arrival is not None:
            arrival.set()

    def all_changed(self) -> None:
        """There may be ways to any cluster now."""
        for cluster in {*self._arrivals, *self._missed}:
            self.changed(cluster)

    def gone(self, cluster: str) -> bool:
        """Whether there has been no way to this cluster for long, as far as requests have shown."""
        missed = self._missed.get(cluster)
        return missed is not None and monotonic() - missed > LONG_GONE

    def forget(self, cluster: str) -> None:
        """The cluster is no longer configured."""
        self._missed.pop(cluster, None)
        self._arrivals.pop(cluster, None)

    def here(self, cluster: str, but: Way | None = None) -> Session | None:
        """The session of this replica for a new request, None while there is none; never `but`."""
        best: Session | None = None
        least = (False, False, 0)
        for session in reversed(self._registry.of(cluster)):
            if session.usable and session is not but:
                resting = session.rests > 0 and session.rests > monotonic()
                rank = session.lingering, resting, len(session.tunnel.mux.streams)
                if best is None or rank < least:
                    best, least = session, rank
        return best

    def pick(self, cluster: str, but: Way | None = None) -> Way | None:
        """The way for a new request, None while no agent can take one; never `but`."""
        session = self.here(cluster, but)
        if self.elsewhere is None or (session is not None and not _is_doubtful(session)):
            return session
        found = self.elsewhere.pick(cluster, but)
        if found is None or (session is not None and found[1]):
            return session
        return found[0]

    def replaceable(self, way: Way) -> bool:
        """Whether a request that leaves `way` finds one that is no last resort."""
        session = self.here(way.cluster, way)
        if session is not None and not _is_doubtful(session):
            return True
        found = self.elsewhere.pick(way.cluster, way) if self.elsewhere is not None else None
        return found is not None and not found[1]

    def wait(self, cluster: str, seconds: float, but: Way | None = None) -> Way | None:
        """As `pick`, but give an agent that is on its way back `seconds` to arrive.

        The way `but` is used where there is no other: an agent may be behind it again.
        """
        way = self.pick(cluster, but)
        if way is None and but is not None:
            way = self.pick(cluster)
        deadline = monotonic() + seconds
        while way is None:
            if self.elsewhere is not None:
                self.elsewhere.ask(cluster)
            left = deadline - monotonic()
            if left <= 0:
                self._missed.setdefault(cluster, monotonic())
                break
            self._arrivals.setdefault(cluster, Event()).wait(
                left if self.elsewhere is None else min(left, ASK_AGAIN)
            )
            way = self.pick(cluster)
        return way


def _is_doubtful(session: Session) -> bool:
    """Whether another replica's agent is better than this one."""
    going = session.tunnel.mux.going_away and not session.asked
    return session.lingering or going or session.rests > monotonic()
