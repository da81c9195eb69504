"""What a request's raw target says: whose API it is for, and whether its answer may be silent."""

import re

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
