"""The answer's way back: from a stream of the tunnel to the client's socket, as it arrives.

An `Exchange` is the sink of the stream that a client connection holds. Its calls come from the
tunnel's reader, so the bytes of an answer are written to the client from where they are; nothing
here waits. It follows the framing of each response, because only that tells where the next may
begin and whether one was cut.
"""

from time import monotonic

from argotun.errors import HeadError
from argotun.server.downstream import NOBODY, Downstream
from argotun.server.registry import Session
from argotun.transport.writer import Writer
from argotun.tunnel.gate import Gate
from argotun.wire.body import FINAL_CHUNK
from argotun.wire.frames import STALE, STREAM_LIMIT
from argotun.wire.framing import Body
from argotun.wire.head import UNTIL_CLOSE, find_head_end, parse_response, rewrite_response
from argotun.wire.status import error_response
from argotun.wire.streams import CLOSED, Stream

RETRY_AFTER = 1
"""Seconds that a client is asked to wait where its request certainly did not reach the API."""

CLIENT_CLOSED = 499
"""What the access line says where the client left before the answer (nginx has the same)."""

# What is expected of the stream: nothing, an answer's head, the rest of its body, or raw bytes.
IDLE, HEAD, BODY, RAW = range(4)


class Exchange:
    """One client's requests on one stream: at most one is in progress.

    `received` and `sent` count the bytes of this request from and to the client, `stalls` how often
    the client's socket could take no more; `counted_in` and `counted_out` are the part of the bytes
    that the metrics have already.
    """

    __slots__ = (
        "_body",
        "_close",
        "_connection",
        "_owed",
        "_partial",
        "_writer",
        "audit_id",
        "client_ended",
        "cluster",
        "connected",
        "counted_in",
        "counted_out",
        "gate",
        "keep_alive",
        "method",
        "peer_ended",
        "received",
        "sent",
        "session",
        "stalls",
        "started",
        "state",
        "status",
        "stream",
        "target",
        "upgrade",
    )

    def __init__(self, connection: Downstream, writer: Writer) -> None:
        self._connection = connection
        self._writer = writer
        self._body = Body()
        self._owed = 0
        self._partial = b""
        self._close = False
        self.gate = Gate()
        self.session: Session | None = None
        self.stream: Stream | None = None
        self.connected = False
        self.state = IDLE
        self.cluster = ""
        self.method = b""
        self.target = b""
        self.audit_id = b""
        self.keep_alive = True
        self.upgrade = False
        self.client_ended = False
        self.peer_ended = False
        self.started = 0.0
        self.received = 0
        self.sent = 0
        self.counted_in = 0
        self.counted_out = 0
        self.stalls = 0
        self.status = 0
        writer.on_sent = self._left_queue

    # ── the request side asks ──────────────────────────────────────────────────────────────────

    def attach(self, session: Session, stream: Stream) -> None:
        """Use a new stream from now on."""
        self.session = session
        self.stream = stream
        self.connected = False

    def begin(self) -> None:
        """A request is on its way; the caller has set what describes it."""
        self.state = HEAD
        self.status = 0
        self.counted_in = 0
        self.counted_out = 0
        self._close = False
        self._partial = b""

    def end_upload(self) -> None:
        """The client of an upgraded connection sends no more; what comes back still reaches it."""
        stream = self.stream
        if stream is None or self.session is None:
            return
        self.client_ended = True
        tunnel = self.session.tunnel
        tunnel.mux.end(stream)
        if self.peer_ended or tunnel.version == 1:
            # Version 1 has no half-close: its CLOSE has ended the other direction as well.
            self.stream = None
            self._done()

    def refuse(self, code: int, message: str, retry_after: int | None = None) -> None:
        """Answer the request in argotun's own name."""
        close = not (self.keep_alive and self._connection.request_done)
        answer = error_response(
            code,
            message,
            retry_after=retry_after,
            target=self.target,
            close=close,
            head_only=self.method == b"HEAD",
        )
        self.status = int(answer[9:12])
        self.sent += len(answer)
        self._writer.write(answer)
        self._close = close
        self._done()

    def respond(self, code: int, content_type: bytes, body: bytes) -> None:
        """Answer the request with something of the server's own that is not an error."""
        close = not (self.keep_alive and self._connection.request_done)
        self.status = code
        out = b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n" % (
            code,
            b"OK" if code == 200 else b"Service Unavailable",
            content_type,
            len(body),
            b"Connection: close\r\n" if close else b"",
        )
        self._writer.write(out if self.method == b"HEAD" else out + body)
        self._close = close
        self._done()

    def fail(self, code: int, message: str) -> None:
        """Give the request up: by an answer in argotun's own name, or by aborting one that has begun."""
        self.detach()
        if self.state == HEAD:
            self.refuse(code, message)
        elif self.state != IDLE:
            self._cut()

    def abandon(self) -> None:
        """The client has left: tell the agent, so that a watch without a reader ends there too."""
        self.detach()
        if self.state != IDLE:
            self.status = self.status or CLIENT_CLOSED
            self._record()
            self.state = IDLE

    def leave(self) -> None:
        """The connection has ended: give the request up, and keep nothing that leads back to it."""
        self.abandon()
        self._connection = NOBODY

    def detach(self) -> None:
        """Give the stream up; what still arrives on it is dropped."""
        stream, self.stream = self.stream, None
        if stream is not None and self.session is not None:
            self.session.tunnel.mux.reset(stream)
        self._owed = 0
        self.gate.open()

    def end_watch(self) -> bool:
        """End a watch in order, with its final chunk; False when it is in the middle of one."""
        if self.state != BODY or not self._body.at_boundary:
            return False
        self.detach()
        self.sent += len(FINAL_CHUNK)
        self._writer.write(FINAL_CHUNK)
        self._close = True
        self._done()
        return True

    # ── the stream tells ───────────────────────────────────────────────────────────────────────

    def on_connected(self) -> None:
        """From now on a request may have reached the API."""
        self.connected = True

    def on_data(self, payload: bytes) -> None:
        """Bytes of the answer: on to the client."""
        try:
            if self.state == BODY:
                self._take(payload, len(payload), b"")
            elif self.state == HEAD:
                self._head(payload, len(payload))
            elif self.state == RAW:
                self._relay(payload, len(payload))
            else:
                # Something nobody asked for, or more than the API announced.
                self.detach()
        except HeadError as error:
            self.fail(502, f"the API's answer is not valid HTTP: {error}")

    def on_end(self) -> None:
        """The API has said all: the end of an answer without a length, or one half of an upgrade."""
        if self._until_close:
            self.detach()
            self._done()
        elif self.state == RAW:
            self.peer_ended = True
            self._connection.since = monotonic()
            self._writer.finish()
            if self.client_ended:
                self.stream = None
                self._done()
        else:
            self.detach()
            self._failed("the API connection ended")

    def on_over(self, message: str | None) -> None:
        """The agent ended the stream."""
        self.stream = None
        if message is None and (self.state == RAW or self._until_close):
            self._done()
        else:
            self._failed(message or "the API connection ended")
        self.gate.open()

    def on_lost(self, reason: str) -> None:
        """The tunnel is gone: the request may have been delivered, or not."""
        self.stream = None
        self.connected = True
        self._failed(f"the tunnel was lost: {reason}")
        self.gate.open()

    def on_writable(self) -> None:
        """The tunnel can take more of the request."""
        self.gate.open()

    # ── how an answer is put together ──────────────────────────────────────────────────────────

    def _head(self, payload: bytes, size: int) -> None:
        data, seen = self._partial + payload, len(self._partial)
        while True:
            end = find_head_end(data, seen)
            if end < 0:
                self._partial = data
                self._consumed(size)
                return
            head = parse_response(data[:end], self.method)
            rest = data[end:]
            if head.status >= 200 or head.status == 101:
                break
            self._relay(rewrite_response(head, False), size - len(rest))
            data, seen, size = rest, 0, len(rest)
        self._partial = b""
        self.status = head.status
        if head.status == 101:
            self._switch(rewrite_response(head, False), rest, size)
            return
        length = head.length
        self._close = (
            length == UNTIL_CLOSE
            or self.upgrade
            or not self.keep_alive
            or not self._connection.request_done
            or self._connection.draining
        )
        self.state = BODY
        self._body.begin(length)
        self._take(rest, size, rewrite_response(head, self._close))

    def _take(self, data: bytes, credit: int, before: bytes) -> None:
        """Relay body bytes behind `before`; `credit` is what they and the head took."""
        body = self._body
        used = body.take(data) if body.open else 0
        surplus = used < len(data)
        self._relay(before + data[:used] if before or surplus else data, credit)
        if not body.open:
            if surplus:
                self.detach()
            self._done()

    def _switch(self, head: bytes, rest: bytes, size: int) -> None:
        if not self.upgrade:
            self.fail(502, "the API switched protocols without being asked")
            return
        self.state = RAW
        # SPDY clients drop what arrives in one read with the head, so it leaves alone.
        self._relay(head, size - len(rest))
        if rest:
            self._relay(rest, len(rest))
        self._connection.proceed()

    def _relay(self, data: bytes, credit: int) -> None:
        self.sent += len(data)
        if self._writer.write(data):
            self._consumed(credit)
        else:
            self.stalls += not self._owed
            self._owed += credit

    def _left_queue(self, size: int) -> None:
        """Queued bytes reached the client: their credit goes back. Heads differ a little in size."""
        credit = self._owed if not self._writer.pending else min(size, self._owed)
        self._owed -= credit
        self._consumed(credit)

    def _consumed(self, size: int) -> None:
        if self.stream is not None and self.session is not None and size:
            self.session.tunnel.consumed(self.stream, size)

    # ── how it ends ────────────────────────────────────────────────────────────────────────────

    def _failed(self, message: str) -> None:
        """No more is coming on this stream: what the client gets depends on what it already has."""
        if self.state == IDLE:
            return
        if self.state != HEAD:
            self._cut()
        elif not self.connected:
            if message.startswith(STREAM_LIMIT):
                self.refuse(429, "the agent is at its limit of streams", RETRY_AFTER)
            else:
                self.refuse(503, f"the agent cannot reach its API: {message}", RETRY_AFTER)
        elif message == STALE:
            # A client repeats a request on its own when a kept connection ends without an answer.
            self._cut()
        else:
            self.refuse(502, message)

    def _cut(self) -> None:
        """Abort the connection, so that nobody takes a part for the whole."""
        self._record()
        self.state = IDLE
        self._writer.abort()
        self._connection.proceed()

    def _done(self) -> None:
        self._record()
        raw = self.state == RAW
        self.state = IDLE
        self._body.end()
        stream = self.stream
        if self._close or raw:
            if stream is not None:
                self.detach()
            self._connection.finish()
        elif stream is not None and (stream.state == CLOSED or not self._reusable()):
            self.detach()
        self._connection.proceed()

    @property
    def _until_close(self) -> bool:
        return self.state == BODY and self._body.until_close

    def _reusable(self) -> bool:
        return self.session is not None and self.session.tunnel.version > 1

    def _record(self) -> None:
        self._connection.record(monotonic() - self.started)
