"""The agent's end of a tunnel's WebSocket: simple-websocket asks, our framing reads and writes.

simple-websocket (with wsproto under it) writes the request and judges the answer. It is given a
socket that is connected already, exactly one response head, and no thread: its own reading would lose
what is written short, wait with frames that came with the answer, and buffer without a limit.
"""

import os
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from gevent.socket import socket
from simple_websocket import Client
from simple_websocket.ws import Base
from wsproto import ConnectionType
from wsproto.events import AcceptConnection, Request

from argotun.errors import HandshakeError
from argotun.transport.explain import explain
from argotun.transport.messages import DEFAULT_MAX_MESSAGE, FramedSocket
from argotun.transport.reply import Reply, printable, read_reply, read_words
from argotun.wire.websocket import FrameReader

_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}

# What a refusal means here; any other status is told with the server's own words.
_REFUSALS = {
    400: "the server did not understand the upgrade (a proxy between may have changed it)",
    401: "the server does not accept the token",
    403: "the server or a proxy before it denies access",
    404: "there is no tunnel endpoint at this address; it is usually /connect",
    407: "a proxy wants credentials",
    426: "the server wants another kind of connection",
    429: "the server asks to try again later",
    502: "the gateway before the server does not reach it",
    503: "the server or the gateway before it is not ready",
    504: "the gateway before the server got no answer from it",
}


class _NoThread:
    """Stands in for the thread that the library would read with."""

    name = ""

    def __init__(self, target: object) -> None:
        pass

    def start(self) -> None:
        """Read nothing: `receive()` does, in its caller's greenlet."""


class _NoEvent:
    """Stands in for the event that the library's thread would set."""


class ConnectedSocket(FramedSocket, Client):  # type: ignore[misc]
    """The MessageSocket of the agent's end: sends masked frames, reads plain ones."""

    ws: Any  # the library's protocol object, until the handshake is over

    def __init__(
        self,
        sock: socket,
        host: str,
        target: str,
        headers: list[tuple[str, str]],
        subprotocols: Sequence[str],
        deadline: float,
    ) -> None:
        self.host = host
        self.path = target
        self.subprotocols = list(subprotocols)
        self.extra_headeers = headers  # the library's own spelling
        self._deadline = deadline
        self._early = b""
        # Not Client's, which dials: the first address only, without a timeout or a proxy.
        Base.__init__(
            self,
            sock,
            connection_type=ConnectionType.CLIENT,
            thread_class=_NoThread,
            event_class=_NoEvent,
        )
        self._open(sock, FrameReader(False, DEFAULT_MAX_MESSAGE), self.subprotocol, self._early)
        # They hold the token and a parser's buffers for as long as the tunnel lives.
        self.extra_headeers, self.ws, self._early = [], None, b""

    def handshake(self) -> None:
        """Ask for the upgrade and judge the answer; called once by the library's constructor.

        Raises HandshakeError.
        """
        self._ask()
        reply = read_reply(self.sock, self._deadline, "the server")
        if reply.status != 101:
            raise _refusal(self.sock, reply, self._deadline)
        self._judge(reply)
        self.connected = True
        self._early = reply.rest

    def _ask(self) -> None:
        try:
            headers = [
                (name.encode("latin-1"), value.encode("latin-1")) for name, value in self.extra_headeers
            ]
            data = self.ws.send(
                Request(
                    host=self.host, target=self.path, subprotocols=self.subprotocols, extra_headers=headers
                )
            )
        except Exception:
            # Each layer below has errors of its own for this. Without the cause: they quote the
            # header that they object to, and that may be the token.
            raise HandshakeError(
                "the upgrade cannot be asked for: the server's address or a header holds a character "
                "that is not allowed there"
            ) from None
        try:
            self.sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
            self.sock.sendall(data)
        except (OSError, ValueError) as error:
            raise HandshakeError(f"the server did not take the upgrade: {explain(error)}") from error

    def _judge(self, reply: Reply) -> None:
        for once in ("sec-websocket-accept", "sec-websocket-protocol", "upgrade"):
            if "," in reply.fields.get(once, ""):
                raise HandshakeError(f"the server's answer has {once} twice", 101)
        try:
            self.ws.receive_data(reply.raw)
            event = next(self.ws.events(), None)
        except Exception as error:
            # wsproto's own errors, its parser's, and those of decoding what the server sent.
            why = printable(str(error)) or "malformed"
            raise HandshakeError(f"the server's upgrade is not valid: {why}", 101) from error
        if not isinstance(event, AcceptConnection):
            raise HandshakeError("the server's upgrade is not valid", 101)
        # wsproto does check this; a tunnel of the wrong version is bad enough to look twice.
        if event.subprotocol is not None and event.subprotocol not in self.subprotocols:
            raise HandshakeError("the server chose a subprotocol that was not offered", 101)
        self.subprotocol = event.subprotocol

    def _key(self) -> bytes | None:
        return os.urandom(4)


def connect(
    sock: socket,
    url: str,
    headers: Sequence[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
    timeout: float = 10.0,
) -> ConnectedSocket:
    """Upgrade `sock`, connected and through its TLS handshake, and give the MessageSocket of it.

    `url` is ws(s)://host[:port]/path[?query]; only what the request says comes from it. `headers`
    may hold the token: they are never shown. `timeout` (seconds) bounds the whole upgrade.

    Raises HandshakeError with the server's status, in a sentence; `sock` stays the caller's to close.
    """
    host, target = _where(url)
    deadline = time.monotonic() + timeout
    try:
        return ConnectedSocket(sock, host, target, list(headers), subprotocols, deadline)
    finally:
        sock.settimeout(None)


def _where(url: str) -> tuple[str, str]:
    """The Host header and the request target that a URL stands for."""
    try:
        parts = urlsplit(url)
        name, port = parts.hostname, parts.port
    except ValueError:
        name = None
    if not name:
        raise HandshakeError("the server's address is not a URL")
    host = f"[{name}]" if ":" in name else name
    if port is not None and port != _PORTS.get(parts.scheme):
        host = f"{host}:{port}"
    return host, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _refusal(sock: socket, reply: Reply, deadline: float) -> HandshakeError:
    """The sentence for an answer other than 101."""
    status = f"{reply.status} {reply.reason}".rstrip()
    if 300 <= reply.status < 400:
        where = printable(reply.fields.get("location", "")) or "nowhere"
        return HandshakeError(
            f"the server redirects to {where} ({status}); redirects are not followed", reply.status
        )
    said = read_words(sock, reply, deadline)
    meaning = _REFUSALS.get(reply.status, "the server refused the upgrade")
    return HandshakeError(f"{meaning} ({status})" + (f": {said}" if said else ""), reply.status)
