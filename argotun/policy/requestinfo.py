"""A request as kube-apiserver sees it: verb, resource, namespace, name; or why nobody can be sure of that.

The words and their order are those of k8s.io/apiserver, `pkg/endpoints/request/requestinfo.go`, which RBAC
and admission go by too. It reads a decoded path, and cleans nothing. A proxy in front of the API may; so a
target that has a second spelling is refused here and never guessed at.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes


class NotCanonical(Exception):
    """A target that two servers could read differently; `str()` says what about it."""


class RequestInfo(NamedTuple):
    """What is asked for.

    resource_request   whether it is for a resource of the API; otherwise only `path` and `verb` count
    verb               get, list, watch, create, update, patch, delete, deletecollection; proxy for
                       `/api/v1/proxy/…`; "" for another method on a resource; the method in lower case for
                       any other path
    namespace          "" for an object of the cluster, and for a list over all namespaces
    name               "" where the path (or a selector on `metadata.name`) names no object
    parts              what follows the version, the verb and the namespace: `resource[/name[/subresource…]]`
    """

    resource_request: bool
    path: str
    verb: str
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    parts: tuple[str, ...] = ()

    @property
    def several(self) -> bool:
        """Whether it is about objects that no name tells."""
        return self.verb in _SEVERAL

    def __str__(self) -> str:
        text = self._words()
        # Marks that turn text around would have a reader see something else than what was asked for.
        return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)

    def _words(self) -> str:
        if not self.resource_request:
            return f"{self.verb} {self.path}"
        kind = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        if self.group:
            kind += f" of {self.group}"
        return " ".join(
            (self.verb or "another method on", kind)
            + ((self.name,) if self.name else ())
            + (("in namespace", self.namespace) if self.namespace else ())
        )


_SEVERAL = frozenset(("list", "watch", "deletecollection"))
_VERBS = {
    b"POST": "create",
    b"GET": "get",
    b"HEAD": "get",
    b"PUT": "update",
    b"PATCH": "patch",
    b"DELETE": "delete",
}
_IN_PATH = frozenset(("proxy", "watch"))
_OF_NAMESPACES = frozenset(("status", "finalize"))

# One segment: never empty, `.` or `..`; RFC 3986 §3.3 without `;`, which some servers cut off as a parameter.
# Escaped may be what no server gives a meaning, in upper case (RFC 3986 §2.1): not what need not be escaped
# (§2.3), a slash, a backslash, a percent sign, `;`, `?`, `#`, or a control character.
_SEGMENT = (
    rb"/(?!\.\.?(?:/|\Z))"
    rb"(?:[A-Za-z0-9\-._~!$&'()*+,=:@]++|%(?:2[0124678-C]|3[ACDE]|40|5[BDE]|60|7[BCD]|[89A-F][0-9A-F]))+"
)
_CANONICAL = re.compile(rb"/|(?:%b)+(/)?" % _SEGMENT)
# Without these a query says nothing but whether to watch.
_TO_BE_READ = re.compile(rb"[%+;]|fieldSelector")
_WATCH = re.compile(rb"&watch(?:=([^&]*+))?(?![^&])")
_TWICE = "watch twice in its query"
# apimachinery, Convert_Slice_string_To_bool: anything else is true, even nothing.
_FALSE = (b"false", b"0")
_NUMBERS = frozenset((b"limit", b"timeoutSeconds"))
_QUERY = re.compile(rb"(?:[^%;]++|%[0-9A-Fa-f]{2})*")
# What is wrong with a path that is not canonical; the last row holds for any.
_WHY = (
    (re.compile(rb"//"), "an empty segment (//)"),
    (re.compile(rb"/\.\.?(?:/|\Z)"), "a segment . or .."),
    (re.compile(rb"(?i)%2f|%5c|\\"), "an escaped slash or a backslash"),
    (re.compile(rb"(?i);|%3b"), "a semicolon"),
    (re.compile(rb"%(?![0-9A-Fa-f]{2})"), "a % that begins no escape"),
    (re.compile(rb"%(?:.[a-f]|[a-f])"), "an escape in lower case"),
    (re.compile(rb"%(?:2[DE]|3[0-9]|4[1-9A-F]|5[0-9AF]|6[1-9A-F]|7[0-9AE])"), "an escape that is not needed"),
    (re.compile(rb""), "a character that does not belong there"),
)


def request_info(method: bytes, target: bytes) -> RequestInfo:
    """What `method` on `target` (origin-form) asks for; raises NotCanonical."""
    raw, _, query = target.partition(b"?")
    match = _CANONICAL.fullmatch(raw)
    if match is None:
        raise NotCanonical(next(words for pattern, words in _WHY if pattern.search(raw)))
    try:
        path = (unquote_to_bytes(raw) if b"%" in raw else raw).decode()
    except UnicodeDecodeError:
        raise NotCanonical("an escape that is no UTF-8") from None
    info = _info(method, path, query)
    if match[1] and info.resource_request and info.subresource != "proxy" and info.verb != "proxy":
        # kube-apiserver drops it here, and keeps it in any other path.
        raise NotCanonical("a slash at its end")
    return info


def _info(method: bytes, path: str, query: bytes) -> RequestInfo:
    parts = path.strip("/").split("/")
    count = len(parts)
    if count >= 3 and parts[0] == "api":
        group, version, at = "", parts[1], 2
    elif count >= 4 and parts[0] == "apis":
        group, version, at = parts[1], parts[2], 3
    else:
        return RequestInfo(False, path, method.decode("latin-1").lower())
    verb = _VERBS.get(method, "")
    if parts[at] in _IN_PATH:
        if at + 1 == count:
            raise NotCanonical(f"nothing behind /{parts[at]}")
        verb = parts[at]
        at += 1
    namespace = ""
    if parts[at] == "namespaces" and at + 1 < count:
        namespace = parts[at + 1]
        if at + 2 < count and parts[at + 2] not in _OF_NAMESPACES:
            at += 2
    rest = tuple(parts[at:])
    length = len(rest)
    name = rest[1] if length > 1 else ""
    # What follows a name behind /proxy/ is a path of the proxied server.
    subresource = rest[2] if length > 2 and verb != "proxy" else ""
    if not name:
        if verb == "get":
            verb, name = _listing(query) if query else ("list", "")
        elif verb == "delete":
            verb = "deletecollection"
    return RequestInfo(True, path, verb, group, version, namespace, rest[0], subresource, name, rest)


def _listing(query: bytes) -> tuple[str, str]:
    """Verb and name of a GET that names no object in its path: only there a query means anything."""
    if not _TO_BE_READ.search(query):
        watches = _WATCH.findall(b"&" + query)
        if len(watches) > 1:
            raise NotCanonical(_TWICE)
        return "watch" if watches and watches[0].lower() not in _FALSE else "list", ""
    if _QUERY.fullmatch(query) is None:
        raise NotCanonical("a query with a semicolon or a % that begins no escape")
    watch: bytes | None = None
    selector: bytes | None = None
    sure = True
    for pair in query.split(b"&"):
        key, _, value = pair.partition(b"=")
        if b"%" in key or b"+" in key:
            key = _unescaped(key)
        if key == b"watch":
            if watch is not None:
                raise NotCanonical(_TWICE)
            watch = value
        elif key == b"fieldSelector":
            if selector is not None:
                raise NotCanonical("fieldSelector twice in its query")
            selector = value
        elif key == b"labelSelector" or (key in _NUMBERS and not value.isdigit()):
            # kube-apiserver takes no name of a query that it cannot read as a whole.
            sure = False
    verb = "watch" if watch is not None and _unescaped(watch).lower() not in _FALSE else "list"
    return verb, _selected(_unescaped(selector)) if selector and sure else ""


def _unescaped(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


_TERM = re.compile(r"([^=!]*)(==?|!=)(.*)", re.DOTALL)


def _selected(selector: bytes) -> str:
    """The one name that a field selector leaves, "" where it leaves more than one or could be misread."""
    if b"\\" in selector or b"%" in selector:
        return ""
    found = ""
    for term in selector.decode("utf-8", "replace").split(","):
        match = _TERM.fullmatch(term)
        if match is None or "=" in match[3]:
            if term:
                return ""
        elif match[1] == "metadata.name" and match[2] != "!=" and not found:
            found = match[3]
    return "" if "/" in found or found in (".", "..") else found


_IMPERSONATE = re.compile(rb"(?i)\n(impersonate[-_][^:]*+):([^\r]*+)")
# apiserver, serviceaccount.SplitUsername.
_ACCOUNT = re.compile(
    r"system:serviceaccount:([a-z0-9](?:[a-z0-9-]*[a-z0-9])?):([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)"
)
_AUTHENTICATION = "authentication.k8s.io"


def impersonations(fields: bytes, path: str) -> list[RequestInfo]:
    """What a request's `Impersonate-*` fields ask for, each as kube-apiserver authorizes it.

    `fields` are the head's lines, each ending in CRLF.
    """
    found = _IMPERSONATE.findall(b"\n" + fields)
    return [
        _impersonation(name.lower().replace(b"_", b"-"), value.strip(b" \t").decode("utf-8", "replace"), path)
        for name, value in found
    ]


def _impersonation(field: bytes, value: str, path: str) -> RequestInfo:
    group, resource, subresource, namespace = "", "users", "", ""
    if field == b"impersonate-group":
        resource = "groups"
    elif field == b"impersonate-uid":
        group, resource = _AUTHENTICATION, "uids"
    elif field.startswith(b"impersonate-extra-"):
        group, resource = _AUTHENTICATION, "userextras"
        subresource = unquote_to_bytes(field[len(b"impersonate-extra-") :]).decode("utf-8", "replace")
    elif field != b"impersonate-user":
        # None that kube-apiserver knows today: of a user nobody can tell.
        value = ""
    elif (account := _ACCOUNT.fullmatch(value)) is not None:
        resource, namespace, value = "serviceaccounts", account[1], account[2]
    return RequestInfo(True, path, "impersonate", group, "v1", namespace, resource, subresource, value)
