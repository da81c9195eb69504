"""Certificates for one demo run, made with the `openssl` program where the machine has it.

Python's standard library can use certificates but not make them. They live for a day, in a folder
that is removed when the demo ends; their keys are readable by nobody else.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

AGENT_NAME = "argotun-demo-agent"
"""The name in the agent's certificate."""

_EXTENSIONS = f"""\
[req]
distinguished_name = subject
prompt = no
[subject]
CN = unused
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[loopback]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1, DNS:localhost
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:{AGENT_NAME}
"""

_TIMEOUT = 20.0
"""Seconds for one run of openssl; it takes some milliseconds."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Paths of a certificate and its key."""

    cert: str
    key: str


@dataclass(frozen=True, slots=True)
class Certificates:
    """One CA (the path of its certificate), and a pair for the server, the agent and the stand-in API."""

    ca: str
    server: KeyPair
    agent: KeyPair
    api: KeyPair


def make(folder: Path) -> Certificates | None:
    """Make all of them in `folder`; None where there is no openssl, or it cannot do it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    maker = _Maker(openssl, folder)
    try:
        ca = maker.authority()
        return Certificates(
            ca,
            server=maker.pair("server", "argotun demo server", "loopback"),
            agent=maker.pair("agent", AGENT_NAME, "client"),
            api=maker.pair("api", "argotun stand-in API", "loopback"),
        )
    except (OSError, subprocess.SubprocessError):
        return None


class _Maker:
    """The openssl commands, kept to what OpenSSL 1.1, OpenSSL 3 and LibreSSL all understand."""

    def __init__(self, openssl: str, folder: Path) -> None:
        self._openssl = openssl
        self._folder = folder
        self._config = self._path("openssl.cnf")
        self._serial = 0
        Path(self._config).write_text(_EXTENSIONS)

    def _path(self, name: str) -> str:
        return str(self._folder / name)

    def _run(self, *arguments: str) -> None:
        subprocess.run(
            [self._openssl, *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT,
            umask=0o077,
        )

    def _key(self, name: str) -> str:
        path = self._path(f"{name}.key")
        self._run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
        return path

    def authority(self) -> str:
        """The CA; the path of its certificate."""
        key, cert = self._key("ca"), self._path("ca.crt")
        self._run(
            *("req", "-new", "-x509", "-sha256", "-days", "1", "-subj", "/CN=argotun demo CA"),
            *("-config", self._config, "-extensions", "authority", "-key", key, "-out", cert),
        )
        return cert

    def pair(self, name: str, subject: str, extensions: str) -> KeyPair:
        """A certificate of the CA for `subject`, with the extensions of that section."""
        self._serial += 1
        key, request, cert = self._key(name), self._path(f"{name}.csr"), self._path(f"{name}.crt")
        self._run(
            *("req", "-new", "-sha256", "-subj", f"/CN={subject}"),
            *("-config", self._config, "-key", key, "-out", request),
        )
        self._run(
            *("x509", "-req", "-sha256", "-days", "1", "-set_serial", str(self._serial)),
            *("-CA", self._path("ca.crt"), "-CAkey", self._path("ca.key"), "-in", request, "-out", cert),
            *("-extfile", self._config, "-extensions", extensions),
        )
        return KeyPair(cert, key)
