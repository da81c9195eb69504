"""Even numbers of tunnels at all replicas, after an update has left the new ones with few.

A replica that clearly has more than its share asks some of its agents to move: the tunnel serves on until
they have another one, and if they find none it stays. Calm comes before even numbers.

Theory of operation
-------------------

`Membership` calls `Balance.look` once a second, and `Scales` is then in one of three states:

| state    | is left                                                                           |
|----------|-----------------------------------------------------------------------------------|
| calm     | to over: there are more tunnels than OVER times the share                         |
| over     | to shedding, after QUIET in it; to calm where there are fewer again               |
| shedding | to calm, at ENOUGH times the share; until then a few agents are asked each second |

From everywhere to calm: the replicas have not been the same for QUIET, or are resting. An agent that was
asked has moved when its session takes no new requests, or stays after PATIENCE; it is asked once in REST. No
more than TOLD are asked before one of them has moved, and where most of TOLD stay all rest for REST: their
load balancer leads to no other replica.
"""

import logging
from collections.abc import Hashable, Mapping
from heapq import nsmallest
from math import ceil
from random import random

from argotun.observe.logs import fields
from argotun.replicas.directory import Directory
from argotun.server.registry import Registry, Session
from argotun.wire.reasons import MOVE

log = logging.getLogger("argotun.server")

QUIET = 30.0
"""Seconds without a change of replicas, as a rolling update makes one after the other."""

OVER, ENOUGH = 1.25, 1.1
"""Parts of the share. Of agents that come at random, hundreds on each replica, few go beyond the first."""

FEW_OVER, FEW_ENOUGH = 2, 1
"""As many more than the share are let be in any case: of a handful of agents all parts are large."""

PACE = 300
"""Seconds in which a large excess is to go."""

MOST = 10
"""Agents that are asked in a second: their handshakes are a hundredth of a processor."""

PATIENCE = 60.0
"""Seconds that an agent has to find another replica; so long it counts as gone."""

REST = 600.0
"""Seconds until an agent is asked again."""

TOLD = 8
"""Agents that tell whether those move that are asked."""


class Scales:
    """When one replica asks how many agents to move; knows no tunnel. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._replicas: frozenset[str] = frozenset()
        self._quiet = 0.0
        self._over: float | None = None
        self._shedding = False
        self._asked: dict[Hashable, float] = {}
        self._moved = self._stayed = 0
        self._proven = False
        self._rests = 0.0

    def due(self, mine: int, others: Mapping[str, int], now: float) -> int:
        """How many agents to ask now, who has `mine` tunnels while each of the `others` has so many."""
        if others.keys() != self._replicas:
            self._replicas, self._quiet = frozenset(others), now
        self._judge(now)
        mine -= len(self._asked)
        share = (mine + sum(others.values())) / (1 + len(others))
        if not self._sheds(mine, share, now):
            return 0
        most = MOST if self._proven else min(MOST, TOLD - len(self._asked))
        return min(most, ceil((mine - self._enough(share)) / PACE))

    def ask(self, agent: Hashable, now: float) -> None:
        """An agent was asked."""
        self._asked[agent] = now + PATIENCE

    def gone(self, agent: Hashable) -> None:
        """One that was asked has moved."""
        if self._asked.pop(agent, None) is not None:
            self._moved += 1
            self._proven = True

    def _sheds(self, mine: int, share: float, now: float) -> bool:
        quiet = self._replicas and now - self._quiet >= QUIET and now >= self._rests
        if not quiet or mine <= self._enough(share):
            self._over, self._shedding = None, False
        elif not self._shedding:
            if mine <= max(OVER * share, share + FEW_OVER):
                self._over = None
            elif self._over is None:
                self._over = now
            else:
                self._shedding = now - self._over >= QUIET
        return self._shedding

    @staticmethod
    def _enough(share: float) -> float:
        return max(ENOUGH * share, share + FEW_ENOUGH)

    def _judge(self, now: float) -> None:
        """See who has not moved in time."""
        for agent in [agent for agent, until in self._asked.items() if now >= until]:
            del self._asked[agent]
            self._stayed += 1
        if self._moved + self._stayed >= TOLD:
            if self._stayed > self._moved:
                self._rests, self._proven = now + REST, False
            self._moved = self._stayed = 0


class Balance:
    """Asks the agents of one replica, of whom `registry` knows, by what `table` says of the others."""

    def __init__(self, registry: Registry, table: Directory) -> None:
        self.scales = Scales()
        self._registry = registry
        self._table = table
        self._rests: dict[str, float] = {}
        self._waits: list[Session] = []

    def look(self, now: float) -> int:
        """Ask who is to move now, and how many these are; to be called once a second."""
        for session in [each for each in self._waits if not each.usable]:
            self._waits.remove(session)
            self.scales.gone(session)
        # Of one that the registry has not named nobody says how many it has.
        others = {
            name: each.sessions
            for name, each in self._table.replicas.items()
            if not (each.leaving or each.seed)
        }
        usable = [session for session in self._registry.all() if session.usable and not session.lingering]
        count = self.scales.due(len(usable), others, now)
        if not count or not self._table.follows(now):
            return 0
        self._rests = {cluster: until for cluster, until in self._rests.items() if now < until}
        able = [each for each in usable if each.instance and each.lingers and each.cluster not in self._rests]
        asked = nsmallest(count, able, key=self._hardship)
        for session in asked:
            self._rests[session.cluster] = now + REST
            self._waits.append(session)
            self.scales.ask(session, now)
            session.asked = True
            session.tunnel.mux.goaway(MOVE)
            log.info(
                "an agent is asked to move: this replica has more than its share",
                extra=fields(cluster=session.cluster, peer=session.peer),
            )
        return len(asked)

    def _hardship(self, session: Session) -> tuple[bool, int, float]:
        """Who is asked last: agents without another tunnel, then those with most streams.

        Of equals chance decides: two replicas are not to ask the same agent.
        """
        return not self._table.routes(session.cluster), len(session.tunnel.mux.streams), random()
