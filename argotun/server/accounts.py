"""Agents that show a ServiceAccount token of their own cluster: whose it is, by its signature.

What a token says of itself, unverified, only chooses the entry that it is verified against: issuer, audience
and subject name one, since no two have the same. Everything that counts is checked by PyJWT after that, with
that entry's keys and their algorithms, whatever the token would like better.
"""

import json
import logging
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from argotun.config.clusters import Cluster
from argotun.config.jwks import Key
from argotun.config.service_accounts import ServiceAccount
from argotun.server.keysets import KeySet, key_set

log = logging.getLogger("argotun.server")

LONGEST = 8 * 1024
"""Bytes of a token; a kubelet's has about 1,200."""

LEEWAY = 60.0
"""Seconds that two clocks may differ."""

Claims = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Signed:
    """What has proved an agent: an issuer's key, for this audience and subject."""

    claims: Claims
    key: Key


class Unproved(Exception):
    """A token that names a cluster's account and proves nothing.

    `str()` of it is for the server's log. `said` is what the agent is told: more than "not known" only where
    the signature is right, so that nobody learns which accounts there are.
    """

    def __init__(self, cluster: str, why: str, said: str = "") -> None:
        super().__init__(why)
        self.cluster = cluster
        self.said = said


class Accounts:
    """The accounts of the clusters in force.

    `ca` is the file that URLs are verified against; `on_error` is called for a set that cannot be used.
    """

    def __init__(self, ca: str | None, on_error: Callable[[], None]) -> None:
        self._ca = ca
        self._on_error = on_error
        self._owners: dict[Claims, str] = {}
        self._sets: dict[ServiceAccount, KeySet] = {}
        self._by_cluster: dict[str, KeySet] = {}

    def use(self, clusters: Mapping[str, Cluster]) -> None:
        """Know these clusters' accounts and no others; sets that stay are not read anew."""
        accounts = {cluster.id: cluster.account for cluster in clusters.values() if cluster.account}
        before, self._sets = self._sets, {}
        for account in accounts.values():
            if account in before:
                self._sets[account] = before.pop(account)
            else:
                self._sets[account] = key_set(account, self._ca, self._on_error)
        for gone in before.values():
            gone.close()
        self._owners = {account.claims: name for name, account in accounts.items()}
        self._by_cluster = {name: self._sets[account] for name, account in accounts.items()}

    def look(self) -> list[str]:
        """Look for other keys; ids of the clusters that have some."""
        return [name for name, keys in self._by_cluster.items() if keys.look()]

    def close(self) -> None:
        """Fetch nothing any more."""
        self.use({})

    def prove(self, token: bytes) -> tuple[str, Signed] | None:
        """The cluster whose account has this token, and what proves it; None for no token of any of them.

        Raises Unproved. Keys that are not known are looked for later; nobody waits for that.
        """
        claims, kid = peek(token) if self._owners else (None, "")
        cluster = self._owners.get(claims) if claims else None
        if claims is None or cluster is None:
            return None
        keys = self._by_cluster[cluster]
        key = keys.keys.get(kid)
        if key is None:
            keys.missed()
            raise Unproved(cluster, "its key is not one of the cluster's")
        verify(cluster, token, claims, key)
        return cluster, Signed(claims, key)

    def stands(self, cluster: Cluster, proof: Signed) -> bool:
        """Whether what let an agent in still would, but for the token's times."""
        if cluster.account is None or cluster.account.claims != proof.claims:
            return False
        return self._sets[cluster.account].keys.get(proof.key.kid) == proof.key


def peek(token: bytes) -> tuple[Claims | None, str]:
    """Issuer, audience and subject as a token claims them, and its kid; None where it is no such token.

    A token for several audiences is none for us: others hold it too.
    """
    if len(token) > LONGEST or token.count(b".") != 2:
        return None, ""
    head, body, _ = token.split(b".")
    header, payload = segment(head), segment(body)
    issuer, audience, subject = (payload.get(name) for name in ("iss", "aud", "sub"))
    if isinstance(audience, list) and len(audience) == 1:
        audience = audience[0]
    kid = header.get("kid")
    if not (isinstance(issuer, str) and isinstance(audience, str) and isinstance(subject, str)):
        return None, ""
    return (issuer, audience, subject), kid if isinstance(kid, str) else ""


def segment(data: bytes) -> dict[str, Any]:
    """A part of a token, empty where it is no JSON object in base64url (RFC 7515 §2)."""
    try:
        value = json.loads(urlsafe_b64decode(data + b"=" * (-len(data) % 4)))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def verify(cluster: str, token: bytes, claims: Claims, key: Key) -> None:
    """Raise Unproved unless the token is signed by `key`, for these claims, and of this time."""
    # Whoever has such an entry has loaded it already, with the keys.
    import jwt  # noqa: PLC0415

    issuer, audience, subject = claims
    try:
        jwt.decode(
            token,
            key.public,
            algorithms=list(key.algorithms),
            issuer=issuer,
            audience=audience,
            subject=subject,
            leeway=LEEWAY,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
    except jwt.ExpiredSignatureError:
        raise Unproved(cluster, "it has ended", "the ServiceAccount token has ended") from None
    except jwt.ImmatureSignatureError:
        raise Unproved(cluster, "it is not valid yet", "the ServiceAccount token is not valid yet") from None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Unproved(cluster, str(error) or type(error).__name__) from None
