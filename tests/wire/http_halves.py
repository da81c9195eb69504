"""The two halves of a request's way without sockets: what server and agent do around `Relay` and `Answer`.

`Front` is a client connection on the server, `Back` a stream's end on the agent. Both carry a `Verdict` out
as the real ones do and decide nothing. Time is a constant: nothing here measures it.
"""

from typing import Any, Protocol

from argotun.errors import HeadError
from argotun.wire import reasons
from argotun.wire.answer import Answer
from argotun.wire.body import FINAL_CHUNK
from argotun.wire.head import RequestHead, parse_request, rewrite_request
from argotun.wire.mux import Multiplexer
from argotun.wire.outcomes import AGENT, SERVER, Action, Cause, Progress, Table, Verdict
from argotun.wire.relay import BODY, HEAD, IDLE, RAW, Relay
from argotun.wire.status import error_response
from argotun.wire.streams import CLOSED, DISCARD, UNCONNECTED, Stream

NOW = 1.0
MET: set[tuple[str, str, str]] = set()
"""Cells of the two tables that were asked for: SERVER or AGENT, cause, progress."""

REPEATABLE = (b"GET", b"HEAD", b"OPTIONS")
ERRORS = {
    reasons.NONE: Cause.AGENT_CLOSED,
    reasons.STREAM_LIMIT: Cause.AGENT_FULL,
    reasons.STALE: Cause.AGENT_STALE,
    reasons.NOT_HERE: Cause.NOT_HERE,
    reasons.LOST: Cause.TUNNEL_LOST,
}


class Tunnel(Protocol):
    """A session as `Front` needs it."""

    mux: Multiplexer
    cluster: str
    usable: bool


class Downstream(Protocol):
    """What becomes of an answer."""

    def hears(self, data: bytes) -> None: ...

    def sees_the_end(self) -> None: ...

    def is_cut_off(self) -> None: ...

    def is_counted(self) -> None: ...


def reusable(mux: Multiplexer, stream: Stream) -> bool:
    return mux.profile.credit and not stream.closing and stream.state != CLOSED


class Front:
    """One client connection: its requests, one after the other, and the sink of the stream that it holds."""

    table: Table = SERVER

    def __init__(self, client: Downstream) -> None:
        self.client = client
        self.upload = Relay()
        self.upload.begin()
        self.answer = Answer(self.table)
        self.head: RequestHead | None = None
        self.cluster = ""
        self.stream: Stream | None = None
        self.session: Any = None
        self.unread = b""
        self.waiting = self.leaving = self.over = False

    # ── the client says ────────────────────────────────────────────────────────────────────────

    def read(self, route: Any) -> None:
        """Take what can be taken now; `route(front)` says where a request goes."""
        upload = self.upload
        try:
            while self.unread and not (self.waiting or self.leaving or self.over):
                if upload.state == HEAD:
                    raw, used = upload.head(self.unread)
                    self.unread = self.unread[used:]
                    if raw is not None:
                        self._request(raw, route)
                elif upload.state != IDLE:
                    out, used = upload.take(self.unread)
                    self.unread = self.unread[used:]
                    if self.stream is not None:
                        self.session.mux.send(self.stream, out)
                elif self.answer.state == IDLE:
                    upload.begin()
                else:
                    return
        except HeadError as error:
            self.malformed(error.status)

    def malformed(self, status: int) -> None:
        """The request cannot be read any further, nor what follows it."""
        if self.answer.state == IDLE:
            if self.leaving or self.over:
                return
            self.begin(None)
        self.end(Cause.REQUEST_INVALID, status)
        self.leaving = True

    def ended(self) -> None:
        """The client sends no more."""
        if not self.over and self.end(Cause.CLIENT_ENDED) != Action.HALF:
            self.leave()

    def leave(self) -> None:
        self.end(Cause.CLIENT_GONE)
        self.release()
        self.over = True

    def _request(self, raw: bytes, route: Any) -> None:
        head = parse_request(raw)
        self.upload.follow(head.length)
        self.cluster = head.target.split(b"/")[1].decode()
        self.begin(head)
        route(self)

    def begin(self, head: RequestHead | None) -> None:
        self.head = head
        self.answer.ask(head, Progress.WAITING)
        session = self.session
        if session is not None and not (session.cluster == self.cluster and session.usable):
            self.release()

    def send(self, session: Tunnel) -> None:
        head, stream = self.head, self.stream
        if self.answer.progress != Progress.WAITING or head is None:
            return
        if stream is None or session is not self.session or stream.closing or stream.state == CLOSED:
            self.release()
            stream = self.stream = session.mux.open(self)
            self.session = session
        self.answer.stage = Progress.SENT if stream.state in UNCONNECTED else Progress.DELIVERED
        self.answer.prefix = b"/tunnel/" + self.cluster.encode()
        close = not reusable(session.mux, stream) and head.upgrade is None
        session.mux.send(stream, rewrite_request(head, head.target, close=close))

    # ── the stream tells ───────────────────────────────────────────────────────────────────────

    def on_connected(self) -> None:
        if self.answer.progress == Progress.SENT:
            self.answer.stage = Progress.DELIVERED

    def on_data(self, payload: bytes) -> None:
        try:
            self._take(payload)
        except HeadError:
            self.end(Cause.API_INVALID)

    def on_end(self) -> None:
        if self.end(Cause.AGENT_ENDED) == Action.NOTHING:
            self.release()

    def on_over(self, reason: int, text: str) -> None:
        self.let_go()
        self.end(ERRORS.get(reason, Cause.AGENT_FAILED))

    def on_lost(self, text: str) -> None:
        self.let_go()
        self.end(Cause.TUNNEL_LOST)

    def _take(self, payload: bytes) -> None:
        answer, state = self.answer, self.answer.state
        if state == HEAD:
            answer.last = self._is_last()
            out, used = answer.heads(payload)
        else:
            out, used = answer.take(payload)
        if out:
            self.client.hears(out)
        if self.stream is not None and used:
            self.session.mux.consumed(self.stream, used, NOW)
        if state == HEAD and answer.state == RAW:
            self.upload.switch()
            if used < len(payload):
                self._take(payload[used:])
        elif used < len(payload):
            self.release()
        if answer.state == IDLE and state != IDLE:
            self._done()

    # ── how it ends ────────────────────────────────────────────────────────────────────────────

    def end(self, cause: Cause, status: int = 0) -> Action:
        MET.add(("SERVER", cause.name, self.answer.progress.name))
        waiting = self.answer.progress == Progress.WAITING
        verdict = self.answer.end(cause)
        action = verdict.action
        if cause == Cause.CLIENT_ENDED and action in (Action.HALF, Action.COMPLETE):
            if self.stream is not None:
                self.session.mux.end(self.stream)
                if not self.session.mux.profile.credit:
                    self.answer.end(Cause.AGENT_CLOSED)
                    action = Action.COMPLETE
        elif action == Action.HALF:
            self.client.sees_the_end()
        if action in (Action.NOTHING, Action.HALF):
            return action
        if action >= Action.ELSEWHERE:
            # There is one agent only: the cell's own answer is due.
            self.answer.stop()
            action = Action.ANSWER
        if action == Action.COMPLETE:
            if self.answer.status == 101 and (stream := self.let_go()) is not None:
                stream.sink = DISCARD
            self.answer.last = True
            self._done()
            return action
        if not waiting:
            self.release()
        if action == Action.ANSWER:
            self._refuse(verdict, status)
        elif action == Action.FINAL_CHUNK:
            self._say(FINAL_CHUNK, last=True)
        else:
            if action == Action.CUT:
                self.over = True
                self.client.is_cut_off()
            self.client.is_counted()
        return action

    def release(self) -> None:
        session, stream = self.session, self.let_go()
        if stream is not None:
            session.mux.reset(stream)

    def let_go(self) -> Stream | None:
        stream, self.stream, self.session = self.stream, None, None
        return stream

    def _is_last(self) -> bool:
        head = self.head
        return head is None or not head.keep_alive or head.upgrade is not None or self.upload.state == BODY

    def _refuse(self, verdict: Verdict, status: int) -> None:
        last = self._is_last()
        head_only = self.head is not None and self.head.method == b"HEAD"
        code, retry = verdict.status or status, verdict.retry_after or None
        self._say(error_response(code, "no", retry_after=retry, close=last, head_only=head_only)[1], last)

    def _say(self, data: bytes, last: bool) -> None:
        self.answer.last = last
        self.client.hears(data)
        self._done()

    def _done(self) -> None:
        self.client.is_counted()
        if self.answer.last:
            self.release()
            self.leaving = True
            self.client.sees_the_end()
        elif self.stream is not None and not reusable(self.session.mux, self.stream):
            self.release()


class Upstream(Protocol):
    """A connection to the API."""

    served: bool

    def hears(self, data: bytes) -> None: ...

    def sees_the_end(self) -> None: ...

    def is_closed(self) -> None: ...


class Back:
    """The agent's end of one stream; `dialing` while a connection to the API is being made."""

    table: Table = AGENT

    def __init__(self, mux: Multiplexer, stream: Stream, origins: tuple[bytes, ...]) -> None:
        self.mux, self.stream = mux, stream
        stream.sink = self
        self.upload = Relay()
        self.upload.begin()
        self.answer = Answer(self.table, chunks=True, origins=origins)
        self.line: Upstream | None = None
        self.request: RequestHead | None = None
        self.held: list[bytes] = []
        self.replay = b""
        self.dialing = True
        self.credential = True
        self.allowed = True
        self.repeating = self.unreachable = self.discard = self.closed = False

    # ── the server says ────────────────────────────────────────────────────────────────────────

    def on_connected(self) -> None:
        raise AssertionError("an agent hears no CONNECTED")

    def on_data(self, payload: bytes) -> None:
        if self.line is not None or self.upload.state == BODY or self.answer.state != IDLE:
            self._feed(payload)
        else:
            self._hold(payload)

    def on_end(self) -> None:
        self.end(Cause.CLIENT_ENDED)

    def on_over(self, reason: int, text: str) -> None:
        self.end(Cause.CLIENT_GONE if reason == reasons.NONE else Cause.TUNNEL_LOST)

    def on_lost(self, text: str) -> None:
        self.end(Cause.TUNNEL_LOST)

    def _hold(self, payload: bytes) -> None:
        self.held.append(payload)
        self.dialing = True

    def _feed_held(self) -> None:
        held, self.held = self.held, []
        for payload in held:
            self._feed(payload)

    def _feed(self, data: bytes) -> None:
        upload = self.upload
        try:
            while data and not self.closed:
                if upload.state == IDLE:
                    if self.answer.state != IDLE:
                        raise HeadError("a request before the answer to the one before it")
                    upload.begin()
                if upload.state != HEAD:
                    out, used = upload.take(data)
                    if self.line is not None and not self.discard:
                        self.line.hears(out)
                elif self.line is None and not self.unreachable:
                    self._hold(data)
                    return
                else:
                    raw, used = upload.head(data)
                    if raw is not None:
                        self._request(raw)
                self.mux.consumed(self.stream, used, NOW)
                data = data[used:]
        except HeadError as error:
            self.end(Cause.REQUEST_INVALID, error.status)

    def _request(self, raw: bytes) -> None:
        head, line = parse_request(raw), self.line
        self.upload.follow(head.length)
        self.discard = False
        self.request = head
        if line is None:
            stage = Progress.WAITING
        elif not line.served:
            stage = Progress.DELIVERED
        elif head.method in REPEATABLE and not head.length and head.upgrade is None:
            stage = Progress.REPEATABLE
        else:
            stage = Progress.KEPT
        self.answer.ask(head, stage)
        if not self.allowed:
            self.end(Cause.FORBIDDEN)
            return
        if line is None:
            self.end(Cause.UNREACHABLE)
            return
        if not self.credential:
            self.end(Cause.NO_CREDENTIAL)
            return
        close = not reusable(self.mux, self.stream) and head.upgrade is None
        out = rewrite_request(head, head.target, b"Authorization: x\r\n", host=b"api", close=close)
        self.replay = out if stage == Progress.REPEATABLE else b""
        line.hears(out)

    # ── the API says ───────────────────────────────────────────────────────────────────────────

    def dialed(self, line: Upstream | None) -> None:
        """A dial is over; None when it has failed."""
        self.dialing = False
        repeating, self.repeating = self.repeating, False
        if line is None:
            if self.answer.state != IDLE or self.stream.state in UNCONNECTED:
                self.end(Cause.UNREACHABLE)
                return
            self.unreachable = True
            self._feed_held()
            self.unreachable = False
            return
        self.line = line
        if repeating:
            replay, self.replay = self.replay, b""
            line.hears(replay)
        else:
            self.mux.connected(self.stream)
            self._feed_held()

    def takes(self, data: bytes) -> None:
        """The API says so much more."""
        answer = self.answer
        self.replay = b""
        try:
            while data:
                state = answer.state
                out, used = answer.heads(data) if state == HEAD else answer.take(data)
                if not used or self.request is None:
                    raise HeadError("bytes that nobody asked for")
                self.mux.send(self.stream, out)
                data = data[used:]
                if answer.state == IDLE:
                    self._answered(answer.kept)
                elif answer.state == RAW and state == HEAD:
                    self.upload.switch()
        except HeadError:
            self.end(Cause.API_INVALID)

    def _answered(self, kept: bool) -> None:
        self.request = None
        if self.upload.state == BODY:
            self.discard, kept = True, False
        if not reusable(self.mux, self.stream):
            self.mux.close(self.stream)
            self.close()
        elif not kept:
            self._release()
        elif self.line is not None:
            self.line.served = True

    # ── how it ends ────────────────────────────────────────────────────────────────────────────

    def end(self, cause: Cause, status: int = 0) -> Action:
        MET.add(("AGENT", cause.name, self.answer.progress.name))
        verdict = self.answer.end(cause)
        action = verdict.action
        if action == Action.ANSWER:
            self._refuse(cause, verdict, status)
        elif action == Action.HALF:
            self._half(cause)
        elif action == Action.COMPLETE:
            self._complete()
        elif action == Action.RELEASE:
            self._release()
        elif action == Action.REPEAT:
            self._hang_up()
            self.dialing = self.repeating = True
        elif action != Action.NOTHING:
            self._over(action, cause)
        return action

    def _refuse(self, cause: Cause, verdict: Verdict, status: int) -> None:
        head_only = self.request is not None and self.request.method == b"HEAD"
        code, retry = verdict.status or status, verdict.retry_after or None
        said = error_response(code, "no", retry_after=retry, close=False, head_only=head_only)[1]
        self.mux.send(self.stream, said)
        self.request = None
        self.discard = self.upload.state == BODY
        if cause == Cause.REQUEST_INVALID or not reusable(self.mux, self.stream):
            self.mux.close(self.stream)
            self.close()
        elif cause not in (Cause.NO_CREDENTIAL, Cause.FORBIDDEN):
            self._release()

    def _half(self, cause: Cause) -> None:
        if cause == Cause.CLIENT_ENDED:
            if self.line is not None:
                self.line.sees_the_end()
            return
        self.mux.end(self.stream)
        if not self.mux.profile.credit:
            self.end(Cause.CLIENT_ENDED)

    def _complete(self) -> None:
        if self.answer.status == 101:
            self.mux.end(self.stream)
            self.close()
            return
        if self.answer.final:
            self.mux.send(self.stream, self.answer.final)
        else:
            self.mux.end(self.stream)
        self._answered(False)

    def _over(self, action: Action, cause: Cause) -> None:
        if action == Action.CUT:
            self.mux.fail(self.stream, "the API is gone")
        elif action == Action.STALE:
            self.mux.reset(self.stream, reasons.STALE)
        elif action == Action.RESET:
            unreachable = cause == Cause.UNREACHABLE
            self.mux.reset(self.stream, reasons.UNREACHABLE if unreachable else reasons.PROTOCOL, "no")
        else:
            self.mux.close(self.stream)
        self.close()

    def _hang_up(self) -> None:
        line, self.line = self.line, None
        if line is not None:
            line.is_closed()

    def _release(self) -> None:
        self._hang_up()
        self.replay = b""
        self.dialing = self.repeating = False

    def close(self) -> None:
        """The stream is over: nothing of it stays, and what still comes is for nobody."""
        self.closed = True
        self.stream.sink = DISCARD
        self._release()
        self.held = []
