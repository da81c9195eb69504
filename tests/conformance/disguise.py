"""Text messages as binary ones, and back: for suites that ask with text, which a tunnel refuses.

A relay between the suite and our end. It changes one bit pattern in the first byte of a frame, the opcode; it
does so to what comes in, and to the answers for as long as the last message that came was text. Lengths,
masks, fragments and control frames are left as they are, right or wrong.
"""

from collections.abc import Callable
from typing import Any

import gevent
from gevent import socket
from gevent.server import StreamServer

TEXT, BINARY = 1, 2

Swap = Callable[[int], int]
"""What becomes of an opcode that is no control frame's."""


class Disguise:
    """Listens on loopback at `address`, and relays each connection to `upstream`.

    `suite_dials` says that the suite is at the accepted end, and our own one upstream.
    """

    def __init__(self, upstream: tuple[str, int], *, suite_dials: bool) -> None:
        self._upstream = upstream
        self._suite_dials = suite_dials
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return ("127.0.0.1", self._server.server_port)

    def close(self) -> None:
        """Listen no more, and end what runs."""
        self._server.stop()

    def _serve(self, sock: Any, _peer: Any) -> None:
        with sock, socket.create_connection(self._upstream) as other:
            for each in (sock, other):
                # The parts of a frame leave one by one.
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            suite, ours = (sock, other) if self._suite_dials else (other, sock)
            asked = [BINARY]

            def hide(opcode: int) -> int:
                if opcode in (TEXT, BINARY):
                    asked[0] = opcode
                return BINARY if opcode == TEXT else opcode

            def show(opcode: int) -> int:
                return asked[0] if opcode == BINARY else opcode

            ways = gevent.spawn(_relay, suite, ours, hide), gevent.spawn(_relay, ours, suite, show)
            gevent.joinall(ways)


def _relay(source: Any, sink: Any, swap: Swap) -> None:
    try:
        with source.makefile("rb", buffering=65536) as stream:
            _head(stream, sink)
            while _frame(stream, sink, swap):
                pass
    except OSError:
        pass
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def _head(stream: Any, sink: Any) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            raise OSError("no upgrade")
        head += line
    sink.sendall(head)


def _frame(stream: Any, sink: Any, swap: Swap) -> bool:
    """One frame; its parts go on as they come, since some cases send one byte at a time."""
    start = stream.read(2)
    if len(start) < 2:
        return False
    size = start[1] & 0x7F
    more = stream.read({126: 2, 127: 8}.get(size, 0))
    if more:
        size = int.from_bytes(more, "big")
    size += 4 if start[1] & 0x80 else 0
    sink.sendall(bytes((start[0] & 0xF0 | swap(start[0] & 0x0F), start[1])) + more)
    while size:
        data = stream.read1(min(size, 65536))
        if not data:
            return False
        sink.sendall(data)
        size -= len(data)
    return True
