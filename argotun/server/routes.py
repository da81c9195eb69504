"""What a request's raw target says: whose API it is for, and whether its answer may be silent."""

import re
from urllib.parse import unquote_to_bytes

from argotun.wire.head import SAFE

AGENTS = b"/connect"
"""Where agents are let in, on the public port."""

PREFIX = b"/tunnel/"
"""In front of the cluster's id."""

ROUTE = re.compile(re.escape(PREFIX) + rb"([A-Za-z0-9][A-Za-z0-9._-]*)(?=[/?]|$)")
"""The cluster's id; what follows it goes to its API byte for byte."""

_NAMED = rb"/api(?:s/[^/?]+)?/[^/?]+"

WATCH = re.compile(rb"[?&]watch(?:=(?!(?i:false|0)(?:&|$))[^&]*+)?(?:&|$)|" + _NAMED + rb"/watch/")
"""A request that lasts until somebody ends it, and that may be ended between two events.

Kubernetes takes any value but `false` and `0` for yes (apimachinery, Convert_Slice_string_To_bool).
"""

_SUBRESOURCE = (
    _NAMED
    + rb"/(?:namespaces/[^/?]+/)?[^/?]+/[^/?]+/(?:attach|exec|log|portforward|proxy)(?=[/?]|$)|"
    + _NAMED
    + rb"/proxy/|/debug/pprof/"
)

LASTING = re.compile(WATCH.pattern + rb"|" + _SUBRESOURCE)
"""A request whose answer may begin late and pause for hours.

These are the ones that kube-apiserver excepts from its own limit of 60 s (`watch` and `proxy`, the
subresources of pods and nodes that stream, profiles).
"""

OF_AN_API = re.compile(rb"/(?:apis?|openapi|version)(?=[/?]|$)")
"""What a cluster's API is asked for, without the prefix that says which cluster."""

OPENS = frozenset((b"attach", b"exec", b"portforward", b"proxy"))
"""Subresources with which a GET does more than to read: it opens a shell, or reaches behind the API."""


def only_reads(method: bytes, target: bytes) -> bool:
    """Whether a request only reads what the API has. Segments are those that kube-apiserver would see."""
    if method not in SAFE:
        return False
    path = unquote_to_bytes(target.partition(b"?")[0])
    parts = [part for part in path.split(b"/") if part]
    if b"." in parts or b".." in parts:
        return False
    rest = parts[3 if parts[:1] == [b"apis"] else 2 :]
    if rest[:1] == [b"watch"]:
        rest = rest[1:]
    if rest[:1] == [b"namespaces"] and len(rest) > 2:
        rest = rest[2:]
    return rest[:1] != [b"proxy"] and not OPENS.intersection(rest[2:3])
