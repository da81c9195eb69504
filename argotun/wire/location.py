r"""Where an API may redirect its client to: a path of its own, and nothing else.

Neither side follows a redirect, but the client may, and it carries the credential that it has for the server.
kube-apiserver redirects by itself for `…/pods/x/proxy` and for OpenAPI documents whose hash is old, always to
a path. Whatever else an agent or its API says (another host, `//host`, `/../other-cluster`) would lead the
client out of the cluster that it asked.
"""

import re
from collections.abc import Collection

# An absolute path and a query in visible ASCII. A backslash is a slash to some clients, and a `#` never
# reaches a server.
_PATH = re.compile(rb'(/(?!/)[!"$-\[\]-~]*?)((?:\?[!-\[\]-~]*)?)')
# RFC 3986 §5.2.4, also percent-encoded: clients and proxies differ in when they decode.
_SLASH = rb"(?:/|%2f|%5c)"
_DOTS = re.compile(rb"(?i)%b(?:\.|%%2e){1,2}(?=%b|;|$)" % (_SLASH, _SLASH))
_ORIGIN = re.compile(rb"(?i)[a-z][a-z0-9+.-]*://[^/?#]*")


def is_own_path(location: bytes) -> bool:
    """Whether this is an absolute path that resolves to itself: no other host, no dot segments, no `//`."""
    match = _PATH.fullmatch(location)
    return match is not None and b"//" not in match[1] and _DOTS.search(match[1]) is None


def relative(location: bytes, origins: Collection[bytes]) -> bytes:
    """A location without its origin where that is one of `origins` (`scheme://host[:port]`, lower case)."""
    match = _ORIGIN.match(location)
    if match is None or match[0].lower() not in origins:
        return location
    rest = location[match.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest
