"""PEM files: the certificates in them, when each ends, and when a chain of them does.

The `ssl` module tells the end of a CA certificate only, and of a leaf only by a private function; a
certificate's validity, names and key are at fixed places of its DER form, read here.
"""

import re
import ssl
from calendar import timegm
from collections.abc import Sequence
from math import inf
from time import gmtime, strftime, strptime
from typing import NamedTuple

from argotun.expiry import SOON

_BEGIN = "-----BEGIN CERTIFICATE-----"
_END = "-----END CERTIFICATE-----"
_BLOCK = re.compile(rf"{_BEGIN}\s([A-Za-z0-9+/=\s]+){_END}")

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


def certificates(pem: str) -> list[bytes]:
    """Give the certificates of a PEM text in DER form, in order; text between them does not matter.

    Raises ValueError when there is none, or one that is cut off: a bundle that was half written must
    not pass for a smaller one.
    """
    found = [ssl.PEM_cert_to_DER_cert(block[0]) for block in _BLOCK.finditer(pem)]
    begun = pem.count(_BEGIN)
    if not begun:
        raise ValueError("there is no certificate in it")
    if len(found) < begun:
        raise ValueError("a certificate in it is cut off or malformed")
    return found


class Certificate(NamedTuple):
    """What is read of a certificate: Unix times, and names and key as they stand in its DER form."""

    not_before: float
    not_after: float
    issuer: bytes
    subject: bytes
    key: bytes


def parse(der: bytes) -> Certificate:
    """Read a certificate in DER form (RFC 5280 §4.1).

    Raises ValueError when `der` is not one.
    """
    try:
        _, at, _ = _element(der, 0)  # Certificate
        _, at, _ = _element(der, at)  # TBSCertificate
        tag, _, end = _element(der, at)
        if tag == _VERSION:
            _, _, end = _element(der, end)  # serial number
        _, _, at = _element(der, end)  # signature algorithm
        _, _, validity = _element(der, at)
        issuer = der[at:validity]
        tag, start, at = _element(der, validity)
        if tag != _SEQUENCE:
            raise ValueError("not a certificate")
        tag, first, end = _element(der, start)
        not_before = _time(tag, der[first:end])
        tag, first, end = _element(der, end)
        not_after = _time(tag, der[first:end])
        _, _, key = _element(der, at)
        subject = der[at:key]
        _, _, end = _element(der, key)
        return Certificate(not_before, not_after, issuer, subject, der[key:end])
    except (IndexError, ValueError):
        raise ValueError("not a certificate") from None


def remark(own: Certificate, end: float, now: float) -> str:
    """What is to be said at `now` of a certificate whose chain ends at `end`; "" where nothing is.

    One that is renewed every hour or day ends soon at all times: a part of its life has to be over as well.
    """
    if own.not_before > now:
        return f"begins on {_date(own.not_before)} UTC: until then nobody takes it, if the clock is right"
    if end < now:
        return f"ended on {_date(end)} UTC"
    if end - now < min(SOON, (end - own.not_before) / 3):
        return f"ends on {_date(end)} UTC"
    return ""


def _date(moment: float) -> str:
    return strftime("%Y-%m-%d %H:%M", gmtime(moment))


def chain_end(chain: Sequence[Certificate], trusted: Sequence[Certificate], now: float) -> float:
    """When nobody can verify the first of `chain` any more by the others: a Unix time.

    That is the end of the first one, or of a CA that it needs. The issuer of each is looked for by its name;
    where a CA has several certificates for one key (it was renewed, or another CA has signed it as well), the
    one that ends last counts. What is in the file besides is needed by nobody.

    A CA's certificate that has ended is not counted where verification goes without it: where one of
    `trusted` is for the same name and key and has not ended; where it had ended before the first of the chain
    began, as nobody ever needed it; and above the CA that issued the first one, since what is up there stands
    for a root that the other side knows itself, and watches itself.
    """
    leaf = chain[0]
    roots = {(root.subject, root.key) for root in trusted if root.not_after >= now}

    def above(below: Certificate, path: tuple[Certificate, ...]) -> float:
        ends: dict[bytes, float] = {}
        for issuer in chain:
            if issuer.subject == below.issuer and issuer not in path:
                end = min(issuer.not_after, above(issuer, (*path, issuer)))
                ends[issuer.key] = max(end, ends.get(issuer.key, -inf))
        return min((end for key, end in ends.items() if not spared(below, key, end)), default=inf)

    def spared(below: Certificate, key: bytes, end: float) -> bool:
        return end < now and (below is not leaf or end < leaf.not_before or (below.issuer, key) in roots)

    return min(leaf.not_after, above(leaf, (leaf,)))


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """The tag of the element at `at`, where its content starts, and where the element ends."""
    tag, length, start = der[at], der[at + 1], at + 2
    if length > 0x80:
        start += length - 0x80
        length = int.from_bytes(der[at + 2 : start], "big")
    if start + length > len(der):
        raise IndexError
    return tag, start, start + length


def _time(tag: int, value: bytes) -> float:
    """A UTCTime or GeneralizedTime in the one form that RFC 5280 §4.1.2.5 allows."""
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        # Two digits of a year: 50 to 99 are the last century.
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("not a certificate")
    return float(timegm(strptime(text, "%Y%m%d%H%M%SZ")))
