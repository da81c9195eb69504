"""One client connection: what its socket says is read, held or passed on, and silence has its limits.

The connection's greenlet reads for as long as the connection lives, also while an answer is on its way,
because only that tells when the client leaves. Heads are routed on their raw target; bodies are passed on as
they come, and wait when the tunnel is full. Bytes behind a request whose answer is not complete wait here,
and the client with them.

Answers are written by others (`exchange`). The two meet in `proceed`, which lets held bytes go on, and in
`switched`, behind which bytes are raw in both directions.

Nothing may wait for ever. About once a second `sweep` asks in which `Situation` the connection is. While that
is the same, and no byte moves that matters there, a clock runs; each situation has one limit, and one thing
that happens at it.
"""

import logging
from enum import IntEnum
from time import monotonic
from typing import Any, Protocol

import gevent
from gevent.event import Event

from argotun.errors import HeadError
from argotun.observe.logs import fields
from argotun.observe.request import Request
from argotun.observe.tracing import Tracing
from argotun.server.callers import Access, Visitor
from argotun.server.exchange import Exchange
from argotun.server.registry import Way
from argotun.server.routes import LASTING, ROUTE, WATCH
from argotun.transport.places import Place
from argotun.transport.reader import Reader
from argotun.tunnel.channel import Channel
from argotun.tunnel.outlet import Outlet
from argotun.turns import NEXT_TURN
from argotun.wire.head import RequestHead, parse_request
from argotun.wire.outcomes import Action, Cause, Refusal
from argotun.wire.relay import BODY, HEAD, IDLE, RAW, Relay

log = logging.getLogger("argotun.server")

FLUSH = 60.0
"""Seconds that the last bytes have to reach a client that sends no more and reads slowly."""


class Situation(IntEnum):
    """Whom a connection waits for."""

    BUSY = 0
    """Nobody whose silence is counted: an agent is waited for, or the client's own socket is full."""
    UNUSED = 1
    """The client's next request."""
    IN_HEAD = 2
    """The rest of a head, however many bytes of it come."""
    IN_BODY = 3
    """More of a request's body."""
    ASKED = 4
    """The API's answer, or more of it."""
    PUSHING = 5
    """The API, which is to take more of the request."""
    HALF = 6
    """The client's half of an upgraded connection, whose other half is over."""
    LEAVING = 7
    """The client's own end, after the last answer."""
    UNSPOKEN = 8
    """The client's first byte."""


_MOVING = frozenset({Situation.IN_BODY, Situation.ASKED, Situation.PUSHING, Situation.HALF})
"""Where bytes that move start the clock anew: those that came, less those that still wait to leave."""


class Port(Protocol):
    """What a connection asks of the port that accepted it; times are in seconds, 0 is no limit."""

    draining: bool
    ending: bool
    max_body: int
    stall_timeout: float
    limits: dict[Situation, float]
    tracing: Tracing | None

    def refuse(self, request: Request, head: RequestHead, access: Access, own: bool) -> str:
        """Why whoever asks may not; "" where it may. `own` is a request for something of the server's."""

    def admit(self, request: Request, held: Way | None) -> Way | Refusal:
        """The way for a request, `held` if that will do; or why there is none. May wait for an agent."""

    def another(self, request: Request, but: Way, action: Action) -> Way | None:
        """A way for a request that got nowhere on `but`; an agent has time to come unless ELSEWHERE."""

    def repeats(self, request: Request, action: Action) -> None:
        """Count a request that is asked again."""

    def lasting_refused(self) -> Refusal:
        """What a request that lasts hears where only the last places are free."""

    def local(self, head: RequestHead) -> tuple[int, bytes, bytes] | Refusal:
        """Status, content type and body for a request that is for no cluster."""

    def new_audit_id(self) -> bytes:
        """A fresh Audit-ID."""

    def record(self, request: Request) -> None:
        """Count a request that has ended."""


class Connection:
    """One connection to the port for clients; `visitor` says who is at its other end."""

    __slots__ = (
        "_began",
        "_leaving",
        "_mark",
        "_outlet",
        "_place",
        "_port",
        "_reader",
        "_since",
        "_upload",
        "_uploaded",
        "_woken",
        "exchange",
        "record",
        "visitor",
    )

    def __init__(self, port: Port, sock: Any, visitor: Visitor, place: Place | None = None) -> None:
        self._port = port
        self._place = place
        self.visitor = visitor
        self._reader = Reader(sock)
        self._outlet = Outlet(sock, self._unwritable, stall=port.stall_timeout)
        self._outlet.on_drained = self.proceed
        self._upload = Relay()
        self._upload.begin()
        self._uploaded = 0
        self._began = 0.0
        self._leaving = False
        self._woken: Event | None = None
        self._since = monotonic()
        self._mark: tuple[Situation, float, int] = (Situation.UNUSED, 0.0, 0)
        self.record = port.record
        self.exchange = Exchange(self, self._outlet)

    def serve(self) -> None:
        """Read until the client or argotun ends the connection."""
        recv = self._reader.recv
        try:
            while data := recv():
                self._feed(data)
            self._ended()
        except HeadError as error:
            self._malformed(error)
            self._discard()
        except OSError:
            # The client's connection is gone, which `close` passes on.
            pass
        finally:
            self.exchange.close()
            self._outlet.break_off()
            self.visitor.leave()

    # ── the exchange asks ──────────────────────────────────────────────────────────────────────

    @property
    def draining(self) -> bool:
        """Whether the server is about to end."""
        return self._port.draining

    @property
    def request_done(self) -> bool:
        """Whether the whole request has been read."""
        return self._upload.state != BODY

    def attached(self, channel: Channel) -> None:
        """What is read goes to this channel: where its tunnel is full, less is read at once."""
        self._reader.backlog = channel.backlog

    def proceed(self) -> None:
        """Something has changed: the answer, or what is queued for the client. Held bytes may go on."""
        if self._woken is not None:
            self._woken.set()

    def switched(self) -> None:
        """Raw bytes follow in both directions."""
        self._upload.switch()
        self.proceed()

    def finish(self) -> None:
        """No more answers: half-close behind what is queued, and discard what still comes."""
        self._leaving = True
        self._outlet.finish()

    def again(self, request: Request, but: Way, action: Action) -> bool:
        """Whether the request may find another way than `but`; a greenlet of its own asks there."""
        port = self._port
        if port.ending or (action == Action.ELSEWHERE and port.another(request, but, action) is None):
            return False
        port.repeats(request, action)
        gevent.spawn(self._again, request, but, action)
        return True

    def _again(self, request: Request, but: Way, action: Action) -> None:
        way = self._port.another(request, but, action)
        exchange = self.exchange
        if exchange.request is request and exchange.asking:
            access = self.visitor.used
            exchange.resend(way, access.told, access.acts)
            self.proceed()

    # ── the port asks ──────────────────────────────────────────────────────────────────────────

    @property
    def idle(self) -> bool:
        """Whether no request is in progress, and none has begun to arrive."""
        return self.exchange.idle and not self._leaving and self.request_done and not self._upload.held

    @property
    def unspoken(self) -> bool:
        """Whether the client has said nothing yet."""
        return not self._began and not self._leaving

    @property
    def answered(self) -> bool:
        """Whether the client's machine has the last answer: only the client's own end is awaited."""
        return self._leaving and self.exchange.idle and self._outlet.delivered

    @property
    def pending(self) -> int:
        """Bytes that wait for the client."""
        return self._outlet.pending

    @property
    def watching(self) -> bool:
        """Whether the request in progress is a watch."""
        return not self.exchange.idle and WATCH.search(self.exchange.request.target) is not None

    def end_watch(self) -> bool:
        """End a watch gracefully, with its final chunk; False while it is in the middle of one."""
        return self.exchange.end(Cause.WATCH_OVER) == Action.FINAL_CHUNK

    def forbid(self, why: str) -> None:
        """End the request in progress, and the connection: whoever asked may not any more."""
        self.exchange.end(Cause.DRAINED, why)
        self.close(0.0)

    def close(self, seconds: float) -> None:
        """Close: what is queued has `seconds` to leave, a request in progress ends as the table says."""
        self.exchange.end(Cause.DRAINED, "the server ends")
        self._outlet.flush(seconds)
        self._outlet.break_off()
        self.proceed()

    def written(self) -> tuple[float, int]:
        """What the client's socket has taken, as a mark for the lookout."""
        request = self.exchange.request
        return request.began, request.bytes_out - self._outlet.pending

    def unheard(self, why: str) -> None:
        """The client's machine is gone: nothing is kept for it."""
        self._tell_given_up(why)
        # A reset: it must not find a part of an answer, and an end to it, when it is back.
        self._outlet.abort()
        self.exchange.end(Cause.CLIENT_GONE, why)
        self.exchange.release()
        self.proceed()

    def sweep(self, now: float) -> None:
        """End what has waited for too long; called about once a second.

        A client that takes nothing of its answer is the outlet's affair.
        """
        situation = self._situation()
        if self._gone(situation):
            self._give_up()
            return
        request, channel = self.exchange.request, self.exchange.channel
        moved = 0
        if situation in _MOVING:
            moved = request.bytes_in + request.bytes_out - self._outlet.pending
            moved -= channel.queued if channel is not None else 0
        mark = (situation, request.began, moved)
        if mark != self._mark:
            self._mark, self._since = mark, now
        elif 0 < self._port.limits[situation] < now - self._since:
            self._overdue(situation)

    def _situation(self) -> Situation:
        exchange = self.exchange
        if exchange.answer.half == Cause.AGENT_ENDED:
            return Situation.HALF
        if self._outlet.pending or exchange.answer.state == RAW:
            return Situation.BUSY
        if self._leaving:
            return Situation.LEAVING
        if exchange.idle:
            if self._upload.held:
                return Situation.IN_HEAD
            return Situation.UNSPOKEN if self.unspoken else Situation.UNUSED
        if exchange.channel is None:
            return Situation.BUSY
        if exchange.channel.waiting:
            return Situation.PUSHING
        return Situation.ASKED if self.request_done else Situation.IN_BODY

    def _overdue(self, situation: Situation) -> None:
        """The limit of a situation is over."""
        exchange, limit = self.exchange, self._port.limits[situation]
        if situation in (Situation.UNUSED, Situation.UNSPOKEN):
            self.finish()
        elif situation == Situation.IN_HEAD:
            self._malformed(HeadError("the request head did not arrive in time", 408))
        elif situation == Situation.IN_BODY:
            self._malformed(HeadError("the rest of the request did not arrive in time", 408))
        elif situation == Situation.PUSHING:
            exchange.end(Cause.API_STALLED, f"the API took nothing of the request for {limit:g} s")
        elif situation == Situation.HALF:
            self._give_up()
        elif situation == Situation.LEAVING:
            self._outlet.close()
        elif exchange.lasting:
            self._since = monotonic()
        else:
            exchange.end(Cause.API_SILENT, f"the API was silent for {limit:g} s")

    # ── bytes from the client ──────────────────────────────────────────────────────────────────

    def _feed(self, data: bytes) -> None:
        upload = self._upload
        while data and not self._leaving:
            state = upload.state
            if state == HEAD:
                if not upload.held:
                    self._began = monotonic()
                raw, used = upload.head(data)
                if raw is None:
                    return
                data = data[used:]
                self._request(raw)
            elif state == IDLE:
                outlet = self._outlet
                if self.exchange.idle and not (outlet.pending or outlet.closed):
                    upload.begin()
                else:
                    self._hold()
            else:
                out, used = upload.take(data)
                data = b"" if used == len(data) else data[used:]
                self._pass_on(out)

    def _pass_on(self, data: bytes) -> None:
        exchange = self.exchange
        exchange.request.bytes_in += len(data)
        most = self._port.max_body
        if most and self._upload.state != RAW:
            self._uploaded += len(data)
            if self._uploaded > most:
                self._too_large()
        while exchange.asking:
            self._sleep()
        channel = exchange.channel
        if channel is not None:
            if exchange.kept is not None:
                exchange.keep(data)
            channel.send(data)
            channel.wait()

    def _hold(self) -> None:
        """Bytes behind an answer that is not complete, or not taken yet: they wait, the client with them."""
        exchange, outlet, upload = self.exchange, self._outlet, self._upload
        while not (exchange.idle and not outlet.pending):
            if outlet.closed or self._leaving or upload.state == RAW:
                break
            self._sleep()
        if outlet.closed:
            self._leaving = True
        elif upload.state == IDLE:
            upload.begin()

    def _ended(self) -> None:
        """The client sends no more, and may still read. After a switch, wait for the other direction."""
        if self.exchange.end(Cause.CLIENT_ENDED) == Action.HALF:
            while not (self.exchange.idle or self._outlet.closed):
                self._sleep()
        if self._outlet.pending:
            self._outlet.flush(FLUSH)

    def _sleep(self) -> None:
        """Until `proceed` is called."""
        self._woken = Event()
        self._woken.wait()
        self._woken = None

    # ── where a request goes ───────────────────────────────────────────────────────────────────

    def _request(self, raw: bytes) -> None:
        port, exchange, place = self._port, self.exchange, self._place
        if place is not None and not place.known:
            place.prove()
        head = parse_request(raw)
        self._upload.follow(head.length)
        self._uploaded = 0
        target = head.target
        cluster = ""
        route = ROUTE.match(target)
        if route is not None:
            cluster = route[1].decode()
            target = target[route.end() :]
        request = Request(
            self._began,
            cluster,
            head.method,
            target if target.startswith(b"/") else b"/" + target,
            head.audit_id or port.new_audit_id(),
            len(raw),
        )
        access = self.visitor.access(head)
        request.caller = access.name
        access.stats.requests += 1
        exchange.begin(request, head)
        if port.tracing is not None and cluster:
            port.tracing.begin(request, head)
        if not (access.free and route) and (why := port.refuse(request, head, access, route is None)):
            exchange.end(Cause.CALLER, why)
        elif route is None:
            answer = port.local(head)
            if isinstance(answer, Refusal):
                exchange.end(*answer)
            else:
                exchange.respond(*answer)
        elif 0 < port.max_body < head.length:
            self._too_large()
            return
        else:
            late = place is not None and place.late and place.scarce and LASTING.search(request.target)
            session = port.lasting_refused() if late else port.admit(request, exchange.session)
            if not isinstance(session, Refusal):
                exchange.send(session, access.told, access.acts)
                return
            exchange.end(*session)
        # An answer of our own costs no time on the way: a client could have a thousand in one turn.
        gevent.sleep(NEXT_TURN)

    # ── what goes wrong ────────────────────────────────────────────────────────────────────────

    def _too_large(self) -> None:
        self._malformed(HeadError(f"the request body is over {self._port.max_body} bytes", 413))

    def _malformed(self, error: HeadError) -> None:
        """The request cannot be read any further, nor what follows it."""
        if self.exchange.idle:
            if self._leaving or self._outlet.closed:
                return
            request = Request(self._began or monotonic())
            request.caller = self.visitor.name
            self.exchange.begin(request, None)
        self.exchange.end(Cause.REQUEST_INVALID, str(error), error.status)

    def _discard(self) -> None:
        """Read what the client still sends, so that the answer is not lost to a reset."""
        try:
            while self._reader.recv():
                pass
        except OSError:
            pass

    def _unwritable(self, reason: str) -> None:
        """The client cannot be written to: the greenlet ends on the closed socket, wherever it waits now."""
        if self._outlet.stalled:
            self._tell_given_up(f"it {reason}")
        self.proceed()
        self.exchange.release()

    def _tell_given_up(self, why: str) -> None:
        # A query may hold a secret, as exec's command does.
        path = self.exchange.request.target.partition(b"?")[0]
        log.info("a client was given up: %s", why, extra=fields(path=path))

    def _gone(self, situation: Situation) -> bool:
        """Whether the client has left while the greenlet waits for something else, and would not see it.

        Once both sides have ended their halves TCP is through, and what the client said before its own end
        is yet to be read: that is no leaving.
        """
        return (
            self._unread
            and situation != Situation.HALF
            and self._reader.peer_left(halves=self._upload.state == RAW)
        )

    @property
    def _unread(self) -> bool:
        """Whether the greenlet waits for something else than the client."""
        exchange = self.exchange
        if self._woken is not None:
            return True
        if exchange.channel is not None:
            return exchange.channel.waiting
        return not exchange.idle

    def _give_up(self) -> None:
        """Close, whatever the greenlet waits for."""
        self.exchange.end(Cause.CLIENT_GONE)
        self._outlet.break_off()
        self.proceed()
