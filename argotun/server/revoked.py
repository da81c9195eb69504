"""Certificates that no longer count, though their CA still vouches for them.

A text file of lines, re-read when it changes:

    # a laptop that was lost, 2026-11-02
    sha256 3F:9A:…     as `openssl x509 -noout -fingerprint -sha256` prints it, with or without colons
    name customer-b    any certificate that carries this name

A line of any other form makes the file one that cannot be used: a slip must not leave a certificate in force.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from argotun.errors import ConfigError
from argotun.files import Followed

log = logging.getLogger("argotun.server")

OPTION = "--revoked"
LARGEST = 1 << 20
"""Bytes; ten thousand lines."""

_FINGERPRINT = re.compile(
    r"sha256\s+(?:Fingerprint=)?((?:[0-9a-f]{2}:){31}[0-9a-f]{2}|[0-9a-f]{64})", re.I | re.A
)
_NAME = re.compile(r"name\s+(\S(?:.*\S)?)")


@dataclass(frozen=True, slots=True)
class Revoked:
    """What the file lists: fingerprints in small hex digits, and names in small letters."""

    fingerprints: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()


def parse(data: bytes) -> Revoked:
    """The file's contents; raises ValueError, which names the line."""
    fingerprints, names = set(), set()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not in UTF-8") from None
    for number, each in enumerate(text.splitlines(), 1):
        line = each.strip()
        if not line or line.startswith("#"):
            continue
        if found := _FINGERPRINT.fullmatch(line):
            fingerprints.add(found[1].replace(":", "").lower())
        elif found := _NAME.fullmatch(line):
            names.add(found[1].lower())
        else:
            raise ValueError(f"line {number} is neither `sha256 FINGERPRINT` nor `name NAME`")
    return Revoked(frozenset(fingerprints), frozenset(names))


def all_names(peercert: Mapping[str, Any] | None) -> frozenset[str]:
    """Every name of a certificate, as `getpeercert()` gives it: one too many is better than one too few."""
    found = {value for _, value in (peercert or {}).get("subjectAltName", ()) if isinstance(value, str)}
    for part in (peercert or {}).get("subject", ()):
        found |= {value for key, value in part if key == "commonName"}
    return frozenset(found)


class RevokedFile:
    """The file of an option, followed; without one nothing is revoked."""

    def __init__(self, path: str | None, on_error: Callable[[], None]) -> None:
        self._path = path
        self._file = Followed(path, LARGEST, parse, OPTION, log, on_error) if path else None
        self._listed = Revoked()

    @property
    def listed(self) -> Revoked:
        """What it lists."""
        return self._listed

    def load(self) -> None:
        """Read it for the first time; raises ConfigError."""
        if self._file is None:
            return
        try:
            self._file.load()
        except ValueError as error:
            raise ConfigError(OPTION, self._path, f"a list of certificates ({error})") from None
        self._listed = self._file.value or Revoked()

    def refresh(self) -> bool:
        """Read it if it has changed; whether it lists something else now."""
        if self._file is None or not self._file.refresh():
            return False
        self._listed = self._file.value or Revoked()
        log.info("%s %s: read again", OPTION, self._path)
        return True

    def revoked(self, fingerprint: str, names: Iterable[str]) -> bool:
        """Whether a certificate with this SHA-256, in hex, or one of these names is listed."""
        listed = self._listed
        if fingerprint in listed.fingerprints:
            return True
        return bool(listed.names) and any(name.lower() in listed.names for name in names)
