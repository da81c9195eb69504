"""Which session gets a request, and what a new session means for the older ones of its cluster.

The newest usable session serves. The older ones stay in the registry until they end, since what they still
serve counts as the cluster's.
"""

from collections.abc import Callable
from time import monotonic

from gevent.event import Event

from argotun.server.registry import Registry, Session


class Placement:
    """The policy over a registry; `replace(session)` is called for each session that is to give way."""

    def __init__(self, registry: Registry, replace: Callable[[Session], None]) -> None:
        self._registry = registry
        self._replace = replace
        self._arrivals: dict[str, Event] = {}

    def arrived(self, session: Session) -> None:
        """Use a new session at once, in place of the older ones of its cluster."""
        older = [old for old in self._registry.of(session.cluster) if not old.replaced]
        for old in older:
            old.replaced = True
        self._registry.add(session)
        arrival = self._arrivals.pop(session.cluster, None)
        if arrival is not None:
            arrival.set()
        for old in older:
            self._replace(old)

    def pick(self, cluster: str) -> Session | None:
        """The session for a new request, None while no agent can take one."""
        for session in reversed(self._registry.of(cluster)):
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
