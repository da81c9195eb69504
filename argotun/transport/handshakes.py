"""TLS handshakes of many clients at once: how many may be in progress, and their share of the processor.

A step of a handshake, which is what OpenSSL computes between two messages, takes half a millisecond or more,
and after a restart a thousand agents come in the same second. A handshake is in one of three states:

    silent     waits for the other side; costs no processor
    queued     the other side has spoken: waits for its turn
    stepping   computes

Queued handshakes get their turns in one place, behind the sockets of each turn of the event loop, as many as
fit into SLICE. So a request on a live tunnel waits for one slice at most, however many agents come at once,
and a handshake waits for the steps before it but never for a silent one.

The second step of a handshake, which is the last one of most, goes before all first ones; else the longest
queued goes first. Where more come than can be served in their time, the first steps of all would be carried
out before any second one, and everybody would be late: so those that were begun are done, and the rest is
late. It goes before others once only, or many small steps of a few could keep everybody out.

Before all that a ClientHello must have arrived whole, in its own time and counted from the accept; until then
there is nothing of OpenSSL (`peek.py`), and who is slow is dropped by the rules of `places.py`.

When `limit` are in progress the next ones wait in line. Slow clients must not keep them out: while somebody
waits, the one that has kept us waiting since the earliest time is dropped, if for longer than GRACE. What it
says meanwhile does not count: a byte a second is no progress.
"""

import ssl
from collections import deque
from itertools import count
from time import monotonic
from typing import Any

import gevent
from gevent import get_hub
from gevent.hub import Waiter
from gevent.lock import Semaphore
from gevent.socket import socket
from gevent.ssl import SSLContext, SSLSocket

from argotun.errors import HandshakeError
from argotun.transport._private import raw_handshake, readable, writable
from argotun.transport.tls import handshake_server

HANDSHAKES = 1024
"""Handshakes in progress at most: each has up to 100 KiB of OpenSSL's memory."""

SLICE = 0.002
"""Seconds of handshake steps per turn of the event loop: the longest that a live tunnel's request waits."""

GRACE = 1.0
"""Seconds after our first answer when a client that is not done has to make room for another one."""

DROPPED = "TLS handshake: dropped to make room: too many in progress, and this one was slow"

_PAUSE = 0.02
"""Seconds between two looks for room while somebody waits in line."""


class _Begun:
    """A handshake that has heard the hello and answered: since when, and whom to tell while it waits."""

    __slots__ = ("dropped", "since", "waiter")

    def __init__(self) -> None:
        self.since = 0.0
        self.dropped = False
        self.waiter: Any = None


class Handshakes:
    """The handshakes of one listener; each may take `timeout` seconds, and `limit` be in progress."""

    def __init__(self, timeout: float, limit: int = HANDSHAKES) -> None:
        self._timeout = timeout
        self._free = Semaphore(limit)
        self._in_line = 0
        self._making_room = False
        # In the order in which each first had to wait for its client.
        self._begun: dict[_Begun, None] = {}
        self._queue: deque[Any] = deque()
        self._ahead: deque[Any] = deque()
        # libev runs a timer after the sockets; a callback would run before they are looked at again.
        self._next_turn = get_hub().loop.timer(0.0)

    def shake(self, sock: socket, context: SSLContext) -> SSLSocket:
        """Shake hands with the client on `sock`, which belongs to the result from then on.

        Its ClientHello must have arrived. Raises HandshakeError; `sock` is closed then.
        """
        try:
            self._enter()
        except BaseException:
            sock.close()
            raise
        try:
            return handshake_server(sock, context, self._timeout, self._in_steps)
        finally:
            self._free.release()

    def _enter(self) -> None:
        """Wait in line for a place."""
        if not self._free.locked() and not self._in_line:
            self._free.acquire()
            return
        if not self._making_room:
            self._making_room = True
            gevent.spawn(self._make_room)
        self._in_line += 1
        try:
            if not self._free.acquire(timeout=self._timeout):
                raise HandshakeError("TLS handshake: too many others were in progress")
        finally:
            self._in_line -= 1

    def _make_room(self) -> None:
        """While others wait in line, drop those that keep us waiting."""
        try:
            while self._in_line:
                self._drop_slow(self._in_line)
                gevent.sleep(_PAUSE)
        finally:
            self._making_room = False

    def _drop_slow(self, most: int) -> None:
        """Drop the handshakes whose other side has been waited for longest, if for longer than GRACE."""
        now = monotonic()
        for slow in list(self._begun):
            if not most or now - slow.since < GRACE:
                return
            if slow.waiter is not None:
                # If the other side speaks before the callback runs, nobody waits any more to be told.
                slow.dropped = True
                get_hub().loop.run_callback(slow.waiter.throw, HandshakeError(DROPPED))
                del self._begun[slow]
                most -= 1

    def _in_steps(self, tls: SSLSocket) -> None:
        """Carry out the handshake, each step in its turn; OSError when it fails."""
        step = raw_handshake(tls)
        begun = _Begun()
        try:
            for number in count(1):
                self._take_turn(self._ahead if number == 2 else self._queue)
                try:
                    step()
                except ssl.SSLWantReadError:
                    self._listen(readable(tls), begun)
                except ssl.SSLWantWriteError:
                    self._listen(writable(tls), begun)
                else:
                    return
        finally:
            self._begun.pop(begun, None)

    def _listen(self, watcher: Any, begun: _Begun) -> None:
        """Wait for the other side; HandshakeError when this one has to make room meanwhile."""
        if not begun.since:
            begun.since = monotonic()
            self._begun[begun] = None
        begun.waiter = waiter = Waiter()
        watcher.start(waiter.switch, None)
        try:
            waiter.get()
        finally:
            watcher.stop()
            begun.waiter = None
        if begun.dropped:
            raise HandshakeError(DROPPED)

    def _take_turn(self, queue: deque[Any]) -> None:
        """Queue for the next step."""
        waiter: Any = Waiter()
        queue.append(waiter)
        if not self._next_turn.active:
            self._next_turn.start(self._hand_out)
        try:
            waiter.get()
        except BaseException:
            queue.remove(waiter)
            raise

    def _hand_out(self) -> None:
        """Let queued handshakes take their steps, here in the hub, for as long as the slice lasts."""
        ends = monotonic() + SLICE
        while queue := self._ahead or self._queue:
            queue.popleft().switch(None)
            if monotonic() > ends:
                break
        if self._ahead or self._queue:
            self._next_turn.start(self._hand_out)
