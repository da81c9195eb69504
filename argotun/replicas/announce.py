"""What this replica says of itself in the registry: a beat each second, and soon after each change.

Theory of operation
-------------------

Only the greenlet of `run` writes, and only to its own hash, so nothing there can be torn between two. What
Redis holds is known from its answers alone; each decides what the next beat writes and what it tells:

| answer    | means                         | `_whole`: writes | `_full`: tells                           |
|-----------|-------------------------------|------------------|------------------------------------------|
| `written` | the hash is as we left it     | the changes      | the changes                              |
| `gone`    | there is no hash              | everything       | the changes, unless a beat had no answer |
| `lost`    | the hash is not as we left it | everything       | everything                               |
| `late`    | it came too late to be taken  | what it did      | what it did                              |
| none      | it may have been written      | what it did      | everything, if it wrote everything       |

The first beat is as after `lost`. Where a hash is gone nobody can have read anything else than what was told
before, and thirty replicas that tell each other 20,000 routes are busy for seconds: so only the changes are
told. After a beat without an answer the next has a number that leaves one out (`_send` says why).

`run` ends by `stop`, with a goodbye; an error only has it begin again with another client after `pauses`.
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
EXPIRES = 30_000
"""Milliseconds after which Redis drops the hash of a replica that beats no more."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 0.5
"""Seconds between two attempts: thirty replicas are a hundred attempts a second, and the registry is whole
within a second after it is back."""

_Announced = tuple[float, Route]
"""When the newest session came, by our clock; and the route."""


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
        # What the registry holds, under which number, and as which entry and number of fields.
        self._routes: dict[str, _Announced] = {}
        self._seq = self._used = 0
        self._held = "", 0
        self._dirty: set[str] = set()
        # Whether the next beat carries all routes, and whether it writes all of them.
        self._full = self._whole = True
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
            dirty, self._dirty = self._dirty, set()
            written = False
            try:
                written = self._send(script, self._gather(dirty))
            finally:
                if not written:
                    self._dirty |= dirty
            if written:
                return
        raise TransportError("it does not keep what is written")

    def _send(self, script: Any, found: Mapping[str, _Announced | None]) -> bool:
        # A beat without an answer may have been written. Then the next one is refused, for it does not
        # follow, and all is written under a number that nobody has seen. Where a Redis has gone back to what
        # was before, it is not refused: so one number is left out, and whoever sees that reads the hash.
        used = self._used
        seq = used + 1 if self._full else used + 2 if used > self._seq else self._seq + bool(found)
        self._used = max(used, seq)
        changes = {cluster: each and each[1] for cluster, each in found.items()}
        beat = Beat(self._me, seq, self._record, self._full, changes)
        written: dict[str, Route | None] = dict(changes)
        if self._whole and not self._full:
            written = {cluster: route for cluster, (_, route) in self._routes.items()}
            written |= changes
        sent = monotonic()
        entry, deadline = hash_entry(seq, self._record), int((sent + TIMEOUT) * 1e6 + self._offset)
        arguments: list[str | int] = [self._me, entry, *self._held, int(self._whole), deadline]
        arguments += [ALIVE, EXPIRES, beat_message(beat)]
        for cluster, route in written.items():
            arguments += [cluster, route_entry(route)]
        # If there is no answer, nothing but all under a new number is sure to be understood.
        full, self._full = self._full, self._full or self._whole
        stamp, said = script(self._keys(), arguments)
        self._see_clock(int(stamp), sent)
        if said != b"written":
            self._used = used
            self._whole |= said in (b"gone", b"lost")
            self._full |= said == b"lost" or (said == b"gone" and used != self._seq)
            return False
        if full:
            self._routes.clear()
        for cluster, each in found.items():
            if each is None:
                self._routes.pop(cluster, None)
            else:
                self._routes[cluster] = each
        self._seq, self._held = seq, (entry, len(self._routes) + 1)
        self._full = self._whole = False
        self.beats += 1
        self.changes += len(changes)
        return True

    def _see_clock(self, stamp: int, sent: float) -> None:
        """Keep the offset of Redis' clock, microseconds, as near as an answer allows."""
        self._offset = min(max(self._offset, stamp - monotonic() * 1e6), stamp - sent * 1e6)

    def _gather(self, dirty: set[str]) -> dict[str, _Announced | None]:
        """What the next beat carries."""
        if self._full:
            return {cluster: self._claim(cluster) for cluster in self._claims}
        found = {cluster: self._claim(cluster) for cluster in dirty}
        return {cluster: each for cluster, each in found.items() if each != self._routes.get(cluster)}

    def _claim(self, cluster: str) -> _Announced | None:
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
