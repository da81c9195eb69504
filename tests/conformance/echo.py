"""Both ends of a tunnel's WebSocket as an echo, which is what suites for WebSockets ask to be driven.

python -m tests.conformance.echo accept           listens, and prints its port and that of the disguise
python -m tests.conformance.echo connect PORT     runs all cases of the suite that listens at PORT

`disguised` behind it has the suite's text messages come as binary ones.
"""

from gevent import monkey

monkey.patch_all()

import sys
from functools import partial
from typing import Any

import gevent
from gevent import socket
from gevent.pool import Pool
from gevent.server import StreamServer

from argotun.errors import ConnectionLost, ProtocolError
from argotun.transport.accept import accept
from argotun.transport.connect import connect
from argotun.transport.messages import MessageSocket
from argotun.wire.head import find_head_end, parse_request
from tests.conformance.disguise import Disguise

MOST = 16 * 1024 * 1024
"""Bytes of the suite's largest message."""

TIMEOUT = 60.0

AT_ONCE = 8


def echo(sock: Any, messages: MessageSocket) -> None:
    """Say again what comes, until the peer ends or breaks a rule."""
    messages.max_message = MOST
    try:
        while (message := messages.receive()) is not None:
            sock.sendall(messages.pack((message,)))
    except ProtocolError as error:
        messages.close(error.close_code, str(error))
    except (ConnectionLost, OSError):
        return


def served(sock: Any, _peer: Any) -> None:
    """The server's end."""
    with sock:
        data = b""
        while (end := find_head_end(data)) < 0:
            more = sock.recv(65536)
            if not more:
                return
            data += more
        echo(sock, accept(sock, parse_request(data[:end]), data[end:]))


def dialled(address: tuple[str, int], path: str) -> None:
    """The agent's end of one case."""
    host, port = address
    with socket.create_connection(address) as sock:
        echo(sock, connect(sock, f"{host}:{port}", path, (), (), TIMEOUT))


def count(address: tuple[str, int]) -> int:
    """How many cases the suite has: it says so in text, so the disguise has to be between."""
    host, port = address
    with socket.create_connection(address) as sock:
        messages = connect(sock, f"{host}:{port}", "/getCaseCount", (), (), TIMEOUT)
        return int(messages.receive() or b"0")


def main() -> None:
    """As the file says."""
    if sys.argv[1] == "accept":
        server = StreamServer(("127.0.0.1", 0), served)
        server.start()
        disguise = Disguise(("127.0.0.1", server.server_port), suite_dials=True)
        print(server.server_port, disguise.address[1], flush=True)
        gevent.wait()
    suite = ("127.0.0.1", int(sys.argv[2]))
    hidden = Disguise(suite, suite_dials=False).address
    address = hidden if "disguised" in sys.argv else suite
    cases = [f"/runCase?case={case}&agent=argotun" for case in range(1, count(hidden) + 1)]
    for _ in Pool(AT_ONCE).imap_unordered(partial(dialled, address), cases):
        pass
    dialled(address, "/updateReports?agent=argotun")


if __name__ == "__main__":
    main()
