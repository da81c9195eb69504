"""The names in a certificate that say whose it is, and lists of them; compared byte for byte.

A certificate speaks by one kind of name: by its URIs where it has any (SPIFFE's are such), else by its DNS
names, and by its common name only where it has no alternative names at all (RFC 9525 §6.3). Nothing else
counts: no e-mail and no IP address, no second common name, no wildcard for what it would match. Letter case
is ignored in DNS names alone, and in ASCII alone: there is no other letter that a `K` is the capital of.

Names with a colon are URIs, names without are not, so that neither can be taken for the other.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, NamedTuple


class Kind(Enum):
    """What kind of name a certificate speaks by."""

    NONE = 0
    URI = 1
    DNS = 2
    COMMON = 3


class Names(NamedTuple):
    """The names of a certificate, all of one kind; DNS names are in small letters."""

    kind: Kind = Kind.NONE
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The first of them, for a person; empty without any."""
        return self.values[0] if self.values else ""


NOBODY = Names()
"""No certificate, or one without a name that counts."""


def names_of(certificate: Mapping[str, Any] | None) -> Names:
    """The names in a verified certificate, as `SSLSocket.getpeercert()` gives it."""
    if not certificate:
        return NOBODY
    alternative = certificate.get("subjectAltName", ())
    uris = tuple(value for kind, value in alternative if kind == "URI" and ":" in value)
    if uris:
        # An identity document of SPIFFE has one URI and no other (X509-SVID §2).
        several = len(uris) > 1 and any(uri.startswith("spiffe:") for uri in uris)
        return NOBODY if several else Names(Kind.URI, uris)
    if alternative:
        found = tuple(
            value.lower()
            for kind, value in alternative
            if kind == "DNS" and value.isascii() and ":" not in value
        )
        return Names(Kind.DNS, found) if found else NOBODY
    common = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    if len(common) == 1 and common[0] and ":" not in common[0]:
        return Names(Kind.COMMON, (common[0],))
    return NOBODY


class Listed:
    """Names as a person lists them, to be found in certificates."""

    __slots__ = ("_dns", "_exact")

    def __init__(self, names: Iterable[str]) -> None:
        self._exact = frozenset(names)
        self._dns = frozenset(name.lower() for name in self._exact if name.isascii() and ":" not in name)

    def find(self, names: Names) -> str:
        """The first of a certificate's names that is listed, as the certificate has it; "" for none."""
        among = self._dns if names.kind == Kind.DNS else self._exact
        return next((value for value in names.values if value in among), "")
