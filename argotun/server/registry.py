"""Which agents are connected: the live sessions of every cluster.

Which of them gets a request is not decided here, but in `placement`.
"""

import sys
from collections.abc import Callable
from time import monotonic

from gevent.event import Event

from argotun.server.auth import Certificate, Proof
from argotun.tunnel.tunnel import Tunnel
from argotun.wire.hello import ample

RESTS = 5.0
"""Seconds that others are used before an agent that could not take a request."""


class Way:
    """How a request reaches a cluster: on an agent's tunnel, or on a link to a replica that has one.

    `target` is what CONNECT carries; `callers` says that the agent wants to hear who asks, `single` that it
    takes one request for each stream; `via` is the other replica, empty where the agent is here. `most` is
    the limit of streams, `ample` their number from which on only the last tenth is left, `looked` when idle
    ones were last looked for. Until `rests` (monotonic seconds) others are used first.
    """

    via = ""

    def __init__(
        self,
        cluster: str,
        tunnel: Tunnel,
        target: str,
        *,
        callers: bool,
        single: bool,
    ) -> None:
        self.cluster = cluster
        self.tunnel = tunnel
        self.target = target
        self.callers = callers
        self.single = single
        theirs = tunnel.mux.theirs
        # Where the other side states no limit there is no last tenth of it.
        self.most = (theirs.max_streams if theirs is not None else 0) or sys.maxsize
        self.ample = ample(self.most)
        self.looked = 0.0
        self.rests = 0.0

    def rest(self) -> None:
        """It could not take a request: others are used first for a while."""
        self.rests = monotonic() + RESTS

    def missing(self) -> None:
        """Its other end says that no agent of the cluster is there."""

    @property
    def usable(self) -> bool:
        """Whether new streams may be opened: alive, and its other end is not going away."""
        return not (bool(self.tunnel.mux.away) or self.tunnel.ended.is_set())


class Session(Way):
    """One agent's tunnel, as the server knows it: whose it is, and who the agent says that it is.

    `named` is the target that the clusters file names, if it does; `target` the address that
    CONNECT carries, where empty means the agent's own; `proof` and `certificate` are what let the agent in;
    `ends` when that certificate does (Unix time, None without one); `exclusive` that no other one of its
    cluster may stand beside it, `agents` how many may where it is not.

    An agent that drains is `lingering` while it serves new requests until another one comes, and `leaving`
    once it takes none; `settled` is set when it need not linger. `moved` says that it has a tunnel to another
    server, `asked` that it was asked for one because others have more room: until then it serves as ever.
    """

    def __init__(
        self,
        cluster: str,
        tunnel: Tunnel,
        *,
        peer: str,
        named: str,
        target: str,
        proof: Proof,
        certificate: Certificate,
        agents: int = 1,
    ) -> None:
        """`agents` is how many of its cluster there may be; one that hides who it is stands alone."""
        theirs = tunnel.mux.theirs
        callers = theirs is not None and theirs.callers
        super().__init__(cluster, tunnel, target, callers=callers, single=tunnel.version == 1)
        self.peer = peer
        self.named = named
        self.proof = proof
        self.certificate = certificate
        self.ends = certificate.ends
        self.since = monotonic()
        self.lingers = theirs is not None and theirs.lingers
        self.replaced = self.lingering = self.leaving = self.moved = self.asked = False
        self.settled = Event()
        self.agents = agents
        self.exclusive = agents == 1 or not self.instance

    @property
    def usable(self) -> bool:
        """Whether new streams may be opened: alive, and the agent takes them."""
        return not (self.leaving or self.replaced or self.tunnel.ended.is_set())

    @property
    def alone(self) -> bool:
        """Whether its agent is known to have no other tunnel; one that could not tell is not waited for."""
        return self.lingers and self.usable and not self.moved

    @property
    def host(self) -> str:
        """The peer's address, without its port."""
        return self.peer.rpartition(":")[0]

    @property
    def instance(self) -> str:
        """What the agent's process calls itself in its HELLO; empty for older ones."""
        theirs = self.tunnel.mux.theirs
        return theirs.instance if theirs is not None else ""

    @property
    def release(self) -> str:
        """The agent's release as its HELLO says it; empty in version 1."""
        theirs = self.tunnel.mux.theirs
        return theirs.release if theirs is not None else ""


class Registry:
    """The live sessions of every cluster, oldest first; `changed(cluster)` is called after each change."""

    def __init__(self, changed: Callable[[str], None] = lambda cluster: None) -> None:
        self._sessions: dict[str, list[Session]] = {}
        self._changed = changed

    def add(self, session: Session) -> None:
        """Know a new session."""
        self._sessions.setdefault(session.cluster, []).append(session)
        self._changed(session.cluster)

    def remove(self, session: Session) -> None:
        """Forget this session and no other: the end of a replaced one takes nothing away."""
        sessions = self._sessions.get(session.cluster, [])
        if session in sessions:
            sessions.remove(session)
            if not sessions:
                del self._sessions[session.cluster]
            self._changed(session.cluster)

    def of(self, cluster: str) -> list[Session]:
        """The sessions of one cluster, the newest last."""
        return list(self._sessions.get(cluster, ()))

    def all(self) -> list[Session]:
        """Every live session."""
        return [session for sessions in self._sessions.values() for session in sessions]

    def __len__(self) -> int:
        return sum(map(len, self._sessions.values()))
