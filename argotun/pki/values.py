"""The chart's values for both sides, from files that are already there."""

import base64
import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from argotun.errors import ArgotunError
from argotun.files import unmarked
from argotun.pki.openssl import LONGEST_COMMON_NAME


def server_values(tokens: Mapping[str, str], folder: Path, callers: Path) -> str:
    """Values of `mode: server` for the clusters with those tokens, of which only digests are written.

    `callers` is the folder of the callers' CA, the same where they have none of their own.
    """
    own = {"internalClientCAData": _base64(callers / "ca.crt")} if callers != folder else {}
    return _yaml(
        {
            "mode": "server",
            "clusters": [
                {
                    "id": each,
                    "tokenSha256": sha256(token.encode()).hexdigest(),
                    "certNames": [cert_name(each)],
                }
                for each, token in tokens.items()
            ],
            "tls": {
                "enabled": True,
                "certData": _base64(folder / "server.crt"),
                "keyData": _base64(folder / "server.key"),
                "clientCAData": _base64(folder / "ca.crt"),
                **own,
            },
            "argocd": {
                "enabled": True,
                "caData": _base64(folder / "ca.crt"),
                "clientCertData": _base64(folder / "argocd.crt"),
                "clientKeyData": _base64(folder / "argocd.key"),
            },
        }
    )


def agent_values(url: str, ca: Path, folder: Path) -> str:
    """Values of `mode: agent` for a server at `url` with a certificate of `ca`; `folder` is the agent's."""
    return _yaml(
        {
            "mode": "agent",
            "serverURL": url,
            "token": token(folder),
            "tls": {
                "serverCAData": _base64(ca),
                "clientCertData": _base64(folder / "tls.crt"),
                "clientKeyData": _base64(folder / "tls.key"),
            },
        }
    )


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


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _yaml(value: Any) -> str:
    # Through JSON, so that nothing but plain scalars, lists and mappings is written.
    return str(yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False, width=1 << 16))
