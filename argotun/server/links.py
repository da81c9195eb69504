"""The links that this replica dials, one to each other one, and which of them gets a request.

The directory says where agents are, a link says whether that replica lives. To a request a link is a tunnel
as any other, whose CONNECT carries the cluster's id.

Theory of operation
-------------------

| a link is | when                                                  | and gets requests                   |
|-----------|-------------------------------------------------------|-------------------------------------|
| down      | it is dialled, or rests before that; `problem` is why | none                                |
| up        | the replica has said HELLO, and that it is the one    | the one with fewest streams first   |
| suspect   | up, and MISSED PINGs are not answered                 | if there is no other; keeps none    |
| leaving   | up, and the replica has said GOAWAY                   | if there is no other; loses streams |
| full      | up, with MAX_STREAMS                                  | if there is no other                |

Its greenlet (`Link._keep`) dials, reads until the tunnel ends, rests and dials again. `Links.sync` makes the
links to the replicas that the directory names, and stops one whose replica it does not name any more, but
only while that link is down.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from time import monotonic

import gevent

import argotun
from argotun.address import bracketed
from argotun.config import ServerConfig
from argotun.errors import ArgotunError, HandshakeError
from argotun.observe.logs import fields
from argotun.replicas.directory import Directory
from argotun.replicas.records import CALLERS, LEAVING, SINGLE, Route
from argotun.server.addresses import place
from argotun.server.auth import Certificate, shown_by
from argotun.server.ratelimit import TokenBucket
from argotun.server.registry import Way
from argotun.transport.connect import connect
from argotun.transport.dial import Destination
from argotun.transport.lookout import Lookout
from argotun.transport.messages import MessageSocket
from argotun.transport.paths import SocketPath
from argotun.transport.tls import ClientTls, handshake_client
from argotun.tunnel.link import link
from argotun.tunnel.tunnel import Tunnel
from argotun.wire.frames import PEER_SUBPROTOCOL
from argotun.wire.hello import Hello
from argotun.wire.streams import Stream

log = logging.getLogger("argotun.server")

UNTRIED = "not dialled yet"
MISLED = "another replica answers at this address"
"""Why a link is down whose address belongs to another process by now."""
FOREIGN = "it belongs to another installation: another registry prefix"
"""Why there is no link to a replica that is none of ours."""

PATH = "/peer"
REPLICA = "Argotun-Replica"
"""The header that says who dials."""

PEER_FILES = ("--peer-ca", "--peer-cert", "--peer-key")
"""The options that name what replicas trust and show."""

MAX_STREAMS = 16384
"""Of one link: the peer buffer's least share, 4 KiB, for each is three quarters of it."""

MISSED = 3
"""Keepalives without an answer after which a link is suspect."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two dials."""

DIAL = 5.0
"""Seconds for each step of one."""

REST = 0.25
"""Seconds that a route rests whose replica has said that no agent is there."""
REST_UNHEARD = 5.0
"""The same while the registry is away: nobody but the replica itself says when one comes, by HAVE."""

ASKS = 4.0
"""Seconds between two times that the links are asked for the same cluster: others remember who asked for a
little longer."""
ASK_RATE = 1000.0
"""Questions a second on a link: twice as many frames are a flood."""


class Remote(Way):
    """The agents of a cluster at another replica."""

    def __init__(self, owner: "Link", cluster: str, tunnel: Tunnel, flags: int) -> None:
        super().__init__(cluster, tunnel, cluster, callers=bool(flags & CALLERS), single=bool(flags & SINGLE))
        self.via = owner.replica
        # Its limit is not the agent's: a link that is full is a last resort.
        self.ample = self.most = sys.maxsize
        self._owner = owner

    def missing(self) -> None:
        """The route rests."""
        self._owner.not_here(self.cluster)

    @property
    def usable(self) -> bool:
        """A link in doubt keeps no stream: what follows on it would go on into the dark."""
        return super().usable and not self._owner.suspect


class Link:
    """The kept link to one replica; `tunnel` is None while it is down, `problem` says why."""

    def __init__(self, links: "Links", replica: str, address: str) -> None:
        self.replica = replica
        self.address = address
        self.tunnel: Tunnel | None = None
        self.certificate = Certificate()
        self.problem = UNTRIED
        self._place = place(links.config, replica, address, DIAL)
        self.going: set[int] = set()
        self.freeing = False
        self._links = links
        self._ways: dict[tuple[str, int], Remote] = {}
        self._greenlet = gevent.spawn(self._keep)

    @property
    def suspect(self) -> bool:
        """Whether the replica has missed several PINGs."""
        tunnel = self.tunnel
        return tunnel is not None and monotonic() - tunnel.answered > self._links.patience

    @property
    def up(self) -> bool:
        """Whether the replica is there; a link that has ended is down before its reader says so."""
        return self.tunnel is not None and not self.tunnel.ended.is_set()

    @property
    def tried(self) -> bool:
        """Whether it has been dialled, with or without success."""
        return self.problem != UNTRIED

    @property
    def rtt(self) -> float:
        """Smoothed round trip in seconds, 0 while it is down."""
        return self.tunnel.rtt if self.tunnel is not None else 0.0

    @property
    def streams(self) -> int:
        """Streams that are open on it."""
        return len(self.tunnel.mux.streams) if self.tunnel is not None else 0

    @property
    def leaving(self) -> bool:
        """Whether the replica drains."""
        return self.tunnel is not None and bool(self.tunnel.mux.away)

    def way(self, cluster: str, flags: int) -> Remote:
        """How requests for a cluster go on this link, which is up."""
        assert self.tunnel is not None
        key = cluster, flags & (SINGLE | CALLERS)
        way = self._ways.get(key)
        if way is None:
            way = self._ways[key] = Remote(self, cluster, self.tunnel, flags)
        return way

    def rests(self, cluster: str, flags: int) -> bool:
        """Whether an agent of this cluster there could not take a request a moment ago."""
        way = self._ways.get((cluster, flags & (SINGLE | CALLERS)))
        return way is not None and way.rests > 0 and way.rests > monotonic()

    def not_here(self, cluster: str) -> None:
        """The replica says that it has no agent of this cluster."""
        directory, now = self._links.directory, monotonic()
        rest = REST if directory.follows(now) else REST_UNHEARD
        directory.forget(cluster, self.replica, now + rest)
        self._links.asked.pop(cluster, None)

    def move(self, address: str) -> None:
        """The replica is dialled there from now on; a link that is up stays."""
        if address != self.address:
            self.address = address
            self._place = place(self._links.config, self.replica, address, DIAL)

    def stop(self) -> None:
        """The replica is gone, or this one ends."""
        self._greenlet.kill(block=False)
        if self.tunnel is not None:
            self.tunnel.end("the replica is gone")

    def _keep(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                tunnel = self._dial()
            except (ArgotunError, OSError) as error:
                why = str(error)
            else:
                began = monotonic()
                why = tunnel.run()
                if monotonic() - began > LONGEST_PAUSE:
                    pause = FIRST_PAUSE
            was_up = self.tunnel is not None
            self._down()
            ended = self.replica not in self._links.directory.replicas
            if was_up or (why != self.problem and not ended):
                log.log(
                    logging.INFO if ended else logging.WARNING,
                    "the link is down: %s",
                    why,
                    extra=fields(peer=self.address, replica=self.replica),
                )
            self.problem = why
            self._links.sync()
            gevent.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _dial(self) -> Tunnel:
        links = self._links
        socket, self.certificate = links.dial(self._place)
        tunnel = link(
            socket,
            links.tunnels,
            links.lookout,
            opener=True,
            ours=links.hello,
            on_hello=self._arrived,
            on_goaway=lambda tunnel, reason, text: links.leaving(self),
        )
        tunnel.mux.on_have = lambda cluster, since, flags: links.had(cluster, self.replica, since, flags)
        tunnel.mux.on_leave = self._leave
        return tunnel

    def _arrived(self, tunnel: Tunnel, theirs: Hello) -> None:
        if theirs.replica != self.replica:
            tunnel.end(MISLED)
        elif theirs.prefix != self._links.hello.prefix:
            tunnel.end(FOREIGN)
        else:
            self.tunnel = tunnel
            self.problem = ""
            self._links.directory.link_alive(self.replica)
            self._links.asked.clear()
            log.info("the link is up", extra=fields(peer=self.address, replica=self.replica))
            self._links.up()

    def _leave(self, stream: Stream) -> bool:
        if stream.id in self.going:
            return False
        self.going.add(stream.id)
        self._links.leaving(self)
        return True

    def _down(self) -> None:
        self.tunnel = None
        self._ways.clear()
        self.going.clear()
        self._links.directory.link_dead(self.replica)


class Links:
    """All links of the replica `me` of the installation `prefix`, and the choice among them.

    `up()` is called when a link has come up, `leaving(link)` when its replica drains, or the agent of one of
    its streams does, `had(cluster, replica, since, flags)` when that replica says which agents of a cluster
    it has.
    """

    def __init__(
        self,
        config: ServerConfig,
        me: str,
        prefix: str,
        directory: Directory,
        tls: ClientTls,
        *,
        lookout: Lookout,
        revoked: Callable[[Certificate], bool],
        up: Callable[[], None],
        leaving: Callable[[Link], None],
        had: Callable[[str, str, int, int], None],
    ) -> None:
        self.config = config
        self.tunnels = tunnels(config)
        self.hello = hello(me, prefix)
        self.me = me
        self.directory = directory
        self.tls = tls
        self.lookout = lookout
        self.revoked = revoked
        self.up = up
        self.leaving = leaving
        self.had = had
        self.patience = MISSED * config.peer_keepalive
        self._links: dict[str, Link] = {}
        self._over = False
        self.asked: dict[str, float] = {}
        self._asks = TokenBucket(ASK_RATE, ASK_RATE)

    def __iter__(self) -> Iterator[Link]:
        return iter(list(self._links.values()))

    def sync(self) -> None:
        """Other replicas have come or gone, or are elsewhere; a link that is up stays for as long as it is.

        Who can write to the registry must not be able to end what runs.
        """
        if self._over:
            return
        replicas = self.directory.replicas
        for replica, each in list(self._links.items()):
            known = replicas.get(replica)
            if known is not None:
                each.move(known.address)
            elif not each.up:
                self._links.pop(replica).stop()
        for replica in replicas.keys() - self._links.keys() - {self.me}:
            self._links[replica] = Link(self, replica, replicas[replica].address)

    def dial(self, where: Destination | SocketPath) -> tuple[MessageSocket, Certificate]:
        """A connection to the replica that is there, whichever it is, and the certificate that it has shown.

        Raises ArgotunError or OSError where none is, or none that may be one.
        """
        sock = where.dial()
        try:
            sock = handshake_client(sock, self.tls.context(), self.config.peer_name, DIAL)
            certificate = shown_by(sock)
            if self.revoked(certificate):
                raise HandshakeError("its certificate is revoked")
            # What it is called, wherever it is dialled.
            name = bracketed(self.config.peer_name)
            socket = connect(sock, name, PATH, [(REPLICA, self.me)], (PEER_SUBPROTOCOL,), DIAL)
            if socket.subprotocol != PEER_SUBPROTOCOL:
                raise HandshakeError("it is no replica of argotun")
        except BaseException:
            sock.close()
            raise
        return socket, certificate

    def stop(self) -> None:
        """End all of them; none is dialled any more."""
        self._over = True
        while self._links:
            self._links.popitem()[1].stop()

    def pick(self, cluster: str, but: Way | None = None) -> tuple[Way, bool] | None:
        """The best link for a request, and whether it is only a last resort; never the way `but`.

        A replica that has several agents of the cluster is no such way: it passes over one that failed.
        """
        best: tuple[tuple[bool, bool, int, int], Link, Route] | None = None
        for replica, route in self.directory.routes(cluster):
            each = self._links.get(replica)
            if each is None or not each.up:
                continue
            if but is not None and but.tunnel is each.tunnel and route.sessions < 2:
                continue
            load = each.streams
            last = bool(route.flags & LEAVING) or each.leaving or each.suspect or load >= MAX_STREAMS
            rank = last, each.rests(cluster, route.flags), load, route.streams
            if best is None or rank < best[0]:
                best = rank, each, route
        return None if best is None else (best[1].way(cluster, best[2].flags), best[0][0])

    def ask(self, cluster: str) -> None:
        """Ask for an agent of this cluster on all links, but where a current directory would know of it."""
        now = monotonic()
        current = self.directory.follows(now)
        links = [each for each in self._links.values() if not current or self._by_seed(each)]
        if not links or now < self.asked.get(cluster, 0.0) or not self._asks.take(now):
            return
        self.asked[cluster] = now + ASKS
        for each in links:
            if each.tunnel is not None and each.up:
                each.tunnel.mux.ask(cluster)

    def ask_one(self, replica: str, cluster: str) -> bool:
        """Ask one replica for an agent of this cluster; False where its link is down."""
        asked = self._links.get(replica)
        if asked is None or asked.tunnel is None or not asked.up:
            return False
        asked.tunnel.mux.ask(cluster)
        return True

    def end_revoked(self) -> None:
        """End the links to replicas whose certificates count no longer."""
        for each in self._links.values():
            if each.tunnel is not None and self.revoked(each.certificate):
                each.tunnel.end("its certificate is revoked")

    @property
    def reachable(self) -> bool:
        """Whether a link is up."""
        return any(each.up for each in self._links.values())

    def status(self) -> list[dict[str, object]]:
        """For a person: each link."""
        return [
            {
                "replica": each.replica,
                "address": each.address,
                "seed": self._by_seed(each),
                "up": each.up,
                "problem": each.problem,
                "suspect": each.suspect,
                "draining": each.leaving,
                "streams": each.streams,
                "rttSeconds": round(each.rtt, 6),
            }
            for each in self._links.values()
        ]

    def _by_seed(self, each: Link) -> bool:
        known = self.directory.replicas.get(each.replica)
        return known is not None and known.seed


def tunnels(config: ServerConfig) -> ServerConfig:
    """What a link is told in place of a tunnel's options."""
    return replace(
        config,
        keepalive=config.peer_keepalive,
        keepalive_timeout=config.peer_keepalive_timeout,
        tunnel_buffer=config.peer_buffer,
    )


def peer_tls(config: ServerConfig, prefix: str = "") -> ClientTls:
    """What a link trusts and shows; `prefix` is that of ClientTls. ConfigError when a file is of no use."""
    return ClientTls(config.peer_ca, config.peer_cert, config.peer_key, options=PEER_FILES, prefix=prefix)


def hello(me: str, prefix: str) -> Hello:
    """What this replica says of itself on a link."""
    return Hello(
        release=argotun.__version__,
        max_streams=MAX_STREAMS,
        callers=True,
        replica=me,
        prefix=prefix,
    )
