"""HTTP/1.1 heads: where one ends, what it says, and the head to send on (RFC 9112, RFC 9110).

Server and agent call the same functions, each trusting nothing that the other checked. A head is accepted
only if every HTTP parser reads it alike: one compiled pattern decides that over the whole head, a second
picks out the few fields that matter, and a third cuts what may not travel, if the second saw any. What is
refused is then looked at again, slowly, to say why (`refusals`).

    method   one of the seven that kube-apiserver serves; others get 501
    target   origin-form in visible ASCII without `#`, else opaque: `%2F`, `//`, `..` and `;` stay as they are
    version  1.0 or 1.1; others get 505. A 1.0 request is sent on as 1.0, so that the API does not answer in
             chunks that such a client cannot read
    framing  no body, one Content-Length, or Transfer-Encoding that is exactly `chunked`
    fields   no folding, no space before the colon, CRLF only, no control byte but HTAB
"""

import re
from collections.abc import Collection

from argotun.errors import HeadError
from argotun.wire import refusals
from argotun.wire.fields import (
    BEARER_SUBPROTOCOL,
    CALLER,
    DROPPED_FROM_REQUESTS,
    DROPPED_FROM_RESPONSES,
    ESSENTIAL,
    ESSENTIAL_DISGUISED,
    IMPERSONATION,
    LINES,
    READ_DISGUISED,
    TOKEN,
    cutter,
    elements,
    names,
    reader,
    without,
    without_bearer,
)
from argotun.wire.refusals import MAX_FIELDS, MAX_HEAD

__all__ = [
    "CHUNKED",
    "MAX_FIELDS",
    "MAX_HEAD",
    "SAFE",
    "UNTIL_CLOSE",
    "RequestHead",
    "ResponseHead",
    "find_head_end",
    "parse_request",
    "parse_response",
    "rewrite_request",
    "rewrite_response",
]

CHUNKED = -1
UNTIL_CLOSE = -2

SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS"))
"""Methods that change nothing (RFC 9110 §9.2.1), where the target does not."""

_REQUEST = re.compile(
    rb'(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[!"$-~]*+) HTTP/1\.([01])\r(%b)\n\r\n' % LINES
)
_RESPONSE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t -~\x80-\xff]*+))?\r(%b)\n\r\n" % LINES)

_READ_REQUEST = reader(
    (
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "audit-id",
        "sec-websocket-protocol",
        CALLER,
    ),
    DROPPED_FROM_REQUESTS,
)
_READ_RESPONSE = reader(
    ("content-length", "transfer-encoding", "connection", "upgrade", "location"), DROPPED_FROM_RESPONSES
)
# By `host is given` + 2 × `Audit-ID is given`.
_CUT_REQUEST = tuple(
    cutter(DROPPED_FROM_REQUESTS + more) for more in ((), ("host",), ("audit-id",), ("host", "audit-id"))
)
_CUT_RESPONSE = cutter(DROPPED_FROM_RESPONSES)

# RFC 3986 §3.2.2 without the comma and quotes, which no host name has and which only join two Hosts.
_HOST = re.compile(rb"[A-Za-z0-9\-._~%!$&()*+;=:\[\]]*+")
# Up to 10^18 - 1, so that no parser overflows 63 bits; a leading zero is octal to some.
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}+")
# Printable, at most what the API keeps of it; a comma would be a second Audit-ID.
_AUDIT_ID = re.compile(rb"[!-+\--~]{1,64}+")
# A name as the server writes it; a comma would be a second one.
_CALLER = re.compile(rb"[!-+\--~](?:[ -+\--~]{0,254}[!-+\--~])?")
_AUDIT_ID_LINE = re.compile(rb"(?i)\naudit-id:")
_LOCATION_LINE = re.compile(rb"(?i)\n(location):[^\r]*+\r")
_TOKEN = re.compile(TOKEN + rb"++")
_ESSENTIAL = names(ESSENTIAL)

_CALLER_FIELD = CALLER.encode()

_UPGRADES = {b"websocket": b"websocket", b"spdy/3.1": b"SPDY/3.1"}
_NONE: frozenset[bytes] = frozenset()
_UNDERSCORE = ord("_")
# Options that the drop lists already take care of: what else Connection names is cut by name.
_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings"))


class RequestHead:
    """A request head that every parser reads alike.

    method, target  as they came; target is origin-form
    minor           0 or 1
    length          of the body: 0 for none, bytes, or CHUNKED
    keep_alive      the client's connection may carry another request after this one
    upgrade         b"websocket" or b"SPDY/3.1" where the client asks for it, else None
    caller          value of Argotun-Caller; None without one, empty where it is there twice or is no name
    audit_id        the client's Audit-ID where it is usable: 1 to 64 visible ASCII bytes
    connection      what Connection lists, in lower case
    host            value of Host; None only in HTTP/1.0
    """

    # Slots, and no constructor: this is made, and looked at, with each request.
    __slots__ = (
        "_audit",
        "_bearer",
        "_cut",
        "_lines",
        "audit_id",
        "caller",
        "connection",
        "host",
        "keep_alive",
        "length",
        "method",
        "minor",
        "target",
        "upgrade",
    )

    method: bytes
    target: bytes
    minor: int
    length: int
    keep_alive: bool
    upgrade: bytes | None
    caller: bytes | None
    audit_id: bytes | None
    connection: frozenset[bytes]
    host: bytes | None
    _lines: bytes
    _cut: bool
    _bearer: bool
    _audit: bool

    @property
    def fields(self) -> bytes:
        """The field lines as they came, each ending in CRLF, without the blank line."""
        return self._lines[1:] + b"\n" if self._lines else b""

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent once more where nobody knows what became of it."""
        return self.method in SAFE and not self.length and self.upgrade is None

    @property
    def impersonates(self) -> bool:
        """Whether the request asks the API to take it for somebody else's."""
        return IMPERSONATION.search(self._lines) is not None

    def values(self, name: bytes) -> list[bytes]:
        """The values of a field, one for each of its lines; `name` in lower case."""
        lines = (line.partition(b":") for line in self._lines.split(b"\n"))
        return [value.strip(b" \t\r") for written, _, value in lines if written.lower() == name]

    def leave_out(self, names: Collection[bytes]) -> None:
        """Send these fields on no more; `names` in lower case, none of those that were read."""
        self._lines = without(self._lines, names)


class ResponseHead:
    """A response head that every parser reads alike.

    status, reason  100 to 599, and its words as they came
    minor           0 or 1
    length          of the body: bytes, CHUNKED, or UNTIL_CLOSE; 0 for HEAD, 1xx, 204 and 304
    keep_alive      the API's connection may carry another request after this response
    upgrade         b"websocket" or b"SPDY/3.1" with a 101, else None
    location        value of Location, None where there is none; empty where there are several
    """

    # As in RequestHead.
    __slots__ = (
        "_connection",
        "_cut",
        "_lines",
        "keep_alive",
        "length",
        "location",
        "minor",
        "reason",
        "status",
        "upgrade",
    )

    status: int
    reason: bytes
    minor: int
    length: int
    keep_alive: bool
    upgrade: bytes | None
    location: bytes | None
    _lines: bytes
    _connection: frozenset[bytes]
    _cut: bool

    @property
    def fields(self) -> bytes:
        """The field lines as they came, each ending in CRLF, without the blank line."""
        return self._lines[1:] + b"\n" if self._lines else b""


def find_head_end(buf: bytes | bytearray, start: int = 0) -> int:
    """Index just past the blank line that ends the head at the beginning of `buf`, or -1: more is needed.

    `start` is how far an earlier call has already looked. An incomplete head that no further byte
    can mend (a bare CR or LF, a control byte, an empty first line) is refused at once, so that a peer which
    ends its lines wrongly gets an answer instead of a timeout.
    Raises HeadError: 400, or 431 when the head is longer than MAX_HEAD.
    """
    found = buf.find(b"\r\n\r\n", start - 3 if start > 3 else 0, MAX_HEAD)
    if found >= 0:
        return found + 4
    refusals.check_partial(buf, start)
    return -1


def parse_request(data: bytes) -> RequestHead:
    """What a request head says; `data` is exactly one head with its blank line.

    Raises HeadError: 400, 431 (too long, too many fields), 501 (method, transfer coding) or 505 (version).
    """
    match = _REQUEST.fullmatch(data)
    if match is None or len(data) > MAX_HEAD:
        raise refusals.request(data)
    head = RequestHead()
    head.method, head.target, minor, head._lines = match.groups()
    head.upgrade = head.caller = head.audit_id = None
    head.connection = _NONE
    head._cut = head._bearer = head._audit = False
    found = _collect(_READ_REQUEST, head._lines)
    head.host = host = found.get(b"host")
    if host is not None:
        head.host = host = host.strip(b" \t")
        if _HOST.fullmatch(host) is None:
            raise HeadError("Host must be there once, as a host name with an optional port")
    elif minor == b"1":
        raise HeadError("Host is missing")
    head.minor = 1 if minor == b"1" else 0
    framed = b"content-length" in found or b"transfer-encoding" in found
    head.length = _length(found, head.minor) if framed else 0
    # A proxy does not honour a 1.0 client's keep-alive (RFC 9112 §9.3), nor its Upgrade (RFC 9110 §7.8).
    head.keep_alive = minor == b"1"
    if b"connection" in found:
        head._cut = True
        head.connection = connection = _connection(found[b"connection"])
        if b"close" in connection:
            head.keep_alive = False
        if b"upgrade" in connection and minor == b"1":
            head.upgrade = _UPGRADES.get(found.get(b"upgrade", b"").strip(b" \t").lower())
            if head.upgrade and head.length:
                raise HeadError("an upgrade with a request body is not supported")
    elif b"" in found or b"upgrade" in found:
        head._cut = True
    if b"audit-id" in found and b"audit-id" not in head.connection:
        head._audit = True
        audit_id = found[b"audit-id"].strip(b" \t")
        if _AUDIT_ID.fullmatch(audit_id):
            head.audit_id = audit_id
    if _CALLER_FIELD in found:
        head._cut = True
        caller = found[_CALLER_FIELD].strip(b" \t")
        head.caller = caller if _CALLER.fullmatch(caller) else b""
    if b"sec-websocket-protocol" in found:
        head._bearer = BEARER_SUBPROTOCOL in found[b"sec-websocket-protocol"].lower()
    if _UNDERSCORE in head._lines:
        _look_behind_underscores(head)
    return head


def rewrite_request(
    head: RequestHead,
    target: bytes,
    extra: bytes = b"",
    host: bytes | None = None,
    close: bool = False,
) -> bytes:
    """The request head to send on: what may not travel is cut, the rest keeps its order, case and repetition.

    target  origin-form, without CR, LF or SP
    extra   ready field lines, each ending in CRLF; an Audit-ID here replaces the client's
    host    value of the one Host field; None keeps the client's
    close   ask the next hop to close after this request; an upgrade asks for itself instead
    """
    lines = head._lines
    cut = (1 if host is not None else 0) + (2 if head._audit and _AUDIT_ID_LINE.search(b"\n" + extra) else 0)
    if cut or head._cut:
        lines = _CUT_REQUEST[cut].sub(b"", lines)
        if not head.connection <= _OPTIONS:
            lines = without(lines, head.connection)
    if head._bearer:
        lines = without_bearer(lines)
    return b"".join(
        (
            head.method,
            b" ",
            target,
            b" HTTP/1.1\r" if head.minor else b" HTTP/1.0\r",
            b"" if host is None else b"\nHost: " + host + b"\r",
            lines,
            b"\n",
            extra,
            _hop(head.upgrade, close) if close or head.upgrade is not None else b"",
            b"\r\n",
        )
    )


def parse_response(data: bytes, method: bytes) -> ResponseHead:
    """What a response head says; `data` is exactly one head with its blank line, `method` the request's.

    Raises HeadError; to a client that is a 502, whatever its `status` says.
    """
    match = _RESPONSE.fullmatch(data)
    if match is None or len(data) > MAX_HEAD:
        raise refusals.response(data)
    head = ResponseHead()
    minor, code, reason, head._lines = match.groups()
    head.minor = 1 if minor == b"1" else 0
    head.status = status = int(code)
    head.reason = reason or b""
    head.upgrade = head.location = None
    head._connection = _NONE
    head._cut = False
    found = _collect(_READ_RESPONSE, head._lines)
    framed = b"content-length" in found or b"transfer-encoding" in found
    head.length = _length(found, head.minor) if framed else UNTIL_CLOSE
    if status < 200 or status == 204:
        # RFC 9110 §8.6: neither may announce a body. Some parsers would wait for one that is announced.
        if head.length > 0 or head.length == CHUNKED:
            raise HeadError(f"a {status} response that announces a body")
        head.length = 0
    elif status == 304 or method == b"HEAD":
        head.length = 0
    kept = minor == b"1"
    if b"connection" in found:
        head._cut = True
        head._connection = connection = _connection(found[b"connection"])
        kept = b"close" not in connection if kept else b"keep-alive" in connection
    elif b"" in found or b"upgrade" in found:
        head._cut = True
    head.keep_alive = kept and head.length != UNTIL_CLOSE
    if status == 101:
        head.upgrade = _UPGRADES.get(found.get(b"upgrade", b"").strip(b" \t").lower())
        if head.upgrade is None or b"upgrade" not in head._connection:
            raise HeadError("a 101 response that does not upgrade to websocket or SPDY/3.1")
    if b"location" in found:
        # Clients differ in which of several they follow.
        several = len(_LOCATION_LINE.findall(head._lines)) > 1
        head.location = b"" if several else found[b"location"].strip(b" \t")
    return head


def rewrite_response(
    head: ResponseHead, close: bool, chunked: bool = False, location: bytes | None = None
) -> bytes:
    """The response head to send on, as HTTP/1.1 and without its hop-by-hop fields.

    close     tell the client that its connection ends with this response; a body that lasts until the
              connection ends tells it by itself, a 1xx never
    chunked   such a body follows in chunks instead
    location  in place of the value of Location, without CR or LF; None keeps it
    """
    ends = close or (head.length == UNTIL_CLOSE and not chunked)
    lines = head._lines
    if location is not None:
        lines = _LOCATION_LINE.sub(lambda line: b"\n%b: %b\r" % (line[1], location), lines)
    if head._cut:
        lines = _CUT_RESPONSE.sub(b"", lines)
        if not head._connection <= _OPTIONS:
            lines = without(lines, head._connection)
    return b"".join(
        (
            b"HTTP/1.1 %d " % head.status,
            head.reason,
            b"\r",
            lines,
            b"\n",
            b"Transfer-Encoding: chunked\r\n" if chunked else b"",
            _hop(head.upgrade, ends and head.status >= 200) if ends or head.upgrade is not None else b"",
            b"\r\n",
        )
    )


def _collect(pattern: re.Pattern[bytes], lines: bytes) -> dict[bytes, bytes]:
    """Values of the fields that matter by lower-case name; b"" is there when one was seen that must go.

    Repeated fields are joined with a comma (RFC 9110 §5.3), which no field that must be there once accepts.
    """
    if lines.count(b"\n") > MAX_FIELDS:
        raise refusals.too_many_fields()
    found: dict[bytes, bytes] = {}
    for written, value in pattern.findall(lines):
        name = written.lower()
        found[name] = b"%b,%b" % (found[name], value) if name in found else value
    return found


def _length(found: dict[bytes, bytes], minor: int) -> int:
    """Body length in bytes or CHUNKED as the fields say, of which there is one (RFC 9112 §6.3)."""
    coding = found.get(b"transfer-encoding")
    if coding is None:
        value = found[b"content-length"].strip(b" \t")
        if _LENGTH.fullmatch(value) is None:
            raise HeadError("Content-Length must be there once, as a plain decimal number")
        return int(value)
    if b"content-length" in found:
        raise HeadError("both Content-Length and Transfer-Encoding")
    if coding.strip(b" \t").lower() != b"chunked":
        raise refusals.coding(coding)
    if not minor:
        raise HeadError("Transfer-Encoding in HTTP/1.0")
    return CHUNKED


def _look_behind_underscores(head: RequestHead) -> None:
    """Some servers read `_` in a name as `-`: refuse what would then matter, and have the rest cut."""
    disguised = ESSENTIAL_DISGUISED.search(head._lines)
    if disguised is not None:
        raise HeadError(f"the header field {disguised[1].decode()} must be written with -")
    head._bearer = head._bearer or READ_DISGUISED.search(head._lines) is not None


def _connection(value: bytes) -> frozenset[bytes]:
    """What Connection lists, in lower case."""
    options = frozenset(elements(value.lower()))
    for option in options:
        if _TOKEN.fullmatch(option) is None:
            raise HeadError("Connection lists something that is not a field name")
        if _ESSENTIAL.fullmatch(option):
            raise HeadError(f"Connection names {option.decode()}, which is meant for the API")
    return options


def _hop(upgrade: bytes | None, close: bool) -> bytes:
    """The field lines that concern the next connection only."""
    if upgrade is not None:
        return b"Connection: Upgrade\r\nUpgrade: " + upgrade + b"\r\n"
    return b"Connection: close\r\n" if close else b""
