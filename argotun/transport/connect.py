"""The agent's end of a tunnel's WebSocket: simple-websocket asks, and its answer is read here.

simple-websocket (with wsproto under it) writes the request and judges the answer. In place of a socket it is
given a `_HandshakeSocket`, which reads exactly one response head and says in words what is wrong with
another: the library's own reading would take frames that came with the answer for part of it.
"""

import ssl
import time
from collections.abc import Sequence

from gevent.socket import socket

from argotun import USER_AGENT
from argotun.errors import HandshakeError
from argotun.transport._private import ask_upgrade
from argotun.transport.explain import explain
from argotun.transport.messages import MessageSocket
from argotun.transport.reply import Reply, printable, read_reply, read_words

# The meaning of a refusal here; any other status is reported with the server's own words.
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

_INTERNAL = "the server's internal port was dialled: agents dial its public one (--addr, 8443 by default)"
_OF_STATUS = "argotun: "
"""How the message of a Status begins that argotun answers itself with; its public port answers no Status."""
_OF_INTERNAL = (400, 503)
"""What the internal port answers to an upgrade: to whoever may ask there, and to all others."""

UPGRADE_REQUIRED = 426

_PIECE = 8
"""Characters of a secret that give it away: a message may quote the end or the beginning of it only."""

_ALERT_WAIT = 0.2
"""Seconds; whoever has closed says nothing more: it is here, or it never comes."""

# A second one of these could mean another upgrade to another reader.
_ONCE = ("sec-websocket-accept", "sec-websocket-protocol", "upgrade")


def connect(
    sock: socket,
    host: str,
    target: str,
    headers: Sequence[tuple[str, str]],
    subprotocols: Sequence[str],
    timeout: float,
) -> MessageSocket:
    """Upgrade `sock`, connected and through its TLS handshake, and give the MessageSocket of it.

    `host` is what the Host field says, `target` what is asked for. `headers` may hold the token: they are
    never shown. `timeout` (seconds) bounds the whole upgrade.

    Raises HandshakeError with the server's status, in a sentence; `sock` stays the caller's to close.
    """
    try:
        return _connect(sock, host, target, headers, subprotocols, timeout)
    except HandshakeError as error:
        if (shown := _without(error, headers)) is error:
            raise
        # Without the cause, which may quote it too.
        raise shown from None


def knock(sock: socket, host: str, target: str, headers: Sequence[tuple[str, str]], timeout: float) -> Reply:
    """Ask as `connect` does, but for no upgrade: nothing begins, whatever is answered.

    That is 426 where the server would let us in, and it agrees on a version first: one that knows no version
    but the first begins a tunnel with its answer to an upgrade. Raises HandshakeError for anything else, with
    what the server would have answered to an upgrade. `sock` stays the caller's to close.
    """
    lines = [f"GET {target} HTTP/1.1", f"Host: {host}", f"User-Agent: {USER_AGENT}", "Connection: close"]
    handshake = _HandshakeSocket(sock, time.monotonic() + timeout)
    try:
        handshake.send("\r\n".join([*lines, *map(": ".join, headers), "", ""]).encode("ascii"))
        reply = read_reply(sock, handshake.deadline, "the server")
        if reply.status != UPGRADE_REQUIRED:
            raise _refusal(sock, reply, handshake.deadline)
        return reply
    except UnicodeEncodeError:
        raise HandshakeError(
            "the server's address or a header holds a character that is not allowed"
        ) from None
    except HandshakeError as error:
        raise _without(error, headers) from None


def _without(error: HandshakeError, headers: Sequence[tuple[str, str]]) -> HandshakeError:
    """The error itself, or one that does not repeat what a header says in secret."""
    if not _repeats(str(error), [word for _, value in headers for word in value.split()[-1:]]):
        return error
    meaning = _REFUSALS.get(error.status or 0, "the server did not answer as it should")
    return HandshakeError(f"{meaning}; its words are not shown, since they repeat the token", error.status)


def _connect(
    sock: socket,
    host: str,
    target: str,
    headers: Sequence[tuple[str, str]],
    subprotocols: Sequence[str],
    timeout: float,
) -> MessageSocket:
    handshake = _HandshakeSocket(sock, time.monotonic() + timeout)
    try:
        agreed = ask_upgrade(handshake, host, target, [("User-Agent", USER_AGENT), *headers], subprotocols)
    except HandshakeError:
        raise
    except Exception as error:
        # The library, wsproto and h11 have errors of their own for this, and none in common.
        if handshake.reply is None:
            # Without the cause: it quotes the header that it objects to, and that may be the token.
            raise HandshakeError(
                "the upgrade cannot be asked for: the server's address or a header holds a character "
                "that is not allowed there"
            ) from None
        why = printable(str(error)) or "malformed"
        raise HandshakeError(f"the server's upgrade is not valid: {why}", 101) from error
    finally:
        sock.settimeout(None)
    # wsproto checks this as well; a tunnel of the wrong version is bad enough to look twice.
    if handshake.reply is None or agreed not in (None, *subprotocols):
        raise HandshakeError("the server chose a subprotocol that was not offered", 101)
    return MessageSocket(sock, agreed, handshake.reply.rest, client=True)


class _HandshakeSocket:
    """The socket that simple-websocket sees: takes one request, and gives the head of one 101.

    Both raise HandshakeError. `reply` is the answer, once there is one; `deadline` is in monotonic seconds.
    """

    def __init__(self, sock: socket, deadline: float) -> None:
        self._sock = sock
        self.deadline = deadline
        self.reply: Reply | None = None

    def send(self, data: bytes) -> None:
        """Send the request."""
        try:
            self._sock.settimeout(max(self.deadline - time.monotonic(), 0.001))
            self._sock.sendall(data)
        except (OSError, ValueError) as error:
            if alert := _alert(self._sock):
                # The same words as where it comes a moment later, instead of the answer.
                raise HandshakeError(f"the server did not answer: {alert}") from error
            raise HandshakeError(f"the server did not take the upgrade: {explain(error)}") from error

    def recv(self, _size: int) -> bytes:
        """Read the answer's head, whatever its size."""
        self.reply = reply = read_reply(self._sock, self.deadline, "the server")
        if reply.status != 101:
            raise _refusal(self._sock, reply, self.deadline)
        for name in _ONCE:
            if "," in reply.fields.get(name, ""):
                raise HandshakeError(f"the server's answer has {name} twice", 101)
        return reply.raw


def _alert(sock: socket) -> str:
    """What a server said in TLS before it closed, "" where it said nothing.

    With TLS 1.3 it judges our certificate after our own part of the handshake is over. What it has to say of
    that may have arrived when it no longer takes what we write.
    """
    try:
        sock.settimeout(_ALERT_WAIT)
        sock.recv(1)
    except ssl.SSLError as error:
        return "" if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) else explain(error)
    except (OSError, ValueError):
        pass
    return ""


def _repeats(text: str, secrets: Sequence[str]) -> bool:
    """Whether a text has a piece of one of the secrets in it."""
    return any(
        secret[at : at + _PIECE] in text
        for secret in secrets
        for at in range(max(len(secret) - _PIECE, 0) + 1)
    )


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
    if reply.status in _OF_INTERNAL and said.startswith(_OF_STATUS):
        meaning = _INTERNAL
    return HandshakeError(f"{meaning} ({status})" + (f": {said}" if said else ""), reply.status)
