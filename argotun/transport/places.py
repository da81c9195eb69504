"""The places of one port: how many connections it holds, in all and from each address, and who gives one up.

A connection is a stranger until it has shown who it is, however long it takes for that: a TLS handshake, a
request's head, a token. When there is no place for a new one, the stranger that came first gives up its own:
of the same address where that has its share, of all where the port is full. So strangers keep nobody out, and
those who are known are never ended for another one; where all are known, the new one is refused.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gevent import get_hub

MAKE_ROOM = "dropped to make room for others: it had not shown who it is"
"""Why a stranger was dropped."""


Peer = tuple[str, int]
"""The address and port of the other side."""


class Dropped(ConnectionAbortedError):
    """What the greenlet of a stranger meets that has to give up its place."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNABORTED, MAKE_ROOM)


class Place:
    """A connection's place; `greenlet` is the one that serves it.

    `known` says that it is no stranger, `late` that it came when only the last tenth of the places was free.
    """

    __slots__ = ("_places", "address", "dropped", "greenlet", "known", "late")

    def __init__(self, places: "Places", address: str) -> None:
        self._places: Places | None = places
        self.address = address
        self.known = False
        self.late = places.scarce(address)
        self.dropped = False
        self.greenlet: Any = None

    def prove(self) -> None:
        """This one is known now, and keeps its place. Raises Dropped if it has lost it already."""
        if self.dropped:
            raise Dropped
        self.known = True
        if self._places is not None:
            self._places.know(self)

    @property
    def scarce(self) -> bool:
        """Whether this was one of the last places, and there are still few."""
        return self.late and self._places is not None and self._places.scarce(self.address)

    def move(self, address: str) -> bool:
        """It is of this address, as a proxy says; False when that has no place left."""
        places = self._places
        return places is not None and not self.dropped and places.move(self, address)

    def leave(self) -> None:
        """The connection has ended."""
        places, self._places = self._places, None
        if places is not None:
            places.free(self)

    def drop(self) -> None:
        """End the connection, from the event loop: whatever its greenlet waits for, it meets Dropped."""
        self.dropped = True
        self.leave()
        get_hub().loop.run_callback(self._throw)

    def _throw(self) -> None:
        # Not if it has ended meanwhile, and not before it has begun: it looks itself then.
        if self.greenlet:
            self.greenlet.throw(Dropped())


class Places:
    """`limit` places, `share` of them for one address; an address that is "" has no share to keep to.

    `taken` is how many there are now, `dropped` and `refused` count strangers and new ones that had to go.
    """

    def __init__(self, limit: int, share: int) -> None:
        self.limit = limit
        self.share = share
        self.taken = 0
        self.dropped = 0
        self.refused = 0
        self._by_address: dict[str, int] = {}
        self._by_peer: dict[Peer, Place] = {}
        # Both oldest first.
        self._strangers: dict[Place, None] = {}
        self._strangers_of: dict[str, dict[Place, None]] = {}

    def take(self, address: str) -> Place | None:
        """A place for a new connection, a stranger; None when there is none."""
        if not self._room_for(address) or (self.taken >= self.limit and not self._drop(self._strangers)):
            self.refused += 1
            return None
        place = Place(self, address)
        self.taken += 1
        self._strangers[place] = None
        self._join(place)
        return place

    def scarce(self, address: str) -> bool:
        """Whether only the last tenth is left, of all or of this address's share."""
        return self.taken * 10 >= self.limit * 9 or self._by_address.get(address, 0) * 10 >= self.share * 9

    def of(self, peer: Peer) -> Place | None:
        """The place of the connection that this peer has now; None when it has lost it."""
        return self._by_peer.get(peer)

    @contextmanager
    def serving(self, place: Place, peer: Peer) -> Iterator[None]:
        """While the connection of this place is served, `of(peer)` finds it."""
        self._by_peer[peer] = place
        try:
            yield
        finally:
            if self._by_peer.get(peer) is place:
                del self._by_peer[peer]

    def move(self, place: Place, address: str) -> bool:
        """A stranger turns out to be of another address; False when that has no place left."""
        if not self._room_for(address):
            self.refused += 1
            return False
        self._part(place)
        place.address = address
        self._join(place)
        return True

    def know(self, place: Place) -> None:
        """It is no stranger any more."""
        self._strangers.pop(place, None)
        self._forget_stranger(place)

    def free(self, place: Place) -> None:
        """It needs its place no longer."""
        self.taken -= 1
        self._strangers.pop(place, None)
        self._part(place)

    def _room_for(self, address: str) -> bool:
        if not address or self._by_address.get(address, 0) < self.share:
            return True
        return self._drop(self._strangers_of.get(address, {}))

    def _drop(self, strangers: dict[Place, None]) -> bool:
        oldest = next(iter(strangers), None)
        if oldest is None:
            return False
        self.dropped += 1
        oldest.drop()
        return True

    def _join(self, place: Place) -> None:
        address = place.address
        self._by_address[address] = self._by_address.get(address, 0) + 1
        self._strangers_of.setdefault(address, {})[place] = None

    def _part(self, place: Place) -> None:
        address = place.address
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]
        self._forget_stranger(place)

    def _forget_stranger(self, place: Place) -> None:
        strangers = self._strangers_of.get(place.address)
        if strangers is not None:
            strangers.pop(place, None)
            if not strangers:
                del self._strangers_of[place.address]
