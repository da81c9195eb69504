"""A client's requests on their way through, one at a time, and the answer of each on its way back.

An `Exchange` is the sink of the stream that a client connection holds. Its calls come from the tunnel's
reader, or from whoever ends the tunnel, so the bytes of an answer are written to the client from where they
are; nothing here waits.

What an answer may be, and what an end means for it, is decided by `wire.answer` and the table in
`wire.outcomes`. Here it is carried out:

    tunnel's reader ──on_data──▶ Answer ──bytes──▶ Outlet ──▶ client
    anything that ends it ──end(cause)──▶ Answer ──Verdict──▶ an answer of our own, an abort, or nothing

A request is in progress from `begin` until `_done`, whose one caller for each way out is in this file.
"""

from collections.abc import Callable
from http import HTTPStatus
from time import monotonic
from typing import Protocol

from argotun.errors import ConnectionLost, HeadError
from argotun.observe import page
from argotun.observe.request import Request
from argotun.server.registry import Way
from argotun.server.routes import LASTING, PREFIX
from argotun.tunnel.channel import Channel
from argotun.tunnel.outlet import Outlet
from argotun.wire import reasons
from argotun.wire.answer import Answer
from argotun.wire.body import FINAL_CHUNK
from argotun.wire.head import RequestHead, rewrite_request
from argotun.wire.outcomes import CLIENT_CLOSED, DELIVERED, SENT, SERVER, WAITING, Action, Cause, Verdict
from argotun.wire.relay import HEAD, IDLE, RAW
from argotun.wire.status import error_response
from argotun.wire.streams import DISCARD

_ERRORS = {
    reasons.NONE: Cause.AGENT_CLOSED,
    reasons.STREAM_LIMIT: Cause.AGENT_FULL,
    reasons.STALE: Cause.AGENT_STALE,
    reasons.NOT_HERE: Cause.NOT_HERE,
    reasons.LOST: Cause.TUNNEL_LOST,
}
"""What a reason in an ERROR or CLOSE stands for; any other is AGENT_FAILED."""


KEPT_BODY = 64 * 1024
"""Bytes of a request's body that are kept until an agent has reached its API: another one may be asked."""

TIMES = 3
"""How often one request is asked again at most."""


class Downstream(Protocol):
    """The client's connection, as an exchange needs it."""

    @property
    def draining(self) -> bool:
        """Whether the server is about to end."""

    @property
    def request_done(self) -> bool:
        """Whether the whole request has been read."""

    def attached(self, channel: Channel) -> None:
        """What is read goes to this channel."""

    def proceed(self) -> None:
        """The answer is over: held bytes may go on."""

    def switched(self) -> None:
        """Raw bytes follow in both directions."""

    def finish(self) -> None:
        """No more answers: half-close behind what is queued."""

    def again(self, request: Request, but: Way, action: Action) -> bool:
        """Whether the request may find another way than `but`, at once for ELSEWHERE; it is asked then."""

    @property
    def record(self) -> Callable[[Request], None]:
        """Counts a request that is over."""


class Exchange:
    """The requests of one client connection; `request` is the one in progress, or the last one.

    `kept` is what has gone of its body while another agent may be asked yet, None where none will be.
    """

    __slots__ = (
        "_again",
        "_connection",
        "_head",
        "_outlet",
        "_verdict",
        "answer",
        "channel",
        "kept",
        "request",
        "session",
    )

    def __init__(self, connection: Downstream, outlet: Outlet) -> None:
        self._connection = connection
        self._outlet = outlet
        self._head: RequestHead | None = None
        self.answer = Answer(SERVER)
        self.channel: Channel | None = None
        self.session: Way | None = None
        self.kept: bytes | None = None
        self._again: tuple[Request | None, int] = None, 0
        self._verdict = Verdict(Action.NOTHING), ""
        self.request = Request(0.0)

    # ── the connection asks ────────────────────────────────────────────────────────────────────

    @property
    def idle(self) -> bool:
        """Whether no request is in progress."""
        return self.answer.state == IDLE

    @property
    def asking(self) -> bool:
        """Whether another agent is to be asked, and none has been yet."""
        return self.channel is None and self.answer.state == HEAD and self._again[0] is self.request

    @property
    def lasting(self) -> bool:
        """Whether the answer to the request in progress may begin late and pause for hours."""
        upgrade = self._head is not None and self._head.upgrade is not None
        return upgrade or LASTING.search(self.request.target) is not None

    def begin(self, request: Request, head: RequestHead | None) -> None:
        """A request is in progress; `head` is None where it could not be read.

        A stream that cannot carry it is given up now, before anybody waits: its end is not this request's.
        """
        self.request = request
        self._head = head
        self.answer.ask(head, WAITING)
        session = self.session
        if session is not None and not (session.cluster == request.cluster and session.usable):
            self.release()

    def send(self, session: Way, told: bytes = b"", acts: bytes = b"") -> None:
        """Give the request to an agent, unless it was ended while one was waited for.

        `acts` are field lines to be added, `told` is one more for agents that know what it means.
        """
        head, request = self._head, self.request
        answer = self.answer
        if answer.state != HEAD or answer.stage != WAITING or head is None:
            return
        channel = self.channel
        if channel is None or session is not self.session or not channel.reusable:
            channel = self._open(session)
        request.stream = channel.id
        request.via = session.via
        if channel.connected:
            answer.stage = DELIVERED
            self.kept = None
        else:
            answer.stage = SENT
            self.kept = b""
        extra = b"Audit-ID: %b\r\n%b%b" % (request.audit_id, acts, told if session.callers else b"")
        if request.span is not None:
            extra += request.span.fields
        close = channel.single and head.upgrade is None
        channel.send(rewrite_request(head, request.target, extra, close=close))

    def keep(self, data: bytes) -> None:
        """This part of the body has gone on, and might have to again."""
        kept = self.kept
        if kept is not None:
            self.kept = kept + data if len(kept) + len(data) <= KEPT_BODY else None

    def resend(self, way: Way | None, told: bytes, acts: bytes) -> None:
        """Ask again on another way, or say what there was to say where none was found."""
        verdict, words = self._verdict
        body = self.kept or b""
        if way is not None:
            try:
                self.send(way, told, acts)
            except ConnectionLost:
                way = None
        if way is None:
            self.request.error = words
            self.answer.stop()
            self._refuse(verdict, words, 0)
        elif self.channel is not None:
            self.channel.send(body)
            self.keep(body)

    def respond(self, code: int, content_type: bytes, body: bytes) -> None:
        """Answer with something of the server's own that is not an error."""
        if self.answer.progress != WAITING:
            return
        self.answer.stop()
        last = self._is_last()
        head = b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b%b\r\n" % (
            code,
            HTTPStatus(code).phrase.encode(),
            content_type,
            len(body),
            page.FIELDS if content_type == page.HTML else b"",
            b"Connection: close\r\n" if last else b"",
        )
        self._say(code, head if self.request.method == b"HEAD" else head + body, last)

    def end(self, cause: Cause, words: str = "", status: int = 0, way: Way | None = None) -> Action:
        """The request is over because of `cause`, and the client gets what the table says; the action.

        `words` are for the client, `status` is that of an error which has its own. `way` is that on which
        it was, where that has ended.
        """
        waiting = self.answer.progress == WAITING
        way = way or self.session
        verdict = self.answer.end(cause)
        action = verdict.action
        if cause == Cause.CLIENT_ENDED and action in (Action.HALF, Action.COMPLETE):
            if self.channel is not None and not self.channel.finish():
                self.answer.end(Cause.AGENT_CLOSED)
                action = Action.COMPLETE
        elif action == Action.HALF:
            self._outlet.finish()
        if action in (Action.NOTHING, Action.HALF):
            return action
        if action >= Action.ELSEWHERE:
            if self._asks_again(action, way):
                if self._again[1] == 1 or not self._lost:
                    self._verdict = verdict, words
                return action
            self.answer.stop()
            action = Action.ANSWER
        self.request.error = words
        if action == Action.COMPLETE:
            self._complete()
            return action
        if not waiting:
            self.release()
        if action == Action.ANSWER:
            self._refuse(verdict, words, status)
        elif action == Action.FINAL_CHUNK:
            self._say(self.answer.status, FINAL_CHUNK, last=True)
        else:
            self._drop(action)
        return action

    def release(self) -> None:
        """Let go of the stream; what still arrives on it is dropped."""
        channel = self._detach()
        if channel is not None:
            channel.abort()

    def close(self) -> None:
        """The client's connection has ended: nothing here leads back to it."""
        self.end(Cause.CLIENT_GONE)
        self.release()
        del self._connection, self._outlet

    # ── the stream tells ───────────────────────────────────────────────────────────────────────

    def on_connected(self) -> None:
        """From now on the request may have reached the API."""
        if self.answer.progress == SENT:
            self.answer.stage = DELIVERED
            self.kept = None

    def on_data(self, payload: bytes) -> None:
        """Bytes of the answer: on to the client."""
        try:
            self._take(payload)
        except HeadError as error:
            self.end(Cause.API_INVALID, f"the API's answer is refused: {error}")

    def on_end(self) -> None:
        """The API has said all: the end of an answer without a length, or one half of an upgrade."""
        if self.end(Cause.AGENT_ENDED, self._explain("")) == Action.NOTHING:
            self.release()

    def on_over(self, reason: int, text: str) -> None:
        """The agent ended the stream, or the replica that has it."""
        way = self.session
        self._detach()
        if reason in reasons.REPLICAS and way is not None:
            if not way.via:
                reason = reasons.FAILED
            elif reason == reasons.NOT_HERE:
                way.missing()
        words = (
            "the agent is at its limit of streams" if reason == reasons.STREAM_LIMIT else self._explain(text)
        )
        self.end(_ERRORS.get(reason, Cause.AGENT_FAILED), words, way=way)

    def on_lost(self, text: str) -> None:
        """The tunnel is gone: the request may have been delivered, or not."""
        way = self.session
        self._detach()
        self.end(Cause.TUNNEL_LOST, f"the tunnel was lost: {text}", way=way)

    # ── the answer on its way ──────────────────────────────────────────────────────────────────

    def _take(self, payload: bytes) -> None:
        answer = self.answer
        state = answer.state
        if state == HEAD:
            answer.last = self._is_last()
            out, used = answer.heads(payload)
        else:
            out, used = answer.take(payload)
        self.request.bytes_out += len(out)
        self._outlet.relay(out, used)
        if state == HEAD and answer.state == RAW:
            self._connection.switched()
            if used < len(payload):
                self._take(payload[used:])
        elif used < len(payload):
            # Nobody asked for the rest of it, or it is more than the API announced.
            self.release()
        if answer.state == IDLE and state != IDLE:
            self._done()

    def _done(self) -> None:
        """The answer is complete."""
        self._record()
        if self.answer.last:
            self.release()
            self._connection.finish()
        elif self.channel is not None and not self.channel.reusable:
            self.release()
        self._connection.proceed()

    def _record(self) -> None:
        request = self.request
        request.status = request.status or self.answer.status
        request.stalls, self._outlet.stalls = self._outlet.stalls, 0
        request.ended = monotonic()
        self._connection.record(request)

    # ── how it ends ────────────────────────────────────────────────────────────────────────────

    def _is_last(self) -> bool:
        """Whether the client's connection ends with this answer: the one rule, for all answers."""
        head, connection = self._head, self._connection
        return (
            head is None
            or not head.keep_alive
            or head.upgrade is not None
            or not connection.request_done
            or connection.draining
        )

    def _asks_again(self, action: Action, way: Way | None) -> bool:
        """Whether the request goes to another agent: nobody has it, or it may be carried out twice."""
        request, head = self.request, self._head
        times = self._again[1] if self._again[0] is request else 0
        if head is None or way is None or times == TIMES:
            return False
        if action == Action.AGAIN_IF_SAFE:
            if not head.repeatable or request.bytes_out:
                return False
        elif self.kept is None:
            return False
        elif action == Action.ELSEWHERE:
            way.rest()
        if not self._connection.again(request, way, action):
            return False
        self._again = request, times + 1
        return True

    @property
    def _lost(self) -> bool:
        """Whether an agent may have carried the request out before it was asked again."""
        return self._again[0] is self.request and self._verdict[0].action == Action.AGAIN_IF_SAFE

    def _refuse(self, verdict: Verdict, words: str, status: int) -> None:
        request = self.request
        if verdict.retry_after and self._lost:
            verdict = self._verdict[0]
        last = self._is_last()
        status, answer = error_response(
            verdict.status or status,
            words,
            retry_after=verdict.retry_after or None,
            target=request.target if request.method == b"GET" else b"",
            close=last,
            head_only=request.method == b"HEAD",
        )
        self._say(status, answer, last)

    def _say(self, status: int, data: bytes, last: bool) -> None:
        """Say the rest of the answer in the server's own name."""
        self.answer.last = last
        self.request.status = status
        self.request.bytes_out += len(data)
        self._outlet.write(data)
        self._done()

    def _complete(self) -> None:
        if self.answer.status == 101:
            # Both halves have ended; what is queued for the agent is still to leave, so this is no reset.
            channel = self._detach()
            if channel is not None:
                channel.hand_over(DISCARD)
        self.answer.last = True
        self._done()

    def _drop(self, action: Action) -> None:
        """There is nobody to tell, or nothing that can be told but by an abort."""
        if action == Action.CUT:
            self._outlet.abort()
        else:
            self.request.status = self.answer.status or CLIENT_CLOSED
        self._record()
        self._connection.proceed()

    def _detach(self) -> Channel | None:
        channel, self.channel, self.session = self.channel, None, None
        if channel is not None:
            self._outlet.channel = None
            self._outlet.forgive()
        return channel

    def _open(self, session: Way) -> Channel:
        self.release()
        tunnel = session.tunnel
        channel = Channel(tunnel, tunnel.mux.open(self, session.target), single=session.single)
        self.session, self.channel, self._outlet.channel = session, channel, channel
        self.answer.prefix = PREFIX + session.cluster.encode()
        self._connection.attached(channel)
        return channel

    def _explain(self, text: str) -> str:
        if self.answer.progress == SENT:
            return f"the agent cannot reach its API: {text or 'it says no more'}"
        return text or "the API connection ended"
