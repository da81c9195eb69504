r"""Header fields: their grammar, and the one table of what may not travel through the tunnel.

Names are written here in lower case with `-`; a trailing `*` stands for any ending. Where something is
dropped or refused `_` counts as `-`, because a CGI-like server behind the API reads `X_Remote_User` as
`X-Remote-User`; where a value is read the two stay distinct, as they are for kube-apiserver.

A block of fields is held as *lines*: `\nName: value\r` for each field, one after another. The line feed that
ends the line before comes first, so that a pattern can begin with a byte that `re` skips to, and a field that
is cut leaves its neighbours' CRLF whole.
"""

import re
from collections.abc import Collection, Iterable

# RFC 9110 §5.6.2, §5.5: HTAB, SP, visible ASCII and obs-text. No other control byte is ever part of a head.
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
VALUE = rb"[\t -~\x80-\xff]"

# `++` and `*+` never give back what they matched: a head is refused in one pass, however it is built. They
# stand behind single characters only; behind groups, early releases of CPython 3.11 match them wrongly.
LINES = rb"(?:\n" + TOKEN + rb"++:" + VALUE + rb"*+\r)*"

# RFC 9110 §7.6.1. `proxy-*` holds Proxy-Authorization, Proxy-Authenticate and Proxy-Connection.
HOP_BY_HOP = ("connection", "keep-alive", "te", "upgrade", "http2-settings", "proxy-*")
# What a client proves itself with is meant for this side; the API sees the agent's credential and no other.
CREDENTIALS = ("authorization", "cookie", "cookie2")
# Words of a trusted front proxy about who the caller is or where it comes from: kube-apiserver takes identity
# from X-Remote-* and the audit log's source address from X-Forwarded-For and X-Real-Ip.
CLAIMS = ("x-remote-*", "x-forwarded-*", "forwarded", "x-real-ip")

# The server's own word to the agent about who asks. A client's is dropped, and the API sees none.
CALLER = "argotun-caller"

DROPPED_FROM_REQUESTS = (*HOP_BY_HOP, *CREDENTIALS, *CLAIMS, CALLER)
DROPPED_FROM_RESPONSES = HOP_BY_HOP

# What a head is framed, routed or authenticated by. A `Connection` that names one of these asks a proxy to
# change what the request means (CVE-2021-31999, CVE-2022-23652).
ESSENTIAL = ("host", "content-length", "transfer-encoding", "authorization", "impersonate-*")
# What is read here and has a `-`, beside the above. With a `_` it says nothing to kube-apiserver and may say
# something to others, a bearer token among it: nobody needs it.
READ = ("audit-id", "sec-websocket-*")
# The same may not come in a trailer, where a recipient that merges trailers would take it for the head's.
NOT_IN_TRAILERS = (*ESSENTIAL, *DROPPED_FROM_REQUESTS, *READ, "trailer", "expect")

# kube-apiserver reads a bearer token from a WebSocket subprotocol entry that begins so; browsers use it.
BEARER_SUBPROTOCOL = b"base64url.bearer.authorization.k8s.io."


def alternatives(names: Iterable[str], dash: bytes = b"-") -> bytes:
    """A table of names as alternatives of a pattern that ignores case; `dash` is what matches a `-`."""
    return b"|".join(
        re.escape(name.encode()).replace(rb"\-", dash).replace(rb"\*", TOKEN + rb"*+") for name in names
    )


def reader(read: Iterable[str], dropped: Iterable[str]) -> re.Pattern[bytes]:
    """A pattern whose `findall(lines)` gives `(name, value)` for each field in `read`.

    A field in `dropped` alone gives `(b"", b"")`; all others are skipped. Names come as they were written,
    values with the whitespace around them.
    """
    return re.compile(
        rb"(?i)\n(?:(%b):([^\r]*+)|(?:%b):)" % (alternatives(read), alternatives(dropped, rb"[-_]"))
    )


def cutter(dropped: Iterable[str]) -> re.Pattern[bytes]:
    """A pattern whose `sub(b"", lines)` takes the fields in `dropped` out of lines."""
    return re.compile(rb"(?i)\n(?:%b):[^\r]*+\r" % alternatives(dropped, rb"[-_]"))


def names(of: Iterable[str]) -> re.Pattern[bytes]:
    """A pattern that `fullmatch`es a name in `of`, in any case and with `_` for any `-`."""
    return re.compile(rb"(?i)(?:%b)" % alternatives(of, rb"[-_]"))


def disguised(of: Iterable[str]) -> re.Pattern[bytes]:
    """A pattern that finds the fields in lines whose names are in `of` but for a `_` in place of a `-`.

    Only the `-` that the table itself has count: `Impersonate-Extra-a_b` is what it seems to be.
    """
    mixed = alternatives(of, rb"[-_]")
    return re.compile(rb"(?i)\n(?!(?:%b):)(%b):[^\r]*+\r" % (alternatives(of), mixed))


def without(lines: bytes, dropped: Collection[bytes]) -> bytes:
    """Lines without the fields that `dropped` names (lower case); for the rare `Connection: x-name`."""
    alike = {name.replace(b"_", b"-") for name in dropped}
    kept = [
        line
        for line in lines.split(b"\n")[1:]
        if line.partition(b":")[0].lower().replace(b"_", b"-") not in alike
    ]
    return b"".join([b"\n" + line for line in kept])


def without_bearer(lines: bytes) -> bytes:
    """Lines without bearer tokens among the `Sec-WebSocket-Protocol` entries; a field left empty goes too.

    So do fields that are named like those of READ but for a `_`.
    """
    return _SUBPROTOCOLS.sub(_other_subprotocols, READ_DISGUISED.sub(b"", lines))


def elements(value: bytes) -> list[bytes]:
    """The elements of a comma-separated value without the whitespace around them, empty ones left out."""
    return [element for part in value.split(b",") if (element := part.strip(b" \t"))]


def _other_subprotocols(match: re.Match[bytes]) -> bytes:
    name, value = match.groups()
    entries = elements(value)
    # An entry with a space in it is no token, and some may read its words one by one.
    kept = [
        entry
        for entry in entries
        if not any(word.startswith(BEARER_SUBPROTOCOL) for word in entry.lower().split())
    ]
    if len(kept) == len(entries):
        return match[0]
    return b"\n%b: %b\r" % (name, b", ".join(kept)) if kept else b""


IMPERSONATION = re.compile(rb"(?i)\nimpersonate[-_]")
"""Finds in lines a field by which a request asks to be somebody else's, also with a `_` as some read it."""

_SUBPROTOCOLS = re.compile(rb"(?i)\n(sec-websocket-protocol):([^\r]*+)\r")
ESSENTIAL_DISGUISED = disguised(ESSENTIAL)
READ_DISGUISED = disguised(READ)
