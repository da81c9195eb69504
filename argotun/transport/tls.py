"""TLS for both roles: contexts that follow their files, and handshakes that end in time.

Version 1.2 or newer, HTTP/1.1 by ALPN, no compression and no renegotiation. There are no session
tickets: a resumed session skips the check of the client's certificate. What TLS 1.2 can still resume
lives in its context, and a changed file makes a new context: nobody comes back in on the strength of
a CA that was removed. The old context is left to the connections that have it.

The contexts are gevent's, not the standard library's: that one would hand out sockets that block the
whole process where nothing was monkey-patched.
"""

import logging
import ssl
import time
from collections.abc import Callable
from hashlib import sha256

import gevent
from gevent.socket import socket
from gevent.ssl import SSLContext, SSLSocket

from argotun.address import can_be_named
from argotun.errors import ConfigError, HandshakeError
from argotun.files import Fingerprint, Trouble, fingerprint, read, readable, settled
from argotun.transport.certificates import Certificate, certificates, chain_end, parse, remark
from argotun.transport.explain import explain

_log = logging.getLogger(__name__)

# A volume may be swapped between two of its files; one that changes all the time is left for later.
_LOADS = 3

LARGEST_FILE = 4 << 20
"""Bytes of a CA bundle, a certificate or a key: several times what any system trusts."""

# A context, the CA bundle and our own chain in it; either may be empty.
_Loaded = tuple[SSLContext, list[Certificate], list[Certificate]]

# By path: its bytes, or why there are none.
_Contents = dict[str, bytes | str]


class _FollowedFiles:
    """A context made of files, made anew when they change; subclasses say how.

    `options` names the command-line options of CA, certificate and key, for messages; `prefix` stands
    before the names in `expiry`.
    """

    def __init__(
        self,
        ca: str | None,
        cert: str | None,
        key: str | None,
        options: tuple[str, str, str],
        prefix: str = "",
    ) -> None:
        self._prefix = prefix
        self._ca, self._cert, self._key = ca, cert, key
        self._ca_option, self._cert_option, self._key_option = options
        self._files = [path for path in (ca, cert, key) if path is not None]
        self._trouble = Trouble(_log)
        self._looked = self._look()
        content, loaded = self._load_together()
        if isinstance(loaded, ConfigError):
            raise loaded
        self._content = content
        self._use(loaded)

    @property
    def errors(self) -> int:
        """How often the files changed and could not be used."""
        return self._trouble.errors

    def context(self) -> SSLContext:
        """Give the context of the files as they are now, or of the last ones that were whole.

        Files that cannot be used are logged once and counted in `errors`; the next change is tried.
        """
        looked = self._look()
        if looked is None or looked != self._looked:
            self._looked = looked
            if _digest(self._read()) != self._content:
                self._renew()
        return self._context

    def expiry(self) -> dict[str, float]:
        """Unix times at which the certificates that the next handshake uses end, by name.

        "certificate" is the end of our own chain (see `chain_end`), "ca" the last of the CA bundle: while CAs
        are being exchanged the old one may end without harm. Looks at the files too: a tunnel may live
        for months, and a renewed certificate must not look like a forgotten one until it ends.
        """
        self.context()
        return {self._prefix + name: end for name, end in self._ends().items()}

    def _ends(self) -> dict[str, float]:
        ends = {"ca": max(ca.not_after for ca in self._bundle)} if self._bundle else {}
        if self._chain:
            ends["certificate"] = chain_end(self._chain, self._bundle, time.time())
        return ends

    def _renew(self) -> None:
        content, loaded = self._load_together()
        if content is None:
            return
        self._content = content
        if isinstance(loaded, ConfigError):
            self._report(loaded, content)
        else:
            self._use(loaded)
            self._trouble.end("the certificates")
            _log.info("certificates loaded again: %s", ", ".join(self._files))

    def _report(self, error: ConfigError, content: bytes) -> None:
        self._trouble.begin(str(error), "the certificates loaded before stay in use", content)

    def _use(self, loaded: _Loaded) -> None:
        self._context, self._bundle, self._chain = loaded
        ends, now = self._ends(), time.time()
        last = max(self._bundle, key=lambda ca: ca.not_after, default=None)
        own = self._chain[0] if self._chain else None
        for path, what, found, name in (
            (self._ca, "last CA", last, "ca"),
            (self._cert, "certificate", own, "certificate"),
        ):
            if found is not None and (said := remark(found, ends[name], now)):
                # Not refused: the clock may be what is wrong.
                _log.warning("%s: the %s in it %s", path, what, said)

    def _versions(self) -> tuple[Fingerprint | None, ...]:
        return tuple(map(fingerprint, self._files))

    def _look(self) -> tuple[Fingerprint | None, ...] | None:
        """The files' fingerprints, None while another write could still go unseen."""
        versions = self._versions()
        return versions if all(map(settled, versions)) else None

    def _read(self) -> _Contents:
        """What is in each file, or why that cannot be told."""
        found: _Contents = {}
        for path in self._files:
            try:
                found[path] = read(path, LARGEST_FILE).data
            except OSError as error:
                found[path] = (error.strerror or "unknown reason").lower()
        return found

    def _load_together(self) -> tuple[bytes | None, _Loaded | ConfigError]:
        """Load what is in the files: a digest of it, and the result or what is wrong.

        The digest is None, and the result of no use, where the files changed again and again meanwhile.
        """
        loaded: _Loaded | ConfigError
        for _ in range(_LOADS):
            before, found = self._versions(), self._read()
            try:
                loaded = self._load(found)
            except ConfigError as error:
                loaded = error
            if self._versions() == before:
                return _digest(found), loaded
        return None, loaded

    def _load(self, found: _Contents) -> _Loaded:
        """A context of what was read; ConfigError, naming option and file, when something cannot be used."""
        context = self._empty_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
        # Some builds of Python (Debian's 3.11.2) take a connection that was cut for one that ended cleanly.
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        context.set_alpn_protocols(["http/1.1"])
        trusted, bundle = _certificates(self._ca_option, self._ca, found)
        shown, chain = _certificates(self._cert_option, self._cert, found)
        if self._ca is not None:
            self._trust(context, trusted)
        if self._cert is not None:
            # In a context for nothing else: what OpenSSL cannot read below is the key then.
            _parse(self._cert_option, self._cert, SSLContext(ssl.PROTOCOL_TLS_CLIENT), shown)
            if self._key is not None:
                _content(self._key_option, self._key, found)
            self._present(context, self._cert)
        return context, bundle, chain

    def _empty_context(self) -> SSLContext:
        raise NotImplementedError

    def _trust(self, context: SSLContext, bundle: list[bytes]) -> None:
        _parse(self._ca_option, self._ca, context, bundle)
        # An intermediate CA may be the anchor, as for every client and server written in Go.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN

    def _present(self, context: SSLContext, cert: str) -> None:
        option, path = (self._cert_option, cert) if self._key is None else (self._key_option, self._key)
        try:
            with readable(cert) as chain, readable(self._key or cert) as key:
                # Without a password OpenSSL would ask for one at the terminal.
                context.load_cert_chain(chain, key, password="")
        except ssl.SSLError as error:
            wrong = {
                "KEY_VALUES_MISMATCH": "this is the key of another one",
                "NO_START_LINE": "there is none",
            }
            why = wrong.get(error.reason or "", "it is malformed or has a password")
            raise ConfigError(option, path, f"the private key of {cert} in PEM ({why})") from None
        except OSError as error:
            raise ConfigError(option, path, f"a file that can be read ({explain(error)})") from None


class ServerTls(_FollowedFiles):
    """The listeners' TLS: a certificate, and with `client_ca` one that every client must present.

    All three are paths of PEM files; `client_ca` may hold several CAs, `cert` its intermediates.
    `ca_option` names the option of `client_ca`, `prefix` stands before the names in `expiry`. `beside` is
    another set of this process, which reports what is wrong with the files that both have. Raises ConfigError
    when a file cannot be used.
    """

    def __init__(
        self,
        cert: str,
        key: str,
        client_ca: str | None = None,
        ca_option: str = "--tls-client-ca",
        prefix: str = "",
        beside: "ServerTls | None" = None,
    ) -> None:
        super().__init__(client_ca, cert, key, (ca_option, "--tls-cert", "--tls-key"), prefix)
        self._reported = (beside._ca_option, "--tls-cert", "--tls-key") if beside is not None else ()

    def lenient_context(self) -> SSLContext:
        """As `context()`, but a client may present no certificate; one that it presents is verified.

        It is another context: a session that began without a certificate is resumed nowhere else.
        """
        self.context()
        return self._lenient

    def _load(self, found: _Contents) -> _Loaded:
        loaded = super()._load(found)
        self._next_lenient, _, _ = super()._load(found)
        if self._ca is not None:
            self._next_lenient.verify_mode = ssl.CERT_OPTIONAL
        return loaded

    def _report(self, error: ConfigError, content: bytes) -> None:
        if error.option not in self._reported:
            super()._report(error, content)

    def _use(self, loaded: _Loaded) -> None:
        self._lenient = self._next_lenient
        super()._use(loaded)

    def _empty_context(self) -> SSLContext:
        context = SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0
        if self._ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class LenientTls:
    """A listener's TLS that wants a certificate of every client only while `insists` says so."""

    def __init__(self, tls: ServerTls, insists: Callable[[], bool]) -> None:
        self._tls = tls
        self._insists = insists

    def context(self) -> SSLContext:
        """The context for the next handshake."""
        return self._tls.context() if self._insists() else self._tls.lenient_context()


class ClientTls(_FollowedFiles):
    """A dialler's TLS: trusts `ca`, or the system's CAs, and presents `cert` where one is given.

    All three are paths of PEM files. `insecure` takes any certificate for any name. `options` names
    the options of CA, certificate and key, for messages; `prefix` stands before the names in `expiry`,
    where a process has two of these. Raises ConfigError when a file cannot be used.
    """

    def __init__(
        self,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        insecure: bool = False,
        options: tuple[str, str, str] = ("--server-ca-cert", "--client-cert", "--client-key"),
        prefix: str = "",
    ) -> None:
        self._insecure = insecure
        super().__init__(ca, cert, key, options, prefix)

    def _empty_context(self) -> SSLContext:
        context = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self._insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            # A name in the subject alone has not counted since RFC 9525 (and never did in Go).
            context.hostname_checks_common_name = False
            if self._ca is None:
                context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context


def handshake_server(
    sock: socket,
    context: SSLContext,
    timeout: float,
    exchange: Callable[[SSLSocket], None] = SSLSocket.do_handshake,
) -> SSLSocket:
    """Shake hands with a client on `sock`, which belongs to the result from then on.

    `timeout` (seconds) bounds the whole of it, however slowly the other side talks. `exchange` sends and
    receives what belongs to it, where that is not to happen as fast as possible. Raises HandshakeError;
    `sock` is closed then.
    """
    return _shake_hands(sock, context, timeout, None, exchange, server_side=True)


def handshake_client(
    sock: socket, context: SSLContext, server_hostname: str | None, timeout: float
) -> SSLSocket:
    """Shake hands with a server on `sock`, which belongs to the result from then on.

    `server_hostname` is the name or address that the server's certificate must have, and its SNI.
    `timeout` (seconds) bounds the whole of it. Raises HandshakeError; `sock` is closed then. With
    TLS 1.3 a server that refuses our certificate says so only at the first read.
    """
    name = (server_hostname or "").strip("[]").rstrip(".") or None
    if name is not None and not can_be_named(name):
        sock.close()
        raise HandshakeError(f"TLS handshake: {name!r} cannot be a server's name")
    return _shake_hands(sock, context, timeout, name, SSLSocket.do_handshake, server_side=False)


def _shake_hands(
    sock: socket,
    context: SSLContext,
    timeout: float,
    name: str | None,
    exchange: Callable[[SSLSocket], None],
    *,
    server_side: bool,
) -> SSLSocket:
    sock.settimeout(None)
    try:
        tls = context.wrap_socket(
            sock, server_side=server_side, server_hostname=name, do_handshake_on_connect=False
        )
    except (OSError, ValueError) as error:
        sock.close()
        why = explain(error) if isinstance(error, OSError) else "a server's name to verify is needed"
        raise HandshakeError(f"TLS handshake: {why}") from error

    # A socket's own timeout starts again at every byte.
    timer = gevent.Timeout.start_new(max(timeout, 0.001))
    try:
        exchange(tls)
    except gevent.Timeout as fired:
        tls.close()
        if fired is not timer:
            raise
        raise HandshakeError("TLS handshake: the other side did not finish it in time") from None
    except (OSError, ValueError) as error:
        tls.close()
        raise HandshakeError(f"TLS handshake: {explain(error)}") from error
    except BaseException:
        tls.close()
        raise
    finally:
        timer.close()
    return tls


def _digest(found: _Contents) -> bytes:
    """One number for what is in all files."""
    return sha256(repr(found).encode()).digest()


def _content(option: str, path: str, found: _Contents) -> bytes:
    """A file's bytes; ConfigError when it could not be read."""
    content = found[path]
    if isinstance(content, str):
        raise ConfigError(option, path, f"a file that can be read ({content})")
    return content


def _certificates(option: str, path: str | None, found: _Contents) -> tuple[list[bytes], list[Certificate]]:
    """The certificates of a file, if there is one, in DER form and as read.

    Raises ConfigError when it has none, or one that is cut off.
    """
    if path is None:
        return [], []
    text = _content(option, path, found).decode("latin-1")
    try:
        ders = certificates(text)
        return ders, list(map(parse, ders))
    except ValueError as error:
        raise ConfigError(option, path, f"certificates in PEM ({error})") from None


def _parse(option: str, path: str | None, context: SSLContext, found: list[bytes]) -> None:
    """Put certificates into a context's trust; ConfigError when OpenSSL cannot read one."""
    try:
        context.load_verify_locations(cadata=b"".join(found))
    except (ssl.SSLError, ValueError):
        raise ConfigError(option, path, "certificates in PEM (one of them is malformed)") from None
