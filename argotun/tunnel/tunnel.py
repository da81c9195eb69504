"""A live tunnel: one reader and one sending path between a WebSocket and the multiplexer.

Theory of operation
-------------------

| what             | runs in                                  | does                                         |
|------------------|------------------------------------------|----------------------------------------------|
| the reader       | the greenlet that calls `run`            | hands messages to the multiplexer, in steps  |
| the sending path | the event loop, or the writer's greenlet | collects, packs and writes                   |
| the prober       | a greenlet of its own                    | PINGs, and the times of HELLO and of silence |

The sending path is in one of three states. What the streams have to say is collected at the end of the event
loop's turn and written at once; when the socket is full nothing is collected until it has drained, and the
multiplexer's turns decide what goes first.

    idle ──wake──▶ scheduled ──the turn ends: _flush──▶ idle
                       ▲              └──the socket is full──▶ full ──drained: _refill──▶ idle
                       └── after ROUNDS batches, so that the reader has its turn

Only the first call of `end` counts, by whoever sees the end first: the reader (the peer closed, or broke a
rule), the writer (the socket failed), the prober, the lookout (`unheard`), or the role. Every stream hears of
it there and then, and `ended` is set; `leaving` is what still lets the peer read our last words.
"""

import logging
from collections import deque
from math import inf
from time import monotonic

import gevent
from gevent import get_hub
from gevent.event import Event

from argotun.errors import ProtocolError, TransportError
from argotun.transport import MessageSocket
from argotun.transport.writer import Writer
from argotun.turns import STINT
from argotun.wire.frames import CHUNK
from argotun.wire.mux import Multiplexer
from argotun.wire.outbox import BATCH
from argotun.wire.reasons import REPLACED

log = logging.getLogger("argotun.tunnel")

ROUNDS = 8
"""Batches written in one turn of the event loop, so that the reader gets its turn as well."""

REFILL = CHUNK
"""What is collected at once for a socket that was full, bytes: whatever comes next waits behind it."""

MAX_PONGS = 256 * 1024
"""WebSocket control frames are dropped while this much is unsent, bytes: only a flood gets there."""

CLOSE_GOING_AWAY = 1001
CLOSE_INTERNAL = 1011

CLOSE_TIME = 1.0
"""Seconds that the peer has to read the close frame; a close with bytes unread would be a reset."""

LATE = 0.01
"""A PING that is this much behind its time says that the event loop could not run, seconds."""

RTT_GAIN = 0.125
"""Weight of a new sample in the round trip that is shown (RFC 6298 §2)."""

RTT_SAMPLES = 16
"""Samples whose least is the link's own round trip (BBR's RTprop): the others have queues in them. Four
minutes' worth: a transfer that takes longer measures its own queue, and a path that has become longer is
believed no sooner."""


class Tunnel:
    """One tunnel, alive from construction until `ended` is set.

    `heard` is when the peer last said something, `answered` when it last answered a PING, both in monotonic
    seconds: what it says may arrive although nothing arrives there. `keepalive` is the time between PINGs,
    `keepalive_timeout` after how long the peer is dead that says nothing, or takes nothing, `hello_timeout`
    what it has to say HELLO in; all in seconds. Once it has ended, `leaving` lasts until the peer has, too.
    """

    def __init__(
        self,
        socket: MessageSocket,
        mux: Multiplexer,
        *,
        keepalive: float,
        keepalive_timeout: float,
        hello_timeout: float,
    ) -> None:
        self.mux = mux
        self.ended = Event()
        self.reason = ""
        self.leaving: gevent.Greenlet | None = None
        self.since = monotonic()
        self._socket = socket
        self._writer = Writer(socket.sock, self._lost, stall=keepalive_timeout)
        self._writer.on_drained = self._refill
        self._keepalive = keepalive
        self._keepalive_timeout = keepalive_timeout
        self._hello_timeout = hello_timeout
        self.heard = self.answered = self.since
        self._pings = 0
        self._rtt = 0.0
        self._pinged = 0.0
        self._samples: deque[float] = deque(maxlen=RTT_SAMPLES)
        self._scheduled = False
        self._exhausted = 0
        self._work = (0, 0.0)
        self._run_callback = get_hub().loop.run_callback
        socket.max_message = mux.profile.max_message
        socket.send_control = self._send_control
        mux.wake = self._wake
        mux.on_pong = self._ponged
        self._prober = gevent.spawn(self._probe)
        self._wake()

    @property
    def version(self) -> int:
        """1 or 2: the version of the wire that both sides agreed on."""
        return self.mux.profile.version

    @property
    def rtt(self) -> float:
        """The smoothed round-trip time in seconds, queues included; 0 until it was measured."""
        return self._rtt

    @property
    def lingers(self) -> bool:
        """Whether the peer goes by what is said of lingering in docs/protocol.md."""
        theirs = self.mux.theirs
        return theirs is not None and theirs.lingers

    @property
    def needed(self) -> bool:
        """Whether it lives, and the peer has not said that another one does its work."""
        return not (self.ended.is_set() or REPLACED in self.mux.away)

    def run(self) -> str:
        """Read until the tunnel ends; the reason as a short text. Never raises what a peer caused."""
        socket, mux = self._socket, self.mux
        receive, steps = socket.receive, mux.steps
        try:
            while (message := receive()) is not None:
                self.heard = socket.read_at
                for _ in steps(message):
                    now = monotonic()
                    if mux.trifles:
                        socket.patience.spend(mux.trifles, now)
                        mux.trifles = 0
                    if now - socket.turn > STINT:
                        socket.rest(now)
            self.end("closed by the peer")
        except ProtocolError as error:
            self.end(f"protocol error: {error}", error.close_code)
        except TransportError as error:
            self.end(str(error))
        except Exception:
            log.exception("a fault in argotun ends this tunnel")
            self.end("internal error", CLOSE_INTERNAL)
        finally:
            self.end("the reader was stopped")
        return self.reason

    def end(self, reason: str, code: int = CLOSE_GOING_AWAY) -> None:
        """End the tunnel now: every stream is told, the peer gets a close frame if it can take one."""
        if self.ended.is_set():
            return
        self.reason = reason
        self.ended.set()
        self.mux.lost(reason)
        if self._prober is not gevent.getcurrent():
            self._prober.kill(block=False)
        self._socket.close(code, reason[:100])
        self.leaving = self._writer.lingering_close(CLOSE_TIME)

    def unheard(self, why: str) -> None:
        """End the tunnel because the peer's machine is gone; a reset, so that nothing of it arrives later."""
        self._writer.abort()
        self._lost(why)

    @property
    def unsent(self) -> bool:
        """Whether something waits for the socket, for credit, or for the peer's machine to have it."""
        mux = self.mux
        return bool(not self._writer.delivered or mux.waiting or any(s.queued for s in mux.streams.values()))

    def take_exhausted(self) -> int:
        """How often a stream ran out of credit since the last call."""
        total = self.mux.window_exhausted
        count, self._exhausted = total - self._exhausted, total
        return count

    def take_work(self) -> tuple[int, float]:
        """Frames that came since the last call, and for how many seconds by the clock they were worked on."""
        frames, seconds = self.mux.frames + self._socket.frames, self._socket.busy
        work = frames - self._work[0], seconds - self._work[1]
        self._work = frames, seconds
        return work

    def _lost(self, reason: str) -> None:
        self.end(f"connection lost: {reason}")

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._run_callback(self._flush)

    def _refill(self) -> None:
        """The socket was full, and can take something again."""
        self._flush(REFILL)

    def _flush(self, limit: int = BATCH) -> None:
        self._scheduled = False
        writer = self._writer
        if self.ended.is_set() or writer.pending:
            return
        pack = self._socket.pack
        for _ in range(ROUNDS):
            messages = self.mux.collect(limit)
            if not messages:
                return
            data = pack(messages[0]) if len(messages) == 1 else b"".join(map(pack, messages))
            if not writer.write(data):
                return
        self._wake()

    def _send_control(self, frame: bytes) -> None:
        if self._writer.pending < MAX_PONGS:
            self._writer.write(frame)

    def _probe(self) -> None:
        limit = self._keepalive_timeout
        due = now = self.since
        hello = self.since + self._hello_timeout
        while (silence := now - self.heard) < limit:
            if self.mux.theirs is not None:
                hello = inf
            elif now >= hello:
                self.end("the peer did not say HELLO")
                return
            if now >= due:
                self._pings += 1
                self._pinged = now
                self.mux.ping(b"%d" % self._pings)
                due = now + self._keepalive
            wake = min(due, hello, self.heard + limit)
            gevent.sleep(wake - now)
            now = monotonic()
            if now - wake > LATE:
                # This process stood still: what came meanwhile is read before the peer is judged by it.
                gevent.sleep(LATE)
        self.end(f"no sign of life for {silence:.1f} s")

    def _ponged(self, payload: bytes) -> None:
        self.answered = self.heard
        if not self._pinged or payload != b"%d" % self._pings:
            # Nobody asked, or it answers a PING that was given up.
            return
        sample = monotonic() - self._pinged
        self._pinged = 0.0
        self._rtt = self._rtt + RTT_GAIN * (sample - self._rtt) if self._rtt else sample
        # Windows that grew with the queue which they make would make it longer still.
        self._samples.append(sample)
        self.mux.rtt = min(self._samples)
