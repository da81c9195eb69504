"""What a replica knows of the others: which clusters' agents they hold, and whether they live.

Pure: messages and times come in, routes and callbacks come out. The registry says where an agent is; whether
a replica lives is what its link says. So the registry alone removes no replica whose link lives, and a dead
link alone removes nothing:

| what the registry says of replica X                | link lives | link is dead |
|----------------------------------------------------|------------|--------------|
| that it has ended                                  | forgotten  | forgotten    |
| nothing for SILENCE, while our own beats are heard | stays      | forgotten    |
| nothing, and ours are not heard either             | stays      | stays        |
| its hash is not there, or older than what we heard | stays      | stays        |
| nothing yet: it has answered at a seed (`met`)     | stays      | forgotten    |

Each beat that carries changes has the next sequence number. One that does not follow is a gap, and `beat`
says so: the replica's hash is to be read then, and given to `snapshot`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from argotun.replicas.records import Beat, Record, Route

SILENCE = 3.0
"""Seconds of our own beats in which none of another replica's came, after which its link decides."""
FOLLOWED = 2.5
"""Seconds since our own beat was heard in which the table counts as current; beats come each second."""
MOST_REPLICAS = 256
MOST_ROUTES = 200_000
"""Of all replicas together, some 65 MiB: ten times what 10,000 clusters with two tunnels need."""

_UNSURE = -1


@dataclass(slots=True)
class Replica:
    """Another replica: where it is dialled, its release, whether it drains, when it was `heard`.

    `seq` is the number of its last beat that is known, `routes` what it holds, by cluster, and `sessions` how
    many tunnels these are. Of the routes, the registry has not said `promised` yet, only its link. The
    replica itself it has not named yet where that is a `seed`.
    """

    address: str
    release: str
    leaving: bool
    heard: float
    seq: int = 0
    routes: dict[str, Route] = field(default_factory=dict)
    promised: set[str] = field(default_factory=set)
    sessions: int = 0
    seed: bool = False


class Directory:
    """The table of one replica, whose id is `me`.

    `on_change(cluster)` is called after each change of a cluster's routes, `on_replicas()` when a replica
    came, went, or says something else of itself. Both see the table as it is after the whole message. All
    times are monotonic seconds.
    """

    def __init__(
        self,
        me: str,
        on_change: Callable[[str], None] = lambda cluster: None,
        on_replicas: Callable[[], None] = lambda: None,
    ) -> None:
        self.me = me
        self.on_change = on_change
        self.on_replicas = on_replicas
        self.replicas: dict[str, Replica] = {}
        self.heard: float | None = None
        """When our own last beat came back."""
        self.refused = 0
        """Replicas and routes that were passed over since there were too many."""
        self._where: dict[str, dict[str, Route]] = {}
        self._linked: set[str] = set()
        self._resting: dict[tuple[str, str], float] = {}
        self._hearing_since = 0.0
        self._routes = 0
        self._changed: dict[str, None] = {}
        self._replicas_changed = False

    # ── asking ─────────────────────────────────────────────────────────────────────────────────────

    def routes(self, cluster: str) -> Sequence[tuple[str, Route]]:
        """The other replicas that have agents of a cluster, without those that were told to rest."""
        found = self._where.get(cluster)
        if found is None:
            return ()
        resting = self._resting
        return [(replica, route) for replica, route in found.items() if (cluster, replica) not in resting]

    def follows(self, now: float) -> bool:
        """Whether our own beats are heard, so that the table is current."""
        return self.heard is not None and now - self.heard <= FOLLOWED

    @property
    def clusters(self) -> int:
        """How many clusters others hold."""
        return len(self._where)

    def known(self, replica: str) -> int | None:
        """The number of a replica's beats up to which all is known; None where its hash is to be read."""
        found = self.replicas.get(replica)
        return found.seq if found is not None and not found.promised else None

    # ── what the registry says ─────────────────────────────────────────────────────────────────────

    def beat(self, beat: Beat, now: float) -> bool:
        """Take in a beat; False when one before it is missing, and the replica's hash is to be read."""
        if beat.replica == self.me:
            self._heard_myself(now)
            return True
        replica = self.replicas.get(beat.replica)
        if replica is None:
            if not beat.full:
                return False
            self._replace(beat.replica, beat.seq, beat.record, beat.changes, now)
            return True
        replica.heard = now
        self._describe(replica, beat.record)
        whole = True
        if replica.seq == _UNSURE:
            whole = False
        elif beat.full and beat.seq > replica.seq:
            self._replace(beat.replica, beat.seq, beat.record, beat.changes, now)
        elif beat.changes and not beat.full and beat.seq == replica.seq + 1:
            replica.seq = beat.seq
            replica.promised -= beat.changes.keys()
            for cluster, route in beat.changes.items():
                self._put(beat.replica, replica, cluster, route)
        elif beat.seq > replica.seq:
            whole = False
        elif beat.seq < replica.seq and (beat.full or not beat.changes):
            # Either it comes late, or we were told nonsense: what is read next counts, whatever its number.
            replica.seq = _UNSURE
            whole = False
        self._tell()
        return whole and not replica.promised

    def snapshot(
        self, replica: str, seq: int, record: Record, routes: Mapping[str, Route], now: float
    ) -> None:
        """Take in what a replica's hash says, unless the feed has said more already."""
        known = self.replicas.get(replica)
        if replica == self.me:
            return
        if known is not None and seq < known.seq:
            known.heard = now
            return
        self._replace(replica, seq, record, routes, now)

    def lives(self, replica: str, now: float) -> None:
        """A replica counts as alive, and has said nothing new."""
        if (found := self.replicas.get(replica)) is not None:
            found.heard = now

    def gone(self, replica: str) -> None:
        """A replica has ended."""
        found = self.replicas.pop(replica, None)
        if found is not None:
            self._replicas_changed = True
            for cluster in list(found.routes):
                self._put(replica, found, cluster, None)
            self._tell()

    # ── what links say ─────────────────────────────────────────────────────────────────────────────

    def met(self, replica: str, address: str, now: float) -> None:
        """A replica answers at an address; the registry, which may have named it, knows better what it is."""
        if replica == self.me or replica in self.replicas:
            return
        if len(self.replicas) >= MOST_REPLICAS:
            self.refused += 1
            return
        # Whatever number its next beat has, its hash is to be read then.
        self.replicas[replica] = Replica(address, "", False, now, _UNSURE, seed=True)
        self._replicas_changed = True
        self._tell()

    def link_alive(self, replica: str) -> None:
        """The link to a replica is up: from now on silence of the registry means nothing."""
        self._linked.add(replica)

    def link_dead(self, replica: str) -> None:
        """The link to a replica is down, or could not be made."""
        self._linked.discard(replica)
        found = self.replicas.get(replica)
        if found is not None and found.seed:
            self.gone(replica)

    def have(self, cluster: str, replica: str, route: Route, now: float) -> None:
        """A known replica says on its link that it has agents of a cluster.

        It stands until the registry is back: the replica's next beat is a reason to read its hash, and what
        that says of the cluster counts, unless it is older than what was heard.
        """
        found = self.replicas.get(replica)
        if found is not None:
            found.heard = now
            if found.routes.get(cluster) != route:
                found.promised.add(cluster)
            self._put(replica, found, cluster, route)
            self._tell()

    def forget(self, cluster: str, replica: str, until: float) -> None:
        """A replica has no agent of a cluster after all: the route rests until then, or is said anew."""
        if replica in self._where.get(cluster, ()):
            self._resting[cluster, replica] = until
            self._changed[cluster] = None
            self._tell()

    def tick(self, now: float) -> None:
        """End the rests whose time is up; to be called ten times a second."""
        if self._resting:
            for key in [key for key, until in self._resting.items() if now >= until]:
                del self._resting[key]
                self._changed[key[0]] = None
            self._tell()

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    def _heard_myself(self, now: float) -> None:
        if self.heard is None or now - self.heard > SILENCE:
            # Others had no chance to be heard meanwhile.
            self._hearing_since = now
        self.heard = now
        for name, replica in list(self.replicas.items()):
            if name not in self._linked and now - max(replica.heard, self._hearing_since) > SILENCE:
                self.gone(name)

    def _replace(
        self, name: str, seq: int, record: Record, routes: Mapping[str, Route | None], now: float
    ) -> None:
        replica = self.replicas.get(name)
        if replica is None:
            if len(self.replicas) >= MOST_REPLICAS:
                self.refused += 1
                return
            replica = self.replicas[name] = Replica(*record, heard=now)
            self._replicas_changed = True
        replica.heard, replica.seq = now, seq
        replica.promised.clear()
        self._describe(replica, record)
        for cluster in [cluster for cluster in replica.routes if routes.get(cluster) is None]:
            self._put(name, replica, cluster, None)
        for cluster, route in routes.items():
            self._put(name, replica, cluster, route)
        self._tell()

    def _describe(self, replica: Replica, record: Record) -> None:
        replica.seed = False
        if (replica.address, replica.release, replica.leaving) != record:
            replica.address, replica.release, replica.leaving = record
            self._replicas_changed = True

    def _put(self, name: str, replica: Replica, cluster: str, route: Route | None) -> None:
        rested = self._resting.pop((cluster, name), None) is not None
        before = replica.routes.get(cluster)
        if route is None:
            if before is None:
                return
            del replica.routes[cluster]
            replica.sessions -= before.sessions
            where = self._where[cluster]
            del where[name]
            if not where:
                del self._where[cluster]
            self._routes -= 1
        else:
            if route == before and not rested:
                return
            if before is None:
                if self._routes >= MOST_ROUTES:
                    self.refused += 1
                    return
                self._routes += 1
            replica.routes[cluster] = route
            replica.sessions += route.sessions - (before.sessions if before is not None else 0)
            self._where.setdefault(cluster, {})[name] = route
        self._changed[cluster] = None

    def _tell(self) -> None:
        changed, self._changed = self._changed, {}
        replicas, self._replicas_changed = self._replicas_changed, False
        if replicas:
            self.on_replicas()
        for cluster in changed:
            self.on_change(cluster)
