"""Certificates as a person wants them: whose they are, who made them, and when they end."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from argotun.check.steps import Walk
from argotun.expiry import SOON
from argotun.files import read
from argotun.observe.words import plural
from argotun.transport.certificates import certificates
from argotun.transport.reply import printable
from argotun.transport.tls import LARGEST_FILE

MOST_NAMES = 4
"""Names that are shown of one certificate."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate: its names, its issuer's, and the Unix time of its end."""

    names: str
    issuer: str
    ends: float


def of_der(der: bytes) -> Shown:
    """What is shown of a certificate in DER form; raises ValueError when it is none."""
    found = x509.load_der_x509_certificate(der)
    issuer = found.issuer.rfc4514_string() or "an issuer without a name"
    return Shown(_names(found), printable(issuer), found.not_valid_after_utc.timestamp())


def of_file(path: str) -> Shown:
    """The first certificate of a PEM file; raises OSError and ValueError."""
    return of_der(certificates(read(path, LARGEST_FILE).data.decode("latin-1"))[0])


def of_socket(sock: Any) -> Shown | None:
    """What the other side of a TLS connection has shown, None where that is nothing that can be read."""
    try:
        return of_der(sock.getpeercert(True))
    except (ValueError, TypeError, AttributeError):
        return None


def until(end: float) -> str:
    """When something ends, and how far that is away."""
    when = time.strftime("%Y-%m-%d", time.gmtime(end))
    left = end - time.time()
    if left < 0:
        return f"ended on {when}"
    return f"ends on {when}, in {span(left)}"


def span(seconds: float) -> str:
    """A length of time in one number and unit, rounded down."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return plural(int(seconds // size), unit)
    return f"{seconds:.0f} seconds"


def look(walk: Walk, step: str, says: str, end: float, todo: str = "") -> None:
    """Tell of a certificate by when it ends: well, soon, or already."""
    says = f"{says} {until(end)}"
    left = end - time.time()
    if left < 0:
        walk.fail(step, says, todo or "renew it, or set this machine's clock if that is wrong")
    elif left < SOON:
        walk.warn(step, says, todo or "renew it")
    else:
        walk.ok(step, says)


def tell(
    walk: Walk, step: str, sock: Any, says: Callable[[str], str], otherwise: str = "", todo: str = ""
) -> None:
    """Tell of the certificate that the other side of a TLS connection has shown, by `says` of its names.

    Where none can be read, the step went well with the words `otherwise`, or there is nothing to be told.
    """
    shown = of_socket(sock)
    if shown is not None:
        look(walk, step, says(shown.names), shown.ends, todo)
    elif otherwise:
        walk.ok(step, otherwise)


def _names(found: x509.Certificate) -> str:
    try:
        listed = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [str(name.value) for name in listed]
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        names = [str(name.value) for name in found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(map(printable, names[:MOST_NAMES])) + more if names else "nobody"
