"""A network between two programs on loopback: it can be cut, go silent, lead elsewhere, or lose a header."""

import contextlib
from typing import Any

import gevent
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer


class Link:
    """Passes connections from a port of its own on to 127.0.0.1:`target`, which may change."""

    def __init__(self, target: int, without: bytes = b"") -> None:
        """`without` is taken out of the first bytes of each connection."""
        self.target = target
        self.without = without
        self.accepted = 0
        self._flowing = Event()
        self._flowing.set()
        self._sockets: set[Any] = set()
        self._listen(0)
        self.port: int = self._server.server_port

    def cut(self) -> None:
        """End every connection at once, and refuse new ones until restore()."""
        self._server.stop(timeout=0)
        self._abort()

    def freeze(self) -> None:
        """Let connections be, old and new, and pass nothing until restore()."""
        self._flowing.clear()

    def restore(self) -> None:
        """Pass everything again."""
        self._flowing.set()
        if self._server.closed:
            self._listen(self.port)

    def close(self) -> None:
        """End it."""
        self.cut()
        self._flowing.set()

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
        copiers = [
            gevent.spawn(self._copy, sock, other, self.without),
            gevent.spawn(self._copy, other, sock, b""),
        ]
        gevent.joinall(copiers)
        self._sockets -= pair
        other.close()

    def _copy(self, source: Any, sink: Any, without: bytes) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                sink.sendall(data.replace(without, b"") if without else data)
                without = b""
            self._flowing.wait()
            sink.shutdown(socket.SHUT_WR)
