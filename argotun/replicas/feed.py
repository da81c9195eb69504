"""What the other replicas say: the feed is followed, and a hash is read where the feed has a gap.

Theory of operation
-------------------

| step      | does                                                                  | ends with            |
|-----------|-----------------------------------------------------------------------|----------------------|
| subscribe | asks for the feed, before anything is read: nothing falls in between  | Redis' answer        |
| read      | reads the hash of each replica that counts as alive                   | the last one         |
| follow    | gives each beat to the directory; where that finds a gap, reads the   | an error, or SILENCE |
|           | replica's hash, once in READ_AGAIN; compares one a minute in any case | of our own beats     |
| wait      | `pauses`, after an error in any step; the directory is not current    | its time             |

and from there to subscribe again, in one greenlet, until `stop`. Hearing our own beats is the test that the
feed works. The directory's clock is moved on (`tick`) in the last two.
"""

import logging
from time import monotonic
from typing import Any

import gevent

from argotun.errors import TransportError
from argotun.files import Trouble
from argotun.replicas.announce import pauses
from argotun.replicas.directory import MOST_REPLICAS, SILENCE, Directory
from argotun.replicas.engine import READ, TIMEOUT, Engine
from argotun.replicas.records import LARGEST, MOST_FIELDS, Gone, Wrong, is_replica, read_hash, read_message
from argotun.seldom import Seldom
from argotun.turns import NEXT_TURN, STINT

log = logging.getLogger(__name__)

TICK = 0.1
"""Seconds between two looks at what is due."""
READ_AGAIN = 0.5
"""Seconds until the same hash is read again, whatever the feed says."""
COMPARE = 60.0
"""Seconds between two hashes that are read for no reason but a fault that nobody knows of."""


class Feed:
    """Fills `directory` from the registry; counts `errors` of the connection, and `gaps` of the feed."""

    def __init__(self, engine: Engine, directory: Directory) -> None:
        self.errors = 0
        self.gaps = 0
        self._engine = engine
        self._directory = directory
        self._over = False
        self._trouble = Trouble(log)
        self._seldom = Seldom(log, most=3, seconds=60.0)
        # Whose hash is to be read, and when each may be read again.
        self._unread: set[str] = set()
        self._rests: dict[str, float] = {}

    def stop(self) -> None:
        """End soon, in the greenlet that runs this."""
        self._over = True
        self._seldom.close()

    def run(self) -> None:
        """Follow the registry until `stop`."""
        failures = 0
        while not self._over:
            try:
                with self._engine.client() as client, client.pubsub() as feed:
                    feed.subscribe(f"{self._engine.keys}:feed")
                    if feed.get_message(timeout=TIMEOUT) is None:
                        raise TransportError("no answer to SUBSCRIBE")
                    self.read_members(client)
                    failures = 0
                    self._follow(client, feed)
            except Exception as error:  # whatever Redis may say or do
                self.errors += 1
                self._trouble.begin(
                    "the registry cannot be followed", f"the last known table stays ({error})"
                )
                self._wait(pauses(failures))
                failures += 1

    def _wait(self, seconds: float) -> None:
        until = monotonic() + seconds
        while not self._over and (now := monotonic()) < until:
            self._directory.tick(now)
            gevent.sleep(min(TICK, until - now))

    def _follow(self, client: Any, feed: Any) -> None:
        # When all that had been said was read, the last time.
        begun = turn = now = drained = monotonic()
        compare = begun + COMPARE
        names: list[str] = []
        while not self._over:
            there = feed.connection.can_read(timeout=0)
            if not there:
                drained = monotonic()
                there = feed.connection.can_read(timeout=TICK)
            # Once there is a part of a message, its rest has more time.
            message = feed.get_message(timeout=TIMEOUT) if there else None
            now = monotonic()
            self._directory.tick(now)
            if message is None:
                turn = now
            elif message["type"] == "message":
                self._take(message["data"], now)
            # Where messages wait to be read, ours may be among them.
            if drained - max(begun, self._directory.heard or 0.0) > SILENCE:
                raise TransportError("our own beats do not come back")
            if self._directory.follows(now):
                self._trouble.end("the registry")
            if now >= compare:
                compare = now + COMPARE
                names = names or list(self._directory.replicas)
                self._unread |= {names.pop()} if names else set()
            if self._unread:
                self._read_due(client, now)
            if now - turn > STINT:
                # Messages that are there already would be taken without a pause.
                gevent.sleep(NEXT_TURN)
                turn = monotonic()

    def _take(self, data: object, now: float) -> None:
        try:
            message = read_message(data)
        except Wrong as wrong:
            self._unsound(str(wrong))
            if wrong.replica in self._directory.replicas:
                self._unread.add(wrong.replica)
            return
        if isinstance(message, Gone):
            self._directory.gone(message.replica)
        elif not self._directory.beat(message, now) and len(self._unread) < MOST_REPLICAS:
            self._unread.add(message.replica)

    def _unsound(self, why: str) -> None:
        self.gaps += 1
        self._seldom.say(logging.WARNING, "registry", "the registry holds what no replica wrote: %s", why)

    def read_members(self, client: Any) -> None:
        """Read the hash of each replica that counts as alive."""
        seconds, micros = client.time()
        alive = client.zrangebyscore(
            f"{self._engine.keys}:members",
            seconds * 1_000_000 + micros,
            "+inf",
            start=0,
            num=MOST_REPLICAS,
        )
        for member in alive:
            replica = member.decode("latin-1")
            self._read(client, replica, self._directory.known(replica))
        self._unread.clear()

    def _read_due(self, client: Any, now: float) -> None:
        due = [replica for replica in self._unread if now >= self._rests.get(replica, 0.0)]
        if len(self._rests) > 4 * MOST_REPLICAS:
            self._rests = {replica: until for replica, until in self._rests.items() if until > now}
        for replica in due:
            self._rests[replica] = now + READ_AGAIN
            self._unread.discard(replica)
            self.gaps += 1
            self._read(client, replica)

    def _read(self, client: Any, replica: str, known: int | None = None) -> None:
        """Read a replica's hash, unless it has the number that is `known`."""
        if not is_replica(replica) or replica == self._directory.me:
            return
        fields = client.register_script(READ)(
            [f"{self._engine.keys}:routes:{replica}"], [MOST_FIELDS + 1, LARGEST, str(known)]
        )
        if fields == b"known":
            self._directory.lives(replica, monotonic())
            return
        if fields == []:
            # Lost, but not by its replica, which finds that out at its next beat.
            return
        try:
            if fields is None:
                raise ValueError("a hash is none, or too large")
            seq, record, routes = read_hash(dict(zip(fields[::2], fields[1::2], strict=True)))
        except ValueError as error:
            self._unsound(str(error))
            return
        self._directory.snapshot(replica, seq, record, routes, monotonic())
        gevent.sleep(NEXT_TURN)
