"""The agent's end of a stream: its requests go to the API over one kept connection, the answers come back.

Requests come from the tunnel's reader and are written to the API from there. What comes back is read by a
greenlet that lives as long as the API's connection, and goes into the tunnel from there. The agent trusts the
server no more than the server trusts its clients, and the API no more than that: heads are checked and cut
again in both directions, and the agent's own credential is added last.

    tunnel's reader ──on_data──▶ Relay ──head, body──▶ Outlet ──▶ API
    API ──▶ the connection's greenlet ──▶ Answer ──▶ Channel
    anything that ends it ──end(cause)──▶ Answer ──Verdict──▶ an answer in the API's place, an ERROR, …

There is a connection from the first request on until the API, or the agent, ends it; the next request dials
again. Bytes that come meanwhile wait unread, with their credit. One that a stream leaves may serve another:
see idle.py.
"""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent

from argotun.agent.api import KubernetesApi
from argotun.agent.policy import PolicyFile
from argotun.agent.upstream import Upstream
from argotun.errors import CredentialError, HeadError, TransportError
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
from argotun.wire.reasons import FAILED, NONE, PROTOCOL, STALE, UNREACHABLE
from argotun.wire.relay import BODY, HEAD, IDLE, RAW, Relay
from argotun.wire.status import error_response
from argotun.wire.streams import DISCARD

log = logging.getLogger("argotun.agent")

FLUSH = 60.0
"""Seconds that the last bytes of an upgraded connection have to reach the API."""


class Forwarder:
    """The sink of one stream on the agent's side; `record(request)` is called with each that is over."""

    __slots__ = (
        "_answer",
        "_api",
        "_channel",
        "_closed",
        "_cluster",
        "_discard",
        "_greenlet",
        "_held",
        "_metrics",
        "_named",
        "_policy",
        "_record",
        "_replay",
        "_request",
        "_tracing",
        "_unreachable",
        "_upload",
        "_upstream",
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
        self._upstream: Upstream | None = None
        self._held: list[bytes] = []
        self._discard = False
        self._replay = b""
        self._unreachable = ""
        self._closed = False
        # A bare greenlet: it is two thirds of an idle stream's own memory.
        self._greenlet: Any = gevent.spawn_raw(self._serve)

    @property
    def request(self) -> Request | None:
        """The request in progress."""
        return self._request

    @property
    def busy(self) -> bool:
        """Whether a request is in progress."""
        return self._answer.state != IDLE or bool(self._held)

    # ── the server says ────────────────────────────────────────────────────────────────────────

    def on_connected(self) -> None:
        """Never sent by a server."""

    def on_data(self, payload: bytes) -> None:
        """Bytes of a request; they wait while there is no connection to the API.

        While one is made for a request that is asked again there can be none: a server knows better.
        """
        if self._upstream is not None or self._upload.state == BODY or self._answer.state != IDLE:
            self._feed(payload)
        else:
            self._hold(payload)

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

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        if self._greenlet is None:
            self._greenlet = gevent.spawn_raw(self._serve)

    def _feed_held(self) -> None:
        held, self._held = self._held, []
        for payload in held:
            self._feed(payload)

    def _feed(self, data: bytes) -> None:
        upload = self._upload
        try:
            while data and not self._closed:
                if upload.state == IDLE:
                    if self._answer.state != IDLE:
                        raise HeadError("a request before the answer to the one before it")
                    upload.begin()
                    if self._upstream is not None and self._upstream.torn:
                        # What the API has begun to say would become the answer to this request.
                        self._release()
                if upload.state != HEAD:
                    out, used = upload.take(data)
                    self._pass_on(out, used)
                elif self._upstream is None and not self._unreachable:
                    self._hold(data)
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
        upstream = self._upstream
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
        self._replay = out if self._answer.stage == REPEATABLE else b""
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
        upstream = self._upstream
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
        if self._discard or self._upstream is None:
            self._channel.consumed(credit)
        else:
            self._upstream.outlet.relay(data, credit)

    # ── the connection to the API, and answers on their way ────────────────────────────────────

    def _serve(self) -> None:
        """The greenlet of one connection."""
        try:
            repeat = self._connect() and self._read()
            while repeat:
                # A kept connection was found dead under a request that may be sent once more.
                repeat = self._connect_again()
        except Exception:
            log.exception("a fault in argotun ends this stream")
            self._channel.reset(FAILED, "internal error")
            self._close()

    def _connect(self) -> bool:
        """Connect and hand over what was held; False when that was not possible, or needs no connection."""
        taken = self._take_over()
        if not (taken or self._dial()):
            return False
        self._channel.connect()
        self._feed_held()
        left = self._leave_behind() if taken else None
        if left is None:
            return True
        # What it was taken for was refused here, and what comes next may not be sent twice.
        self._greenlet = None
        self._api.idle.keep(left)
        return False

    def _connect_again(self) -> bool:
        """Connect and send the request once more; True when a later one needs that, too."""
        replay, self._replay = self._replay, b""
        if not self._dial() or self._upstream is None:
            return False
        self._upstream.owing = True
        self._upstream.plain = self._request is not None and self._request.method == b"GET"
        self._upstream.outlet.relay(replay, 0)
        return self._read()

    def _take_over(self) -> bool:
        """Go on with a connection that another stream has left, where what was held may be asked again."""
        if self._channel.single or self._upload.held or not len(self._api.idle):
            # What is held is no head, where the beginning of one has been read already.
            return False
        held = b"".join(self._held)
        try:
            end = find_head_end(held)
            if end < 0 or not parse_request(held[:end]).repeatable:
                return False
        except HeadError:
            # It is answered as it is on any connection.
            return False
        sock = self._api.take_idle()
        if sock is None:
            return False
        self._use(sock)
        assert self._upstream is not None
        self._upstream.served = True
        return True

    def _dial(self) -> bool:
        try:
            sock = self._api.dial()
        except TransportError as error:
            self._fail_to_reach(str(error))
            return False
        if self._closed:
            # The stream closed as the dial was done, and the kill is still pending: nothing else closes this.
            sock.close()
            return False
        self._use(sock)
        return True

    def _use(self, sock: Any) -> None:
        api = self._api
        self._upstream = Upstream(
            sock, self._channel, self._unwritable, api.stall_timeout, api.lookout, self._written
        )

    def _fail_to_reach(self, reason: str) -> None:
        """No connection to the API: on a new stream that is an ERROR, later an answer in its place."""
        self._greenlet = None
        if self._answer.state != IDLE or not self._channel.connected:
            self.end(Cause.UNREACHABLE, reason)
            return
        self._unreachable = reason
        self._feed_held()
        self._unreachable = ""

    def _read(self) -> bool:
        """Read answers until the connection ends; True when the request is to be sent again."""
        upstream = self._upstream
        if upstream is None:
            return False
        ended = upstream.read(self._take, self._channel.wait)
        if ended is None or self._upstream is not upstream:
            # Given up here; a new connection, if any, has a reader of its own.
            return False
        cause, words = ended
        if cause == Cause.API_LOST:
            self._api.idle.clear()
        if cause == Cause.API_ENDED:
            where = "in the middle of" if self._answer.state == BODY else "without"
            words = f"the API closed the connection {where} an answer"
        return self.end(cause, words) == Action.REPEAT

    def _take(self, data: bytes) -> None:
        """Pass on what the API says; HeadError where that is not to be trusted."""
        answer, request = self._answer, self._request
        self._replay = b""
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

    def _answered(self, kept: bool) -> None:
        """An answer is complete: the connection is kept if both sides can go on with it."""
        self._tell()
        if self._upload.state == BODY:
            # The API answered before it had the whole request; the rest of that is of no use.
            self._discard = True
            kept = False
        if not self._channel.reusable:
            self._channel.close()
            self._close()
        elif not kept:
            self._release()
        elif self._upstream is not None:
            self._upstream.served, self._upstream.owing = True, False

    def _tell(self) -> None:
        """The request in progress, if there is one, is over."""
        request, self._request = self._request, None
        if request is not None:
            if self._upstream is not None:
                request.stalls, self._upstream.outlet.stalls = self._upstream.outlet.stalls, 0
            request.status = request.status or self._answer.status or CLIENT_CLOSED
            request.ended = monotonic()
            self._record(request)

    # ── how it ends ────────────────────────────────────────────────────────────────────────────

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
            self._release()
        elif action == Action.REPEAT:
            self._hang_up()
        elif action != Action.NOTHING:
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
            self._close()
        elif cause not in (Cause.NO_CREDENTIAL, Cause.FORBIDDEN):
            self._release()

    def _half(self, cause: Cause) -> None:
        """One half of an upgraded connection is over."""
        if cause == Cause.CLIENT_ENDED:
            if self._upstream is not None:
                self._upstream.finish()
        elif not self._channel.finish():
            # Without a half-close the other half ends here as well.
            self.end(Cause.CLIENT_ENDED)

    def _complete(self) -> None:
        """All has been said: of an answer without a length, or in both halves of an upgraded connection."""
        channel = self._channel
        if self._answer.status == 101:
            channel.finish()
            self._tell()
            self._leave()
            return
        if self._answer.final:
            channel.send(self._answer.final)
        else:
            channel.finish()
        self._answered(False)

    def _leave(self) -> None:
        """Close behind what is queued for the API, unless too many connections wait for that already."""
        upstream, api = self._upstream, self._api
        if upstream is not None:
            upstream.leave()
            if upstream.outlet.pending and len(api.flushing) < api.most_flushing:
                api.flushing.add(upstream)
                gevent.spawn(self._flush, upstream)
                return
        self._close()

    def _flush(self, upstream: Upstream) -> None:
        upstream.flush(FLUSH)
        self._api.flushing.discard(upstream)
        self._close()

    def _over(self, action: Action, cause: Cause, words: str) -> None:
        """The stream ends with the request."""
        channel = self._channel
        if action == Action.CUT:
            channel.fail(words)
        elif action == Action.STALE:
            channel.reset(STALE)
        elif action == Action.RESET and cause == Cause.UNREACHABLE:
            self._metrics.upstream_errors += 1
            channel.reset(UNREACHABLE, words)
        elif action == Action.RESET:
            channel.reset(PROTOCOL, words)
        else:
            channel.close()
        self._close()

    def _unwritable(self, reason: str) -> None:
        """The API takes no more. Its reader hears why, unless it only stopped to read, or had ended."""
        if self._upstream is not None and self._upstream.outlet.stalled:
            self.end(Cause.API_STALLED, f"the API {reason}")
        elif self._answer.half == Cause.API_ENDED:
            self.end(Cause.API_LOST, f"the API connection was lost: {reason}")

    def _written(self) -> tuple[float, int]:
        """What the API's socket has taken, as a mark for the lookout."""
        request, upstream = self._request, self._upstream
        pending = upstream.outlet.pending if upstream is not None else 0
        return (request.began, request.bytes_in - pending) if request is not None else (0.0, -pending)

    def _hang_up(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close()

    def _release(self) -> None:
        """Give up the API's connection but not the stream: the next request dials again."""
        self._hang_up()
        self._replay = b""
        self._greenlet = None

    def _close(self) -> None:
        """The stream is over: nothing of it stays, and what still comes is for nobody."""
        if self._closed:
            return
        self._closed = True
        self._channel.hand_over(DISCARD)
        self._tell()
        running = self._greenlet
        if running is gevent.getcurrent():
            running = None
        left = self._leave_behind() if running is not None else None
        self._release()
        self._held = []
        if running is not None:
            gevent.kill(running)
        if left is not None:
            # Behind the kill: the greenlet that reads from it has let go of it by then.
            gevent.get_hub().loop.run_callback(self._api.idle.keep, left)

    def _leave_behind(self) -> Any:
        """The connection's socket for the next stream, None where it is not to be used again."""
        upstream = self._upstream
        if upstream is None or not upstream.quiet:
            return None
        self._upstream = None
        return upstream.part()
