"""Who an agent is: its token against every cluster's, and its certificate's names."""

from collections.abc import Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Any

from argotun.config.clusters import ANY_NAME, Cluster

NAME_TYPES = frozenset({"DNS", "URI", "IP Address", "email"})
"""Kinds of subjectAltName that may identify an agent."""


def bearer(header: bytes | None) -> bytes:
    """The token of an Authorization value, empty when it is not a bearer token (RFC 6750 §2.1)."""
    scheme, _, token = (header or b"").strip(b" \t").partition(b" ")
    return token.strip(b" \t") if scheme.lower() == b"bearer" else b""


def token_digest(header: bytes | None) -> bytes:
    """SHA-256 of the token in an Authorization value, to be compared with `Cluster.tokens`."""
    return sha256(bearer(header)).digest()


def authenticate(header: bytes | None, clusters: Mapping[str, Cluster]) -> Cluster | None:
    """The cluster whose token an Authorization value carries, or None.

    Every token of every cluster is compared, in constant time and without an early end, so that
    the time taken tells nothing about the tokens. An empty token matches none: the clusters file
    cannot hold one.
    """
    offered = token_digest(header)
    found: Cluster | None = None
    for cluster in clusters.values():
        for digest in cluster.tokens:
            if compare_digest(digest, offered):
                found = cluster
    return found


def certificate_allowed(cluster: Cluster, peercert: Mapping[str, Any] | None, asked: bool) -> bool:
    """Whether a client certificate, as `SSLSocket.getpeercert()` gives it, may speak for a cluster.

    One of the certificate's alternative names or its common name must be listed, letter case aside; a
    wildcard in a certificate stands only for itself. An entry that lists none is bound to its id where
    client certificates are `asked` for, and ANY_NAME takes all that the client CA vouches for.
    """
    names = cluster.cert_names or ((cluster.id,) if asked else ())
    if not names or ANY_NAME in names:
        return True
    allowed = {name.casefold() for name in names}
    return not allowed.isdisjoint(certificate_names(peercert or {}))


def caller_name(sock: Any) -> str:
    """The common name in a client's certificate, else an alternative name; "" without a certificate."""
    getpeercert = getattr(sock, "getpeercert", None)
    certificate = getpeercert() if getpeercert is not None else None
    if not certificate:
        return ""
    subject = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    others = [value for kind, value in certificate.get("subjectAltName", ()) if kind in NAME_TYPES]
    return next(iter(subject + others), "")


def certificate_names(peercert: Mapping[str, Any]) -> set[str]:
    """The names in a verified certificate, casefolded: alternative names and common names."""
    names = {value for kind, value in peercert.get("subjectAltName", ()) if kind in NAME_TYPES}
    names |= {value for part in peercert.get("subject", ()) for key, value in part if key == "commonName"}
    return {name.casefold() for name in names}
