"""TLS handshakes of many clients at once: how many may be in progress, and their share of the processor.

A step of a handshake, which is what OpenSSL computes between two messages, takes half a millisecond or more,
and after a restart a thousand agents come in the same second. A handshake is in one of three states:

    silent     waits for the other side; costs no processor, and before the client's first byte no memory of
               OpenSSL's either
    queued     the other side has spoken: waits for its turn
    stepping   computes

Queued handshakes get their turns in one place, behind the sockets of each turn of the event loop: the oldest
first, as many as fit into SLICE. So a request on a live tunnel waits for one slice at most, however many
agents come at once, and a handshake waits for the steps before it but never for a silent one.

When `limit` are in progress, the listener accepts no more until one has ended; silent clients must not keep
others out that way, so after GRACE the one that has been silent longest is dropped.
"""

import ssl
from collections import deque
from time import monotonic
from typing import Any

import gevent
from gevent import get_hub
from gevent.hub import Waiter
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
"""Seconds of silence after which a client has to make room for another one."""

_PAUSE = 0.02
"""Seconds between two looks for room."""


class Handshakes:
    """The handshakes of one listener; each may take `timeout` seconds, and `limit` be in progress."""

    def __init__(self, timeout: float, limit: int = HANDSHAKES) -> None:
        self._timeout = timeout
        self._limit = limit
        self._running = 0
        # Silent handshakes and when each fell silent, oldest first.
        self._silent: dict[Any, float] = {}
        self._queue: deque[Any] = deque()
        # libev runs a timer after the sockets; a callback would run before they are looked at again.
        self._next_turn = get_hub().loop.timer(0.0)

    def wait_for_room(self) -> None:
        """Return when one more may begin."""
        while self._running >= self._limit and not self._drop_silent():
            gevent.sleep(_PAUSE)

    def shake(self, sock: socket, context: SSLContext) -> SSLSocket:
        """Shake hands with the client on `sock`, which belongs to the result from then on.

        Raises HandshakeError; `sock` is closed then.
        """
        self._running += 1
        began = monotonic()
        try:
            self._first_words(sock)
            left = self._timeout - (monotonic() - began)
            return handshake_server(sock, context, left, self._in_steps)
        finally:
            self._running -= 1

    def _first_words(self, sock: socket) -> None:
        """Wait until the client has said something."""
        overdue = HandshakeError("TLS handshake: the other side said nothing in time")
        try:
            with gevent.Timeout(self._timeout, overdue):
                self._listen(readable(sock))
        except BaseException:
            sock.close()
            raise

    def _in_steps(self, tls: SSLSocket) -> None:
        """Carry out the handshake, each step in its turn; OSError when it fails."""
        step = raw_handshake(tls)
        while True:
            self._take_turn()
            try:
                step()
            except ssl.SSLWantReadError:
                self._listen(readable(tls))
            except ssl.SSLWantWriteError:
                self._listen(writable(tls))
            else:
                return

    def _listen(self, watcher: Any) -> None:
        """Wait for the other side; HandshakeError when this one has to make room meanwhile."""
        waiter: Any = Waiter()
        self._silent[waiter] = monotonic()
        watcher.start(waiter.switch, None)
        try:
            waiter.get()
        finally:
            watcher.stop()
            self._silent.pop(waiter, None)

    def _drop_silent(self) -> bool:
        """Drop the handshake that has been silent longest, if for longer than GRACE."""
        waiter, since = next(iter(self._silent.items()), (None, monotonic()))
        if waiter is None or monotonic() - since < GRACE:
            return False
        del self._silent[waiter]
        why = "dropped to make room: too many handshakes in progress, and this peer was silent"
        # Harmless if the other side speaks before the callback runs.
        get_hub().loop.run_callback(waiter.throw, HandshakeError(f"TLS handshake: {why}"))
        return True

    def _take_turn(self) -> None:
        """Queue for the next step."""
        waiter: Any = Waiter()
        self._queue.append(waiter)
        if not self._next_turn.active:
            self._next_turn.start(self._hand_out)
        try:
            waiter.get()
        except BaseException:
            self._queue.remove(waiter)
            raise

    def _hand_out(self) -> None:
        """Let queued handshakes take their steps, here in the hub, for as long as the slice lasts."""
        queue = self._queue
        ends = monotonic() + SLICE
        while queue:
            queue.popleft().switch(None)
            if monotonic() > ends:
                break
        if queue:
            self._next_turn.start(self._hand_out)
