"""A network between two programs on loopback: it can be cut, go silent, lead elsewhere, or lose a header."""

import contextlib
from struct import pack
from typing import Any

import gevent
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

RESET = pack("ii", 1, 0)
"""A socket that lingers for no time ends with a reset."""


def _set_event() -> Event:
    """Set while everything passes."""
    event = Event()
    event.set()
    return event


class Link:
    """Passes connections from a port of its own on to 127.0.0.1:`target`, which may change."""

    def __init__(self, target: int, without: bytes = b"") -> None:
        """`without` is taken out of the first bytes of each connection."""
        self.target = target
        self.without = without
        self.accepted = 0
        self._flowing = _set_event()
        self._frozen: list[Event] = []
        self._sockets: set[Any] = set()
        self._listen(0)
        self.port: int = self._server.server_port

    def cut(self) -> None:
        """End every connection at once, and refuse new ones until restore()."""
        self._server.stop(timeout=0)
        self._abort()

    def freeze(self, old_only: bool = False) -> None:
        """Let connections be and pass nothing until restore(); with old_only new ones work."""
        self._flowing.clear()
        if old_only:
            self._frozen.append(self._flowing)
            self._flowing = _set_event()

    def restore(self) -> None:
        """Pass everything again."""
        self._thaw()
        if self._server.closed:
            self._listen(self.port)

    def close(self) -> None:
        """End it."""
        self.cut()
        self._thaw()

    def _thaw(self) -> None:
        self._flowing.set()
        while self._frozen:
            self._frozen.pop().set()

    def _listen(self, port: int) -> None:
        self._server = StreamServer(("127.0.0.1", port), self._serve)
        self._server.start()

    def _abort(self) -> None:
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _serve(self, sock: Any, _peer: object) -> None:
        self.accepted += 1
        try:
            other = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            return
        pair = {sock, other}
        self._sockets |= pair
        for each in pair:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flowing = self._flowing
        copiers = [
            gevent.spawn(self._copy, flowing, sock, other, self.without),
            gevent.spawn(self._copy, flowing, other, sock, b""),
        ]
        gevent.joinall(copiers)
        self._sockets -= pair
        for each in pair:
            each.close()

    def _copy(self, flowing: Event, source: Any, sink: Any, without: bytes) -> None:
        try:
            while data := source.recv(65536):
                flowing.wait()
                sink.sendall(data.replace(without, b"") if without else data)
                without = b""
            flowing.wait()
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # What one side learns by a reset must reach the other side too.
            for each in (source, sink):
                with contextlib.suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    each.shutdown(socket.SHUT_RDWR)
