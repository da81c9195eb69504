"""Who may call, and what: from the callers file, followed as it changes, or from a list of names.

A connection is a `Visitor`. What its certificate says is decided once, and again when a file has changed; a
bearer token is looked at only where no certificate says who it is, and remembered as it came. The outcome is
an `Access`: the few bytes and flags that each request needs.

A name that the clusters file gives to an agent is no caller's, whatever else is configured: one that stole a
customer's key must not get beyond that customer's cluster.
"""

import logging
from collections.abc import Callable
from hashlib import sha256
from hmac import compare_digest

from argotun.config.callers import OPTION, Caller, parse_callers
from argotun.config.clusters import ANY_NAME, Cluster
from argotun.config.documents import text_of
from argotun.errors import ConfigError
from argotun.files import Trouble, Watched
from argotun.observe.metrics import CallerStats
from argotun.server.auth import Certificate, bearer
from argotun.server.clusters import ClustersFile
from argotun.server.routes import only_reads
from argotun.transport.names import Kind, Listed, Names, names_of
from argotun.wire.fields import CALLER
from argotun.wire.head import RequestHead

log = logging.getLogger("argotun.server")

LARGEST_FILE = 1 << 20
"""Bytes; some thousands of callers."""


class Access:
    """What the other side of a connection may do; made when it is known, used by each of its requests.

    name     for the log: the caller's, or the one in a certificate that is no caller's; "" for nobody
    refusal  why it may do nothing at all, "" where it may
    caller   its entry
    free     nothing is left to be checked: any request, any cluster
    told     the field that tells an agent who asks, b"" where there is no name
    acts     the fields by which the API is to take it for somebody else
    final    no token makes it another's
    """

    __slots__ = ("acts", "caller", "final", "free", "name", "refusal", "stats", "told")

    def __init__(
        self, name: str, caller: Caller | None, stats: CallerStats, refusal: str = "", final: bool = True
    ) -> None:
        self.final = final
        self.name = name
        self.refusal = refusal
        self.caller = caller
        self.stats = stats
        self.free = caller is not None and _is_free(caller) and not refusal
        self.told = (
            b"%b: %b\r\n" % (_FIELD, caller.name.encode()) if caller is not None and caller.name else b""
        )
        self.acts = _acts(caller) if caller is not None else b""

    @property
    def rights(self) -> tuple[object, ...]:
        """What it may do where it may."""
        return self.caller.rights if self.caller is not None else ()

    def refuses(self, head: RequestHead, target: bytes, cluster: Cluster | None, name: str) -> str:
        """Why this request is not let through to the cluster of that name, "" where it is."""
        caller = self.caller
        why = self.forbids(cluster, name)
        if why or caller is None:
            return why
        if not caller.may_impersonate and head.impersonates:
            return f"caller {self.name!r} may not impersonate (mayImpersonate)"
        if caller.read_only and not (head.upgrade is None and only_reads(head.method, target)):
            return f"caller {self.name!r} may only read (readOnly)"
        return ""

    def forbids(self, cluster: Cluster | None, name: str) -> str:
        """Why no request at all is let through to the cluster of that name, "" where some are."""
        caller = self.caller
        if self.refusal or caller is None:
            return self.refusal
        if not caller.everywhere and (cluster is None or not caller.reaches(cluster)):
            # The same words for one that there is not: this caller need not know.
            return f"caller {self.name!r} may not reach cluster {name!r}"
        return ""


_FIELD = "-".join(part.capitalize() for part in CALLER.split("-")).encode()


def _is_free(caller: Caller) -> bool:
    return caller.everywhere and caller.may_impersonate and not caller.read_only


def _acts(caller: Caller) -> bytes:
    if not caller.user:
        return b""
    lines = [
        f"Impersonate-User: {caller.user}\r\n",
        *(f"Impersonate-Group: {each}\r\n" for each in caller.groups),
    ]
    return "".join(lines).encode("ascii")


class Callers:
    """The callers in force; `version` is another object whenever anything has changed that decides.

    `asked` says that the port asks for client certificates, `bound` that an agent whose cluster lists no
    names shows one with the cluster's id. `names` are whose certificates count where there is no file,
    `limit` is how many connections each caller may have (0: any number).
    `stats` gives the counters of a caller, and of all strangers together for "".
    """

    def __init__(
        self,
        path: str | None,
        names: tuple[str, ...],
        clusters: ClustersFile,
        stats: Callable[[str], CallerStats],
        *,
        asked: bool,
        bound: bool,
        limit: int,
        on_error: Callable[[], None] = lambda: None,
    ) -> None:
        self.limit = limit
        self.version = object()
        self._file = Watched(path, LARGEST_FILE) if path is not None else None
        self._clusters = clusters
        self._stats = stats
        self._asked = asked
        self._bound = bound
        self._trouble = Trouble(log, on_error)
        self._text: str | None = None
        self._entries: tuple[Caller, ...] = tuple(Caller(name, may_impersonate=True) for name in names)
        self._agents: dict[str, Cluster] = {}
        self._agents_names = Listed(())
        self._use(self._entries)

    @property
    def names(self) -> list[str]:
        """Of all callers."""
        return [caller.name for caller in self._entries]

    @property
    def takes_tokens(self) -> bool:
        """Whether a caller may show a token in place of a certificate."""
        return bool(self._tokens)

    def load(self) -> None:
        """Read the file for the first time; raises ConfigError."""
        if self._file is not None:
            self._read(self._file)
        self.refresh()

    def refresh(self) -> bool:
        """Look at the files; whether what they say of callers is another thing now. Never raises."""
        before = self.version
        if self._file is not None and self._file.changed():
            try:
                self._read(self._file)
            except ConfigError as error:
                self._trouble.begin(str(error), "the callers read before stay in force")
            else:
                self._trouble.end(f"the callers file {self._file.path}")
        if self._clusters.clusters is not self._agents:
            self._agents = clusters = self._clusters.clusters
            self._agents_names = Listed(
                name
                for each in clusters.values()
                for name in each.cert_names or (each.id,) * self._bound
                if name != ANY_NAME
            )
            self.version = object()
        return self.version is not before

    def visitor(self, certificate: Certificate, secure: bool) -> "Visitor":
        """Who is at the other end of a connection; `secure` says that it is one of TLS."""
        return Visitor(self, names_of(certificate.content), secure)

    def by_certificate(self, names: Names, secure: bool) -> Access:
        """What a certificate's names allow."""
        taken = self._agents_names.find(names)
        if taken:
            why = f"the certificate of {taken!r} is an agent's: it lets nobody call"
            return Access(taken, None, self._stats(""), why)
        entries = self._by_dns if names.kind == Kind.DNS else self._by_name
        found = next((entries[value] for value in names.values if value in entries), None)
        if found is not None:
            return Access(found.name, found, self._stats(found.name))
        if self._file is None and not (secure and self._asked):
            # Nothing at this port says who somebody is: its NetworkPolicy is what decides.
            return Access("", ANYBODY, self._stats(""))
        shown = str(names)
        why = (
            f"{shown!r} is not a caller" if shown else "nobody is known here without a certificate or a token"
        )
        return Access(shown, None, self._stats(""), why, final=False)

    def by_token(self, header: bytes) -> Access | None:
        """What a bearer token allows; None where it is nobody's. Each is compared, without an early end."""
        offered = sha256(bearer(header)).digest()
        found: Caller | None = None
        for digest, caller in self._tokens:
            if compare_digest(digest, offered):
                found = caller
        return None if found is None else Access(found.name, found, self._stats(found.name))

    def _read(self, file: Watched) -> None:
        text = text_of(file.read, OPTION, file.path, ConfigError)
        if text != self._text:
            self._use(parse_callers(text, file.path))
            self._text = text

    def _use(self, entries: tuple[Caller, ...]) -> None:
        certified = [caller for caller in entries if not caller.tokens]
        self._entries = entries
        self._by_name = {caller.name: caller for caller in certified}
        self._by_dns = {caller.name.lower(): caller for caller in certified}
        self._tokens = [(digest, caller) for caller in entries for digest in caller.tokens]
        self.version = object()


ANYBODY = Caller("", may_impersonate=True)
"""Whoever reaches a port that asks nobody who they are."""


class Visitor:
    """Who is at the other end of one connection, as long as it lives; counted while it does."""

    __slots__ = (
        "_access",
        "_by_certificate",
        "_callers",
        "_credential",
        "_names",
        "_secure",
        "_stats",
        "_version",
    )

    def __init__(self, callers: Callers, names: Names, secure: bool) -> None:
        self._callers = callers
        self._names = names
        self._secure = secure
        self._credential = b""
        self._stats: CallerStats | None = None
        self._decide()
        self._enter()

    @property
    def name(self) -> str:
        """Who it is as far as is known; "" for nobody."""
        return self._access.name

    @property
    def used(self) -> Access:
        """What the request that was seen last was let through by."""
        return self._access

    def access(self, head: RequestHead) -> Access:
        """What this connection may do, by its certificate or by the token of this request."""
        if self._version is not self._callers.version:
            self._decide()
        if self._secure and not self._by_certificate.final and self._callers.takes_tokens:
            credential = b",".join(head.values(b"authorization"))
            if credential != self._credential:
                self._credential = credential
                self._decide()
        if self._stats is not self._access.stats and not self._enter():
            access, most = self._access, self._callers.limit
            why = f"caller {access.name!r} has {most} connections (--max-connections-per-caller)"
            return Access(access.name, access.caller, access.stats, why)
        return self._access

    def now(self) -> Access:
        """The same, for the request that was seen last."""
        if self._version is not self._callers.version:
            self._decide()
        return self._access

    def leave(self) -> None:
        """The connection is over."""
        if self._stats is not None:
            self._stats.connections -= 1
            self._stats = None

    def _decide(self) -> None:
        callers = self._callers
        self._version = callers.version
        self._by_certificate = self._access = callers.by_certificate(self._names, self._secure)
        if self._credential and not self._access.final:
            self._access = callers.by_token(self._credential) or self._access

    def _enter(self) -> bool:
        """Be counted as the caller's; False where it has as many connections as it may."""
        self.leave()
        access, limit = self._access, self._callers.limit
        if limit and access.caller is not None and access.stats.connections >= limit:
            return False
        self._stats = access.stats
        access.stats.connections += 1
        return True
