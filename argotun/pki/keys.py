"""A cluster's public keys, as its owner sends them: the two documents of its API in one file.

A ServiceAccount token names its issuer, and the issuer publishes who it is and what it signs with (OpenID
Connect Discovery 1.0 §4, RFC 7517). Kubernetes serves them at `/.well-known/openid-configuration` and
`/openid/v1/jwks`. Neither is secret.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from argotun import files
from argotun.config.jwks import parse_jwks
from argotun.config.service_accounts import read_text
from argotun.config.values import Refused
from argotun.errors import ConfigError

LARGEST = 256 * 1024
"""Bytes of a file; a set of keys may have 64 KiB, and the other document has one."""

OPTION = "--pki-keys"
_EXPECTED = (
    "a file with both documents of the cluster's API, /.well-known/openid-configuration and /openid/v1/jwks"
)


class Keys(NamedTuple):
    """Who signs a cluster's ServiceAccount tokens, and the JWK set that they are verified with."""

    issuer: str
    jwks: dict[str, Any]

    def text(self) -> str:
        """Both documents again, as `read` takes them."""
        return f"{json.dumps({'issuer': self.issuer})}\n{json.dumps(self.jwks)}\n"


def read(path: Path) -> Keys:
    """The two documents in a file, in whichever order; raises ConfigError, and OSError from reading."""
    text = files.read(str(path), LARGEST).data
    issuer, jwks = "", None
    try:
        for document in _documents(text.decode()):
            if isinstance(document, dict) and "keys" in document:
                jwks = {"keys": document["keys"]}
                parse_jwks(json.dumps(jwks))
            elif isinstance(document, dict) and "issuer" in document:
                issuer = read_text(document["issuer"])
    except Refused as error:
        raise ConfigError(OPTION, str(path), str(error)) from None
    except (ValueError, RecursionError):
        raise ConfigError(OPTION, str(path), _EXPECTED) from None
    if not issuer or jwks is None:
        raise ConfigError(OPTION, str(path), _EXPECTED)
    return Keys(issuer, jwks)


def _documents(text: str) -> list[Any]:
    """JSON documents that stand behind each other, with or without space between; ValueError."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        document, at = decoder.raw_decode(text, at)
        found.append(document)
    return found
