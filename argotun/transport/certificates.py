"""PEM files: the certificates in them, and when each ends.

The `ssl` module tells the end of a CA certificate only, and of a leaf only by a private function; a
certificate's validity is a dozen bytes at a fixed place of its DER form (RFC 5280 §4.1), read here.
"""

import re
import ssl
from calendar import timegm
from time import strptime

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


def not_after(der: bytes) -> float:
    """Give the Unix time at which a certificate ends.

    Raises ValueError when `der` is not a certificate.
    """
    try:
        _, start, _ = _element(der, 0)  # Certificate
        _, start, _ = _element(der, start)  # TBSCertificate
        tag, _, end = _element(der, start)
        if tag == _VERSION:
            _, _, end = _element(der, end)  # serial number
        _, _, end = _element(der, end)  # signature algorithm
        _, _, end = _element(der, end)  # issuer
        tag, start, _ = _element(der, end)  # validity
        if tag != _SEQUENCE:
            raise ValueError("not a certificate")
        _, _, end = _element(der, start)  # not before
        tag, start, end = _element(der, end)  # not after
        return _time(tag, der[start:end])
    except (IndexError, ValueError):
        raise ValueError("not a certificate") from None


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
