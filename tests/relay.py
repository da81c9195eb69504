"""A TCP relay on loopback: a link as long and as narrow as asked for, which can also go silent.

There is no netem on a machine where nobody may load kernel modules, so the link is in user space. Each
direction has one schedule for all its connections: bytes leave one after the other at the link's rate
and arrive half a round trip later. A connection costs its round trip as TCP's handshake does, though
`connect` itself returns at once. Nothing is lost and there is no slow start: what is measured is what
the ends make of the link.

    python tests/relay.py HOST:PORT --rtt 0.1 --rate 25e6

prints the address that it listens on, and relays until it is ended.
"""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import argparse
import struct
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Self

import gevent
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

PIECE = 64 * 1024
"""Bytes read at once."""

KERNEL = 128 * 1024
"""Asked of the kernel for each socket of a slow link, bytes: what waits for the link waits at its sender."""

TICK = 0.002
"""A wait that is shorter is added to the next one, s: the event loop's clock is no finer."""


LATE = 0.02
"""What a link may make up for when this process came late to read, s."""


class Lane:
    """One direction of the link: when bytes have left, and when they arrive."""

    def __init__(self, delay: float, rate: float) -> None:
        self.delay = delay
        self.rate = rate
        self.flowing = Event()
        self.flowing.set()
        self.free = 0.0
        self.carried = 0

    @property
    def room(self) -> float:
        """What one connection may have on its way, bytes."""
        return self.rate * self.delay + 4 * PIECE if self.rate else float("inf")

    def carry(self, size: int, earliest: float) -> tuple[float, float]:
        """Take so many bytes that are there at `earliest`: when the last leaves, and when it arrives."""
        self.carried += size
        self.free = max(self.free, earliest - LATE) + (size / self.rate if self.rate else 0.0)
        return self.free, max(self.free, earliest) + self.delay


class Relay:
    """Passes connections on to `target`, with a round trip of `rtt` seconds and `rate` bytes/s each way.

    Zero is no delay, and no limit. `forth` and `back` are its two directions, `forth` to the target.
    """

    def __init__(
        self,
        target: tuple[str, int],
        rtt: float = 0.0,
        rate: float = 0.0,
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self.target = target
        self._rtt = rtt
        self.forth = Lane(rtt / 2, rate)
        self.back = Lane(rtt / 2, rate)
        self._sockets: list[Any] = []
        self._copiers: list[gevent.Greenlet] = []
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if rate:
            # What is accepted inherits it, and a window is not to be taken back.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL)
        listening.bind((host, port))
        listening.listen(1024)
        self._server = StreamServer(listening, self._serve)

    def __enter__(self) -> Self:
        self._server.start()
        self.address = self._server.address
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(timeout=0)
        gevent.killall(self._copiers)
        for sock in self._sockets:
            sock.close()

    def freeze(self, *lanes: Lane) -> None:
        """Pass nothing any more, not even the end of a connection; in these directions, or in both."""
        for lane in lanes or (self.forth, self.back):
            lane.flowing.clear()

    def thaw(self) -> None:
        """Pass on what came meanwhile, and all that comes."""
        for lane in (self.forth, self.back):
            lane.flowing.set()

    def _serve(self, sock: Any, _peer: object) -> None:
        began = monotonic()
        self._sockets.append(sock)
        if self._rtt:
            gevent.sleep(self._rtt / 2)
        other = socket.socket()
        self._sockets.append(other)
        if self.forth.rate:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL)
        try:
            other.connect(self.target)
        except OSError:
            sock.close()
            return
        for each in (sock, other):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.forth.rate:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL)
        # The first byte may leave when the handshake is over at that end.
        pair = [
            gevent.spawn(self._copy, sock, other, self.forth, began + self._rtt),
            gevent.spawn(self._copy, other, sock, self.back, began + self._rtt / 2),
        ]
        self._copiers += pair
        gevent.joinall(pair)
        for greenlet in pair:
            self._copiers.remove(greenlet)
        for each in (sock, other):
            self._sockets.remove(each)
            each.close()

    def _copy(self, source: Any, sink: Any, lane: Lane, earliest: float) -> None:
        """Read at the lane's rate what is written out later."""
        line = Line(sink, lane.flowing)
        writing = gevent.spawn(line.write_out)
        self._copiers.append(writing)
        room = lane.room
        try:
            while data := source.recv(PIECE):
                left, arrives = lane.carry(len(data), max(monotonic(), earliest))
                line.put(data, arrives)
                line.wait(lambda: line.size <= room)
                _sleep_until(left)
            line.put(b"", monotonic() + lane.delay)
        except OSError:
            # A reset is passed on as one.
            line.put(None, monotonic() + lane.delay)
        finally:
            writing.join()
            self._copiers.remove(writing)


class Line:
    """What is on its way on one connection in one direction."""

    def __init__(self, sink: Any, flowing: Event) -> None:
        self.size = 0
        self._sink = sink
        self._flowing = flowing
        self._pieces: deque[tuple[float, bytes | None]] = deque()
        self._changed = Event()
        self._broken = False

    def put(self, data: bytes | None, due: float) -> None:
        """Let `data` arrive at `due`; b"" is the end in order, None a reset."""
        self._pieces.append((due, data))
        self.size += len(data or b"")
        self._changed.set()

    def wait(self, condition: Callable[[], bool]) -> None:
        """Until the condition holds; OSError when nobody is there to take what arrives."""
        while not condition() and not self._broken:
            self._changed.clear()
            self._changed.wait()
        if self._broken:
            raise OSError("the other end is gone")

    def write_out(self) -> None:
        """Write each piece when it is due, until the end."""
        try:
            while True:
                while not self._pieces:
                    self._changed.clear()
                    self._changed.wait()
                due, data = self._pieces[0]
                _sleep_until(due)
                self._flowing.wait()
                if data:
                    self._sink.sendall(data)
                    self._pieces.popleft()
                    self.size -= len(data)
                    self._changed.set()
                elif data is None:
                    self._sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self._sink.close()
                    return
                else:
                    self._sink.shutdown(socket.SHUT_WR)
                    return
        except OSError:
            self._broken = True
            self._changed.set()


def _sleep_until(when: float) -> None:
    wait = when - monotonic()
    if wait > TICK:
        gevent.sleep(wait)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", metavar="HOST:PORT")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rtt", type=float, default=0.0, help="seconds")
    parser.add_argument("--rate", type=float, default=0.0, help="bytes per second each way; 0 is no limit")
    options = parser.parse_args()
    host, _, port = options.target.rpartition(":")
    with Relay((host, int(port)), options.rtt, options.rate, options.port) as relay:
        print(f"127.0.0.1:{relay.address[1]}", flush=True)
        try:
            gevent.get_hub().join()
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
