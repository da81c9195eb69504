"""A server's HELLO, heard and not answered: a check learns from it who is there, and takes nobody's place."""

import gevent

from argotun.errors import ConnectionLost, ProtocolError
from argotun.transport import MessageSocket
from argotun.wire.frames import HELLO, V2
from argotun.wire.hello import Hello, decode


def greeting(socket: MessageSocket, timeout: float) -> Hello:
    """The HELLO that a server begins a tunnel of version 2 with, heard within so many seconds.

    A server takes an agent up when that has said HELLO too. So this one is not taken up, and none that is
    connected gives way to it. Raises ConnectionLost or ProtocolError.
    """
    with gevent.Timeout(timeout, ConnectionLost("the server did not say HELLO in time")):
        message = socket.receive()
    if message is None:
        raise ConnectionLost("the server closed the tunnel without a HELLO")
    kind, _, payload = next(iter(V2.split(message)))
    if kind != HELLO:
        raise ProtocolError("the server began with another frame than HELLO")
    return decode(payload)
