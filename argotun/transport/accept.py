"""The server's end of a tunnel's WebSocket: the upgrade is judged here and answered by gevent-websocket.

The library judges too loosely for a port that faces the internet: it takes substrings of `Connection` and
`Sec-WebSocket-Protocol`, old versions, and keys that are not base64. And its own reading and writing know no
limits. So it computes the answer, and nothing else of it is used.
"""

import re

from gevent.socket import socket

from argotun.errors import ConnectionLost, HeadError
from argotun.transport._private import answer_upgrade
from argotun.transport.explain import explain
from argotun.transport.messages import MessageSocket
from argotun.wire.fields import TOKEN, elements
from argotun.wire.head import RequestHead

# 16 bytes in base64 and nothing else, RFC 6455 §4.2.1 (5).
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
_TOKEN = re.compile(TOKEN + rb"++")


def accept(
    sock: socket, head: RequestHead, leftover: bytes = b"", subprotocols: tuple[str, ...] = ()
) -> MessageSocket:
    """Answer the upgrade in `head` with 101 on `sock` and give the MessageSocket of it.

    `leftover` is what was read behind the head: frames of a client that did not wait for the answer.
    `subprotocols` are ours in order of preference; the first that the client offers, letter for
    letter, is agreed.

    Raises HeadError with status 400, or 426 where another version of WebSocket, or none, was asked
    for (a 426 must carry `Upgrade: websocket` and `Sec-WebSocket-Version: 13`); nothing was written
    then. Raises ConnectionLost when the answer could not be written.
    """
    key = _judge(head)
    theirs = offered(head)
    if not all(map(_TOKEN.fullmatch, theirs)):
        raise HeadError("Sec-WebSocket-Protocol is not a list of tokens")
    chosen = next((ours for ours in subprotocols if ours.encode() in theirs), None)
    try:
        sock.sendall(answer_upgrade(key.decode("ascii"), chosen))
    except (OSError, ValueError) as error:
        raise ConnectionLost(f"the agent left during the upgrade: {explain(error)}") from error
    return MessageSocket(sock, chosen, leftover, client=False)


def offered(head: RequestHead) -> list[bytes]:
    """The subprotocols that an upgrade offers, as they are written."""
    return elements(b",".join(head.values(b"sec-websocket-protocol")))


def _judge(head: RequestHead) -> bytes:
    """Refuse all that is no upgrade to a WebSocket (RFC 6455 §4.2.1); its key."""
    if head.method != b"GET" or not head.minor:
        raise HeadError("a WebSocket upgrade must be a GET in HTTP/1.1")
    if [each.lower() for each in head.values(b"upgrade")] != [b"websocket"]:
        raise HeadError("this address serves WebSocket upgrades only", 426)
    if b"upgrade" not in head.connection:
        raise HeadError("a WebSocket upgrade needs `Connection: Upgrade`")
    if head.values(b"sec-websocket-version") != [b"13"]:
        raise HeadError("the WebSocket version must be 13", 426)
    keys = head.values(b"sec-websocket-key")
    if len(keys) != 1 or _KEY.fullmatch(keys[0]) is None:
        raise HeadError("Sec-WebSocket-Key must be 16 bytes in base64, once")
    return keys[0]
