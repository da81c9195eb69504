"""The clusters: who is cut off, and at which address of loopback each is found. Pure."""

from dataclasses import dataclass

CUT = "127.2.0.0/16"
"""What can be cut off."""

DOORS = {False: "127.0.0.1", True: "127.2.255.1"}
"""Where agents dial the server: those of clusters that are cut off, by another address than the others."""

_PER_NET = 250  # addresses that end with 1 to 250


@dataclass(frozen=True)
class Place:
    """A cluster; `cut` is whether it is one of those that are cut off."""

    number: int
    cut: bool

    @property
    def id(self) -> str:
        """What argotun and Argo CD call it."""
        return f"c{self.number}"

    def address(self, direct: bool) -> str:
        """Where its API is.

        The agent, which is beside the API, always reaches it: only where Argo CD comes directly is the
        API itself among the addresses that can be cut off.
        """
        net = 2 if direct and self.cut else 1
        high, low = divmod(self.number - 1, _PER_NET)
        return f"127.{net}.{high}.{low + 1}"


def places(count: int, share: float) -> list[Place]:
    """As many clusters, numbered from 1, of which a share is to be cut off, evenly spread."""
    return [Place(number, int(number * share) > int((number - 1) * share)) for number in range(1, count + 1)]


def moments(seconds: float, first: float, every: float) -> list[float]:
    """When something is done within so many seconds: first then, and again after each `every`."""
    found = []
    at = first
    while at < seconds:
        found.append(at)
        at += every
    return found
