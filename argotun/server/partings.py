"""How an agent's tunnel is given up in good order: a newer one has come, or the agent drains."""

import logging
from time import monotonic
from typing import TYPE_CHECKING, Protocol

import gevent

from argotun.config import ServerConfig
from argotun.config.models import LAST_PART
from argotun.observe.logs import fields
from argotun.server.clients import ClientPort
from argotun.server.placement import Placement
from argotun.server.registry import Session
from argotun.wire.reasons import DRAINING, ENDING, REPLACED, WORDS

if TYPE_CHECKING:
    from argotun.server.membership import Membership

log = logging.getLogger("argotun.server")


class SessionParts(Protocol):
    """The parts of a server that a tunnel is taken from."""

    config: ServerConfig
    draining: bool
    placement: Placement
    clients: ClientPort
    membership: "Membership | None"

    def changed(self, cluster: str) -> None:
        """The sessions of a cluster are no longer what they were."""


class Partings:
    """What becomes of the sessions of `server` that are to go."""

    def __init__(self, server: SessionParts) -> None:
        self._server = server

    def replace(self, old: Session) -> None:
        """A newer agent has come: what the old one still serves may finish, where it can be told."""
        mux = old.tunnel.mux
        if (mux.going_away and not old.asked) or old.leaving:
            return
        old.settled.set()
        if mux.goaway(REPLACED):
            if not old.lingering:
                gevent.spawn(self._retire, old)
        else:
            old.tunnel.end(WORDS[REPLACED])

    def _retire(self, old: Session) -> None:
        self._server.clients.drain_session(old, self._server.config.drain)
        old.tunnel.end(WORDS[REPLACED])

    def agent_leaves(self, session: Session, reason: int) -> None:
        """The agent has said GOAWAY. It drains, unless it only says that it has another tunnel than this.

        One that drains ends the tunnel itself once that carries nothing, and has `--drain` for it.
        """
        server = self._server
        if server.draining and reason == REPLACED:
            session.moved = True
            return
        if session.lingering or session.leaving:
            # It has said so before; now it can wait no longer.
            session.leaving = session.leaving or reason == ENDING
            session.settled.set()
            return
        drains = session.lingers and reason == DRAINING and not session.replaced
        session.lingering = drains and server.placement.here(session.cluster, session) is None
        session.leaving = not session.lingering
        log.info("agent drains", extra=fields(cluster=session.cluster, peer=session.peer))
        # Other replicas are to know that this is a last resort now, or no way any more.
        server.changed(session.cluster)
        gevent.spawn(self._see_off, session, drains, reason)

    def _see_off(self, session: Session, drains: bool, reason: int) -> None:
        """Give up a tunnel whose agent drains: at once, or when there is another or no time is left.

        What an agent that has another tunnel leaves behind ends here, once it carries nothing.
        """
        server = self._server
        deadline = monotonic() + server.config.drain
        if session.lingering:
            if server.membership is not None:
                server.membership.lingers(session)
            gevent.wait(
                (session.settled, session.tunnel.ended), server.config.drain * (1 - LAST_PART), count=1
            )
            session.leaving = True
        if drains and (session.settled.is_set() or not session.lingering):
            session.tunnel.mux.goaway(REPLACED)
        if server.membership is not None:
            server.membership.leaves(session)
        server.clients.drain_session(session, max(0.0, deadline - monotonic()))
        if reason == REPLACED and not session.tunnel.mux.streams:
            session.tunnel.end(WORDS[REPLACED])
        session.tunnel.ended.wait(max(0.0, deadline - monotonic()))
        session.tunnel.end("the agent drained for too long")
