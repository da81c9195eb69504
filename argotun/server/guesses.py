"""Who shows wrong credentials again and again waits for the answer.

A right credential is let in at once, whatever else comes from its address: many agents may share one with
somebody who guesses (NAT, a gateway). So nothing here makes guessing hopeless (a token's length does that);
it makes guessing slow and quiet: after BURST refusals an address gets one each INTERVAL, held back for up to
LONGEST; where too many of its connections wait already, 429 at once; and the log says it once.
"""

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Network

BURST = 20
INTERVAL = 1.0
LONGEST = 5.0
"""Seconds; an agent gives its dial ten."""

HELD = 8
HELD_IN_ALL = 256
"""Connections that wait at once, of one address and of all."""

ADDRESSES = 4096
"""How many are remembered."""


@dataclass(slots=True)
class _Address:
    full_at: float = float("-inf")
    """When all BURST refusals would be free again."""
    held: int = 0
    told: bool = False


class Guesses:
    """What is known of the addresses that showed wrong credentials lately; times are monotonic seconds."""

    def __init__(self) -> None:
        self._addresses: OrderedDict[str, _Address] = OrderedDict()
        self._held = 0

    def refused(self, host: str, now: float) -> tuple[float, bool]:
        """Count a refusal: seconds to hold it back, below 0 for 429 at once; and whether to log it."""
        address = self._of(host)
        full_at = max(address.full_at, now) + INTERVAL
        late = full_at - now - BURST * INTERVAL
        address.full_at = min(full_at, now + BURST * INTERVAL + LONGEST)
        if late <= 0:
            address.told = False
            return 0.0, True
        first, address.told = not address.told, True
        if address.held >= HELD or self._held >= HELD_IN_ALL:
            return -1.0, first
        return min(late, LONGEST), first

    def hold(self, host: str, by: int) -> None:
        """One connection more (1) or less (-1) of this address waits."""
        self._of(host).held += by
        self._held += by

    def _of(self, host: str) -> _Address:
        key = network_of(host)
        address = self._addresses.pop(key, None) or _Address()
        self._addresses[key] = address
        while len(self._addresses) > ADDRESSES:
            self._addresses.popitem(last=False)
        return address


def network_of(host: str) -> str:
    """What one customer of a provider has: an IPv4 address, or a /64 of IPv6 at least (RFC 6177)."""
    return str(IPv6Network((host.partition("%")[0], 64), strict=False)) if ":" in host else host
