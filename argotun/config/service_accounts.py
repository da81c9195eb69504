"""The grammar of an entry's `serviceAccount`: by whose signature an agent may prove what it is."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from argotun.config.jwks import parse_jwks
from argotun.config.values import Refused, Words, nearest, quoted, repeated

TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,512}")
SUBJECT = re.compile(r"system:serviceaccount:[a-z0-9-]+:[a-z0-9.-]+")


class RefusedKey(Refused):
    """A key within a value: `key` is the one at fault; `shown` is empty where there is none."""

    def __init__(self, key: str, expected: str, shown: str) -> None:
        super().__init__(expected, shown)
        self.key = key


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """Whose tokens prove an agent; exactly one of the last three says where the public keys are.

    `jwks` is the set itself, as JSON in one form.
    """

    issuer: str
    audience: str
    subject: str
    jwks: str | None = None
    jwks_file: str | None = None
    jwks_url: str | None = None

    @property
    def claims(self) -> tuple[str, str, str]:
        """Issuer, audience and subject, which no other cluster has."""
        return self.issuer, self.audience, self.subject


def read_text(value: Any) -> str:
    """A claim, compared byte for byte."""
    if not isinstance(value, str) or not TEXT.fullmatch(value):
        raise Refused("text of 1 to 512 characters")
    return value


def read_subject(value: Any) -> str:
    """The `sub` claim of a ServiceAccount."""
    if not isinstance(value, str) or not SUBJECT.fullmatch(value):
        raise Refused("system:serviceaccount:NAMESPACE:NAME")
    return value


def read_jwks(value: Any) -> str | None:
    """A JWK set, as an object or as its JSON text."""
    if value in (None, ""):
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    parse_jwks(text)
    return json.dumps(json.loads(text), sort_keys=True)


def read_path(value: Any) -> str | None:
    """The path of a file with a JWK set."""
    if value in (None, ""):
        return None
    if not isinstance(value, str) or "\0" in value:
        raise Refused("the path of a file")
    return value


def read_url(value: Any) -> str | None:
    """Where a JWK set is served."""
    if value in (None, ""):
        return None
    try:
        url = urlsplit(value if isinstance(value, str) else "")
        sound = url.scheme == "https" and url.hostname and url.username is None and url.port != 0
    except ValueError:
        sound = False
    if not sound or not TEXT.fullmatch(str(value)) or " " in str(value):
        raise Refused("an https:// URL without user and password", Words("(hidden)"))
    return str(value)


KEYS: dict[str, Callable[[Any], str | None]] = {
    "issuer": read_text,
    "audience": read_text,
    "subject": read_subject,
    "jwks": read_jwks,
    "jwksFile": read_path,
    "jwksURL": read_url,
}
SOURCES = ("jwks", "jwksFile", "jwksURL")


def read_service_account(value: Any) -> ServiceAccount | None:
    """The whole of it; raises Refused, and RefusedKey where one key is at fault."""
    if value in (None, {}):
        return None
    if not isinstance(value, dict):
        raise Refused(f"an object with issuer, audience, subject and one of {', '.join(SOURCES)}")
    for key in value:
        if key not in KEYS:
            close = nearest(key, KEYS)
            meant = f" ({close} was probably meant)" if close else ""
            raise RefusedKey("key", f"one of {', '.join(KEYS)}{meant}", repr(quoted(key)))
    found = {key: read(value, key) for key in KEYS}
    if sum(found[key] is not None for key in SOURCES) != 1:
        raise Refused(f"exactly one of {', '.join(SOURCES)}", Words("this entry"))
    issuer, audience, subject, *keys = found.values()
    return ServiceAccount(str(issuer), str(audience), str(subject), *keys)


def read(value: Mapping[str, Any], key: str) -> str | None:
    """One key of it; raises RefusedKey."""
    try:
        return KEYS[key](value.get(key))
    except Refused as refused:
        shown = refused.shown or repeated(value[key]) if key in value else ""
        raise RefusedKey(key, str(refused), shown) from None
