"""The chart's values for both sides, and the Secrets that they name, from files that are already there."""

import base64
import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

SERVER_TLS, CLIENT_CA = "argotun-tls", "argotun-client-ca"
"""Secrets beside the server: its certificate, and the CA of those that agents and Argo CD show."""

SERVER_CA, CLIENT_TLS, TOKEN = "argotun-server-ca", "argotun-client-tls", "argotun-token"
"""Secrets beside an agent: the CA of the server's certificate, its own certificate, and its token."""


def server_values(tokens: Mapping[str, str], folder: Path) -> str:
    """Values of `mode: server` for the clusters with those tokens, of which only digests are written."""
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
            "tls": {"enabled": True, "certSecret": SERVER_TLS, "clientCASecret": CLIENT_CA},
            "argocd": {
                "enabled": True,
                "caData": _base64(folder / "ca.crt"),
                "clientCertData": _base64(folder / "argocd.crt"),
                "clientKeyData": _base64(folder / "argocd.key"),
            },
        }
    )


def agent_values(url: str) -> str:
    """Values of `mode: agent` for a server at `url`."""
    return _yaml(
        {
            "mode": "agent",
            "serverURL": url,
            "existingSecret": TOKEN,
            "tls": {"serverCASecret": SERVER_CA, "clientCertSecret": CLIENT_TLS},
        }
    )


def server_secrets(folder: Path) -> str:
    """The Secrets that the server's values name."""
    return _secrets(
        _secret(SERVER_TLS, {"tls.crt": folder / "server.crt", "tls.key": folder / "server.key"}),
        _secret(CLIENT_CA, {"ca.crt": folder / "ca.crt"}),
    )


def agent_secrets(ca: Path, folder: Path) -> str:
    """The Secrets that an agent's values name; `folder` is that agent's."""
    return _secrets(
        _secret(SERVER_CA, {"ca.crt": ca}),
        _secret(CLIENT_TLS, {"tls.crt": folder / "tls.crt", "tls.key": folder / "tls.key"}),
        _secret(TOKEN, {"token": folder / "token"}),
    )


def cert_name(cluster: str) -> str:
    """The name in the certificate of a cluster's agent, which lets it speak for no other cluster."""
    return cluster[:64]


def _secret(name: str, files: Mapping[str, Path]) -> dict[str, Any]:
    tls = "tls.crt" in files
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/tls" if tls else "Opaque",
        "data": {key: _base64(path) for key, path in files.items()},
    }


def _secrets(*secrets: Mapping[str, Any]) -> str:
    return "".join(f"---\n{_yaml(each)}" for each in secrets)


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _yaml(value: Any) -> str:
    # Through JSON, so that nothing but plain scalars, lists and mappings is written.
    return str(yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False, width=1 << 16))
