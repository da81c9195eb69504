"""Over which replicas of the server an agent's tunnels are spread, and which of its connectors may dial.

Each of `most` connectors keeps one tunnel, to a replica where none of the others has one. The server says in
its HELLO which replica it is and how many there are; one that says neither gets one tunnel.

    another tunnel stands   there are fewer than there are replicas     may dial
    ---------------------   ------------------------------------------  -----------------------------------
    none                                                                the first connector
    some                    yes                                         every one that has none
    some                    no, but it was several minutes ago          the first that has none, to find out

So the first tunnel of an agent is made as it would be without the others, and these come behind it.
"""

from enum import Enum, auto
from random import uniform
from time import monotonic

from gevent.event import Event
from gevent.lock import BoundedSemaphore

from argotun.tunnel.tunnel import Tunnel
from argotun.wire.hello import MOST_CONNECTED, Hello

LOOK_AGAIN = (300.0, 600.0)
"""Seconds after which an agent with fewer tunnels than it may have looks whether there are more replicas: of
10,000 agents some twenty handshakes a second."""


class Woken(Enum):
    """Why a wait is over."""

    TIME = auto()
    NEEDED = auto()
    """It is for the first connector to dial soon: there is no other tunnel any more, or none at all."""
    NEWS = auto()
    """Another connector has a new tunnel, and replicas may have come."""


class Spread:
    """What the connectors of one agent know of each other. A connector is its number, from 0.

    `dialling` is to be held while one of them dials: two at once could be led to the same replica.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.replicas = 0
        """How many the server said last; 0 where it is one by itself, or an older release."""
        self.dialling = BoundedSemaphore()
        self._standing: dict[int, Tunnel] = {}
        self._living: dict[Tunnel, str] = {}
        self._arrivals = 0
        self._changed = Event()

    @property
    def wanted(self) -> int:
        """Tunnels that the agent is to have."""
        return min(self.most, max(1, self.replicas))

    @property
    def connected(self) -> str:
        """The replicas where the agent is, as the header `Argotun-Connected` lists them; "" for none."""
        there = {replica: None for tunnel, replica in self._living.items() if replica and tunnel.needed}
        return ",".join(list(there)[:MOST_CONNECTED])

    def replica(self, tunnel: Tunnel) -> str:
        """The id of the replica that a tunnel leads to, "" where it has said none."""
        return self._living.get(tunnel, "")

    def beside(self, number: int) -> bool:
        """Whether another connector has a tunnel that its server does not send away."""
        return any(other != number for other in self._standing)

    def doubled(self, number: int, tunnel: Tunnel) -> bool:
        """Whether another connector's tunnel leads to the same replica."""
        replica = self.replica(tunnel)
        return bool(replica) and any(
            other != number and self.replica(its) == replica for other, its in self._standing.items()
        )

    def may_dial(self, number: int) -> bool:
        """Whether a connector without a tunnel is to dial."""
        others = len(self._standing.keys() - {number})
        return others < self.wanted if others else number == 0

    # ── connectors tell ────────────────────────────────────────────────────────────────────────

    def came(self, number: int, tunnel: Tunnel, theirs: Hello) -> None:
        """A connector's tunnel is up."""
        sound = theirs.replica.isascii() and theirs.replica.isalnum()
        self._living[tunnel] = theirs.replica if sound else ""
        self._standing[number] = tunnel
        self.replicas = theirs.replicas if sound else 0
        self._arrivals += 1
        self._tell()

    def left(self, number: int, tunnel: Tunnel) -> None:
        """Its server sends a tunnel away, or it has ended."""
        if tunnel.ended.is_set():
            self._living.pop(tunnel, None)
        if self._standing.get(number) is tunnel:
            del self._standing[number]
        self._tell()

    def news(self) -> None:
        """Replicas may have come: a server sends a tunnel away that it had asked to move before."""
        self._arrivals += 1
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, Event()
        changed.set()

    # ── connectors wait ────────────────────────────────────────────────────────────────────────

    def wait(self, number: int) -> bool:
        """Until a connector may dial; True when it is only to look whether there are more replicas."""
        deadline = monotonic() + uniform(*LOOK_AGAIN)
        while not self.may_dial(number):
            left = deadline - monotonic()
            if left <= 0 and self._looks(number):
                return True
            self._changed.wait(left if left > 0 else LOOK_AGAIN[0])
        return False

    def pause(self, number: int, seconds: float) -> Woken:
        """Wait before the next dial, for so many seconds or until there is another reason to go on."""
        until, arrivals = monotonic() + seconds, self._arrivals
        before = self._cover(number)
        while (left := until - monotonic()) > 0:
            self._changed.wait(left)
            if number == 0 and self._cover(number) < before:
                return Woken.NEEDED
            if self._arrivals != arrivals:
                return Woken.NEWS
        return Woken.TIME

    def _cover(self, number: int) -> tuple[bool, bool]:
        """Whether another connector has a tunnel that stays, and whether there is any at all."""
        return self.beside(number), bool(self._living)

    def _looks(self, number: int) -> bool:
        """Whether it is for this connector to look for replicas that nobody has told the agent of."""
        free = [each for each in range(self.most) if each not in self._standing]
        return self.replicas > 0 and free[:1] == [number]
