"""The folder that `--mode pki` fills; it is all the state there is.

    ca.crt ca.key             the CA, made once; nothing but this mode ever needs the key, which is
                              encrypted where there is a passphrase
    callers/ca.crt ca.key     the CA of Argo CD's certificate, where one of its own is asked for
    replicas/ca.crt ca.key    the CA of several servers' certificate, where one is asked for
    replicas/tls.crt tls.key  that certificate, the same for all
    server.crt server.key     the server's, both ports
    argocd.crt argocd.key     Argo CD's, for the internal port
    server.yaml               the chart's values for the server
    exposure.yaml             how agents get to it; this and other values files here belong to its command
    agents/ID/tls.crt tls.key the agent's of cluster ID
    agents/ID/token           its token
    agents/ID/keys.json       in place of these three: the public keys of a cluster that vouches for its agent
    agents/ID/agent.yaml      the chart's values for it: all that the customer needs
    written                   the clusters that server.yaml has from here, an id a line

Every run keeps the CA, the tokens and the agents' certificates, which others hold already, and makes the
rest anew from what is there: a folder under `agents` that was removed is a cluster that was removed. What
was added to a values file stays in it.
"""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from argotun import files
from argotun.config import PkiConfig, ServerConfig
from argotun.errors import ArgotunError, ConfigError
from argotun.files import unmarked
from argotun.pki import kept, keys, values
from argotun.pki.openssl import BOTH, CLIENT, SERVER, Authority, KeyPair
from argotun.pki.report import Report
from argotun.pki.values import Values

CA_DAYS = 3650
TOKEN_BYTES = 32
SHORTEST_PASSPHRASE = 12
LONGEST_PASSPHRASE = 500
"""Characters; openssl reads a line of 1,024 bytes at most."""
LARGEST_FILE = 64 * 1024

EXPOSING = ("service", "ingress", "gateway", "exposure")
"""Values of the chart that say how agents get to the server."""


class Folder:
    """The folder of a config. Raises ArgotunError where it cannot be had or there is no openssl."""

    def __init__(self, config: PkiConfig) -> None:
        self._config = config
        self.report = Report()
        self.path = Path(config.pki_folder)
        with _failures():
            (self.path / "agents").mkdir(mode=0o700, parents=True, exist_ok=True)
            callers = self.path / "callers"
            if config.pki_callers_ca:
                callers.mkdir(mode=0o700, exist_ok=True)
            replicas = self.path / "replicas"
            if config.pki_replicas:
                replicas.mkdir(mode=0o700, exist_ok=True)
        # Kept as long as this: openssl reads the file itself.
        self._passphrase = _passphrase(config.pki_passphrase_file)
        passphrase = self._passphrase if isinstance(self._passphrase, str | None) else self._passphrase.name
        self._authority = Authority(self.path, passphrase)
        # Once there it stays in use: agents must not get to the port again because an option was forgotten.
        self._callers = Authority(callers, passphrase) if callers.exists() else self._authority
        self._replicas = Authority(replicas, passphrase) if replicas.exists() else None

    def agent(self, cluster: str) -> Path:
        """The folder of one cluster's agent."""
        return self.path / "agents" / cluster

    def clusters(self) -> list[str]:
        """Ids of all clusters that have a folder."""
        names = ("token", "keys.json")
        return sorted({each.parent.name for name in names for each in self.path.glob(f"agents/*/{name}")})

    def values_files(self) -> list[Path]:
        """The values files of the server's command: its own, then what else lies beside it, by name."""
        own = self.path / "server.yaml"
        return [own, *sorted(each for each in self.path.glob("*.yaml") if each != own)]

    @property
    def exposed(self) -> bool:
        """Whether some values say how agents get to the server."""
        return any(key in EXPOSING for file in self.values_files() for key in kept.read(file))

    @property
    def unregistered(self) -> bool:
        """Whether there is a certificate for several servers, and no values say how they find each other."""
        found = (kept.read(file).get("registry") or {} for file in self.values_files())
        return self._replicas is not None and not any(each.get("url") or each.get("urlKey") for each in found)

    def vouched(self, cluster: str) -> bool:
        """Whether the cluster's own signature proves its agent."""
        return (self.agent(cluster) / "keys.json").exists()

    def fill(self) -> None:
        """Make what is missing, and the server's side anew; raises ArgotunError."""
        with _failures():
            self._make_authority(self._authority, "argotun CA")
            if self._callers is not self._authority:
                self._make_authority(self._callers, "argotun callers CA")
            if self._replicas is not None:
                self._make_authority(self._replicas, "argotun replicas CA")
                self._make_replica(self._replicas)
            for cluster, file in self._config.pki_keys:
                self._take_keys(self.agent(cluster), Path(file))
            for cluster in self._config.pki_clusters:
                self._make_token(cluster)
            for cluster in self.clusters():
                self._make_agent(cluster)
            self._make_exposure()
            self._make_server()

    def _make_authority(self, authority: Authority, subject: str) -> None:
        days = self._config.pki_days
        if not authority.own.exists():
            if any(authority.folder.glob("ca.*")):
                raise ArgotunError(
                    f"{authority.folder} holds only one of ca.crt and ca.key: expected both or neither"
                )
            authority.make(subject, CA_DAYS)
            self.report.made(self._short(authority.cert), authority.cert)
        elif not authority.outlives(days):
            raise ArgotunError(
                f"{authority.cert} ends within {days} days: use fewer --pki-days, or a new --pki-folder"
            )
        else:
            authority.protect()
            self.report.kept(self._short(authority.cert), authority.cert)

    def _take_keys(self, folder: Path, file: Path) -> None:
        """From now on the cluster's signature counts, and no secret of this folder."""
        found = keys.read(file)
        folder.mkdir(mode=0o700, exist_ok=True)
        _write(folder / "keys.json", found.text())
        for name in ("token", "tls.crt", "tls.key"):
            (folder / name).unlink(missing_ok=True)

    def _make_token(self, cluster: str) -> None:
        folder = self.agent(cluster)
        folder.mkdir(mode=0o700, exist_ok=True)
        if not (folder / "token").exists() and not self.vouched(cluster):
            _write(folder / "token", secrets.token_urlsafe(TOKEN_BYTES))

    def _make_agent(self, cluster: str) -> None:
        folder, url, ca = self.agent(cluster), self._config.pki_server, Path(self._authority.cert)
        if self.vouched(cluster):
            own = values.open_values(cluster, url, ca)
        else:
            pair = KeyPair(str(folder / "tls.crt"), str(folder / "tls.key"))
            there = pair.exists()
            if self._config.pki_renew or not there:
                self._authority.issue(pair, values.cert_name(cluster), CLIENT, days=self._config.pki_days)
                self.report.made(self._short(pair.cert), pair.cert, there)
            else:
                self.report.kept(self._short(pair.cert), pair.cert)
            own = values.agent_values(url, ca, folder)
        file = folder / "agent.yaml"
        before = kept.read(file)
        after = kept.merged(kept.without(before, values.AGENT_PROOFS), own)
        if after != before:
            self.report.changed.append(cluster)
        _write(file, kept.text(after))

    def _make_exposure(self) -> None:
        exposure, file = self._config.pki_exposure, self.path / "exposure.yaml"
        if exposure != "as-it-is":
            own = values.exposure_values(exposure, self._config.pki_server)
            _write(file, kept.text(kept.merged(kept.read(file), own)))

    def _make_replica(self, authority: Authority) -> None:
        pair = KeyPair(str(authority.folder / "tls.crt"), str(authority.folder / "tls.key"))
        there, name = pair.exists(), ServerConfig().peer_name
        authority.issue(pair, name, BOTH, [name], self._config.pki_days)
        self.report.made(self._short(pair.cert), pair.cert, there)

    def _make_server(self) -> None:
        days, server, argocd = self._config.pki_days, self._pair("server"), self._pair("argocd")
        there = server.exists()
        self._authority.issue(server, "argotun server", SERVER, self._server_names(), days)
        self._callers.issue(argocd, "argocd", CLIENT, days=days)
        for pair in (server, argocd):
            self.report.made(self._short(pair.cert), pair.cert, there)
        file, record, clusters = self.path / "server.yaml", self.path / "written", self.clusters()
        written = record.read_text("utf-8").split() if record.exists() else []
        own = values.server_values(
            {each: self._entry(each) for each in clusters},
            self.path,
            self._callers.folder,
            self._replicas.folder if self._replicas is not None else None,
        )
        before = kept.without(kept.read(file), values.PEER)
        _write(file, kept.text(kept.with_clusters(before, own, written)))
        _write(record, "".join(f"{each}\n" for each in clusters))
        self.report.removed += [each for each in written if each not in clusters]

    def _entry(self, cluster: str) -> Values:
        folder = self.agent(cluster)
        if self.vouched(cluster):
            return values.entry_with_keys(cluster, keys.read(folder / "keys.json"), self._config.pki_server)
        return values.entry_with_token(cluster, folder)

    def _short(self, path: str) -> str:
        return os.path.relpath(path, self.path)

    def _pair(self, name: str) -> KeyPair:
        return KeyPair(str(self.path / f"{name}.crt"), str(self.path / f"{name}.key"))

    def _server_names(self) -> list[str]:
        """The host that agents dial, what was asked for, and the names of the chart's Services."""
        config = self._config
        names = [config.pki_server.host, *config.pki_names]
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
    files.replace(path, text.encode())
