"""Where replicas look for each other while the registry is away: at the addresses of one name.

Theory of operation
-------------------

Who starts then hears of nobody, and nobody hears of it. So each replica asks at every address that
`--peer-seeds` has who is there, and the directory takes in who answers: it is known from then on while its
link is up, or once the registry names it. All else is as for any replica: `Links` dials it and keeps the
link, ASK and HAVE say where agents are. Both sides of a link find each other in this way, each by itself.

| what is known of an address of the name                      | what is done                             |
|--------------------------------------------------------------|------------------------------------------|
| nothing, and the registry has been away for less than AWAY   | the name is not even resolved            |
| the registry is current                                      | nothing; all addresses are forgotten     |
| it is our own                                                | nothing                                  |
| a link dials it, or is up to who answered there              | nothing, until that changes              |
| a link dials it, and another replica answers than the link's | it is asked: a process was started there |
| nothing, or that nobody is there, or nobody who may be       | it is asked, with the pauses of a link   |
| the name has it no longer                                    | it is forgotten                          |

A seed is an address and no more. Who answers shows a replica's certificate before anything is said, and then
gets what the registry could have given it: a link, on which it is asked for clusters. Its id is not taken for
ours, and one that is known keeps the address that it has.
"""

import logging
from collections.abc import Iterable
from time import monotonic

import gevent
from gevent.event import Event

from argotun.address import host_port
from argotun.config.models import Address
from argotun.errors import ArgotunError, HandshakeError
from argotun.observe.logs import fields
from argotun.replicas.directory import MOST_REPLICAS, Directory
from argotun.replicas.records import is_replica
from argotun.seldom import Seldom
from argotun.server.addresses import place
from argotun.server.links import DIAL, FIRST_PAUSE, FOREIGN, LONGEST_PAUSE, MISLED, Links
from argotun.transport.resolve import Resolver
from argotun.tunnel.link import link
from argotun.tunnel.tunnel import Tunnel
from argotun.wire.hello import Hello

log = logging.getLogger("argotun.server")

AWAY = 3.0
"""Seconds without the registry, beyond those in which the directory still counts as current, before a name is
resolved: a replica that starts hears of the others within one where there is nothing wrong."""

LOOK = 2.0
"""Seconds between two times that the name is resolved."""

MOST = MOST_REPLICAS
"""Addresses that are taken of a name: the directory has room for no more replicas."""

OURS = 409
"""What our own port answers to us."""


def addresses(name: Resolver) -> list[str]:
    """Those that a name has, each with its port, MOST at most; raises DialError where there are none."""
    found = {host_port(*address[4][:2]) for address in name.addresses(monotonic() + DIAL)}
    # In one order, so that of too many the same ones are taken each time.
    return sorted(found)[:MOST]


class Seeds:
    """Looks for other replicas at the addresses of `name`, a host and a port, from `start` to `stop`."""

    def __init__(self, name: Address, links: Links, directory: Directory) -> None:
        self._name = Resolver(*name, DIAL)
        self._links = links
        self._directory = directory
        self._problem = ""
        self._seldom = Seldom(log)
        self._changed = Event()
        self._kept: dict[str, gevent.Greenlet] = {}
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        """Begin; nothing is resolved while the registry is current."""
        self._greenlet = gevent.spawn(self._look)

    def stop(self) -> None:
        """End; what was found stays."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
        self._seldom.close()

    def changed(self) -> None:
        """Replicas have come or gone: an address may have no link any more."""
        changed, self._changed = self._changed, Event()
        changed.set()

    def _look(self) -> None:
        current = monotonic()
        try:
            while True:
                if self._directory.follows(monotonic()):
                    current = monotonic()
                    self._keep(())
                elif monotonic() - current >= AWAY:
                    self._keep(self._resolve())
                gevent.sleep(LOOK)
        finally:
            self._keep(())

    def _resolve(self) -> list[str]:
        """The addresses that the name has; none where it was never resolved."""
        try:
            found = addresses(self._name)
        except ArgotunError as error:
            if str(error) != self._problem:
                log.warning("other replicas cannot be looked for: %s", error)
            self._problem = str(error)
            return []
        self._problem = ""
        return found

    def _keep(self, those: Iterable[str]) -> None:
        """Look after these addresses and no others."""
        wanted = set(those)
        for address in self._kept.keys() - wanted:
            self._kept.pop(address).kill(block=False)
        for address in wanted - self._kept.keys():
            self._kept[address] = gevent.spawn(self._tend, address)

    def _tend(self, address: str) -> None:
        """Ask who is there, as often as there is a reason."""
        pause, who, problem = FIRST_PAUSE, "", ""
        while True:
            if not self._is_open(address, who):
                if not self._changed.wait(LONGEST_PAUSE):
                    # It was so for long; where a link comes and goes the pauses go on.
                    pause = FIRST_PAUSE
                continue
            try:
                who, why = self._ask(address), ""
                self._directory.met(who, address, monotonic())
            except (ArgotunError, OSError) as error:
                why = str(error)
                if why != problem:
                    # DNS decides how many addresses there are, and who is there what is wrong with it.
                    told, extra = "no other replica is found there", fields(peer=address)
                    self._seldom.say(logging.WARNING, told, f"{told}: %s", why, extra=extra)
            problem = why
            gevent.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _is_open(self, address: str, who: str) -> bool:
        """Whether there may be a replica that no link is for, where `who` was the last to answer."""
        if self._directory.follows(monotonic()) or who == self._links.me:
            return False
        return not any(
            (each.up and each.replica == who) or (each.address == address and each.problem != MISLED)
            for each in self._links
        )

    def _ask(self, address: str) -> str:
        """The id of the replica that is there, ours where it is this one.

        Raises ArgotunError or OSError where there is none, or none of this installation.
        """
        links = self._links
        try:
            socket, _ = links.dial(place(links.config, "", address, DIAL))
        except HandshakeError as error:
            if error.status == OURS:
                return links.me
            raise
        heard = Hello()

        def said(tunnel: Tunnel, theirs: Hello) -> None:
            nonlocal heard
            heard = theirs
            tunnel.end("found")

        tunnel = link(socket, links.tunnels, links.lookout, opener=True, ours=links.hello, on_hello=said)
        why = tunnel.run()
        if heard.replica == links.me or not is_replica(heard.replica):
            raise HandshakeError(f"it does not say which replica it is: {why}")
        if heard.prefix != links.hello.prefix:
            raise HandshakeError(FOREIGN)
        return heard.replica
