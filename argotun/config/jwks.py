"""JWK sets (RFC 7517): the public keys that a cluster's ServiceAccount tokens are signed with.

PyJWT turns a JWK into a key, and is imported where the first set is read: a server without such an entry
starts without it. It was chosen over joserfc since it needs nothing but `cryptography`, is typed, checks
every claim that counts here, and is what most of Python verifies its tokens with.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from argotun.config.values import Refused, Words

LARGEST_SET = 64 * 1024
"""Bytes of a set; kube-apiserver's has 400 for each key, of which there are one to three."""

MOST_KEYS = 64

RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
EC = {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",)}
"""Algorithms by curve (RFC 7518 §3.4). There is no HS… and no `none` here: a public key is no secret."""

RSA_BITS = range(2048, 8192 + 1)
"""Smaller ones can be broken (NIST SP 800-131A), larger ones cost a verifier milliseconds."""


@dataclass(frozen=True, slots=True)
class Key:
    """One public key, and the algorithms that a signature by it may have."""

    kid: str
    algorithms: tuple[str, ...]
    public: Any


def parse_jwks(text: str | bytes) -> dict[str, Key]:
    """The keys of a set by their `kid`; raises Refused, which repeats nothing of it.

    Keys that are for something else, or of a kind that is not used here, are passed over (RFC 7517 §5).
    """
    hidden = Words("the set")
    if len(text) > LARGEST_SET:
        raise Refused(f"at most {LARGEST_SET} bytes", hidden)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused('JSON such as {"keys": […]}', hidden) from None
    listed = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise Refused('a JWK set, {"keys": […]}', hidden)
    if len(listed) > MOST_KEYS:
        raise Refused(f"at most {MOST_KEYS} keys", hidden)
    keys: dict[str, Key] = {}
    for each in listed:
        if "d" in each or "k" in each:
            raise Refused("public keys only: one of these is private and must be replaced", hidden)
        key = read_key(each)
        if key is None:
            continue
        if keys.setdefault(key.kid, key) != key:
            raise Refused("keys with a kid of their own each", hidden)
    if not keys:
        raise Refused("an RSA key of 2048 bits or more, or an EC key, with a kid", hidden)
    return keys


def read_key(jwk: Mapping[str, Any]) -> Key | None:
    """One key of a set, None for one that cannot be used here."""
    # PyJWT is wanted by few servers, and takes a tenth of a second.
    from jwt.algorithms import ECAlgorithm, RSAAlgorithm  # noqa: PLC0415
    from jwt.exceptions import PyJWTError  # noqa: PLC0415

    kind, kid, algorithm = jwk.get("kty"), jwk.get("kid"), jwk.get("alg")
    suited: tuple[str, ...] = (
        RSA if kind == "RSA" else EC.get(str(jwk.get("crv")), ()) if kind == "EC" else ()
    )
    if algorithm is not None:
        suited = tuple(each for each in suited if each == algorithm)
    if not suited or not isinstance(kid, str) or not kid or jwk.get("use", "sig") != "sig":
        return None
    try:
        public = (RSAAlgorithm if kind == "RSA" else ECAlgorithm).from_jwk(dict(jwk))
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    if kind == "RSA" and public.key_size not in RSA_BITS:
        return None
    return Key(kid, suited, public)
