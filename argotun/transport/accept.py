"""The server's end of a tunnel's WebSocket: gevent-websocket answers, our framing reads and writes.

gevent-websocket's handler checks the upgrade and computes the answer. Around it: what it takes too
loosely (substrings of `Connection` and `Sec-WebSocket-Protocol`, old versions, keys that are not
base64) is refused before it sees it, and its own reading and writing, which know no limits, are
never used.
"""

import logging
import re
from types import SimpleNamespace
from typing import Any, Protocol

from gevent.socket import socket
from geventwebsocket.handler import WebSocketHandler
from geventwebsocket.websocket import WebSocket

from argotun.errors import ConnectionLost, HeadError
from argotun.transport.explain import explain
from argotun.transport.messages import DEFAULT_MAX_MESSAGE, FramedSocket
from argotun.wire.websocket import FrameReader

_VERSION = "13"

# 16 bytes in base64 and nothing else, RFC 6455 §4.2.1 (5).
_KEY = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# The fields that matter to an upgrade and their names in a WSGI environment. Nothing else of the
# head gets there, so `Sec_WebSocket_Key` cannot pose as one of them.
_FIELDS = {
    b"upgrade": "HTTP_UPGRADE",
    b"connection": "HTTP_CONNECTION",
    b"sec-websocket-version": "HTTP_SEC_WEBSOCKET_VERSION",
    b"sec-websocket-key": "HTTP_SEC_WEBSOCKET_KEY",
    b"sec-websocket-protocol": "HTTP_SEC_WEBSOCKET_PROTOCOL",
}


class UpgradeHead(Protocol):
    """What is needed of a request's head, which the listener has read and checked.

    `fields` are the raw field lines, each ending in CRLF; `minor` is 1 for HTTP/1.1.
    """

    method: bytes
    target: bytes
    minor: int

    @property
    def fields(self) -> bytes:
        """The raw field lines."""


class AcceptedSocket(FramedSocket, WebSocket):  # type: ignore[misc]
    """The MessageSocket of the server's end: reads masked frames, sends plain ones."""

    def __init__(self, sock: socket, subprotocol: str | None, early: bytes) -> None:
        self.closed = False
        self.stream = self.raw_read = self.raw_write = self.environ = self.handler = None
        self._open(sock, FrameReader(True, DEFAULT_MAX_MESSAGE), subprotocol, early)

    def __del__(self) -> None:
        """Do nothing: the library would write a close frame to a socket that may not be ours any more."""

    def _key(self) -> bytes | None:
        return None


class _Upgrade(WebSocketHandler):  # type: ignore[misc]
    """One run of the library's handshake: keeps the answer instead of writing it to a socket."""

    SUPPORTED_VERSIONS = (_VERSION,)

    def __init__(self, environ: dict[str, str], minor: int, subprotocol: str | None) -> None:
        self.environ = environ
        self.request_version = f"HTTP/1.{minor}"
        self.application = SimpleNamespace(app_protocol=lambda _path: subprotocol)
        self.server = SimpleNamespace(application=self.application, logger=_silent)
        # The library makes a WebSocket of its own, which writes when it is collected: not to the peer.
        self.rfile = SimpleNamespace(read=lambda _size: b"")
        self.socket = SimpleNamespace(sendall=lambda _data: None)
        self.answer = ""
        self.headers: list[tuple[str, str]] = []

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        """Keep what the library would answer."""
        self.answer, self.headers = status, headers


# The library tells each step of each upgrade; what matters of it is in the errors here.
_silent = logging.getLogger("geventwebsocket")
_silent.disabled = True


def accept(
    sock: socket, head: UpgradeHead, leftover: bytes = b"", subprotocols: tuple[str, ...] = ()
) -> AcceptedSocket:
    """Answer the upgrade in `head` with 101 on `sock` and give the MessageSocket of it.

    `leftover` is what was read behind the head: frames of a client that did not wait for the answer.
    `subprotocols` are ours in order of preference; the first that the client offers, letter for
    letter, is agreed.

    Raises HeadError with status 400, or 426 where another version of WebSocket, or none, was asked
    for (a 426 must carry `Upgrade: websocket` and `Sec-WebSocket-Version: 13`); nothing was written
    then. Raises ConnectionLost when the answer could not be written.
    """
    environ = _environ(head)
    offered = _tokens(environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", ""), "Sec-WebSocket-Protocol")
    chosen = next((ours for ours in subprotocols if ours in offered), None)
    _check(environ)

    upgrade = _Upgrade(environ, head.minor, chosen)
    upgrade.upgrade_websocket()
    if not upgrade.answer.startswith("101 "):
        raise HeadError("this is not a WebSocket upgrade that can be answered")
    lines = [f"HTTP/1.1 {upgrade.answer}", *(f"{name}: {value}" for name, value in upgrade.headers)]
    try:
        sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    except (OSError, ValueError) as error:
        raise ConnectionLost(f"the agent left during the upgrade: {explain(error)}") from error
    return AcceptedSocket(sock, chosen, leftover)


def _environ(head: UpgradeHead) -> dict[str, str]:
    """The part of a WSGI environment that the library looks at; repeated fields become a list."""
    environ = {"REQUEST_METHOD": head.method.decode("latin-1"), "PATH_INFO": ""}
    for line in head.fields.split(b"\r\n"):
        name, _, value = line.partition(b":")
        variable = _FIELDS.get(name.lower())
        if variable is not None:
            text = value.strip(b" \t").decode("latin-1")
            environ[variable] = f"{environ[variable]}, {text}" if variable in environ else text
    return environ


def _check(environ: dict[str, str]) -> None:
    """Refuse what the library would take, or stumble over (RFC 6455 §4.2.1)."""
    if environ["REQUEST_METHOD"] != "GET":
        raise HeadError("a WebSocket upgrade must be a GET")
    if environ.get("HTTP_UPGRADE", "").lower() != "websocket":
        raise HeadError("this address serves WebSocket upgrades only", 426)
    if "upgrade" not in _tokens(environ.get("HTTP_CONNECTION", "").lower(), "Connection"):
        raise HeadError("a WebSocket upgrade needs `Connection: Upgrade`")
    if environ.get("HTTP_SEC_WEBSOCKET_VERSION") != _VERSION:
        raise HeadError("the WebSocket version must be 13", 426)
    if not _KEY.fullmatch(environ.get("HTTP_SEC_WEBSOCKET_KEY", "")):
        raise HeadError("Sec-WebSocket-Key must be 16 bytes in base64, once")


def _tokens(value: str, field: str) -> list[str]:
    """Split a comma-separated list of tokens (RFC 9110 §5.6.1: empty elements do not count)."""
    tokens = [token for part in value.split(",") if (token := part.strip(" \t"))]
    if not all(map(_TOKEN.fullmatch, tokens)):
        raise HeadError(f"{field} is not a list of tokens")
    return tokens
