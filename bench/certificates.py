"""Throw-away certificates for one run: a CA, one for servers on 127.0.0.1 and one for the agent."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError

DAYS = "2"

# One request section for all three; the extensions are chosen by name (x509v3_config(5)).
OPENSSL_CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = bench
[ca]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:false
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, DNS:localhost
[agent]
basicConstraints = critical, CA:false
extendedKeyUsage = clientAuth
subjectAltName = DNS:bench
"""


AGENT_NAME = "bench"
"""The name in the agents' certificate, which all clusters' entries list."""


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files: EC P-256 keys, as most clusters use them."""

    ca: Path
    server: Path
    server_key: Path
    agent: Path
    agent_key: Path


def make(folder: Path) -> Certificates:
    """Make the certificates with the `openssl` program in `folder`."""
    config = folder / "openssl.cnf"
    config.write_text(OPENSSL_CONFIG)

    def key_and_request(name: str) -> tuple[Path, Path]:
        key, request = folder / f"{name}.key", folder / f"{name}.csr"
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key))
        _openssl(
            *("req", "-new", "-config", str(config), "-key", str(key)),
            *("-subj", f"/CN=bench {name}", "-out", str(request)),
        )
        return key, request

    def sign(name: str, request: Path, *signer: str) -> Path:
        certificate = folder / f"{name}.crt"
        _openssl(
            *("x509", "-req", "-in", str(request), "-days", DAYS, "-sha256"),
            *("-extfile", str(config), "-extensions", name, *signer, "-out", str(certificate)),
        )
        return certificate

    ca_key, ca_request = key_and_request("ca")
    ca = sign("ca", ca_request, "-signkey", str(ca_key))
    by_ca = ("-CA", str(ca), "-CAkey", str(ca_key), "-CAcreateserial")
    server_key, server_request = key_and_request("server")
    agent_key, agent_request = key_and_request("agent")
    return Certificates(
        ca=ca,
        server=sign("server", server_request, *by_ca),
        server_key=server_key,
        agent=sign("agent", agent_request, *by_ca),
        agent_key=agent_key,
    )


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise BenchError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")
