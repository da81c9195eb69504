"""A certificate authority in a folder, made and used with the `openssl` program.

Python's standard library can use certificates but not make them. The commands are kept to what
OpenSSL 1.1, OpenSSL 3 and LibreSSL all understand. Keys are P-256, readable by their owner only.
"""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from argotun.address import ip_of
from argotun.errors import ArgotunError

SERVER, CLIENT = "serverAuth", "clientAuth"
"""What a certificate may be used for (RFC 5280 §4.2.1.12): to be dialled, or to dial."""

BOTH = f"{SERVER}, {CLIENT}"

LONGEST_COMMON_NAME = 64
"""Characters of a subject's common name (RFC 5280 appendix A.1, ub-common-name)."""

_AUTHORITY = """\
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_LEAF = """\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = {usage}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
{names}"""
_CONFIG = """\
[req]
distinguished_name = subject
prompt = no
[subject]
CN = {subject}
[extensions]
{extensions}"""

_TIMEOUT = 20.0
"""Seconds for one run of openssl; it takes some milliseconds."""

_DAY = 24 * 3600


class NoOpensslError(ArgotunError):
    """This machine has no `openssl` program."""

    def __init__(self) -> None:
        super().__init__("the openssl program is needed to make certificates, and PATH has none")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Paths of a certificate and its key."""

    cert: str
    key: str

    def exists(self) -> bool:
        """Whether both are there."""
        return os.path.exists(self.cert) and os.path.exists(self.key)


class Authority:
    """A CA whose certificate and key are `ca.crt` and `ca.key` in `folder`.

    Every method raises ArgotunError, with openssl's own last words, where something cannot be done;
    the constructor raises NoOpensslError.
    """

    def __init__(self, folder: Path, passphrase_file: str | None = None) -> None:
        """With a `passphrase_file` the key is kept encrypted by its first line."""
        program = shutil.which("openssl")
        if program is None:
            raise NoOpensslError
        self._openssl = program
        self.folder = folder
        self._passphrase_file = passphrase_file
        # Without one nobody must be asked for it on a terminal.
        self._pass = f"file:{passphrase_file}" if passphrase_file else "pass:"
        self.own = KeyPair(str(folder / "ca.crt"), str(folder / "ca.key"))

    @property
    def cert(self) -> str:
        """The path of the CA's certificate."""
        return self.own.cert

    def make(self, subject: str, days: int) -> None:
        """A new CA, valid for `days`; what stood in its place is replaced."""
        with self._workplace() as place:
            config = _write_config(place, subject, _AUTHORITY)
            new = _new_pair(place)
            self._make_key(new.key)
            self._run(
                *("req", "-new", "-x509", "-sha256", "-days", str(days), "-set_serial", _serial()),
                *("-config", config, "-extensions", "extensions", "-key", new.key, "-out", new.cert),
            )
            self._encrypt(new.key)
            _put(new, self.own)

    def issue(
        self, pair: KeyPair, subject: str, usage: str, names: Iterable[str] = (), days: int = 1
    ) -> None:
        """A new key and its certificate as `pair`, both or neither.

        `subject` is the common name, cut to 64 characters; `usage` is SERVER, CLIENT or BOTH; `names` are DNS
        names and IP addresses.
        """
        listed = ", ".join(_general_name(each) for each in names)
        extensions = _LEAF.format(usage=usage, names=f"subjectAltName = {listed}\n" if listed else "")
        with self._workplace() as place:
            config = _write_config(place, subject[:LONGEST_COMMON_NAME], extensions)
            new, request = _new_pair(place), os.path.join(place, "csr")
            self._make_key(new.key)
            self._run("req", "-new", "-sha256", "-config", config, "-key", new.key, "-out", request)
            self._run(
                *("x509", "-req", "-sha256", "-days", str(days), "-set_serial", _serial()),
                *("-CA", self.own.cert, "-CAkey", self.own.key, "-passin", self._pass),
                *("-in", request, "-out", new.cert),
                *("-extfile", config, "-extensions", "extensions"),
            )
            _put(new, pair)

    def outlives(self, days: int) -> bool:
        """Whether the CA's certificate is still valid in `days` days."""
        try:
            self._run("x509", "-in", self.own.cert, "-noout", "-checkend", str(days * _DAY))
        except ArgotunError:
            # What cannot be read at all is told apart from what ends.
            self._run("x509", "-in", self.own.cert, "-noout")
            return False
        return True

    @property
    def encrypted(self) -> bool:
        """Whether the key needs a passphrase."""
        try:
            return "ENCRYPTED" in Path(self.own.key).read_text("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise ArgotunError(f"{self.own.key} cannot be read: {error}") from None

    def protect(self) -> None:
        """See that the key is encrypted where there is a passphrase, and that this is the right one."""
        if not self.encrypted:
            if self._passphrase_file:
                with self._workplace() as place:
                    new = os.path.join(place, "key")
                    shutil.copyfile(self.own.key, new)
                    self._encrypt(new)
                    os.replace(new, self.own.key)
        elif not self._passphrase_file:
            raise ArgotunError(f"{self.own.key} is encrypted: --pki-passphrase-file is needed")
        else:
            try:
                self._run("pkey", "-in", self.own.key, "-passin", self._pass, "-noout")
            except ArgotunError:
                raise ArgotunError(
                    f"{self.own.key} cannot be read with the passphrase in {self._passphrase_file}"
                ) from None

    def _encrypt(self, key: str) -> None:
        if self._passphrase_file is None:
            return
        clear = f"{key}.clear"
        os.replace(key, clear)
        # PBKDF2 is what OpenSSL 1.1 and LibreSSL know too; its default of rounds is from another time.
        self._run(
            *("pkcs8", "-topk8", "-v2", "aes-256-cbc", "-iter", "600000", "-passout", self._pass),
            *("-in", clear, "-out", key),
        )
        os.unlink(clear)

    def _workplace(self) -> tempfile.TemporaryDirectory[str]:
        """A folder beside the files to come, so that they can be moved there in one step."""
        try:
            return tempfile.TemporaryDirectory(dir=self.folder, prefix=".new-")
        except OSError as error:
            raise ArgotunError(f"cannot write into {self.folder}: {error.strerror}") from None

    def _make_key(self, path: str) -> None:
        self._run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)

    def _run(self, *arguments: str) -> None:
        try:
            done = subprocess.run(
                [self._openssl, *arguments],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=_TIMEOUT,
                umask=0o077,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ArgotunError(f"openssl {arguments[0]} did not run: {error}") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise ArgotunError(f"openssl {arguments[0]} failed: {said[-1]}")


def _serial() -> str:
    """Random, so that no count has to be kept; positive and of at most 20 bytes (RFC 5280 §4.1.2.2)."""
    return f"0x{secrets.randbits(126) | 1 << 126:x}"


def _general_name(name: str) -> str:
    address = ip_of(name)
    return f"DNS:{name}" if address is None else f"IP:{address}"


def _write_config(place: str, subject: str, extensions: str) -> str:
    path = Path(place, "openssl.cnf")
    path.write_text(_CONFIG.format(subject=subject, extensions=extensions), "utf-8")
    return str(path)


def _new_pair(place: str) -> KeyPair:
    return KeyPair(os.path.join(place, "crt"), os.path.join(place, "key"))


def _put(new: KeyPair, pair: KeyPair) -> None:
    try:
        os.replace(new.key, pair.key)
        os.replace(new.cert, pair.cert)
    except OSError as error:
        raise ArgotunError(f"cannot write {pair.cert}: {error.strerror}") from None
