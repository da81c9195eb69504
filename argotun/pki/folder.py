"""The folder that `--mode pki` fills; it is all the state there is.

    ca.crt ca.key             the CA, made once; nothing but this mode ever needs the key, which is
                              encrypted where there is a passphrase
    callers/ca.crt ca.key     the CA of Argo CD's certificate, where one of its own is asked for
    server.crt server.key     the server's, both ports
    argocd.crt argocd.key     Argo CD's, for the internal port
    server.yaml               the chart's values for the server
    agents/ID/tls.crt tls.key the agent's of cluster ID
    agents/ID/token           its token
    agents/ID/agent.yaml      the chart's values for it: all that the customer needs

Every run keeps the CA, the tokens and the agents' certificates, which others hold already, and makes the
rest anew from what is there: a folder under `agents` that was removed is a cluster that was removed.
"""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from argotun.config import PkiConfig
from argotun.errors import ArgotunError, ConfigError
from argotun.files import unmarked
from argotun.pki import values
from argotun.pki.openssl import CLIENT, SERVER, Authority, KeyPair

CA_DAYS = 3650
TOKEN_BYTES = 32
SHORTEST_PASSPHRASE = 12
LONGEST_PASSPHRASE = 500
"""Characters; openssl reads a line of 1,024 bytes at most."""
LARGEST_FILE = 64 * 1024


class Folder:
    """The folder of a config. Raises ArgotunError where it cannot be had or there is no openssl."""

    def __init__(self, config: PkiConfig) -> None:
        self._config = config
        self.path = Path(config.pki_folder)
        with _failures():
            (self.path / "agents").mkdir(mode=0o700, parents=True, exist_ok=True)
            callers = self.path / "callers"
            if config.pki_callers_ca:
                callers.mkdir(mode=0o700, exist_ok=True)
        # Kept as long as this: openssl reads the file itself.
        self._passphrase = _passphrase(config.pki_passphrase_file)
        passphrase = self._passphrase if isinstance(self._passphrase, str | None) else self._passphrase.name
        self._authority = Authority(self.path, passphrase)
        # Once there it stays in use: agents must not get to the port again because an option was forgotten.
        self._callers = Authority(callers, passphrase) if callers.exists() else self._authority

    def agent(self, cluster: str) -> Path:
        """The folder of one cluster's agent."""
        return self.path / "agents" / cluster

    def clusters(self) -> list[str]:
        """Ids of all clusters that have a folder."""
        return sorted(each.parent.name for each in self.path.glob("agents/*/token"))

    def fill(self) -> None:
        """Make what is missing, and the server's side anew; raises ArgotunError."""
        with _failures():
            self._make_authority(self._authority, "argotun CA")
            if self._callers is not self._authority:
                self._make_authority(self._callers, "argotun callers CA")
            for cluster in self._config.pki_clusters:
                self._make_token(self.agent(cluster))
            for cluster in self.clusters():
                self._make_agent(cluster)
            self._make_server()

    def _make_authority(self, authority: Authority, subject: str) -> None:
        days = self._config.pki_days
        if not authority.own.exists():
            if any(authority.folder.glob("ca.*")):
                raise ArgotunError(
                    f"{authority.folder} holds only one of ca.crt and ca.key: expected both or neither"
                )
            authority.make(subject, CA_DAYS)
        elif not authority.outlives(days):
            raise ArgotunError(
                f"{authority.cert} ends within {days} days: use fewer --pki-days, or a new --pki-folder"
            )
        else:
            authority.protect()

    def _make_token(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        if not (folder / "token").exists():
            _write(folder / "token", secrets.token_urlsafe(TOKEN_BYTES))

    def _make_agent(self, cluster: str) -> None:
        folder = self.agent(cluster)
        pair = KeyPair(str(folder / "tls.crt"), str(folder / "tls.key"))
        if self._config.pki_renew or not pair.exists():
            self._authority.issue(pair, values.cert_name(cluster), CLIENT, days=self._config.pki_days)
        ca = Path(self._authority.cert)
        _write(folder / "agent.yaml", values.agent_values(self._config.pki_server, ca, folder))

    def _make_server(self) -> None:
        days = self._config.pki_days
        self._authority.issue(self._pair("server"), "argotun server", SERVER, self._server_names(), days)
        self._callers.issue(self._pair("argocd"), "argocd", CLIENT, days=days)
        tokens = {each: values.token(self.agent(each)) for each in self.clusters()}
        _write(self.path / "server.yaml", values.server_values(tokens, self.path, self._callers.folder))

    def _pair(self, name: str) -> KeyPair:
        return KeyPair(str(self.path / f"{name}.crt"), str(self.path / f"{name}.key"))

    def _server_names(self) -> list[str]:
        """The host that agents dial, what was asked for, and the names of the chart's Services."""
        config = self._config
        names = [urlsplit(config.pki_server).hostname or "", *config.pki_names]
        release = config.pki_release
        # As the chart names its objects: a release's name that holds the chart's is not repeated.
        full = release if "argotun" in release else f"{release}-argotun"
        for service in (full, f"{full}-internal"):
            parts = (service, config.pki_namespace, "svc", "cluster", "local")
            names += [".".join(parts[:count]) for count in (1, 2, 3, 5)]
        return list(dict.fromkeys(names))


def _passphrase(file: str | None) -> "str | IO[bytes] | None":
    """The file again, once its first line is a passphrase; a copy where it begins with a byte order mark."""
    if file is None:
        return None
    with _failures(), open(file, "rb") as opened:
        data = opened.read(LARGEST_FILE)
        plain = unmarked(data)
    line = plain.decode("utf-8", "replace").partition("\n")[0].rstrip("\r\n")
    if not SHORTEST_PASSPHRASE <= len(line) <= LONGEST_PASSPHRASE:
        expected = f"a first line of {SHORTEST_PASSPHRASE} to {LONGEST_PASSPHRASE} characters in it"
        raise ConfigError("--pki-passphrase-file", file, expected)
    if plain == data:
        return file
    copy = tempfile.NamedTemporaryFile(prefix="argotun-")  # noqa: SIM115  the caller keeps it
    copy.write(plain)
    copy.flush()
    return copy


@contextmanager
def _failures() -> Iterator[None]:
    """What the file system refuses, as an ArgotunError."""
    try:
        yield
    except OSError as error:
        raise ArgotunError(f"{error.filename}: {error.strerror}") from None


def _write(path: Path, text: str) -> None:
    """Replace a file in one step by one that only its owner can read."""
    new = path.with_name(f".new-{path.name}")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)
