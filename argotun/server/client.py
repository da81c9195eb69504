"""The request's way in: one client connection, from its socket to a stream of the tunnel.

The connection's greenlet reads the socket for as long as it lives, also while an answer is on its
way, because only that tells when the client leaves. Heads are routed on their raw target; bodies
are passed on as they come and wait when the tunnel is full.
"""

import logging
from time import monotonic
from typing import Any, Protocol

from gevent.event import Event

from argotun.errors import HeadError
from argotun.observe.logs import fields
from argotun.server.exchange import HEAD, IDLE, RAW, Exchange
from argotun.server.registry import Session
from argotun.server.routes import LASTING, TUNNEL, WATCH
from argotun.transport.reader import Reader
from argotun.transport.writer import Writer
from argotun.wire.frames import V1
from argotun.wire.framing import Body
from argotun.wire.head import RequestHead, find_head_end, parse_request, rewrite_request
from argotun.wire.streams import CLOSED, Stream

log = logging.getLogger("argotun.server")

LINGER = 5.0
"""Seconds that a client has to close after the last answer; until then what it sends is discarded."""

FLUSH = 60.0
"""Seconds that the last bytes of an upgraded connection have to reach a client that reads slowly."""

# What the next bytes from the client are.
AT_HEAD, AT_BODY, HELD, LEAVING = range(4)


class Port(Protocol):
    """What a connection asks of the port that accepted it; times are in seconds, 0 is no limit."""

    draining: bool
    head_timeout: float
    body_timeout: float
    idle_timeout: float
    response_timeout: float
    stall_timeout: float
    max_body: int

    def admit(self, exchange: Exchange) -> Session | None:
        """The session for a request, or None when it was refused."""

    def answer_locally(self, head: RequestHead, exchange: Exchange) -> None:
        """Answer a request that is for no cluster."""

    def new_audit_id(self) -> bytes:
        """A fresh Audit-ID."""

    def record(self, exchange: Exchange, seconds: float) -> None:
        """Count a request that has ended."""


class ClientConnection:
    """One connection to the internal port."""

    __slots__ = (
        "_body",
        "_buffer",
        "_moved",
        "_port",
        "_reader",
        "_sock",
        "_state",
        "_uploaded",
        "_woken",
        "_writer",
        "exchange",
        "request_done",
        "since",
    )

    def __init__(self, port: Port, sock: Any) -> None:
        self._port = port
        self._sock = sock
        self._reader = Reader(sock)
        self._writer = Writer(sock, self._unwritable, stall=port.stall_timeout)
        self._writer.on_drained = self._wake
        self._state = AT_HEAD
        self._buffer = b""
        self._body = Body()
        self._moved = 0
        self._uploaded = 0
        self._woken: Event | None = None
        self.exchange = Exchange(self, self._writer)
        self.request_done = True
        self.since = monotonic()

    def serve(self) -> None:
        """Read until the client or argotun ends the connection."""
        recv = self._reader.recv
        try:
            while True:
                data = recv()
                if data:
                    self._feed(data)
                else:
                    if self.exchange.state == RAW:
                        self._end_upload()
                    break
        except HeadError as error:
            self._malformed(error)
            self._discard()
        except OSError:
            # The client's connection is gone, which `abandon` passes on.
            pass
        finally:
            self.exchange.leave()
            self._writer.close()

    # ── asked by the exchange ──────────────────────────────────────────────────────────────────

    @property
    def draining(self) -> bool:
        """Whether the server is about to end: answers then end their connection."""
        return self._port.draining

    def proceed(self) -> None:
        """The answer is complete, or the connection raw: bytes that were held may go on."""
        self.since = monotonic()
        self._wake()

    def finish(self) -> None:
        """No more answers: half-close behind what is queued and discard what still comes."""
        self._state = LEAVING
        self.since = monotonic()
        self._writer.finish()

    def record(self, seconds: float) -> None:
        """Count the request that has ended and write its access line."""
        self._port.record(self.exchange, seconds)

    # ── asked by the port ──────────────────────────────────────────────────────────────────────

    @property
    def idle(self) -> bool:
        """Whether no request is in progress."""
        return self.exchange.state == IDLE and self._state in (AT_HEAD, HELD) and not self._buffer

    @property
    def answered(self) -> bool:
        """Whether the last answer has been given and has left: only the client's own end is awaited."""
        return self._state == LEAVING and self.exchange.state == IDLE and not self._writer.pending

    @property
    def watching(self) -> bool:
        """Whether the request in progress is a watch."""
        return self.exchange.state != IDLE and WATCH.search(self.exchange.target) is not None

    @property
    def lasting(self) -> bool:
        """Whether the answer to the request in progress may begin late and pause for hours."""
        return self.exchange.upgrade or LASTING.search(self.exchange.target) is not None

    def sweep(self, now: float) -> None:
        """End what has waited for too long; called about once a second.

        A client that takes nothing of its answer is the writer's affair.
        """
        waited = now - self.since
        exchange, pending = self.exchange, self._writer.pending
        if self._state == LEAVING:
            if waited > LINGER and not pending:
                self._writer.close()
        elif self._unread and self._reader.peer_left(halves=exchange.state == RAW):
            self._give_up()
        elif exchange.state == RAW:
            if exchange.peer_ended and waited > FLUSH:
                self._give_up()
        elif pending:
            self.since = now
        elif exchange.state != IDLE:
            self._press(now)
        elif self._buffer:
            if waited > self._port.head_timeout:
                self._malformed(HeadError("the request head did not arrive in time", 408))
        elif waited > self._port.idle_timeout:
            self.finish()

    def _press(self, now: float) -> None:
        """End a request when the one side that it waits for has been silent for too long."""
        port, exchange, stream = self._port, self.exchange, self.exchange.stream
        moved = exchange.received + exchange.sent - (stream.queued if stream is not None else 0)
        if moved != self._moved:
            self._moved, self.since = moved, now
            return
        waited = now - self.since
        if stream is not None and stream.waiting:
            if 0 < port.stall_timeout < waited:
                exchange.fail(504, f"the API took nothing of the request for {port.stall_timeout:g} s")
        elif not self.request_done:
            if stream is not None and waited > port.body_timeout:
                self._malformed(HeadError("the rest of the request did not arrive in time", 408))
        elif 0 < port.response_timeout < waited and not self.lasting:
            exchange.fail(504, f"the API was silent for {port.response_timeout:g} s")

    def end(self, seconds: float) -> None:
        """End for good: what is written out gets so long to leave, what is not complete is cut."""
        if self.exchange.state != IDLE:
            self._writer.abort()
            self._wake()
        else:
            self._writer.flush(seconds)
            self._writer.close()

    # ── bytes from the client ──────────────────────────────────────────────────────────────────

    def _feed(self, data: bytes) -> None:
        while data:
            state = self._state
            if self.exchange.state == RAW:
                self._forward(data)
                return
            if state == AT_HEAD:
                data = self._head(data)
            elif state == AT_BODY:
                data = self._upload(data)
            elif state == HELD:
                self._hold()
            else:
                return

    def _head(self, data: bytes) -> bytes:
        if self._buffer:
            resume = len(self._buffer)
            data = self._buffer + data
        else:
            resume = 0
            self.since = monotonic()
        end = find_head_end(data, resume)
        if end < 0:
            self._buffer = data
            return b""
        self._buffer = b""
        head = parse_request(data[:end])
        self._uploaded = 0
        body = self._body
        body.begin(head.length)
        self.request_done = not body.open
        self._state = AT_BODY if body.open else HELD
        self._request(head, end)
        return data[end:]

    def _upload(self, data: bytes) -> bytes:
        """Pass on what of `data` belongs to the request's body; the rest of it."""
        body = self._body
        used = body.take(data)
        self._uploaded += used
        if self._port.max_body and self._uploaded > self._port.max_body:
            self._too_large()
        if not body.open:
            self.request_done = True
            self.since = monotonic()
            if self._state == AT_BODY:
                self._state = HELD
        if used == len(data):
            self._forward(data)
            return b""
        self._forward(data[:used])
        return data[used:]

    def _forward(self, data: bytes) -> None:
        exchange = self.exchange
        exchange.received += len(data)
        stream = exchange.stream
        if stream is not None and exchange.session is not None:
            exchange.session.tunnel.mux.send(stream, data)
            exchange.gate.wait(stream)

    def _hold(self) -> None:
        """Bytes behind an answer that is not complete, or not taken yet: they wait, the client with them."""
        exchange, writer = self.exchange, self._writer
        while self._state == HELD and not writer.closed:
            if exchange.state == RAW or (exchange.state == IDLE and not writer.pending):
                break
            self._sleep()
        if writer.closed:
            self._state = LEAVING
        elif exchange.state == IDLE and self._state == HELD:
            self._state = AT_HEAD

    def _end_upload(self) -> None:
        """The client of an upgraded connection sends no more: wait for the other direction."""
        self.exchange.end_upload()
        while self.exchange.state != IDLE and not self._writer.closed:
            self._sleep()
        self._writer.flush(FLUSH)

    def _sleep(self) -> None:
        """Until something has changed: the answer, what is queued, or whether the client is there."""
        self._woken = Event()
        self._woken.wait()
        self._woken = None

    def _wake(self) -> None:
        if self._woken is not None:
            self._woken.set()

    # ── where a request goes ───────────────────────────────────────────────────────────────────

    def _request(self, head: RequestHead, size: int) -> None:
        port = self._port
        exchange = self.exchange
        exchange.method = head.method
        exchange.keep_alive = head.keep_alive
        exchange.upgrade = head.upgrade is not None
        exchange.started = self.since
        exchange.received = size
        exchange.sent = 0
        exchange.audit_id = head.audit_id or port.new_audit_id()
        route = TUNNEL.match(head.target)
        if route is None:
            exchange.cluster = ""
            exchange.target = head.target
            exchange.begin()
            port.answer_locally(head, exchange)
            return
        rest = head.target[route.end() :]
        exchange.cluster = route[1].decode()
        exchange.target = rest if rest.startswith(b"/") else b"/" + rest
        exchange.begin()
        if port.max_body and head.length > port.max_body:
            self._too_large()
            return
        session = port.admit(exchange)
        # While no agent was there, the client may have left or been told that it took too long.
        if session is not None and exchange.state == HEAD:
            self._open(session, head)

    def _open(self, session: Session, head: RequestHead) -> None:
        exchange = self.exchange
        mux = session.tunnel.mux
        stream: Stream | None = exchange.stream
        if stream is None or exchange.session is not session or stream.state == CLOSED:
            exchange.detach()
            stream = mux.open(exchange, session.target)
            exchange.attach(session, stream)
            self._reader.backlog = stream.backlog
        extra = b"Audit-ID: %b\r\n" % exchange.audit_id
        mux.send(
            stream,
            rewrite_request(head, exchange.target, extra, close=mux.profile is V1 and head.upgrade is None),
        )

    # ── what goes wrong ────────────────────────────────────────────────────────────────────────

    def _too_large(self) -> None:
        self.exchange.fail(413, f"the request body is over {self._port.max_body} bytes")

    def _malformed(self, error: HeadError) -> None:
        """The request cannot be read any further, nor what follows it."""
        exchange = self.exchange
        if exchange.state == IDLE:
            exchange.cluster, exchange.method, exchange.target = "", b"", b""
            exchange.started = self.since
            exchange.begin()
        exchange.keep_alive = False
        exchange.fail(error.status, str(error))

    def _discard(self) -> None:
        """Read what the client still sends, so that the answer is not lost to a reset."""
        try:
            while self._reader.recv():
                pass
        except OSError:
            pass

    def _unwritable(self, reason: str) -> None:
        """The client cannot be written to: the greenlet ends on the closed socket, wherever it waits now."""
        if self._writer.stalled:
            log.info("a client was given up: it %s", reason, extra=fields(path=self.exchange.target))
        self._wake()
        self.exchange.gate.open()

    @property
    def _unread(self) -> bool:
        """Whether the greenlet waits for something else than the client, whose leaving it would not see."""
        exchange = self.exchange
        stream = exchange.stream
        return self._woken is not None or (stream.waiting if stream is not None else exchange.state == HEAD)

    def _give_up(self) -> None:
        """Close, whatever the greenlet waits for."""
        self._writer.close()
        self.exchange.abandon()
        self._wake()
