"""Issuers of ServiceAccount tokens, as kube-apiserver signs them, and tokens that no issuer would sign."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER = "https://kubernetes.default.svc.cluster.local"
SUBJECT = "system:serviceaccount:argotun:argotun"
AUDIENCE = "argotun/c1"

_made: list[Any] = []


def rsa_key(number: int) -> Any:
    """An RSA key; the same one for a number, since they take long to make."""
    while len(_made) <= number:
        _made.append(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    return _made[number]


def segment(value: Any) -> str:
    """A part of a token."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """A cluster's issuer with one key, which `kid` names."""

    def __init__(self, kid: str = "key-1", number: int = 0, curve: Any = None) -> None:
        self.kid = kid
        self.private = ec.generate_private_key(curve) if curve else rsa_key(number)
        self.algorithm = {None: "RS256", "secp256r1": "ES256", "secp384r1": "ES384"}[curve and curve.name]

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key, as `kubectl get --raw /openid/v1/jwks` lists it."""
        made = (ECAlgorithm if "ES" in self.algorithm else RSAAlgorithm).to_jwk(
            self.private.public_key(), as_dict=True
        )
        made.pop("key_ops", None)
        return {**made, "use": "sig", "kid": self.kid, "alg": self.algorithm}

    @property
    def pem(self) -> bytes:
        """The public key as an attacker may use it for a secret."""
        return bytes(
            self.private.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    def claims(self, **other: Any) -> dict[str, Any]:
        """What a token says; None leaves a claim out."""
        now = int(time.time())
        said = {
            "aud": [AUDIENCE],
            "exp": now + 600,
            "iat": now,
            "nbf": now,
            "iss": ISSUER,
            "sub": SUBJECT,
            "kubernetes.io": {"namespace": "argotun", "serviceaccount": {"name": "argotun"}},
            **other,
        }
        return {name: value for name, value in said.items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, algorithm: str = "", **claims: Any) -> str:
        """A signed token."""
        return jwt.encode(
            self.claims(**claims),
            self.private,
            algorithm or self.algorithm,
            headers={"kid": self.kid, **(header or {})},
        )

    def unsigned(self, algorithm: str = "none") -> str:
        """A token that wants no signature."""
        return f"{segment({'alg': algorithm, 'typ': 'JWT', 'kid': self.kid})}.{segment(self.claims())}."

    def by_secret(self, secret: bytes) -> str:
        """A token with HS256, by what everybody knows."""
        said = f"{segment({'alg': 'HS256', 'kid': self.kid})}.{segment(self.claims())}"
        return f"{said}.{segment(hmac.new(secret, said.encode(), hashlib.sha256).digest())}"

    def tampered(self, **claims: Any) -> str:
        """A token whose claims were exchanged after it was signed."""
        head, _, signature = self.token().split(".")
        return f"{head}.{segment(self.claims(**claims))}.{signature}"


def account(*issuers: Issuer, **other: Any) -> dict[str, Any]:
    """An entry's `serviceAccount` with these issuers' keys."""
    return {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "subject": SUBJECT,
        "jwks": {"keys": [issuer.jwk for issuer in issuers]},
        **other,
    }
