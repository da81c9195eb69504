"""HTTP proxies: which one applies, and the CONNECT that opens a way through it."""

import re
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import unquote_to_bytes, urlsplit

import gevent
from gevent.socket import socket, socketpair

from argotun.errors import ConfigError, HandshakeError
from argotun.transport.explain import explain
from argotun.transport.reply import Reply, read_reply, read_words
from argotun.transport.tls import ClientTls, handshake_client

_PORTS = {"http": 80, "https": 443}
_PIPE = 64 * 1024

# Seconds in which a proxy behind TLS must take _PIPE bytes: by then the tunnel has given it up (45 s), and
# nobody else would ever notice that it takes no more.
_STALL = 60.0

_PLACE = re.compile(r"(?:\[[0-9a-f:.]*\]?|[^:]*)(?::\d{0,5})?/?", re.IGNORECASE)

# What a proxy may ask for beside Basic, by their names in Proxy-Authenticate (IANA's registry, and NTLM).
_SCHEMES = ("Basic", "Bearer", "Digest", "Kerberos", "Negotiate", "NTLM")

# As much of a credential as must not be shown, characters: the other side's words may be cut anywhere.
_TELLING = 6

# Tinyproxy says 401 where it means 407.
_UNAUTHORIZED = (401, 407)

_REFUSALS = {
    403: "the proxy does not allow this address",
    502: "the proxy cannot reach the address",
    503: "the proxy cannot reach the address, or is not ready",
    504: "the proxy got no answer from the address in time",
}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy: `tls` for an https:// one, `authorization` the value of Proxy-Authorization.

    `secrets` is what no message may repeat.
    """

    host: str
    port: int
    tls: bool = False
    authorization: str | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, url: str, option: str = "--proxy") -> "Proxy":
        """Read http(s)://[user[:password]@]host[:port]; without a scheme http is meant.

        Raises ConfigError, naming `option` and never the credentials.
        """
        expected = "http[s]://[user:password@]host[:port]"
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            name, port = parts.hostname, parts.port or _PORTS[parts.scheme]
        except (KeyError, ValueError):
            name = None
        if not name or parts.scheme not in _PORTS or any(ord(c) <= 0x20 or ord(c) >= 0x7F for c in name):
            raise ConfigError(option, _without_credentials(url), expected)
        tls = parts.scheme == "https"
        if parts.username is None:
            return cls(name, port, tls)
        password = unquote_to_bytes(parts.password or "")
        encoded = b64encode(unquote_to_bytes(parts.username) + b":" + password).decode()
        return cls(name, port, tls, f"Basic {encoded}", (encoded, password.decode("utf-8", "replace")))

    def is_betrayed_by(self, text: str) -> bool:
        """Whether `text` holds the credentials, or what could be the beginning of them."""
        return any(secret and secret[:_TELLING] in text for secret in self.secrets)


def proxy_for(host: str, port: int, environ: Mapping[str, str], given: str | None = None) -> Proxy | None:
    """Choose the proxy for an address: `given` (--proxy), or HTTPS_PROXY unless NO_PROXY names it.

    Capital names count before small ones. NO_PROXY is a list, by commas or space, of `*`, names (their
    subdomains too), `.names` (subdomains only), addresses and networks, each with or without `:port`.
    Loopback is never dialled through the environment's proxy. Raises ConfigError for a proxy that is none.
    """
    if given:
        return Proxy.parse(given)
    url = environ.get("HTTPS_PROXY") or environ.get("https_proxy")
    if not url:
        return None
    exempt = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    name = host.strip("[]").rstrip(".").lower()
    if _is_loopback(name) or any(_matches(entry, name, port) for entry in re.split(r"[,\s]+", exempt)):
        return None
    return Proxy.parse(url, "HTTPS_PROXY")


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
        if proxy.is_betrayed_by(str(error)):
            status = f" ({error.status})" if error.status else ""
            raise HandshakeError(
                f"the proxy refused{status}, repeating the credentials", error.status
            ) from None
        raise
    except BaseException:
        sock.close()
        raise


def _connect(sock: socket, proxy: Proxy, host: str, port: int, deadline: float) -> None:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if not all("!" <= c <= "~" for c in host):
        raise HandshakeError(f"{host!r} is not a name that a proxy can be asked for")
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
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


def _matches(entry: str, name: str, port: int) -> bool:
    """Whether one entry of NO_PROXY names this host."""
    entry = entry.strip().lower()
    if not entry:
        return False
    if entry == "*":
        return True
    bare, wanted = _split_port(entry)
    bare = bare.rstrip(".")
    if wanted is not None and wanted != port:
        return False
    try:
        address = ip_address(name)
    except ValueError:
        suffix = bare.removeprefix("*")
        return name.endswith(suffix) if suffix.startswith(".") else name == bare or name.endswith(f".{bare}")
    try:
        return address in ip_network(bare, strict=False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, int | None]:
    """Split `host:port`, `[v6]:port`, `host`, `v6` or `v6/net`."""
    host, colon, port = entry.rpartition(":")
    if colon and port.isdigit() and (host.endswith("]") or ":" not in host):
        return host.strip("[]"), int(port)
    return entry.strip("[]"), None


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _without_credentials(url: str) -> str:
    """What may be shown of a URL that is no proxy's: what stands where a port should may be a password."""
    scheme, colon, rest = url.rpartition("://")
    place = rest.rpartition("@")[2]
    if not _PLACE.fullmatch(place):
        place = f"{place.partition(':')[0]}:(hidden)"
    return f"{scheme}{colon}{place}"
