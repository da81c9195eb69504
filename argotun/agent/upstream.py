"""The requests' way to the API: a stream's other end, and the one kept connection that it uses.

Requests come from the tunnel's reader and are written to the API from there. What comes back is
read by the upstream's own greenlet, which lives as long as its connection, and is for `Answers`.
The agent trusts the server no more than the server trusts its clients: heads are checked and cut
again, and the agent's own credential is added last.
"""

import logging
from typing import Any, Protocol

import gevent

from argotun.agent.answers import BODY, HEAD, IDLE, RAW, Answers, Ledger
from argotun.errors import CredentialError, HeadError, TransportError
from argotun.transport.reader import Reader
from argotun.transport.writer import Writer
from argotun.tunnel.tunnel import Tunnel
from argotun.wire.framing import Body
from argotun.wire.head import UNTIL_CLOSE, find_head_end, parse_request, rewrite_request
from argotun.wire.streams import CLOSED, DISCARD, UNCONNECTED, Stream

log = logging.getLogger("argotun.agent")

FLUSH = 60.0
"""Seconds that the last bytes of an upgraded connection have to reach the API."""


class Api(Ledger, Protocol):
    """What an upstream asks of the agent; `stall_timeout` is in seconds, 0 is no limit."""

    host: bytes
    stall_timeout: float

    def dial(self) -> Any:
        """A new connected socket to the API; TransportError."""

    def credential(self) -> bytes:
        """The Authorization field line, or nothing where a certificate is the credential; CredentialError."""


class Upstream:
    """The sink of one stream on the agent's side."""

    __slots__ = (
        "_answers",
        "_api",
        "_api_ended",
        "_at_head",
        "_buffer",
        "_discard",
        "_greenlet",
        "_held",
        "_over",
        "_owed",
        "_replay",
        "_server_ended",
        "_sock",
        "_stream",
        "_tunnel",
        "_upload",
        "_writer",
    )

    def __init__(self, api: Api, tunnel: Tunnel, stream: Stream) -> None:
        self._api = api
        self._tunnel = tunnel
        self._stream = stream
        self._answers = Answers(self, api, tunnel, stream)
        self._sock: Any = None
        self._writer: Writer | None = None
        self._held: list[bytes] | None = []
        self._buffer = b""
        self._at_head = True
        self._upload = Body()
        self._discard = False
        self._replay = b""
        self._owed = 0
        self._server_ended = False
        self._api_ended = False
        self._over = False
        self._greenlet: Any = gevent.spawn_raw(self._serve)

    @property
    def busy(self) -> bool:
        """Whether a request is in progress."""
        return self._answers.state != IDLE or bool(self._held)

    # ── what the server says ───────────────────────────────────────────────────────────────────

    def on_connected(self) -> None:
        """Never sent by a server."""

    def on_writable(self) -> None:
        """The tunnel can take more of the answer."""
        self._answers.gate.open()

    def on_data(self, payload: bytes) -> None:
        """Bytes of a request; they wait while there is no connection to the API."""
        if self._held is None or self._discard:
            self._feed(payload)
        else:
            self._hold(payload)

    def on_end(self) -> None:
        """The client of an upgraded connection sends no more."""
        self._server_ended = True
        if self._answers.state == RAW and self._writer is not None:
            self._finish_writing()
        else:
            self._close()
            self._tunnel.mux.close(self._stream)

    def on_over(self, message: str | None) -> None:
        """The client has left, or the server gave up: the API need not go on."""
        if self._answers.state == RAW and message is None and self._writer is not None:
            # What the client still said before it closed is delivered first, if the API can go on as well.
            self._server_ended = self._api_ended = True
            self._answers.gate.open()
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
                if self._answers.state == RAW:
                    self._write(data, len(data))
                    return
                if not self._at_head:
                    data = self._next_body(data)
                elif self._held is None:
                    data = self._next_head(data)
                else:
                    self._hold(data)
                    return
        except HeadError as error:
            if self._answers.state == BODY:
                self._tunnel.mux.reset(self._stream, str(error))
            else:
                self._refuse(error.status, str(error))
                self._tunnel.mux.close(self._stream)
            self._close()

    def _next_head(self, data: bytes) -> bytes:
        if self._answers.state != IDLE:
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
        request = parse_request(data[:end])
        self._answers.begin(request, end)
        self._discard = False
        self._upload.begin(request.length)
        self._at_head = not self._upload.open
        rest = data[end:]
        try:
            credential = self._api.credential()
        except CredentialError as error:
            self._tunnel.consumed(self._stream, credit)
            self._api.metrics.upstream_errors += 1
            self._refuse(502, str(error))
            return rest
        close = self._tunnel.version == 1 and request.upgrade is None
        out = rewrite_request(request, request.target, credential, host=self._api.host, close=close)
        self._replay = out if self._answers.repeatable else b""
        # The head and what came of the body leave in one write.
        used = self._upload.take(rest) if rest and self._upload.open else 0
        self._at_head = not self._upload.open
        self._answers.received += used
        self._write(out + rest[:used] if used else out, credit + used)
        return rest[used:]

    def _next_body(self, data: bytes) -> bytes:
        used = self._upload.take(data)
        self._at_head = not self._upload.open
        self._answers.received += used
        if self._discard:
            self._tunnel.consumed(self._stream, used)
            self._discard = not self._at_head
        else:
            self._write(data if used == len(data) else data[:used], used)
        return data[used:]

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

    # ── the connection to the API ──────────────────────────────────────────────────────────────

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
            self._unreachable(str(error))
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
        self._writer = Writer(sock, self._unwritable, readable=True, stall=self._api.stall_timeout)
        self._writer.on_sent = self._left_queue

    def _read(self) -> bool:
        """Read answers until the connection ends; True when the request is to be sent again."""
        sock = self._sock
        if sock is None:
            return False
        recv = Reader(sock, self._stream.backlog).recv
        problem, in_order = "the API closed the connection without an answer", True
        try:
            while data := recv():
                self._replay = b""
                self._answers.take(data)
                if self._sock is sock:
                    self._answers.gate.wait(self._stream)
                if self._sock is not sock:
                    # Given up meanwhile; a new connection, if any, has a reader of its own.
                    return False
        except HeadError as error:
            problem, in_order = f"the API's answer is refused: {error}", False
            self._answers.reusable = False
        except OSError as error:
            if self._sock is not sock:
                return False
            problem, in_order = f"the API connection was lost: {error.strerror or error}", False
            if self._answers.state == RAW:
                # Both halves are gone; what it said until then is heard first.
                self._tunnel.mux.close(self._stream)
                self._close()
                return False
        return self._ended(problem, in_order)

    # ── how it ends ────────────────────────────────────────────────────────────────────────────

    def answered(self) -> None:
        """An answer is complete: the connection is kept if both sides can go on with it."""
        if self._upload.open:
            # The API answered before it had the whole request; the rest of that is of no use.
            self._discard = True
            self._answers.reusable = False
        if self._tunnel.version == 1:
            self._tunnel.mux.close(self._stream)
            self._close()
        elif not self._answers.reusable:
            self._drop()

    def _ended(self, problem: str, in_order: bool) -> bool:
        """The API's connection is over: what that means for the stream. True to repeat the request."""
        state = self._answers.state
        if state == RAW:
            self._tunnel.mux.end(self._stream)
            self._api_ended = True
            if self._server_ended or self._tunnel.version == 1:
                self._finish_writing()
            # Else the other half may still be on its way to the API; its end closes the socket.
            return False
        if self._replay:
            return True
        if state != IDLE:
            self._discard |= self._upload.open
            self._answers.cut(problem, in_order)
        elif self._tunnel.version == 1:
            self._tunnel.mux.close(self._stream)
        if self._stream.closing or self._stream.state == CLOSED:
            self._close()
        else:
            self._drop()
        return False

    def _unreachable(self, reason: str) -> None:
        """No connection to the API: on a new stream that is an ERROR, later an answer."""
        self._api.metrics.upstream_errors += 1
        self._greenlet = None
        if self._stream.state in UNCONNECTED:
            self._tunnel.mux.reset(self._stream, reason)
            self._close()
            return
        # A request waits on a stream that has served others: read it, and answer in the API's place.
        held, self._held = self._held, None
        for payload in held or ():
            self._feed(payload)
        if self._answers.state == HEAD:
            self._refuse(503, f"the agent cannot reach its API: {reason}", retry_after=1)
        self._drop()

    def _refuse(self, code: int, message: str, retry_after: int | None = None) -> None:
        """Answer in the API's place; what still comes of the request is for nobody."""
        self._discard = self._upload.open
        self._answers.refuse(code, message, retry_after)

    def _unwritable(self, reason: str) -> None:
        """The API takes no more: its reader will hear the end, unless the API has only stopped to read."""
        if self._writer is None or not self._writer.stalled:
            return
        if self._answers.state == HEAD:
            self._refuse(504, f"the API {reason}")
            self._drop()
        else:
            self._tunnel.mux.fail(self._stream, f"the API {reason}")
            self._close()

    def _finish_writing(self) -> None:
        """Half-close towards the API behind what is queued; close where it has ended as well."""
        writer = self._writer
        assert writer is not None
        writer.finish()
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
        # The stream may carry further requests, and needs all of its window.
        self._tunnel.consumed(self._stream, owed)
        self._replay = b""
        self._answers.forget()

    def _drop(self) -> None:
        """Give up the API's connection but not the stream: the next request dials again."""
        self._hang_up()
        self._held = []
        self._greenlet = None

    def _close(self) -> None:
        """The stream is over: nothing of it stays, and what still comes is for nobody."""
        self._answers.leave()
        self._stream.sink = DISCARD
        running = self._greenlet
        self._drop()
        self._over = True
        self._held = None
        self._upload.begin(UNTIL_CLOSE)
        self._at_head = False
        self._discard = True
        self._answers.gate.open()
        if running is not None and running is not gevent.getcurrent():
            gevent.kill(running)
