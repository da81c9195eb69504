"""An API of watches: it answers each with one event, and is silent until it is told otherwise.

What is upgraded comes back byte for byte, as from a terminal that echoes; all else is answered at once.

    python -m bench.watch_api CONTROL CERTIFICATE KEY

The words (bench/words.py): `port` answers where it listens, `plain` where it does so without TLS, `held`
how many watches there are, and `fire N` sends an event on N of them, spread over all; it answers when that
began and how long it took. Each event is the time at which the firing began, on the machine's monotonic
clock.
"""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import gc
import socket
import sys
import time
from typing import Any

from argotun.transport.listen import Listener
from argotun.transport.tls import ServerTls
from argotun.wire.body import chunk
from bench import echo, words

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


class Watches:
    """All watches that are open."""

    def __init__(self, cert: str, key: str) -> None:
        self._open: dict[Any, None] = {}
        self._listener = Listener(
            ("127.0.0.1", 0), self._serve, ServerTls(cert, key), handshake_timeout=60.0, hello_timeout=60.0
        )
        self._plain = Listener(("127.0.0.1", 0), self._serve, handshake_timeout=60.0, hello_timeout=60.0)
        for listener in (self._listener, self._plain):
            listener.start()

    def plain(self) -> int:
        """Where those find it that know no TLS."""
        return self._plain.address[1]

    def port(self) -> int:
        """Where agents find it."""
        return self._listener.address[1]

    def held(self) -> int:
        """How many watches there are."""
        return len(self._open)

    def fire(self, count: int) -> tuple[float, float]:
        """An event on so many watches: when, and the seconds until the last was written."""
        every = len(self._open) / count
        chosen = list(self._open)
        began = time.monotonic()
        event = chunk(b"%.6f\n" % began)
        for at in range(count):
            chosen[int(at * every)].sendall(event)
        return began, time.monotonic() - began

    def _serve(self, sock: Any, _peer: object) -> None:
        data = b""
        # Events must not wait until the last one is acknowledged.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while more := sock.recv(65536):
                data += more
                while b"\r\n\r\n" in data:
                    head, _, data = data.partition(b"\r\n\r\n")
                    if b"watch=1" in head:
                        self._open[sock] = None
                        sock.sendall(HEAD + chunk(b"0.0\n"))
                    elif b"\r\nupgrade:" in head.lower():
                        sock.sendall(UPGRADED)
                        while more := sock.recv(65536):
                            sock.sendall(more)
                        return
                    else:
                        sock.sendall(echo.echo(head))
        finally:
            self._open.pop(sock, None)


def main() -> int:
    control, cert, key = sys.argv[1:]
    # Its own pauses must not look like those of what is measured.
    gc.disable()
    watches = Watches(cert, key)
    words.obey(
        control, {"port": watches.port, "plain": watches.plain, "held": watches.held, "fire": watches.fire}
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
