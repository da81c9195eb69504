"""The agent's end of a stream: its requests go to the API over one kept connection, the answers come back.

The agent trusts the server no more than the server trusts its clients, and the API no more than that: heads
are checked and cut again in both directions, and the agent's own credential is added last.

Theory of operation
-------------------

    tunnel's reader ──on_data──▶ Relay ──head, body──▶ Outlet ──▶ API
    API ──▶ the leg's greenlet ──take──▶ Answer ──▶ Channel
    anything that ends it ──end(cause)──▶ Answer ──Verdict──▶ an answer in the API's place, an ERROR, …

Two machines of `wire/` follow the two directions, and what a stream is doing is where they are:

| `_upload`  | `_answer` | the stream                                                  |
|------------|-----------|-------------------------------------------------------------|
| IDLE, HEAD | IDLE      | waits for a request, or for the rest of its head            |
| BODY       | HEAD      | passes a request on                                         |
| IDLE       | HEAD      | waits for the answer; what comes from the server is refused |
| IDLE, BODY | BODY      | passes the answer on                                        |
| BODY       | IDLE      | discards the rest of a request that is answered already     |
| RAW        | RAW       | passes another protocol on, each half until that has ended  |

A third machine is the connection, which comes and goes between two requests: see leg.py. Bytes that come
while there is none wait there, unread and with their credit. Whatever ends a request before its last byte
goes through `end`, which carries out what the table in wire/outcomes.py says.
"""

from collections.abc import Callable
from time import monotonic

from argotun.agent.api import KubernetesApi
from argotun.agent.leg import Leg
from argotun.agent.policy import PolicyFile
from argotun.errors import CredentialError, HeadError
from argotun.observe.metrics import AgentMetrics
from argotun.observe.request import Request
from argotun.observe.tracing import Tracing
from argotun.tunnel.channel import Channel
from argotun.wire.answer import Answer
from argotun.wire.head import RequestHead, find_head_end, parse_request, rewrite_request
from argotun.wire.outcomes import (
    AGENT,
    CLIENT_CLOSED,
    DELIVERED,
    KEPT,
    REPEATABLE,
    WAITING,
    Action,
    Cause,
    Refusal,
    Verdict,
)
from argotun.wire.reasons import NONE, PROTOCOL, STALE, UNREACHABLE
from argotun.wire.relay import BODY, HEAD, IDLE, RAW, Relay
from argotun.wire.status import error_response
from argotun.wire.streams import DISCARD


class Forwarder:
    """The sink of one stream on the agent's side; `record(request)` is called with each that is over."""

    __slots__ = (
        "_answer",
        "_api",
        "_channel",
        "_cluster",
        "_discard",
        "_leg",
        "_metrics",
        "_named",
        "_policy",
        "_record",
        "_request",
        "_tracing",
        "_unreachable",
        "_upload",
    )

    def __init__(
        self,
        api: KubernetesApi,
        channel: Channel,
        cluster: str,
        metrics: AgentMetrics,
        record: Callable[[Request], None],
        policy: PolicyFile | None = None,
        named: bool = False,
        tracing: Tracing | None = None,
    ) -> None:
        self._api = api
        self._channel = channel
        self._cluster = cluster
        self._metrics = metrics
        self._record = record
        self._policy = policy
        self._named = named
        self._tracing = tracing
        self._answer = Answer(AGENT, chunks=True, origins=api.origins)
        self._request: Request | None = None
        self._upload = Relay()
        self._upload.begin()
        self._discard = False
        self._unreachable = ""
        self._leg = Leg(api, channel, self)

    @property
    def request(self) -> Request | None:
        """The request in progress."""
        return self._request

    @property
    def busy(self) -> bool:
        """Whether a request is in progress."""
        return self._answer.state != IDLE or self._leg.holds

    # ── the server says ────────────────────────────────────────────────────────────────────────

    def on_connected(self) -> None:
        """Never sent by a server."""

    def on_data(self, payload: bytes) -> None:
        """Bytes of a request; they wait while there is no connection to the API.

        While one is made for a request that is asked again there can be none: a server knows better.
        """
        leg = self._leg
        if leg.upstream is not None or self._upload.state == BODY or self._answer.state != IDLE:
            self.feed(payload)
        else:
            leg.hold(payload)

    def on_end(self) -> None:
        """The client of an upgraded connection sends no more."""
        self.end(Cause.CLIENT_ENDED)

    def on_over(self, reason: int, text: str) -> None:
        """The client has left, or the server gave up: the API need not go on."""
        self.end(Cause.CLIENT_GONE if reason == NONE else Cause.TUNNEL_LOST)

    def on_lost(self, text: str) -> None:
        """The tunnel is gone, and with it whoever asked."""
        self.end(Cause.TUNNEL_LOST)

    # ── requests on their way ──────────────────────────────────────────────────────────────────

    def feed(self, data: bytes) -> None:
        """Take in bytes of requests, as far as there is a connection for them."""
        upload, leg = self._upload, self._leg
        try:
            while data and not leg.closed:
                if upload.state == IDLE:
                    if self._answer.state != IDLE:
                        raise HeadError("a request before the answer to the one before it")
                    upload.begin()
                    if leg.upstream is not None and leg.upstream.torn:
                        # What the API has begun to say would become the answer to this request.
                        leg.release()
                if upload.state != HEAD:
                    out, used = upload.take(data)
                    self._pass_on(out, used)
                elif leg.upstream is None and not self._unreachable:
                    leg.hold(data)
                    return
                else:
                    used = self._head(data)
                data = b"" if used == len(data) else data[used:]
        except HeadError as error:
            self.end(Cause.REQUEST_INVALID, str(error), error.status)

    def _head(self, data: bytes) -> int:
        """A request's head, and what came of its body with it; how much of `data` they were."""
        raw, used = self._upload.head(data)
        if raw is None:
            self._channel.consumed(used)
            return used
        head = parse_request(raw)
        if not self._named:
            # A server that does not know the field lets a client's own through.
            head.caller = None
        repeatable = head.repeatable
        request = self._begin(head, len(raw), repeatable)
        if head.caller == b"":
            raise HeadError("Argotun-Caller must be there once, as a name")
        upstream = self._leg.upstream
        refusal: Refusal | None = None
        credential = b""
        if self._policy is not None and (words := self._policy.refusal(head, request)):
            refusal = Refusal(Cause.FORBIDDEN, words)
        elif upstream is None:
            refusal = Refusal(Cause.UNREACHABLE, self._unreachable)
        else:
            try:
                credential = self._api.credential()
            except CredentialError as error:
                refusal = Refusal(Cause.NO_CREDENTIAL, str(error))
        if refusal is not None:
            self._channel.consumed(used)
            self.end(*refusal)
            return used
        assert upstream is not None
        if request.span is not None:
            credential += request.span.fields
        close = self._channel.single and head.upgrade is None
        out = rewrite_request(head, head.target, credential, host=self._api.host, close=close)
        self._leg.replay = out if self._answer.stage == REPEATABLE else b""
        if used < len(data) and self._upload.state == BODY:
            body, size = self._upload.take(data[used:])
            out, used = out + body, used + size
            request.bytes_in += size
        upstream.owing = True
        if not (repeatable and head.method == b"GET"):
            upstream.plain = False
        upstream.outlet.relay(out, used)
        return used

    def _begin(self, head: RequestHead, size: int, repeatable: bool) -> Request:
        """A request is in progress, whose head has `size` bytes; whether it may be sent once more."""
        self._upload.follow(head.length)
        self._discard = False
        self._metrics.upstream_requests += 1
        upstream = self._leg.upstream
        request = self._request = Request(
            monotonic(), self._cluster, head.method, head.target, head.audit_id or b"", size
        )
        request.stream = self._channel.id
        if self._tracing is not None:
            self._tracing.begin(request, head)
        if head.caller is not None:
            request.caller = head.caller.decode("ascii")
        if upstream is None:
            stage = WAITING
        elif not upstream.served:
            stage = DELIVERED
        elif repeatable:
            stage = REPEATABLE
        else:
            stage = KEPT
        self._answer.ask(head, stage)
        return request

    def _pass_on(self, data: bytes, credit: int) -> None:
        if self._request is not None:
            self._request.bytes_in += credit
        upstream = self._leg.upstream
        if self._discard or upstream is None:
            self._channel.consumed(credit)
        else:
            upstream.outlet.relay(data, credit)

    # ── the leg says ───────────────────────────────────────────────────────────────────────────

    def repeatable(self, held: bytes) -> bool:
        """Whether what was held begins with a request that may be sent twice."""
        if self._upload.held:
            # It is no head: the beginning of one has been read already.
            return False
        try:
            end = find_head_end(held)
            return end >= 0 and parse_request(held[:end]).repeatable
        except HeadError:
            # It is answered as it is on any connection.
            return False

    def unreachable(self, reason: str) -> None:
        """No connection to the API: on a new stream that is an ERROR, later an answer in its place."""
        if self._answer.state != IDLE or not self._channel.connected:
            self.end(Cause.UNREACHABLE, reason)
            return
        self._unreachable = reason
        self._leg.feed_held()
        self._unreachable = ""

    def take(self, data: bytes) -> None:
        """Pass on what the API says; HeadError where that is not to be trusted."""
        answer, request = self._answer, self._request
        self._leg.replay = b""
        while data:
            state = answer.state
            out, used = answer.heads(data) if state == HEAD else answer.take(data)
            if not used or request is None:
                raise HeadError("bytes that nobody asked for")
            request.bytes_out += len(out)
            self._channel.send(out)
            if answer.state == IDLE:
                self._answered(answer.kept)
            elif answer.state == RAW and state == HEAD:
                self._upload.switch()
            data = b"" if used == len(data) else data[used:]

    def lost(self, cause: Cause, words: str) -> bool:
        """The connection has ended; whether the request is to be sent on a new one."""
        if cause == Cause.API_ENDED:
            where = "in the middle of" if self._answer.state == BODY else "without"
            words = f"the API closed the connection {where} an answer"
        return self.end(cause, words) == Action.REPEAT

    def unwritable(self, reason: str) -> None:
        """The API takes no more. Its reader hears why, unless it only stopped to read, or had ended."""
        upstream = self._leg.upstream
        if upstream is not None and upstream.outlet.stalled:
            self.end(Cause.API_STALLED, f"the API {reason}")
        elif self._answer.half == Cause.API_ENDED:
            self.end(Cause.API_LOST, f"the API connection was lost: {reason}")

    def written(self) -> tuple[float, int]:
        """What the API's socket has taken, as a mark for the lookout."""
        request, upstream = self._request, self._leg.upstream
        pending = upstream.outlet.pending if upstream is not None else 0
        return (request.began, request.bytes_in - pending) if request is not None else (0.0, -pending)

    # ── how it ends ────────────────────────────────────────────────────────────────────────────

    def _answered(self, kept: bool) -> None:
        """An answer is complete: the connection is kept if both sides can go on with it."""
        self._tell()
        if self._upload.state == BODY:
            # The API answered before it had the whole request; the rest of that is of no use.
            self._discard = True
            kept = False
        if not self._channel.reusable:
            self._channel.close()
            self.close()
        elif not kept:
            self._leg.release()
        elif (upstream := self._leg.upstream) is not None:
            upstream.served, upstream.owing = True, False

    def _tell(self) -> None:
        """The request in progress, if there is one, is over."""
        request, self._request = self._request, None
        if request is not None:
            upstream = self._leg.upstream
            if upstream is not None:
                request.stalls, upstream.outlet.stalls = upstream.outlet.stalls, 0
            request.status = request.status or self._answer.status or CLIENT_CLOSED
            request.ended = monotonic()
            self._record(request)

    def end(self, cause: Cause, words: str = "", status: int = 0) -> Action:
        """Something is over because of `cause`, and the server gets what the table says; the action.

        `words` are for people, `status` is that of an error which has its own.
        """
        verdict = self._answer.end(cause)
        action = verdict.action
        if self._request is not None and action not in (Action.NOTHING, Action.HALF):
            self._request.error = words
        if action == Action.ANSWER:
            self._refuse(cause, verdict, words, status)
        elif action == Action.HALF:
            self._half(cause)
        elif action == Action.COMPLETE:
            self._complete()
        elif action == Action.RELEASE:
            self._leg.release()
        elif action not in (Action.NOTHING, Action.REPEAT):
            self._over(action, cause, words)
        return action

    def _refuse(self, cause: Cause, verdict: Verdict, words: str, status: int) -> None:
        """Answer in the API's place; what still comes of the request is for nobody."""
        request, channel = self._request, self._channel
        if cause not in (Cause.REQUEST_INVALID, Cause.FORBIDDEN):
            self._metrics.upstream_errors += 1
        if cause == Cause.UNREACHABLE:
            words = f"the agent cannot reach its API: {words}"
        status, answer = error_response(
            verdict.status or status,
            words,
            retry_after=verdict.retry_after or None,
            target=request.target if request is not None and request.method == b"GET" else b"",
            close=False,
            head_only=request is not None and request.method == b"HEAD",
        )
        if request is not None:
            request.status = status
            request.bytes_out += len(answer)
        channel.send(answer)
        self._tell()
        self._discard = self._upload.state == BODY
        if cause == Cause.REQUEST_INVALID or not channel.reusable:
            channel.close()
            self.close()
        elif cause not in (Cause.NO_CREDENTIAL, Cause.FORBIDDEN):
            self._leg.release()

    def _half(self, cause: Cause) -> None:
        """One half of an upgraded connection is over."""
        if cause == Cause.CLIENT_ENDED:
            upstream = self._leg.upstream
            if upstream is not None:
                upstream.finish()
        elif not self._channel.finish():
            # Without a half-close the other half ends here as well.
            self.end(Cause.CLIENT_ENDED)

    def _complete(self) -> None:
        """All has been said: of an answer without a length, or in both halves of an upgraded connection."""
        channel = self._channel
        if self._answer.status == 101:
            channel.finish()
            self._tell()
            if not self._leg.finish():
                self.close()
            return
        if self._answer.final:
            channel.send(self._answer.final)
        else:
            channel.finish()
        self._answered(False)

    def _over(self, action: Action, cause: Cause, words: str) -> None:
        """The stream ends with the request."""
        channel = self._channel
        if action == Action.CUT:
            channel.fail(words)
        elif action == Action.STALE:
            channel.abort(STALE)
        elif action == Action.RESET and cause == Cause.UNREACHABLE:
            self._metrics.upstream_errors += 1
            channel.abort(UNREACHABLE, words)
        elif action == Action.RESET:
            channel.abort(PROTOCOL, words)
        else:
            channel.close()
        self.close()

    def close(self) -> None:
        """The stream is over: nothing of it stays, and what still comes is for nobody."""
        if not self._leg.closed:
            self._channel.hand_over(DISCARD)
            self._tell()
            self._leg.close()
