"""The multiplexer: many streams over one tunnel, as a state machine without I/O.

`steps` reads one whole message from the peer and calls the sinks of the streams that it speaks of. `send`,
`end`, `close` and `reset` queue what this side has to say, and `collect` hands out the next messages. Whoever
owns the tunnel is told by `wake` that there is something to collect. Time is an argument where it matters.

Theory of operation
-------------------

    message ──steps────▶ handler by type ──▶ table of streams ──▶ sink.on_…
                              │                                       │
                              ▼                                       ▼ consumed
                           account ◀──── credit for what was read ────┘
    send, end, reset ──▶ stream's queue ──▶ outbox ──collect──▶ message

Everything that a peer may say is one handler, and each handler does three things in this order: it finds the
stream and moves it on by its table (`_find`), it keeps the account of credit, and only then it tells the
sink. So a sink may do anything: open streams, end this one or another, end the tunnel. What it finds is
consistent.

A mistake that concerns one stream ends that stream (`_violation`); one that leaves the two sides with
different books (credit, frame boundaries, the order of HELLO) raises ProtocolError, and the owner ends the
tunnel. Nothing else is ever raised by what a peer says.

Calls never write. What they leave is collected at the end of the event loop's turn, so that everything that
became ready in one turn is one message, one mask, one run of TLS records and one system call.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from struct import Struct

from argotun.errors import ConnectionLost, ProtocolError
from argotun.wire import frames, hello, pieces, reasons
from argotun.wire.credit import Intake, Unlimited, shares
from argotun.wire.frames import (
    ASK,
    CHUNK,
    CLOSE,
    CONNECT,
    CONNECTED,
    DATA,
    END,
    ERROR,
    GOAWAY,
    HAVE,
    HELLO,
    INITIAL_WINDOW,
    LEAVE,
    MAX_CREDIT,
    MAX_PING,
    MIB,
    PING,
    PONG,
    WINDOW,
    Profile,
)
from argotun.wire.hello import Hello
from argotun.wire.outbox import BATCH, SAID, Outbox, Part
from argotun.wire.streams import (
    ACCEPTOR,
    CLOSED,
    DISCARD,
    GOT_CONNECTED,
    GOT_DATA,
    GOT_END,
    GOT_OVER,
    GOT_WINDOW,
    ILLEGAL,
    OPENER,
    REMOTE_DONE,
    SEND_CONNECTED,
    SEND_END,
    SEND_OVER,
    UNCONNECTED,
    Backlog,
    Sink,
    Stream,
)
from argotun.wire.trifles import SMALL_CREDIT, Crossing

STEP = 16 * 1024
FRAME_WEIGHT = 512
"""Bytes of a step, where each frame weighs so many more than its payload: 32 frames at most."""

_CLAIM = Struct(">QB")
"""What HAVE says in front of the cluster: the registry's microsecond of the newest agent, 0 where it is not
known, and the flags of the route."""

MAX_CONTROL = 1 * MIB
"""Control frames that may wait for the socket, bytes; only a peer that floods and never reads gets there."""


class Multiplexer:
    """One side of one tunnel.

    `opener` is true on the server, whose CONNECT opens streams. `ours` is what this side says in
    HELLO; `budget` is what all streams together may hold here, in bytes: what readers leave and
    what waits to be sent. Version 1 has no credit: who leaves too much there is cut off.
    `accept` is called on the agent with each new stream and its target and sets `stream.sink`.
    `on_leave` says whether that is news. `trifles` counts frames that carry next to nothing; its owner sets
    it back as it bears with them. `frames` counts all that came.
    """

    def __init__(self, profile: Profile, *, opener: bool, ours: Hello, budget: int) -> None:
        self.profile = profile
        self.opener = opener
        pool, share = shares(budget, ours.max_streams)
        self.ours = replace(ours, pool=pool, share=share, reasons=True) if profile.credit else ours
        self.theirs: Hello | None = None if profile.credit else Hello()
        self.streams: dict[int, Stream] = {}
        self.intake = Intake(ours.window, pool, share)
        self.unlimited = Unlimited(budget)
        self.backlog = Backlog(pool)
        self._out = Outbox(profile, early=opener and profile.early_data, ended=self._said_end)
        self.accept: Callable[[Stream, str], None] = _refuse
        self.on_hello: Callable[[Hello], None] = _ignore
        self.on_goaway: Callable[[int, str], None] = _ignore
        self.on_pong: Callable[[bytes], None] = _ignore
        self.on_ask: Callable[[str], None] = _ignore
        self.on_have: Callable[[str, int, int], None] = _ignore
        self.on_leave: Callable[[Stream], object] = _ignore
        self.rtt = 0.0
        self.trifles = 0
        self.frames = 0
        self._crossing = Crossing()
        self.going_away = False
        self.away: set[int] = set()
        self.over = False
        self._lost = ""
        self._table = OPENER if opener else ACCEPTOR
        self._last = 0
        self._highest = 0
        self._handlers: dict[int, Callable[[int, bytes], None]] = {
            CONNECT: self._got_connect,
            CONNECTED: self._got_connected,
            DATA: self._got_data,
            ERROR: self._got_error,
            CLOSE: self._got_close,
            PING: self._got_ping,
            PONG: self._got_pong,
            WINDOW: self._got_window,
            HELLO: self._got_hello,
            GOAWAY: self._got_goaway,
            END: self._got_end,
            LEAVE: self._got_leave,
            ASK: self._got_ask,
            HAVE: self._got_have,
        }
        if profile.credit:
            self._out.say(HELLO, 0, self.ours.encode())

    # ── what the peer says ─────────────────────────────────────────────────────────────────────

    def steps(self, message: bytes) -> Iterator[None]:
        """Read one whole message, a little at each step: it may hold a hundred thousand frames.

        Sinks are called as it is read. Its owner may let others run between two steps. When the tunnel is
        lost meanwhile, the rest of the message is dropped. ProtocolError ends the tunnel.
        """
        handlers = self._handlers
        weight = count = 0
        for kind, stream_id, payload in () if self.over else self.profile.split(message):
            count += 1
            if self.theirs is None and kind != HELLO and not self.over:
                raise ProtocolError(f"{frames.NAMES[kind]} before HELLO")
            size = len(payload)
            if size > CHUNK and kind == DATA:
                for at in range(0, size, CHUNK):
                    handlers[DATA](stream_id, payload[at : at + CHUNK])
                    yield
            else:
                handlers[kind](stream_id, payload)
                weight += FRAME_WEIGHT + size
                if weight >= STEP:
                    self.frames += count
                    weight = count = 0
                    yield
        self.frames += count
        if weight:
            yield
        if self._out.control_size > MAX_CONTROL:
            raise ProtocolError("the peer floods and does not read", 1008)

    def lost(self, reason: str) -> None:
        """The tunnel is gone: every stream is over and its sink is told; nothing is taken or said after."""
        if self.over:
            return
        self.over = True
        self._lost = reason
        # In place, so that the rest of a message that is being read is dropped as well.
        self._handlers.update(dict.fromkeys(self._handlers, _ignore))
        streams = list(self.streams.values())
        self.streams.clear()
        self._out.close()
        for stream in streams:
            stream.state = CLOSED
            stream.drop_queue()
            stream.relieve()
        for stream in streams:
            stream.sink.on_lost(reason)

    def _got_data(self, stream_id: int, payload: bytes) -> None:
        stream = self.streams.get(stream_id)
        size = len(payload)
        if not size:
            self.trifles += 1
        # The common case without a call: DATA leaves the state as it is.
        if stream is None or self._table[stream.state][GOT_DATA] == ILLEGAL:
            if size and stream is None and not self._crossing.bears(size):
                self.trifles += 1
            self._find(stream_id, GOT_DATA)
            return
        if self.profile.credit:
            if self.intake.arrived(stream, size):
                if self.intake.over:
                    self._violation(stream, "reader too slow for a peer that keeps no account of the pool")
                    return
                self._give_back_early()
        elif self.unlimited.arrived(stream, size, len(self.streams)):
            self._violation(stream, "reader too slow for a peer without flow control")
            return
        if size:
            stream.sink.on_data(payload)

    def _got_connect(self, stream_id: int, payload: bytes) -> None:
        if self.opener:
            raise ProtocolError("CONNECT from the agent")
        if stream_id in self.streams:
            raise ProtocolError(f"CONNECT for stream {stream_id}, which is in use")
        self._highest = max(self._highest, stream_id)
        if self.ours.max_streams and len(self.streams) >= self.ours.max_streams:
            self._out.say(ERROR, stream_id, self._words(reasons.STREAM_LIMIT))
            return
        stream = self._new_stream(stream_id, DISCARD)
        self.accept(stream, _name(payload))

    def _got_connected(self, stream_id: int, payload: bytes) -> None:
        stream = self._find(stream_id, GOT_CONNECTED)
        if stream is None:
            return
        self._out.line_up(stream)
        stream.sink.on_connected()

    def _got_end(self, stream_id: int, payload: bytes) -> None:
        stream = self._find(stream_id, GOT_END)
        if stream is None:
            return
        if stream.state == CLOSED:
            self._forget(stream)
            stream.relieve()
        stream.sink.on_end()

    def _got_error(self, stream_id: int, payload: bytes) -> None:
        self._got_over(stream_id, *reasons.decode(payload, self._coded))

    def _got_close(self, stream_id: int, payload: bytes) -> None:
        self._got_over(stream_id, reasons.NONE, "")

    def _got_over(self, stream_id: int, reason: int, text: str) -> None:
        stream = self._find(stream_id, GOT_OVER)
        if stream is None:
            return
        self._forget(stream)
        stream.relieve()
        stream.sink.on_over(reason, text)

    def _got_window(self, stream_id: int, payload: bytes) -> None:
        if len(payload) not in (4, 8):
            raise ProtocolError("WINDOW without a credit of four bytes")
        credit = int.from_bytes(payload[:4], "big")
        growth = int.from_bytes(payload[4:], "big")
        stream = self._find(stream_id, GOT_WINDOW)
        if stream is None:
            return
        self.trifles += credit < SMALL_CREDIT
        if not credit or stream.send_credit + credit + growth > MAX_CREDIT:
            raise ProtocolError(f"WINDOW of {credit} bytes leaves stream {stream_id} without a valid credit")
        self._out.credited(stream, credit, growth)

    def _got_ping(self, stream_id: int, payload: bytes) -> None:
        self.trifles += 1
        self._out.say(PONG, 0, payload[:MAX_PING])

    def _got_pong(self, stream_id: int, payload: bytes) -> None:
        self.trifles += 1
        self._crossing.answered(payload)
        self.on_pong(payload)

    def _got_hello(self, stream_id: int, payload: bytes) -> None:
        if self.theirs is not None:
            raise ProtocolError("a second HELLO")
        theirs = self.theirs = hello.decode(payload)
        if theirs.pool and self.ours.pool:
            self.intake.strict = True
            self._out.share_out(theirs.pool, theirs.share)
        # Streams that were opened before their peer had said what it grants.
        for stream in list(self.streams.values()):
            stream.granted += theirs.window
            stream.send_credit += theirs.window
            self._out.line_up(stream)
        self.on_hello(theirs)

    def _got_goaway(self, stream_id: int, payload: bytes) -> None:
        self.trifles += 1
        reason, text = reasons.decode(payload, self._coded)
        if reason not in self.away:
            self.away.add(reason)
            self.on_goaway(reason, text)

    def _got_leave(self, stream_id: int, payload: bytes) -> None:
        self._only_from(LEAVE, opener=False)
        # It says as little of a stream's state as a WINDOW does, and may come as late.
        stream = self._find(stream_id, GOT_WINDOW)
        if stream is not None and not self.on_leave(stream):
            self.trifles += 1

    def _got_ask(self, stream_id: int, payload: bytes) -> None:
        self._only_from(ASK, opener=True)
        self.trifles += 1
        self.on_ask(_name(payload))

    def _got_have(self, stream_id: int, payload: bytes) -> None:
        self._only_from(HAVE, opener=False)
        self.trifles += 1
        if len(payload) < _CLAIM.size:
            raise ProtocolError("HAVE without what is there")
        self.on_have(_name(payload[_CLAIM.size :]), *_CLAIM.unpack_from(payload))

    def _only_from(self, kind: int, *, opener: bool) -> None:
        """Between replicas some frames are for the side that opens streams, some for the other one."""
        if self.opener == opener:
            raise ProtocolError(f"{frames.NAMES[kind]} from the wrong side")

    def _find(self, stream_id: int, event: int) -> Stream | None:
        """The live stream that a frame speaks of, moved on; None when the frame is to be dropped."""
        stream = self.streams.get(stream_id)
        if stream is None:
            # What is on its way when a stream ends is nobody's mistake; a stream that never was, is.
            if stream_id > self._highest and self.profile.credit:
                raise ProtocolError(f"frame for stream {stream_id}, which was never opened")
            if event != GOT_DATA and not self._crossing.bears():
                self.trifles += 1
            return None
        state = self._table[stream.state][event]
        if state == ILLEGAL:
            self._violation(stream, "frame out of order")
            return None
        stream.state = state
        return stream

    def _violation(self, stream: Stream, message: str) -> None:
        """A peer's mistake that one stream pays for."""
        sink = stream.sink
        self.reset(stream, reasons.PROTOCOL, f"protocol error: {message}")
        sink.on_over(reasons.PROTOCOL, message)

    # ── what this side says ────────────────────────────────────────────────────────────────────

    def open(self, sink: Sink, target: str = "") -> Stream:
        """A new stream to the agent's API (opener only); the CONNECT goes out with the next batch.

        ConnectionLost when the tunnel has ended: nobody would ever tell the sink.
        """
        if self.over:
            raise ConnectionLost(self._lost)
        stream_id = self._last
        while True:
            stream_id = stream_id + 1 if stream_id < 0xFFFFFFFF else 1
            if stream_id not in self.streams:
                break
        self._last = stream_id
        self._highest = max(self._highest, stream_id)
        stream = self._new_stream(stream_id, sink)
        self._out.say(CONNECT, stream_id, target.encode())
        return stream

    def connected(self, stream: Stream) -> None:
        """Tell the server that the API was reached (acceptor only)."""
        if stream.state in UNCONNECTED and self._move(stream, SEND_CONNECTED):
            self._out.say(CONNECTED, stream.id)
            self._out.line_up(stream)

    def send(self, stream: Stream, data: bytes) -> None:
        """Queue bytes; those for a stream that is over or ending are dropped.

        The caller watches `stream.queued` and leaves a `stream.waiter` where it is much.
        """
        if stream.state == CLOSED or stream.closing or not data:
            return
        queue = stream.queue
        if queue is None:
            stream.queue = [data]
        else:
            pieces.append(queue, data)
        size = len(data)
        stream.queued += size
        stream.backlog.size += size
        if not stream.ready:
            self._out.line_up(stream, queue is None)

    def end(self, stream: Stream) -> None:
        """Half-close behind what is queued; version 1 knows only the full CLOSE."""
        self._finish(stream, END if self.profile.credit else CLOSE)

    def close(self, stream: Stream) -> None:
        """End both directions behind what is queued."""
        self._finish(stream, CLOSE)

    def fail(self, stream: Stream, text: str, reason: int = reasons.FAILED) -> None:
        """End both directions by ERROR behind what is queued: what was said is heard before it."""
        stream.failure = self._words(reason, text)
        self._finish(stream, ERROR)

    def reset(self, stream: Stream, reason: int = reasons.NONE, text: str = "") -> None:
        """End both directions at once: CLOSE, or ERROR with a reason; queued bytes are dropped."""
        if reason == reasons.NONE:
            self._reset(stream, CLOSE)
        else:
            self._reset(stream, ERROR, self._words(reason, text))

    def consumed(self, stream: Stream, size: int, now: float) -> None:
        """The reader took `size` bytes, whose credit goes back in time; `now` is monotonic, in seconds."""
        if stream.state == CLOSED:
            return
        if not self.profile.credit:
            self.unlimited.consumed(stream, size)
        elif self.intake.consumed(stream, size):
            self._give_back(stream, now)

    def ping(self, payload: bytes = b"") -> None:
        """Ask for a sign of life; each with another payload."""
        self._crossing.asked(payload)
        self._out.say(PING, 0, payload)

    def leave(self, stream: Stream) -> None:
        """What carries this stream goes away: it is to end at the next chance (acceptor of a link only)."""
        if stream.state != CLOSED:
            self._out.say(LEAVE, stream.id)

    def ask(self, cluster: str) -> None:
        """Ask the other replica whether it has an agent of this cluster (opener of a link only)."""
        self._out.say(ASK, 0, cluster.encode())

    def have(self, cluster: str, since: int, flags: int) -> None:
        """Say that agents of this cluster are here, `since` when and which (acceptor of a link only)."""
        self._out.say(HAVE, 0, _CLAIM.pack(since, flags) + cluster.encode())

    def goaway(self, reason: int, text: str = "") -> bool:
        """Announce that the tunnel takes no new streams; False where the peer learns it by the end itself."""
        self.going_away = True
        if self.profile.credit:
            self._out.say(GOAWAY, 0, self._words(reason, text))
        return self.profile.credit

    # ── what goes out next ─────────────────────────────────────────────────────────────────────

    @property
    def wake(self) -> Callable[[], None]:
        """Called when there is something to collect; must not collect by itself."""
        return self._out.wake

    @wake.setter
    def wake(self, wake: Callable[[], None]) -> None:
        self._out.wake = wake

    @property
    def waiting(self) -> bool:
        """Whether `collect` has something to hand out."""
        return self._out.waiting

    @property
    def window_exhausted(self) -> int:
        """How often a stream had more to send than its credit allowed."""
        return self._out.exhausted

    def collect(self, limit: int = BATCH) -> list[list[Part]]:
        """The next messages, each as the parts to be joined; about `limit` bytes in all."""
        return self._out.collect(limit)

    @property
    def _coded(self) -> bool:
        """Whether the peer has said that it knows the codes of reasons."""
        return self.theirs is not None and self.theirs.reasons

    def _words(self, reason: int, text: str = "") -> bytes:
        return reasons.encode(reason, text, self._coded)

    def _finish(self, stream: Stream, kind: int) -> None:
        if stream.state == CLOSED or stream.closing in (kind, CLOSE, ERROR):
            return
        if kind == END and stream.closing == SAID:
            return
        stream.closing = kind
        if kind != END and stream.state in UNCONNECTED and not stream.queued:
            # Before CONNECTED there may be no turns that it could wait for.
            self._reset(stream, kind, stream.failure if kind == ERROR else b"")
        else:
            self._out.line_up(stream, not stream.queued)

    def _reset(self, stream: Stream, kind: int, words: bytes = b"") -> None:
        """Say CLOSE or ERROR at once; the stream is over."""
        crossing = self._crossing_data(stream)
        if self._move(stream, SEND_OVER):
            self._forget(stream, crossing)
            stream.relieve()
            self._out.say(kind, stream.id, words)

    def _said_end(self, stream: Stream, kind: int) -> None:
        """The END, CLOSE or ERROR of a stream has gone out; the outbox lets its waiter go after the turns."""
        crossing = self._crossing_data(stream)
        self._move(stream, SEND_END if kind == END else SEND_OVER)
        if stream.state == CLOSED:
            self._forget(stream, crossing)

    def _new_stream(self, stream_id: int, sink: Sink) -> Stream:
        if not self.profile.credit:
            credit = MAX_CREDIT
        else:
            credit = self.theirs.window if self.theirs is not None else 0
        window = self.intake.window if self.profile.credit else self.unlimited.window
        stream = Stream(stream_id, credit, window, sink, self.backlog)
        self.streams[stream_id] = stream
        return stream

    def _move(self, stream: Stream, event: int) -> bool:
        state = self._table[stream.state][event]
        if state == ILLEGAL:
            return False
        stream.state = state
        return True

    def _crossing_data(self, stream: Stream) -> int:
        """How many bytes the peer may still send on a stream before it hears of our end of it."""
        if stream.state in REMOTE_DONE:
            return 0
        return stream.receive_credit if self.profile.credit else INITIAL_WINDOW

    def _give_back(self, stream: Stream, now: float) -> None:
        credit, growth = self.intake.give_back(stream, now, self.rtt)
        if self.intake.strict:
            # A peer that keeps account of the pool must tell what it got back from what is new.
            payload = credit.to_bytes(4, "big") + (growth.to_bytes(4, "big") if growth else b"")
        else:
            payload = (credit + growth).to_bytes(4, "big")
        self._out.say(WINDOW, stream.id, payload)

    def _give_back_early(self) -> None:
        """Memory has become short: no credit that may go back stays here."""
        intake = self.intake
        for stream in self.streams.values():
            if stream.consumed and intake.consumed(stream, 0):
                self._give_back(stream, stream.updated)

    def _forget(self, stream: Stream, crossing: int = 0) -> None:
        stream.state = CLOSED
        stream.drop_queue()
        if self.streams.pop(stream.id, None) is None:
            return
        self._crossing.ended(crossing, stream.granted - stream.send_credit)
        if self.profile.credit:
            self.intake.forget(stream)
            self._out.forget(stream)
        else:
            self.unlimited.forget(stream)


def _name(payload: bytes) -> str:
    return payload[: hello.MAX_TEXT].decode("utf-8", "replace")


def _ignore(*_: object) -> None:
    """Nobody listens yet, or the tunnel has ended."""


def _refuse(stream: Stream, target: str) -> None:
    raise ProtocolError("no streams are accepted here")
