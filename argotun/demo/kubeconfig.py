"""Reading a kubeconfig: which API, whom to trust, and with which credential; as files for the agent."""

import base64
import binascii
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import yaml

from argotun.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Upstream:
    """An API as the agent must be told of it; every credential is the path of a file, "" for none."""

    address: tuple[str, int]
    token: str = ""
    ca: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    host_name: str | None = None
    plain: bool = False
    insecure: bool = False
    context: str = ""
    """The kubeconfig's context that it comes from."""


# What a user or a cluster may hold that an agent cannot use, and what to do about it.
_USER_REFUSALS = {
    "exec": "a token or client certificate: exec plugins are not supported",
    "auth-provider": "a token or client certificate: auth providers are not supported",
    "username": "a token or client certificate: user names with passwords are not supported",
    "as": "a user without impersonation ('as' is not supported)",
}
_CLUSTER_REFUSALS = {
    "proxy-url": "a cluster that is reached directly: 'proxy-url' is not supported",
}


def write_private(path: Path, content: bytes) -> str:
    """Write a new file that only its owner can read; its path as text."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return str(path)


def read(path: str, context: str | None, folder: Path) -> Upstream:
    """The API of a context (None: the current one) of the kubeconfig at `path`.

    What the kubeconfig holds itself is written into `folder`, 0600. Raises ConfigError for a file
    that cannot be read, a context that is not there, and what an agent cannot use.
    """
    return _Kubeconfig(path, context, folder).upstream()


class _Kubeconfig:
    def __init__(self, path: str, context: str | None, folder: Path) -> None:
        self._path = path
        self._context = context
        self._folder = folder

    def _refuse(self, expected: str) -> NoReturn:
        raise ConfigError("--kubeconfig", self._path, expected)

    def upstream(self) -> Upstream:
        try:
            config = yaml.safe_load(Path(self._path).read_bytes())
        except OSError as problem:
            self._refuse(f"a file that can be read ({problem.strerror})")
        except (yaml.YAMLError, ValueError, RecursionError):
            self._refuse("a YAML file")
        if not isinstance(config, dict):
            self._refuse("a YAML file with contexts, clusters and users")
        name = self._context or config.get("current-context")
        if not name:
            self._refuse("a current-context in it, or --context NAME")
        if self._context and self._context not in (known := _named(config, "contexts", "context")):
            raise ConfigError(
                "--context",
                name,
                f"one of the contexts of {self._path}: {', '.join(reversed(known)) or 'it has none'}",
            )
        context = self._entry(config, "contexts", "context", name)
        cluster = self._entry(config, "clusters", "cluster", context.get("cluster"))
        user = self._entry(config, "users", "user", context.get("user"))
        for part, refusals in ((user, _USER_REFUSALS), (cluster, _CLUSTER_REFUSALS)):
            for field, expected in refusals.items():
                if part.get(field):
                    self._refuse(f"{expected} (context {name!r})")
        return self._upstream(str(name), cluster, user)

    def _entry(self, config: dict[str, Any], section: str, field: str, name: object) -> dict[str, Any]:
        found = _named(config, section, field).get(str(name))
        if found is None:
            self._refuse(f"an entry {name!r} under {section}")
        return found

    def _upstream(self, name: str, cluster: dict[str, Any], user: dict[str, Any]) -> Upstream:
        server = str(cluster.get("server", ""))
        try:
            url = urlsplit(server)
            host, port = url.hostname or "", url.port or {"https": 443, "http": 80}[url.scheme]
        except (KeyError, ValueError):
            host, port = "", 0
        if not host:
            self._refuse(f"a server of the form https://host:port, not {server!r}")
        if url.path.strip("/"):
            self._refuse(f"a server without a path, not {server!r}: an agent's target is a host and a port")
        cert = self._file(user, "client-certificate", "client.crt")
        key = self._file(user, "client-key", "client.key")
        if (cert is None) != (key is None):
            self._refuse("a client certificate and its key, not one alone")
        token = self._token(user)
        if not token and cert is None:
            self._refuse(f"a user with a token or a client certificate (context {name!r} has neither)")
        host_name = cluster.get("tls-server-name")
        return Upstream(
            address=(host, port),
            token=token,
            ca=self._file(cluster, "certificate-authority", "cluster-ca.crt"),
            client_cert=cert,
            client_key=key,
            host_name=str(host_name) if host_name else None,
            plain=url.scheme == "http",
            insecure=cluster.get("insecure-skip-tls-verify") is True,
            context=name,
        )

    def _token(self, user: dict[str, Any]) -> str:
        """The path of the token: a named file before a token in the kubeconfig, as kubectl has it."""
        if user.get("tokenFile"):
            return self._existing("tokenFile", str(user["tokenFile"]))
        if user.get("token"):
            return write_private(self._folder / "token", str(user["token"]).encode())
        return ""

    def _file(self, part: dict[str, Any], field: str, name: str) -> str | None:
        """The path of `field`, from its data where the kubeconfig holds it (`field-data`) or its path."""
        if data := part.get(f"{field}-data"):
            try:
                content = base64.b64decode(str(data), validate=True)
            except (binascii.Error, ValueError):
                self._refuse(f"base64 under {field}-data")
            return write_private(self._folder / name, content)
        return self._existing(field, str(part[field])) if part.get(field) else None

    def _existing(self, field: str, path: str) -> str:
        """A path in the kubeconfig, which counts from the kubeconfig's own folder."""
        found = Path(self._path).resolve().parent / path
        if not found.is_file():
            self._refuse(f"the file that {field} names, {path!r}")
        return str(found)


def _named(config: dict[str, Any], section: str, field: str) -> dict[str, dict[str, Any]]:
    """The entries of a section that have `field`, by name, last one first: of two, the first counts."""
    entries = config.get(section)
    return {
        str(entry.get("name")): entry[field]
        for entry in (reversed(entries) if isinstance(entries, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get(field), dict)
    }
