"""Who an agent is: what it shows against every cluster's entry, and its certificate's names."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Any

from argotun.config.clusters import ANY_NAME, Cluster
from argotun.observe.metrics import AuthFailure
from argotun.server.accounts import Accounts, Signed, Unproved
from argotun.server.clusters import ClustersFile
from argotun.server.revoked import RevokedFile, all_names
from argotun.transport.names import Listed, names_of

Proof = bytes | Signed
"""What let an agent in: the digest of its token, or the key that signed its ServiceAccount token."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A client's certificate: what is in it, as `getpeercert()` gives it, and its SHA-256 in hex.

    Both are empty where none was shown.
    """

    content: Mapping[str, Any] | None = None
    fingerprint: str = ""

    @property
    def ends(self) -> float | None:
        """Unix time at which it is valid no more; None where it says nothing that can be read."""
        try:
            return ssl.cert_time_to_seconds(self.content["notAfter"]) if self.content else None
        except (KeyError, ValueError):
            return None


def shown_by(sock: Any) -> Certificate:
    """The certificate that the other side of a socket has shown, after its handshake."""
    getpeercert = getattr(sock, "getpeercert", None)
    if getpeercert is None or not (encoded := getpeercert(True)):
        return Certificate()
    try:
        content = getpeercert()
    except ValueError:
        # A name in it is no UTF-8: it speaks for nobody, and may still be revoked.
        content = None
    return Certificate(content, sha256(encoded).hexdigest())


class Denied(Exception):
    """Why an agent is not let in: `str()` of it is for the log, `said` for the agent, with `status`.

    `cluster` is the one that it named, `proved` says that it showed that cluster's token or signature.
    """

    def __init__(
        self,
        status: int,
        reason: AuthFailure,
        said: str,
        why: str = "",
        cluster: str = "",
        *,
        proved: bool = True,
    ) -> None:
        super().__init__(why or said)
        self.status = status
        self.reason: AuthFailure = reason
        self.said = said
        self.cluster = cluster
        self.proved = proved


class Authenticator:
    """Who may come in, by the clusters, keys and revocations in force.

    `asked` says that client certificates are asked for at the port.
    """

    def __init__(
        self, clusters: ClustersFile, accounts: Accounts, revoked: RevokedFile, *, asked: bool
    ) -> None:
        self._clusters = clusters
        self._accounts = accounts
        self._revoked = revoked
        self._asked = asked
        self._tokens = Tokens({})

    def authenticate(self, header: bytes | None, certificate: Certificate) -> tuple[Cluster, Proof]:
        """The cluster whose agent shows these, and what proves it; raises Denied."""
        if self.revoked(certificate):
            raise Denied(403, "revoked", "the certificate is revoked")
        cluster, proof = self._identify(header)
        if not self._speaks_for(cluster, proof, certificate):
            raise Denied(403, "certificate", _why_not(cluster, certificate.content), cluster=cluster.id)
        return cluster, proof

    def admits(self, cluster_id: str, proof: Proof, certificate: Certificate) -> bool:
        """Whether an agent that came in so would still; its ServiceAccount token may have ended meanwhile."""
        cluster = self._clusters.clusters.get(cluster_id)
        if cluster is None or self.revoked(certificate):
            return False
        if isinstance(proof, Signed):
            stands = self._accounts.stands(cluster, proof)
        else:
            stands = proof in cluster.tokens
        return stands and self._speaks_for(cluster, proof, certificate)

    def revoked(self, certificate: Certificate) -> bool:
        """Whether this certificate counts no longer."""
        return self._revoked.revoked(certificate.fingerprint, all_names(certificate.content))

    def needs_certificates(self) -> bool:
        """Whether everybody who may come in has a certificate."""
        return not self._current().accounts

    def _current(self) -> "Tokens":
        """What the clusters in force are looked up in."""
        if self._tokens.clusters is not self._clusters.clusters:
            self._tokens = Tokens(self._clusters.clusters)
        return self._tokens

    def _speaks_for(self, cluster: Cluster, proof: Proof, certificate: Certificate) -> bool:
        # A signature of the cluster's own key needs no other witness, unless the entry wants one.
        asked = self._asked and not isinstance(proof, Signed)
        return certificate_allowed(cluster, certificate.content, asked)

    def _identify(self, header: bytes | None) -> tuple[Cluster, Proof]:
        cluster = self._current().owner(header)
        if cluster is not None:
            return cluster, token_digest(header)
        try:
            found = self._accounts.prove(bearer(header))
        except Unproved as unproved:
            why = f"its ServiceAccount token proves nothing: {unproved}"
            said = unproved.said or NOT_KNOWN
            # Only a right signature is told more.
            proved = bool(unproved.said)
            raise Denied(401, "service_account", said, why, unproved.cluster, proved=proved) from None
        if found is None:
            raise Denied(401, "no_token" if header is None else "unknown_token", NOT_KNOWN)
        return self._clusters.clusters[found[0]], found[1]


NOT_KNOWN = "the token is not known"


def bearer(header: bytes | None) -> bytes:
    """The token of an Authorization value, empty when it is not a bearer token (RFC 6750 §2.1)."""
    scheme, _, token = (header or b"").strip(b" \t").partition(b" ")
    return token.strip(b" \t") if scheme.lower() == b"bearer" else b""


def token_digest(header: bytes | None) -> bytes:
    """SHA-256 of the token in an Authorization value, to be compared with `Cluster.tokens`."""
    return sha256(bearer(header)).digest()


class Tokens:
    """Whose token it is, for one version of the clusters: as fast with ten thousand of them as with one.

    The digests are looked up by a MAC under a key that only this object has (BLAKE2, RFC 7693 §2.5). Whoever
    offers a token cannot know what it is compared with, so how long that takes tells nothing about any token.
    An empty token is nobody's: the clusters file cannot hold one. `accounts` says that a cluster has an
    account that its agent may show in place of a token.
    """

    def __init__(self, clusters: Mapping[str, Cluster]) -> None:
        self.clusters = clusters
        self.accounts = any(cluster.account for cluster in clusters.values())
        self._key = os.urandom(32)
        self._owners = {self._mac(digest): each for each in clusters.values() for digest in each.tokens}

    def owner(self, header: bytes | None) -> Cluster | None:
        """The cluster whose token an Authorization value carries, or None."""
        return self._owners.get(self._mac(token_digest(header)))

    def _mac(self, digest: bytes) -> bytes:
        return blake2b(digest, key=self._key, digest_size=32).digest()


def certificate_allowed(cluster: Cluster, peercert: Mapping[str, Any] | None, asked: bool) -> bool:
    """Whether a client certificate, as `SSLSocket.getpeercert()` gives it, may speak for a cluster.

    One of the names that it speaks by must be listed. An entry that lists none is bound to its id where
    client certificates are `asked` for, and ANY_NAME takes all that the client CA vouches for.
    """
    names = cluster.cert_names or ((cluster.id,) if asked else ())
    if not names:
        return True
    if ANY_NAME in names:
        return bool(peercert) or not asked
    return bool(Listed(names).find(names_of(peercert)))


def _why_not(cluster: Cluster, certificate: Mapping[str, Any] | None) -> str:
    """What the agent's operator is told about a cluster that is bound to certificate names."""
    if certificate:
        return (
            f"the certificate is not one of cluster {cluster.id!r}: its certNames, or else its id, "
            "are the names that count"
        )
    return (
        f"cluster {cluster.id!r} is bound to certNames and no client certificate arrived: "
        "a gateway that ends TLS passes none on"
    )
