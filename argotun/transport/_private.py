"""The parts of gevent, ssl and the WebSocket libraries that argotun needs and that none of them promises.

No other module reads a private attribute of a library (a test looks), or depends on how one works inside. All
of it is tried out once, at import: after an upgrade that changed one of these things argotun does not start,
and a LibraryError says which library, in which version, lacks what. Without the trial it would hang or lose
bytes, under load and weeks later.

| library          | what is used                                                                         |
|------------------|--------------------------------------------------------------------------------------|
| gevent           | `socket._sock`: the non-blocking socket underneath; `_read_event`, `_write_event`:   |
|                  | its watchers, None once it is closed                                                 |
| ssl              | `SSLSocket._sslobj`: OpenSSL's connection, whose calls never wait; what its          |
|                  | `shutdown` reads                                                                     |
| gevent-websocket | `WebSocketHandler.upgrade_connection` runs on a few attributes, without a server     |
| simple-websocket | `Client.handshake` runs on a few attributes, without a socket or a thread            |

It costs nothing per read or write: `raw_recv` and `raw_send` are asked once per connection, and give the C
method itself.

Two more are tried out where they are used: the masking function of websockets in `wire/websocket.py`, since
`wire/` may not import this package, and how redis-py connects in `replicas/engine.py`, since only a server
with a registry loads that.
"""

import logging
import os
import socket as _socket
import ssl
from collections.abc import Callable, Sequence
from errno import EBADF
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, Protocol

from gevent.socket import socketpair
from gevent.ssl import SSLContext
from geventwebsocket.handler import WebSocketHandler
from simple_websocket import Client
from wsproto import ConnectionType, WSConnection

from argotun.errors import LibraryError

Buffer = bytes | bytearray | memoryview

_RECORDS = 4096
"""More than OpenSSL writes for a close_notify, bytes."""


def is_tls(sock: Any) -> bool:
    """Whether a gevent socket speaks TLS."""
    return getattr(sock, "_sslobj", None) is not None


def raw_recv(sock: Any) -> Callable[[int], bytes]:
    """The read of a gevent socket, plain or TLS, that raises where gevent's own would wait.

    BlockingIOError of a plain one, SSLWantReadError, SSLWantWriteError or SSLZeroReturnError of TLS.
    """
    read: Callable[[int], bytes] = sock._sslobj.read if is_tls(sock) else sock._sock.recv
    return read


def raw_send(sock: Any) -> Callable[[Buffer], int]:
    """The write of a gevent socket, plain or TLS, that raises where gevent's own would wait."""
    write: Callable[[Buffer], int] = sock._sslobj.write if is_tls(sock) else sock._sock.send
    return write


def peek(sock: Any, size: int) -> bytes:
    """What has arrived on a gevent socket, below TLS, and stays there; BlockingIOError if it is nothing."""
    data: bytes = sock._sock.recv(size, _socket.MSG_PEEK)
    return data


def raw_handshake(tls: Any) -> Callable[[], None]:
    """One step of a TLS socket's handshake: until OpenSSL needs the other side, or is done."""
    step: Callable[[], None] = tls._sslobj.do_handshake
    return step


def readable(sock: Any) -> Any:
    """The watcher of a gevent socket that fires when something can be read; OSError once it is closed."""
    watcher = sock._read_event
    if watcher is None:
        raise OSError(EBADF, os.strerror(EBADF))
    return watcher


def writable(sock: Any) -> Any:
    """The watcher of a gevent socket that fires when something can be written; OSError once it is closed."""
    watcher = sock._write_event
    if watcher is None:
        raise OSError(EBADF, os.strerror(EBADF))
    return watcher


def tcp_send(sock: Any) -> Callable[[Buffer], int]:
    """The write of the TCP socket under a gevent socket, past its TLS."""
    write: Callable[[Buffer], int] = sock._sock.send
    return write


def tcp_finish(sock: Any) -> None:
    """Send a FIN; gevent's own `shutdown` would turn TLS off for reading too."""
    try:
        sock._sock.shutdown(_socket.SHUT_WR)
    except OSError:
        # Gone: then it has ended already.
        pass


def close_notify(sock: Any) -> bytes:
    """The TLS record that ends the sending side, for `tcp_send`; b"" if plain, or gone. Reads nothing.

    OpenSSL's `SSL_shutdown` writes it at the first call and reads the peer's own at the second; where it
    finds data instead, the data is lost and the connection useless (APPLICATION_DATA_AFTER_CLOSE_NOTIFY).
    Python always makes both calls, and offers no way to exchange what OpenSSL reads from. Reading everything
    beforehand would leave a gap in which more can arrive.

    So for this one call the descriptor leads to a socket pair of ours, which has nothing to read. epoll does
    not notice: it knows a file by itself and its number, and gets both back. Nothing else runs meanwhile: no
    other thread knows the descriptor, and no greenlet switches. When the process is out of descriptors there
    is no record, and the peer takes the end for a cut.
    """
    if not is_tls(sock):
        return b""
    try:
        number = sock.fileno()
        here, there = _socket.socketpair()
        with here, there:
            here.setblocking(False)
            there.setblocking(False)
            saved = os.dup(number)
            try:
                os.dup2(there.fileno(), number, inheritable=False)
                sock._sslobj.shutdown()
            except ssl.SSLError:
                # Mostly SSLWantReadError: the peer's own has not come.
                pass
            finally:
                os.dup2(saved, number, inheritable=False)
                os.close(saved)
            return here.recv(_RECORDS)
    except OSError:
        return b""


# gevent-websocket

# The library reports each step of each upgrade; the errors of `accept` say what matters.
_silent = logging.getLogger("geventwebsocket")
_silent.disabled = True


class _Upgrade(WebSocketHandler):  # type: ignore[misc]
    """One run of the library's handshake, which keeps the answer."""

    SUPPORTED_VERSIONS = ("13",)

    def __init__(self, key: str, subprotocol: str | None) -> None:
        self.environ = {
            "PATH_INFO": "",
            "HTTP_SEC_WEBSOCKET_VERSION": "13",
            "HTTP_SEC_WEBSOCKET_KEY": key,
            "HTTP_SEC_WEBSOCKET_PROTOCOL": subprotocol or "",
        }
        self.application = SimpleNamespace(app_protocol=lambda _path: subprotocol)
        self.server = SimpleNamespace(logger=_silent)
        # The library makes a WebSocket of its own, which writes a close frame when it is collected: nowhere.
        self.rfile = SimpleNamespace(read=lambda _size: b"")
        self.socket = SimpleNamespace(sendall=lambda _data: None)
        self.answer = b""

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        """Keep the answer, where the base class would write it."""
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "", ""]
        self.answer = "\r\n".join(lines).encode("latin-1")


def answer_upgrade(key: str, subprotocol: str | None) -> bytes:
    """gevent-websocket's answer to an upgrade that was judged already; `key` is Sec-WebSocket-Key."""
    upgrade = _Upgrade(key, subprotocol)
    upgrade.upgrade_connection()
    # Cuts the cycles of handler, environment and WebSocket, so that the collector has nothing to do.
    upgrade.environ.clear()
    upgrade.websocket = None
    return upgrade.answer


# simple-websocket


class HandshakeSocket(Protocol):
    """What simple-websocket takes for a socket while it shakes hands."""

    def send(self, data: bytes) -> object:
        """Send the whole request."""

    def recv(self, size: int) -> bytes:
        """Give the whole head of the answer, whatever `size` says."""


def ask_upgrade(
    sock: HandshakeSocket,
    host: str,
    target: str,
    headers: Sequence[tuple[str, str]],
    subprotocols: Sequence[str],
) -> str | None:
    """Let simple-websocket write the request and judge the answer; the subprotocol that was agreed.

    Raises what the library and those below it raise, of no common type, and what `sock` raises. Only the
    constructor is left out: it dials, the first address only and without a timeout, and reads in a thread.
    """
    client = Client.__new__(Client)
    client.ws = WSConnection(ConnectionType.CLIENT)
    client.sock, client.receive_bytes = sock, 0
    client.host, client.path, client.subprotocols = host, target, list(subprotocols)
    # The library's own spelling.
    client.extra_headeers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    client.handshake()
    agreed: str | None = client.subprotocol
    return agreed


# The trial


def _try_sockets() -> bool:
    ours, theirs = socketpair()
    with ours, theirs:
        try:
            raw_recv(ours)(1)
        except BlockingIOError:
            pass
        else:
            return False
        watched = callable(readable(ours).start) and callable(writable(ours).stop)
        sent = raw_send(theirs)(b"x") == tcp_send(theirs)(b"y") == 1
        sent = sent and peek(ours, 2) == raw_recv(ours)(2) == b"xy"
        tcp_finish(theirs)
        ended = raw_recv(ours)(1) == b""
    return watched and sent and ended and ours._read_event is None and ours._write_event is None


def _try_tls() -> bool:
    context = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    ours, theirs = socketpair()
    with theirs, context.wrap_socket(ours, do_handshake_on_connect=False) as tls:
        try:
            raw_handshake(tls)()
        except ssl.SSLWantReadError:
            # It did not wait for an answer, and has said its ClientHello (RFC 8446 §5.1).
            said = raw_recv(theirs)(1) == b"\x16"
        else:
            return False
        return said and all(map(callable, (raw_recv(tls), raw_send(tls), tls._sslobj.shutdown)))


# The example of RFC 6455 §1.3.
_KEY, _ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"


def _try_answer() -> bool:
    answer = answer_upgrade(_KEY, "b")
    expected = (_ACCEPT, b"\r\nSec-WebSocket-Protocol: b\r\n", b"\r\n\r\n")
    return answer.startswith(b"HTTP/1.1 101 ") and all(part in answer for part in expected)


class _Server:
    """The other library, as a HandshakeSocket."""

    request = b""

    def send(self, data: bytes) -> None:
        self.request = data

    def recv(self, _size: int) -> bytes:
        rest = self.request.partition(b"Sec-WebSocket-Key: ")[2]
        return answer_upgrade(rest[: len(_KEY)].decode(), "b")


def _try_request() -> bool:
    server = _Server()
    agreed = ask_upgrade(server, "h", "/t", [("Authorization", "x")], ["a", "b"])
    expected = (b"\r\nHost: h\r\n", b"\r\nAuthorization: x\r\n")
    sent = server.request
    return (
        agreed == "b" and sent.startswith(b"GET /t HTTP/1.1\r\n") and all(part in sent for part in expected)
    )


_TRIALS: tuple[tuple[str, str, Callable[[], bool]], ...] = (
    ("gevent", "a non-blocking socket and its watchers inside its socket", _try_sockets),
    ("gevent", "OpenSSL's connection inside its SSLSocket", _try_tls),
    ("gevent-websocket", "an upgrade that runs without a server", _try_answer),
    ("simple-websocket", "a handshake that runs without its constructor", _try_request),
)


def try_out() -> None:
    """Raise LibraryError where an installed library does not have what argotun needs of its inside."""
    for library, missing, trial in _TRIALS:
        try:
            works = trial()
        except Exception as error:
            raise LibraryError(library, version(library), missing) from error
        if not works:
            raise LibraryError(library, version(library), missing)


try_out()
