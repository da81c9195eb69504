"""The chart's values for both sides, from files that are already there."""

import base64
from hashlib import sha256
from pathlib import Path
from typing import Any

from argotun.config.models import ServerUrl
from argotun.errors import ArgotunError
from argotun.files import unmarked
from argotun.pki.keys import Keys
from argotun.pki.openssl import LONGEST_COMMON_NAME

Values = dict[str, Any]

SUBJECT = "system:serviceaccount:argotun:argotun"
"""The agent's ServiceAccount where its release and its namespace have the names that are said here."""

PROOFS = ("token", "tokens", "tokenSha256", "serviceAccount", "certNames")
"""Keys of a cluster's entry that say how its agent proves itself."""

AGENT_PROOFS = ("token", "serverToken", "tls.clientCertData", "tls.clientKeyData")
"""Values of an agent that say how it proves itself."""

PEER = ("peer.certData", "peer.keyData", "peer.caData")
"""Values of several servers by which they know each other."""

NODE_PORTS = range(30000, 32768)
"""Kubernetes' own, unless its API server is told of others."""


def server_values(clusters: Values, folder: Path, callers: Path, replicas: Path | None) -> Values:
    """Values of `mode: server` for entries by id.

    `callers` is the folder of the callers' CA, the same where they have none of their own; `replicas` that of
    the certificate of several servers, if there is one.
    """
    peer = (
        {
            "certData": encoded(replicas / "tls.crt"),
            "keyData": encoded(replicas / "tls.key"),
            "caData": encoded(replicas / "ca.crt"),
        }
        if replicas
        else {}
    )
    own = {"internalClientCAData": encoded(callers / "ca.crt")} if callers != folder else {}
    return {
        "mode": "server",
        "clusters": clusters,
        "tls": {
            "enabled": True,
            "certData": encoded(folder / "server.crt"),
            "keyData": encoded(folder / "server.key"),
            "clientCAData": encoded(folder / "ca.crt"),
            **own,
        },
        "argocd": {
            "enabled": True,
            "caData": encoded(folder / "ca.crt"),
            "clientCertData": encoded(folder / "argocd.crt"),
            "clientKeyData": encoded(folder / "argocd.key"),
        },
        **({"peer": peer} if peer else {}),
    }


def entry_with_token(cluster: str, folder: Path) -> Values:
    """The server's entry of an agent with token and certificate of `folder`; of the token its digest."""
    return {
        "tokenSha256": sha256(token(folder).encode()).hexdigest(),
        "certNames": [cert_name(cluster)],
    }


def entry_with_keys(cluster: str, keys: Keys, url: ServerUrl) -> Values:
    """The server's entry of an agent that shows a token which its own cluster signed."""
    return {
        "serviceAccount": {
            "issuer": keys.issuer,
            "audience": audience(cluster, url),
            "subject": SUBJECT,
            "jwks": keys.jwks,
        }
    }


def agent_values(url: ServerUrl, ca: Path, folder: Path) -> Values:
    """Values of `mode: agent` for a server at `url` with a certificate of `ca`; `folder` is the agent's."""
    return {
        "mode": "agent",
        "serverURL": url.text,
        "token": token(folder),
        "tls": {
            "serverCAData": encoded(ca),
            "clientCertData": encoded(folder / "tls.crt"),
            "clientKeyData": encoded(folder / "tls.key"),
        },
    }


def open_values(cluster: str, url: ServerUrl, ca: Path) -> Values:
    """As `agent_values`, without a secret: the cluster's signature proves the agent."""
    return {
        "mode": "agent",
        "serverURL": url.text,
        "serverToken": {"audience": audience(cluster, url)},
        "tls": {"serverCAData": encoded(ca)},
    }


def exposure_values(exposure: str, url: ServerUrl) -> Values:
    """How agents get to the server at `url`: by a `load-balancer`, or a `node-port` on its own port."""
    port = url.port
    if exposure == "load-balancer":
        return {"service": {"type": "LoadBalancer", "port": port}}
    return {"service": {"type": "NodePort", **({"nodePort": port} if port in NODE_PORTS else {})}}


def audience(cluster: str, url: ServerUrl) -> str:
    """Whom a cluster's ServiceAccount token is for: no other cluster's is, and no other server's."""
    return f"{url.host}/{cluster}"


def cert_name(cluster: str) -> str:
    """The name in the certificate of a cluster's agent, which lets it speak for no other cluster."""
    if len(cluster) <= LONGEST_COMMON_NAME:
        return cluster
    # As the chart does it: two ids that differ late must not have one name.
    return f"{cluster[:55]}-{sha256(cluster.encode()).hexdigest()[:8]}"


def token(folder: Path) -> str:
    """The token in an agent's folder; ArgotunError where there is none."""
    path = folder / "token"
    try:
        return unmarked(path.read_bytes()).decode("ascii").strip()
    except UnicodeDecodeError:
        raise ArgotunError(f"{path}: expected a token of visible ASCII characters") from None


def encoded(path: Path) -> str:
    """The content of a file, as the chart takes it: in base64."""
    return base64.b64encode(path.read_bytes()).decode()
