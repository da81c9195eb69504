"""TLS handshakes of many clients at once: a share of the processor for all of them, and a limited number.

A step of a handshake (what OpenSSL computes between two messages) takes half a millisecond or more, and
after a restart a thousand agents come in the same second. So steps take turns: as many as fit into SLICE
for each turn of the event loop, the longest waiting first, and live tunnels get all that is between.
Who only waits for the other side takes no turn and holds up nobody.
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
from argotun.transport.tls import handshake_server

HANDSHAKES = 1024
"""Handshakes in progress at most: each has up to 100 KiB of OpenSSL's memory."""

SLICE = 0.002
"""Seconds of handshakes for each turn of the event loop: what a request on a live tunnel may wait for."""

GRACE = 1.0
"""Seconds without a word after which a client makes room for another one, where there is none left."""

# Between two looks for room, s.
_PAUSE = 0.02


class Handshakes:
    """The handshakes of one listener; each may take `timeout` seconds, and `limit` be in progress."""

    def __init__(self, timeout: float, limit: int = HANDSHAKES) -> None:
        self._timeout = timeout
        self._limit = limit
        self._running = 0
        # Of those that wait for the other side, since when; the longest is the first.
        self._silent: dict[Any, float] = {}
        self._queue: deque[Any] = deque()
        # A callback would come before the sockets are looked at again; a timer comes behind them.
        self._next_turn = get_hub().loop.timer(0.0)

    def wait_for_room(self) -> None:
        """Return when one more may begin: the longest silent one is dropped for it after its GRACE."""
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
        """Wait until the client has said something: before that it gets no memory of OpenSSL's."""
        timer = gevent.Timeout.start_new(self._timeout)
        try:
            self._listen(sock._read_event)
        except gevent.Timeout as fired:
            sock.close()
            if fired is not timer:
                raise
            raise HandshakeError("TLS handshake: the other side said nothing in time") from None
        except BaseException:
            sock.close()
            raise
        finally:
            timer.close()

    def _in_steps(self, tls: SSLSocket) -> None:
        """What OpenSSL has to do, a step for each turn; OSError when it fails."""
        while True:
            self._take_turn()
            try:
                tls._sslobj.do_handshake()
            except ssl.SSLWantReadError:
                self._listen(tls._read_event)
            except ssl.SSLWantWriteError:
                self._listen(tls._write_event)
            else:
                return

    def _listen(self, watcher: Any) -> None:
        """Wait for the other side, which may have to make room for somebody else meanwhile."""
        waiter: Any = Waiter()
        self._silent[waiter] = monotonic()
        watcher.start(waiter.switch, None)
        try:
            waiter.get()
        finally:
            watcher.stop()
            self._silent.pop(waiter, None)

    def _drop_silent(self) -> bool:
        waiter, since = next(iter(self._silent.items()), (None, monotonic()))
        if waiter is None or monotonic() - since < GRACE:
            return False
        del self._silent[waiter]
        why = "TLS handshake: others came while the other side was silent"
        # Harmless where the other side has spoken at last.
        get_hub().loop.run_callback(waiter.throw, HandshakeError(why))
        return True

    def _take_turn(self) -> None:
        """Return at once where nobody has had a step in this turn of the event loop, else when it is ours."""
        if not self._next_turn.active:
            self._next_turn.start(self._hand_out)
            return
        waiter: Any = Waiter()
        self._queue.append(waiter)
        try:
            waiter.get()
        except BaseException:
            self._queue.remove(waiter)
            raise

    def _hand_out(self) -> None:
        """Let those that wait take their steps, here in the hub, for as long as the slice lasts."""
        queue = self._queue
        ends = monotonic() + SLICE
        while queue:
            queue.popleft().switch(None)
            if monotonic() > ends:
                break
        if queue:
            self._next_turn.start(self._hand_out)
