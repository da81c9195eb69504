"""The answers' way into the tunnel: what the API says to one stream's requests, one after the other.

Heads are checked and cut as on the server, bodies are followed to where they end, since only that
tells whether the connection can be kept and whether an answer was cut. A body that ends with its
connection goes on in chunks: whoever is lost on the way to the client would end it too. Where the API
says nothing, something is said in its place.
"""

from time import monotonic
from typing import Protocol

from argotun.errors import HeadError
from argotun.observe.access import LogRequest
from argotun.observe.metrics import AgentMetrics
from argotun.tunnel.gate import Gate
from argotun.tunnel.tunnel import Tunnel
from argotun.wire.body import FINAL_CHUNK, chunk
from argotun.wire.frames import STALE
from argotun.wire.framing import Body
from argotun.wire.head import (
    UNTIL_CLOSE,
    RequestHead,
    ResponseHead,
    find_head_end,
    parse_response,
    rewrite_response,
)
from argotun.wire.status import error_response
from argotun.wire.streams import Stream

REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Methods that may be sent again when a kept connection turns out to be dead (RFC 9110 §9.2.1)."""

ABANDONED = 499
"""What the access line says where nobody waited for the answer any more, as on the server."""

# What the API owes: nothing, an answer's head, the rest of its body, or raw bytes.
IDLE, HEAD, BODY, RAW = range(4)


class Ledger(Protocol):
    """Where requests are counted."""

    metrics: AgentMetrics
    log_request: LogRequest


class Asker(Protocol):
    """Who sends the requests."""

    def answered(self) -> None:
        """The API's answer is complete."""


class Nobody:
    """The asker of a stream that is over."""

    def answered(self) -> None:
        """Nobody waits for it."""


NOBODY = Nobody()


class Answers:
    """The answers on one stream: at most one is in progress.

    `received` and `sent` count the bytes of the request and of its answer; the asker adds to the
    former. `reusable` says that the connection has served a request and can serve another one; at
    `gate` its reader waits until the tunnel takes more.
    """

    __slots__ = (
        "_asker",
        "_body",
        "_chunking",
        "_ledger",
        "_partial",
        "_request",
        "_sent",
        "_started",
        "_status",
        "_stream",
        "_tunnel",
        "gate",
        "received",
        "reusable",
        "state",
    )

    def __init__(self, asker: Asker, ledger: Ledger, tunnel: Tunnel, stream: Stream) -> None:
        self._asker = asker
        self._ledger = ledger
        self._tunnel = tunnel
        self._stream = stream
        self._request: RequestHead | None = None
        self._partial = b""
        self._body = Body()
        self._chunking = False
        self._status = 0
        self._started = 0.0
        self._sent = 0
        self.gate = Gate()
        self.received = 0
        self.reusable = False
        self.state = IDLE

    def begin(self, request: RequestHead, size: int) -> None:
        """A request is on its way, whose head has `size` bytes; IDLE is the state for it."""
        self._request = request
        self._status = 0
        self._started = monotonic()
        self._sent = 0
        self.received = size
        self.state = HEAD
        self._ledger.metrics.upstream_requests += 1

    @property
    def repeatable(self) -> bool:
        """Whether the request may be sent again if its kept connection turns out to be dead."""
        request = self._request
        return (
            self.reusable
            and request is not None
            and not request.length
            and request.method in REPEATABLE
            and request.upgrade is None
        )

    def take(self, data: bytes) -> None:
        """Pass on what the API says; HeadError where that is not to be trusted."""
        while data:
            if self.state == BODY:
                used = self._body.take(data)
                self._send(self._framed(data if used == len(data) else data[:used]))
                if self._body.open:
                    return
                data = data[used:]
                self._done()
            elif self.state == RAW:
                self._send(data)
                return
            elif self.state == HEAD:
                data = self._head(data)
            else:
                raise HeadError("bytes that nobody asked for")

    def refuse(self, code: int, message: str, retry_after: int | None = None) -> None:
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
        self.record()
        if self._tunnel.version == 1:
            self._tunnel.mux.close(self._stream)

    def cut(self, problem: str, in_order: bool) -> None:
        """The connection ended under a request: by a FIN behind whole messages (`in_order`), or otherwise."""
        mux, stream = self._tunnel.mux, self._stream
        if self.state == BODY:
            if in_order and self._chunking:
                self._send(FINAL_CHUNK)
                self._done()
            elif in_order and self._body.until_close:
                self._done()
                mux.end(stream)
            else:
                self.record()
                mux.fail(stream, "the API connection was lost in the middle of an answer")
        elif self.reusable and not self._partial:
            self.record()
            mux.reset(stream, STALE)
        else:
            self._ledger.metrics.upstream_errors += 1
            self.refuse(502, problem)

    def forget(self) -> None:
        """The connection is another one from now on: what was begun on the old one is of no use."""
        self._partial = b""
        self.reusable = False

    def leave(self) -> None:
        """The stream is over: nothing here leads back to the asker."""
        self.record()
        self._asker = NOBODY

    def record(self) -> None:
        """No request is in progress any more: write the access line of the one that was."""
        self.state = IDLE
        request, self._request = self._request, None
        if request is None:
            return
        theirs = self._tunnel.mux.theirs
        self._ledger.log_request(
            theirs.cluster if theirs is not None else "",
            request.method,
            request.target,
            self._status or ABANDONED,
            self.received,
            self._sent,
            monotonic() - self._started,
            self._stream.id,
            request.audit_id or b"",
        )

    def _head(self, data: bytes) -> bytes:
        request = self._request
        assert request is not None
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
            self.state = RAW
            # Sent apart from what follows: SPDY clients drop bytes that arrive with the head.
            self._send(rewrite_response(head, False))
            return rest
        return self._begin_body(head, rest, request.minor)

    def _begin_body(self, head: ResponseHead, rest: bytes, minor: int) -> bytes:
        # A client of HTTP/1.0 knows no chunks (RFC 9112 §6.1).
        self._chunking = head.length == UNTIL_CLOSE and minor == 1
        out = rewrite_response(head, False, self._chunking)
        self._body.begin(head.length)
        self.state = BODY
        self.reusable = head.keep_alive
        used = self._body.take(rest) if rest and self._body.open else 0
        self._send(out + self._framed(rest[:used]) if used else out)
        if not self._body.open:
            self._done()
        return rest[used:]

    def _framed(self, body: bytes) -> bytes:
        return chunk(body) if self._chunking else body

    def _send(self, data: bytes) -> None:
        self._sent += len(data)
        self._tunnel.mux.send(self._stream, data)

    def _done(self) -> None:
        self.record()
        self._asker.answered()
