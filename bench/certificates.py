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
[peer]
basicConstraints = critical, CA:false
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = DNS:argotun-peer
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


@dataclass(frozen=True)
class Peers:
    """Paths of PEM files for the links between replicas."""

    ca: Path
    certificate: Path
    key: Path


class _Authority:
    """A CA in `folder`, made with the `openssl` program."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config = folder / "openssl.cnf"
        self._config.write_text(OPENSSL_CONFIG)
        key, request = self._key_and_request("ca")
        self.certificate = self._sign("ca", request, "-signkey", str(key))
        self._by_ca = ("-CA", str(self.certificate), "-CAkey", str(key), "-CAcreateserial")

    def issue(self, name: str) -> tuple[Path, Path]:
        """The certificate and the key of one of the sections of the configuration."""
        key, request = self._key_and_request(name)
        return self._sign(name, request, *self._by_ca), key

    def _key_and_request(self, name: str) -> tuple[Path, Path]:
        key, request = self._folder / f"{name}.key", self._folder / f"{name}.csr"
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key))
        _openssl(
            *("req", "-new", "-config", str(self._config), "-key", str(key)),
            *("-subj", f"/CN=bench {name}", "-out", str(request)),
        )
        return key, request

    def _sign(self, name: str, request: Path, *signer: str) -> Path:
        certificate = self._folder / f"{name}.crt"
        _openssl(
            *("x509", "-req", "-in", str(request), "-days", DAYS, "-sha256"),
            *("-extfile", str(self._config), "-extensions", name, *signer, "-out", str(certificate)),
        )
        return certificate


def make(folder: Path) -> Certificates:
    """Make the certificates in `folder`."""
    authority = _Authority(folder)
    return Certificates(authority.certificate, *authority.issue("server"), *authority.issue("agent"))


def peers(folder: Path) -> Peers:
    """Make those of replicas in `folder`, by a CA of their own."""
    authority = _Authority(folder)
    return Peers(authority.certificate, *authority.issue("peer"))


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise BenchError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")
