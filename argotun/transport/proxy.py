"""The CONNECT that opens a way through an HTTP proxy."""

import re
import time

import gevent
from gevent.socket import socket, socketpair

from argotun import USER_AGENT
from argotun.address import host_port
from argotun.config.proxies import Proxy
from argotun.errors import HandshakeError
from argotun.transport.explain import explain
from argotun.transport.reply import Reply, read_reply, read_words
from argotun.transport.tls import ClientTls, handshake_client

_PIPE = 64 * 1024

# Seconds in which a proxy behind TLS must take _PIPE bytes: by then the tunnel has given it up (45 s), and
# nobody else would ever notice that it takes no more.
_STALL = 60.0

# What a proxy may ask for beside Basic, by their names in Proxy-Authenticate (IANA's registry, and NTLM).
_SCHEMES = ("Basic", "Bearer", "Digest", "Kerberos", "Negotiate", "NTLM")

# Tinyproxy says 401 where it means 407.
_UNAUTHORIZED = (401, 407)

_REFUSALS = {
    403: "the proxy does not allow this address",
    502: "the proxy cannot reach the address",
    503: "the proxy cannot reach the address, or is not ready",
    504: "the proxy got no answer from the address in time",
}


def tunnel(sock: socket, proxy: Proxy, host: str, port: int, deadline: float) -> socket:
    """Ask `proxy`, connected by `sock`, for a way to `host`; `sock` belongs to the result.

    An https:// proxy's certificate is checked against the system's CAs (or SSL_CERT_FILE).
    `deadline` is in time.monotonic() seconds. Raises HandshakeError with the proxy's status in plain
    words; `sock` is closed then.
    """
    if proxy.tls:
        left = deadline - time.monotonic()
        try:
            sock = handshake_client(sock, ClientTls().context(), proxy.host, left)
        except HandshakeError as error:
            raise HandshakeError(f"the proxy: {error}") from error
    try:
        _connect(sock, proxy, host.strip("[]"), port, deadline)
        return _plain(sock) if proxy.tls else sock
    except HandshakeError as error:
        sock.close()
        if proxy.leaks_into(str(error)):
            status = f" ({error.status})" if error.status else ""
            raise HandshakeError(
                f"the proxy refused{status}, repeating the credentials", error.status
            ) from None
        raise
    except BaseException:
        sock.close()
        raise


def _connect(sock: socket, proxy: Proxy, host: str, port: int, deadline: float) -> None:
    where = host_port(host, port)
    if not all("!" <= c <= "~" for c in host):
        raise HandshakeError(f"{host!r} is not a name that a proxy can be asked for")
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}", f"User-Agent: {USER_AGENT}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    try:
        request = "\r\n".join([*lines, "", ""]).encode("ascii")
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        sock.sendall(request)
    except (OSError, ValueError) as error:
        raise HandshakeError(f"the proxy did not take the request: {explain(error)}") from error
    reply = read_reply(sock, deadline, "the proxy")
    if not 200 <= reply.status < 300:
        said = read_words(sock, reply, deadline)
        meaning = _REFUSALS.get(reply.status, "the proxy refused to connect")
        if reply.status in _UNAUTHORIZED:
            meaning = _unauthorized(proxy, reply)
        status = f"{reply.status} {reply.reason}".rstrip()
        raise HandshakeError(f"{meaning}: {where} ({status})" + (f": {said}" if said else ""), reply.status)
    if reply.rest:
        # The client speaks first in TLS and in HTTP: nothing can have come from behind the proxy.
        raise HandshakeError("the proxy sent bytes of its own behind its answer", reply.status)


def _unauthorized(proxy: Proxy, reply: Reply) -> str:
    """What a refusal for want of credentials means (RFC 9110 §11.7.1)."""
    asked = re.sub(r'"[^"]*"', "", reply.fields.get("proxy-authenticate", ""))
    schemes = [name for name in _SCHEMES if re.search(rf"(?:^|,)\s*{name}\b", asked, re.IGNORECASE)]
    if schemes and "Basic" not in schemes:
        return f"the proxy wants credentials by {' or '.join(schemes)}, and only Basic is known here"
    return f"the proxy {'wants' if proxy.authorization is None else 'does not accept the'} user and password"


def _plain(outer: socket) -> socket:
    """A plain socket for the inside of a TLS connection, so that another TLS can run through it.

    OpenSSL here works on file descriptors only. Two greenlets carry the bytes; both sides are closed
    when either ends, or the proxy takes nothing any more.
    """
    try:
        inner, ours = socketpair()
    except OSError as error:
        raise HandshakeError(f"no way through the proxy: {explain(error)}") from error
    ways = [gevent.spawn(_carry, *way) for way in ((outer, inner), (inner, outer))]
    ways[0].link(lambda _: (ways[1].kill(block=False), outer.close(), inner.close()))
    ways[1].link(lambda _: (ways[0].kill(block=False), outer.close(), inner.close()))
    return ours


def _carry(source: socket, target: socket) -> None:
    try:
        while data := source.recv(_PIPE):
            with gevent.Timeout(_STALL, TimeoutError):
                target.sendall(data)
    except (OSError, ValueError):
        # Closing both sides is all that can be done, and is done where this greenlet ends.
        pass
