"""A stream's other end: one kept connection to the API, and the requests that use it in turn.

Requests come from the tunnel's reader and are written to the API from there. Answers are read by
the upstream's own greenlet, which lives as long as its connection. The agent trusts the server no
more than the server trusts its clients: heads are checked and cut again, and the agent's own
credential is added last.
"""

import logging
from time import monotonic
from typing import Any, Protocol

import gevent

from argotun.errors import CredentialError, HeadError, TransportError
from argotun.observe.access import LogRequest
from argotun.observe.metrics import AgentMetrics
from argotun.transport.reader import Reader
from argotun.transport.writer import Writer
from argotun.tunnel.gate import Gate
from argotun.tunnel.tunnel import Tunnel
from argotun.wire.frames import STALE
from argotun.wire.framing import Body
from argotun.wire.head import (
    UNTIL_CLOSE,
    RequestHead,
    ResponseHead,
    find_head_end,
    parse_request,
    parse_response,
    rewrite_request,
    rewrite_response,
)
from argotun.wire.status import error_response
from argotun.wire.streams import UNCONNECTED, Stream

log = logging.getLogger("argotun.agent")

FLUSH = 60.0
"""Seconds that the last bytes of an upgraded connection have to reach the API."""

REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Methods that may be sent again when a kept connection turns out to be dead (RFC 9110 §9.2.1)."""

ABANDONED = 499
"""What the access line says where nobody waited for the answer any more, as on the server."""

# What the upstream waits for: nothing, an answer's head, the rest of its body, or raw bytes.
IDLE, HEAD, BODY, RAW = range(4)


class Api(Protocol):
    """What an upstream asks of the agent."""

    host: bytes
    metrics: AgentMetrics
    log_request: LogRequest

    def dial(self) -> Any:
        """A new connected socket to the API; TransportError."""

    def credential(self) -> bytes:
        """The Authorization field line, or nothing where a certificate is the credential; CredentialError."""


class Upstream:
    """The sink of one stream on the agent's side."""

    __slots__ = (
        "_api",
        "_api_ended",
        "_at_head",
        "_body",
        "_buffer",
        "_discard",
        "_gate",
        "_greenlet",
        "_held",
        "_over",
        "_owed",
        "_partial",
        "_received",
        "_replay",
        "_request",
        "_reused",
        "_sent",
        "_server_ended",
        "_sock",
        "_started",
        "_state",
        "_status",
        "_stream",
        "_tunnel",
        "_upload",
        "_writer",
    )

    def __init__(self, api: Api, tunnel: Tunnel, stream: Stream) -> None:
        self._api = api
        self._tunnel = tunnel
        self._stream = stream
        self._sock: Any = None
        self._writer: Writer | None = None
        self._gate = Gate()
        self._held: list[bytes] | None = []
        self._buffer = b""
        self._at_head = True
        self._upload = Body()
        self._discard = False
        self._request: RequestHead | None = None
        self._replay = b""
        self._reused = False
        self._partial = b""
        self._body = Body()
        self._state = IDLE
        self._status = 0
        self._owed = 0
        self._started = 0.0
        self._received = 0
        self._sent = 0
        self._server_ended = False
        self._api_ended = False
        self._over = False
        self._greenlet: Any = gevent.spawn_raw(self._serve)

    @property
    def busy(self) -> bool:
        """Whether a request is in progress."""
        return self._state != IDLE or bool(self._held)

    # ── what the server says ───────────────────────────────────────────────────────────────────

    def on_connected(self) -> None:
        """Never sent by a server."""

    def on_writable(self) -> None:
        """The tunnel can take more of the answer."""
        self._gate.open()

    def on_data(self, payload: bytes) -> None:
        """Bytes of a request; they wait while there is no connection to the API."""
        if self._held is None or self._discard:
            self._feed(payload)
        else:
            self._hold(payload)

    def on_end(self) -> None:
        """The client of an upgraded connection sends no more."""
        self._server_ended = True
        if self._state == RAW and self._writer is not None:
            self._finish_writing()
        else:
            self._close()
            self._tunnel.mux.close(self._stream)

    def on_over(self, message: str | None) -> None:
        """The client has left, or the server gave up: the API need not go on."""
        if self._state == RAW and message is None and self._writer is not None:
            # What the client still said before it closed is delivered first.
            self._server_ended = self._api_ended = True
            self._finish_writing()
        else:
            self._close()

    def on_lost(self, reason: str) -> None:
        """The tunnel is gone, and with it whoever asked."""
        self._close()

    def _hold(self, data: bytes) -> None:
        assert self._held is not None
        self._held.append(data)
        if self._greenlet is None:
            self._greenlet = gevent.spawn_raw(self._serve)

    def _feed(self, data: bytes) -> None:
        try:
            while data:
                if self._state == RAW:
                    self._forward(data)
                    return
                if not self._at_head:
                    data = self._next_body(data)
                elif self._held is None:
                    data = self._next_head(data)
                else:
                    self._hold(data)
                    return
        except HeadError as error:
            if self._state == BODY:
                self._tunnel.mux.reset(self._stream, str(error))
            else:
                self._refuse(error.status, str(error))
                self._tunnel.mux.close(self._stream)
            self._close()

    def _next_head(self, data: bytes) -> bytes:
        if self._state != IDLE:
            raise HeadError("a request before the answer to the one before it")
        seen = len(self._buffer)
        if seen:
            data = self._buffer + data
        end = find_head_end(data, seen)
        if end < 0:
            self._tunnel.consumed(self._stream, len(data) - seen)
            self._buffer = data
            return b""
        credit = end - seen
        self._buffer = b""
        request = self._request = parse_request(data[:end])
        self._state = HEAD
        self._status = 0
        self._started = monotonic()
        self._received, self._sent = end, 0
        self._api.metrics.upstream_requests += 1
        self._discard = False
        self._upload.begin(request.length)
        self._at_head = not self._upload.open
        rest = data[end:]
        try:
            credential = self._api.credential()
        except CredentialError as error:
            self._tunnel.consumed(self._stream, credit)
            self._refuse(502, str(error))
            return rest
        close = self._tunnel.version == 1 and request.upgrade is None
        out = rewrite_request(request, request.target, credential, host=self._api.host, close=close)
        repeatable = self._reused and not request.length and request.method in REPEATABLE
        self._replay = out if repeatable and request.upgrade is None else b""
        if self._upload.open and rest:
            # The head and what came of the body leave in one write.
            used = self._upload.take(rest)
            self._at_head = not self._upload.open
            self._received += used
            self._write(out + rest[:used], credit + used)
            return rest[used:]
        self._write(out, credit)
        return rest

    def _next_body(self, data: bytes) -> bytes:
        used = self._upload.take(data)
        self._at_head = not self._upload.open
        self._received += used
        if self._discard:
            self._tunnel.consumed(self._stream, used)
            self._discard = not self._at_head
        else:
            self._forward(data if used == len(data) else data[:used])
        return data[used:]

    def _forward(self, data: bytes) -> None:
        self._write(data, len(data))

    def _write(self, data: bytes, credit: int) -> None:
        writer = self._writer
        if writer is None or writer.write(data):
            self._tunnel.consumed(self._stream, credit)
        else:
            self._api.metrics.stalls += not self._owed
            self._owed += credit

    def _left_queue(self, size: int) -> None:
        """Queued bytes reached the API: their credit goes back. Heads differ a little in size."""
        writer = self._writer
        credit = self._owed if writer is None or not writer.pending else min(size, self._owed)
        self._owed -= credit
        self._tunnel.consumed(self._stream, credit)

    # ── what the API says ──────────────────────────────────────────────────────────────────────

    def _serve(self) -> None:
        """The greenlet of one connection: a bare one, for it is two thirds of an idle stream's own memory."""
        try:
            self._run()
        except Exception:
            log.exception("a fault in argotun ends this stream")
            self._tunnel.mux.reset(self._stream, "internal error")
            self._close()

    def _run(self) -> None:
        """Connect, hand over what was held, and read until the connection ends."""
        try:
            self._connect()
        except TransportError as error:
            self._unreachable(str(error))
            return
        self._tunnel.mux.connected(self._stream)
        held, self._held = self._held, None
        for payload in held or ():
            self._feed(payload)
        if self._read():
            self._repeat()

    def _repeat(self) -> None:
        """A kept connection was found dead under a request that may be sent once more."""
        replay, self._replay = self._replay, b""
        self._hang_up()
        try:
            self._connect()
        except TransportError as error:
            self._answer_for(503, f"the agent cannot reach its API: {error}", retry_after=1)
            self._drop()
            return
        self._write(replay, 0)
        self._read()

    def _connect(self) -> None:
        sock = self._api.dial()
        if self._over:
            # Given up just as the dial was done: the kill comes when nobody would close this any more.
            sock.close()
            raise gevent.GreenletExit
        self._sock = sock
        self._writer = Writer(sock, self._unwritable, readable=True)
        self._writer.on_sent = self._left_queue
        self._reused = False

    def _read(self) -> bool:
        """Read answers until the connection ends; True when the request is to be sent again."""
        sock = self._sock
        if sock is None:
            return False
        recv = Reader(sock).recv
        problem = "the API closed the connection without an answer"
        try:
            while data := recv():
                self._answer(data)
                if self._sock is sock:
                    self._gate.wait(self._stream)
                if self._sock is not sock:
                    # Given up meanwhile; a new connection, if any, has a reader of its own.
                    return False
        except HeadError as error:
            problem = f"the API's answer is refused: {error}"
            self._replay = b""
            self._reused = False
            self._body.end()
        except OSError as error:
            if self._sock is not sock:
                return False
            problem = f"the API connection was lost: {error.strerror or error}"
            if self._body.until_close:
                self._body.end()
            if self._state == RAW:
                # Both halves are gone; what it said until then is heard first.
                self._tunnel.mux.close(self._stream)
                self._close()
                return False
        return self._ended(problem)

    def _answer(self, data: bytes) -> None:
        while data:
            if self._state == BODY:
                used = self._body.take(data)
                self._send(data if used == len(data) else data[:used])
                if self._body.open:
                    return
                data = data[used:]
                self._done()
            elif self._state == RAW:
                self._send(data)
                return
            elif self._state == HEAD:
                data = self._answer_head(data)
            else:
                raise HeadError("bytes that nobody asked for")

    def _answer_head(self, data: bytes) -> bytes:
        request = self._request
        assert request is not None
        self._replay = b""
        seen = len(self._partial)
        if seen:
            data = self._partial + data
        end = find_head_end(data, seen)
        if end < 0:
            self._partial = data
            return b""
        self._partial = b""
        head = parse_response(data[:end], request.method)
        rest = data[end:]
        if head.status < 200 and head.status != 101:
            self._send(rewrite_response(head, False))
            return rest
        if 300 <= head.status < 400 and head.location:
            raise HeadError("a redirect, which is not followed")
        self._status = head.status
        if head.status == 101:
            if request.upgrade is None or request.upgrade != head.upgrade:
                raise HeadError("it switches to a protocol that was not asked for")
            self._state = RAW
            # Sent apart from what follows: SPDY clients drop bytes that arrive with the head.
            self._send(rewrite_response(head, False))
            return rest
        return self._answer_body(head, rest)

    def _answer_body(self, head: ResponseHead, rest: bytes) -> bytes:
        out = rewrite_response(head, False)
        self._body.begin(head.length)
        self._state = BODY
        self._reused = head.keep_alive
        used = self._body.take(rest) if rest and self._body.open else 0
        self._send(out + rest[:used] if used else out)
        if not self._body.open:
            self._done()
        return rest[used:]

    def _send(self, data: bytes) -> None:
        self._sent += len(data)
        self._tunnel.mux.send(self._stream, data)

    def _done(self) -> None:
        """An answer is complete."""
        self._record()
        if self._upload.open:
            # The API answered before it had the whole request; the rest of that is of no use.
            self._discard = True
            self._reused = False
        if self._tunnel.version == 1:
            self._tunnel.mux.close(self._stream)
            self._close()
        elif not self._reused:
            self._drop()

    # ── how it ends ────────────────────────────────────────────────────────────────────────────

    def _ended(self, problem: str) -> bool:
        """The API's connection is over: what that means for the stream. True to repeat the request."""
        mux, stream = self._tunnel.mux, self._stream
        if self._state == HEAD:
            if self._replay:
                return True
            if self._reused and not self._partial:
                self._record()
                mux.reset(stream, STALE)
            else:
                self._answer_for(502, problem)
        elif self._state == RAW:
            mux.end(stream)
            self._api_ended = True
            if self._server_ended or self._tunnel.version == 1:
                self._finish_writing()
            # Else the other half may still be on its way to the API; its end closes the socket.
            return False
        elif self._state == BODY:
            if self._body.until_close:
                self._done()
                mux.end(stream)
            else:
                self._record()
                mux.fail(stream, "the API connection was lost in the middle of an answer")
        elif self._tunnel.version == 1:
            mux.close(stream)
        self._drop()
        return False

    def _unreachable(self, reason: str) -> None:
        """No connection to the API: on a new stream that is an ERROR, later an answer."""
        self._api.metrics.upstream_errors += 1
        self._greenlet = None
        if self._stream.state in UNCONNECTED:
            self._tunnel.mux.reset(self._stream, reason)
            return
        # A request waits on a stream that has served others: read it, and answer in the API's place.
        held, self._held = self._held, None
        for payload in held or ():
            self._feed(payload)
        if self._state == HEAD:
            self._answer_for(503, f"the agent cannot reach its API: {reason}", retry_after=1)
        self._drop()

    def _answer_for(self, code: int, message: str, retry_after: int | None = None) -> None:
        self._api.metrics.upstream_errors += 1
        self._refuse(code, message, retry_after)

    def _refuse(self, code: int, message: str, retry_after: int | None = None) -> None:
        """Answer a request in the API's place; nothing of an answer has gone out yet."""
        request = self._request
        answer = error_response(
            code,
            message,
            retry_after=retry_after,
            target=request.target if request is not None else b"",
            close=False,
            head_only=request is not None and request.method == b"HEAD",
        )
        self._status = int(answer[9:12])
        self._send(answer)
        if self._upload.open:
            self._discard = True
        self._record()
        if self._tunnel.version == 1:
            self._tunnel.mux.close(self._stream)

    def _record(self) -> None:
        """No request is in progress any more: write the access line of the one that was."""
        self._state = IDLE
        request, self._request = self._request, None
        if request is None:
            return
        theirs = self._tunnel.mux.theirs
        self._api.log_request(
            theirs.cluster if theirs is not None else "",
            request.method,
            request.target,
            self._status or ABANDONED,
            self._received,
            self._sent,
            monotonic() - self._started,
            self._stream.id,
            request.audit_id or b"",
        )

    def _unwritable(self, reason: str) -> None:
        """The API takes no more; its reader hears what it said before, and then that it is gone."""

    def _finish_writing(self) -> None:
        """Half-close towards the API behind what is queued; close where it has ended as well."""
        writer = self._writer
        assert writer is not None
        writer.finish(reading=True)
        if self._api_ended:
            gevent.spawn(self._flush, writer)

    def _flush(self, writer: Writer) -> None:
        writer.flush(FLUSH)
        self._close()

    def _hang_up(self) -> None:
        writer, self._writer, self._sock = self._writer, None, None
        if writer is not None:
            writer.close()
        owed, self._owed = self._owed, 0
        if owed:
            # The stream may carry further requests, and needs all of its window.
            self._tunnel.consumed(self._stream, owed)
        self._partial = b""

    def _drop(self) -> None:
        """Give up the API's connection but not the stream: the next request dials again."""
        self._hang_up()
        self._held = []
        self._greenlet = None

    def _close(self) -> None:
        """The stream is over: nothing of it stays, and what still comes is for nobody."""
        if self._state != IDLE:
            self._record()
        running = self._greenlet
        self._drop()
        self._over = True
        self._held = None
        self._upload.begin(UNTIL_CLOSE)
        self._at_head = False
        self._discard = True
        self._gate.open()
        if running is not None and running is not gevent.getcurrent():
            gevent.kill(running)
