"""A TCP relay on loopback that can go silent: both connections stay open, and nothing passes any more."""

from typing import Any, Self

import gevent
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer


class Relay:
    """Passes connections on to `target` until `freeze`."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._flowing = Event()
        self._flowing.set()
        self._sockets: list[Any] = []
        self._copiers: list[gevent.Greenlet] = []
        self._server = StreamServer(("127.0.0.1", 0), self._serve)

    def __enter__(self) -> Self:
        self._server.start()
        self.address = self._server.address
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(timeout=0)
        gevent.killall(self._copiers)
        for sock in self._sockets:
            sock.close()

    def freeze(self) -> None:
        """Pass nothing any more, not even the end of a connection."""
        self._flowing.clear()

    def _serve(self, sock: Any, _peer: object) -> None:
        other = socket.create_connection(self._target)
        self._sockets += [sock, other]
        self._copiers += [gevent.spawn(self._copy, sock, other), gevent.spawn(self._copy, other, sock)]
        gevent.joinall(self._copiers[-2:])

    def _copy(self, source: Any, sink: Any) -> None:
        try:
            while data := source.recv(65536):
                self._flowing.wait()
                sink.sendall(data)
            self._flowing.wait()
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass
