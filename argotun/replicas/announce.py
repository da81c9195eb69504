"""What this replica says of itself in the registry: a beat each second, and soon after each change.

Only this greenlet writes, and only to its own hash, so nothing there can be torn between two. What Redis
holds is known from its answers: after any doubt, and where the hash has lost a field, the next beat carries
everything.
"""

import logging
import random
from collections.abc import Mapping
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event

from argotun.errors import TransportError
from argotun.files import Trouble
from argotun.replicas.engine import BEAT, LEAVE, TIMEOUT, Engine
from argotun.replicas.records import (
    Beat,
    Claim,
    Record,
    Route,
    beat_message,
    gone_message,
    hash_entry,
    route_entry,
)

log = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between two beats when nothing changes."""
GATHER = 0.02
"""Seconds in which changes are gathered into one beat: a storm of a thousand agents is some sixty beats."""
ALIVE = 3000
"""Milliseconds that a new reader takes this replica for alive after a beat."""
KEPT = 30_000
"""Milliseconds after which Redis drops the hash of a replica that beats no more."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 0.5
"""Seconds between two attempts: thirty replicas are a hundred attempts a second, and the registry is whole
within a second after it is back."""


def pauses(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return random.uniform(0.5, 1.0) * min(LONGEST_PAUSE, SHORTEST_PAUSE * 2.0 ** min(failures, 10))


class Announcer:
    """Writes `claims`, a live view of this replica's own sessions by cluster, under the id `me`."""

    def __init__(self, engine: Engine, me: str, record: Record, claims: Mapping[str, Claim]) -> None:
        self.beats = 0
        self.changes = 0
        self.errors = 0
        self._engine = engine
        self._me = me
        self._record = record
        self._claims = claims
        self._routes: dict[str, tuple[float, Route]] = {}
        self._dirty: set[str] = set()
        self._full = True
        self._seq = 0
        self._held = "", 0
        self._offset = 0.0
        self._wake = Event()
        self._over = Event()
        self._trouble = Trouble(log)

    def changed(self, cluster: str) -> None:
        """The sessions of a cluster are others now."""
        self._dirty.add(cluster)
        self._wake.set()

    def leaving(self) -> None:
        """This replica drains: others use it last from now on."""
        self._record = self._record._replace(leaving=True)
        self._wake.set()

    def mine(self, cluster: str) -> Route | None:
        """Our own route of a cluster as others see it; None where none was announced."""
        found = self._routes.get(cluster)
        return found[1] if found is not None else None

    def stop(self) -> None:
        """Say goodbye and end, in the greenlet that runs this."""
        self._over.set()
        self._wake.set()

    def run(self) -> None:
        """Announce until `stop`."""
        failures = 0
        while not self._over.is_set():
            try:
                with self._engine.client() as client:
                    sent, (seconds, micros) = monotonic(), client.time()
                    self._see_clock(seconds * 1_000_000 + micros, sent)
                    beat = client.register_script(BEAT)
                    while not self._over.is_set():
                        self._beat(beat)
                        failures = 0
                        self._trouble.end("the registry")
                        if self._wake.wait(PERIOD) and not self._over.is_set():
                            gevent.sleep(GATHER)
                    client.register_script(LEAVE)(self._keys(), [self._me, gone_message(self._me)])
            except Exception as error:  # whatever Redis may say or do
                self._full = True
                if self._over.is_set():
                    return
                self.errors += 1
                meanwhile = f"agents that move are found by asking the other replicas ({error})"
                self._trouble.begin("the registry cannot be written", meanwhile)
                gevent.sleep(pauses(failures))
                failures += 1

    def _keys(self) -> list[str]:
        keys = self._engine.keys
        return [f"{keys}:routes:{self._me}", f"{keys}:members", f"{keys}:feed"]

    def _beat(self, script: Any) -> None:
        """Write what is new, again where Redis says that it was not taken."""
        for _ in range(3):
            # Before anything is looked at: what changes from here on is for the next beat.
            self._wake.clear()
            if self._send(script, self._gather()):
                return
        raise TransportError("it does not keep what is written")

    def _send(self, script: Any, changes: Mapping[str, Route | None]) -> bool:
        # A number that may have been seen is not used for anything else.
        self._seq += bool(changes or self._full)
        beat = Beat(self._me, self._seq, self._record, self._full, changes)
        sent = monotonic()
        entry, deadline = hash_entry(self._seq, self._record), int((sent + TIMEOUT) * 1e6 + self._offset)
        arguments: list[str | int] = [self._me, entry, *self._held, int(self._full), deadline]
        arguments += [ALIVE, KEPT, beat_message(beat)]
        for cluster, route in changes.items():
            arguments += [cluster, route_entry(route)]
        stamp, said = script(self._keys(), arguments)
        self._see_clock(int(stamp), sent)
        self._full = said != b"written"
        if self._full:
            return False
        self._held = entry, len(self._routes) + 1
        self.beats += 1
        self.changes += len(changes)
        return True

    def _see_clock(self, stamp: int, sent: float) -> None:
        """Keep the offset of Redis' clock, microseconds, as near as an answer allows."""
        self._offset = min(max(self._offset, stamp - monotonic() * 1e6), stamp - sent * 1e6)

    def _gather(self) -> dict[str, Route | None]:
        """The changes that the next beat carries; `_routes` is what the registry holds after it."""
        dirty, self._dirty = self._dirty, set()
        changes: dict[str, Route | None] = {}
        for cluster in {*self._routes, *self._claims} if self._full else dirty:
            before, now = self._routes.get(cluster), self._claim(cluster)
            if now is None:
                self._routes.pop(cluster, None)
                if before is not None and not self._full:
                    changes[cluster] = None
            elif now != before or self._full:
                self._routes[cluster] = now
                changes[cluster] = now[1]
        return changes

    def _claim(self, cluster: str) -> tuple[float, Route] | None:
        claim = self._claims.get(cluster)
        if claim is None:
            return None
        before = self._routes.get(cluster)
        # The clock of another Redis must not reorder who is there already.
        again = before is not None and before[0] == claim.came
        since = (
            before[1].since if before is not None and again else max(0, int(claim.came * 1e6 + self._offset))
        )
        return claim.came, Route(since, *claim[1:])
