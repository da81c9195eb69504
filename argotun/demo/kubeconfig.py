"""Reading a kubeconfig: which API, whom to trust, and with which credential; as files for the agent."""

import base64
import binascii
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from argotun import files
from argotun.config import AgentConfig
from argotun.config.network import split_url
from argotun.demo.plugin import Plugin
from argotun.errors import ConfigError

_PORTS = {"https": 443, "http": 80}
_REFUSED = {
    "auth-provider": "a token or client certificate: auth providers are not supported",
    "username": "a token or client certificate: user names with passwords are not supported",
    "as": "a user without impersonation ('as' is not supported)",
    "proxy-url": "a cluster that is reached directly: 'proxy-url' is not supported",
}
"""What a user or a cluster may hold that an agent cannot use, and what is expected in its place."""


class Target(NamedTuple):
    """An API: `agent` says how an agent reaches it, each credential as the path of a file.

    `context` is the one of the kubeconfig that it comes from, `plugin` the program that gave the token and
    gives another one before `ends`, in Unix time.
    """

    agent: AgentConfig
    context: str = ""
    plugin: Plugin | None = None
    ends: float | None = None


def put(path: Path, content: bytes) -> str:
    """Write a file that only its owner can read; its path as text."""
    files.replace(path, content)
    return str(path)


def read(path: str, context: str | None, folder: Path) -> Target:
    """The API of a context (None: the current one) of the kubeconfig at `path`.

    What the kubeconfig holds itself, or its exec plugin gives, is written into `folder`, 0600. Raises
    ConfigError for a file that cannot be read, a context that is not there, and what an agent cannot use,
    and ArgotunError for a plugin that gives nothing.
    """
    try:
        config = yaml.safe_load(Path(path).read_bytes())
        if not isinstance(config, dict):
            raise _Expected("a YAML file with contexts, clusters and users")
        known = _named(config, "contexts")
        if context and context not in known:
            names = ", ".join(reversed(known)) or "it has none"
            raise ConfigError("--context", context, f"one of the contexts of {path}: {names}")
        name = str(context or config.get("current-context") or "")
        if not name:
            raise _Expected("a current-context in it, or --context NAME")
        chosen = _entry(config, "contexts", name)
        cluster = _entry(config, "clusters", chosen.get("cluster"))
        user = _entry(config, "users", chosen.get("user"))
        for field, expected in _REFUSED.items():
            if user.get(field) or cluster.get(field):
                raise _Expected(f"{expected} (context {name!r})")
        return _target(name, cluster, user, Path(path).resolve().parent, folder)
    except OSError as problem:
        expected = f"a file that can be read ({problem.strerror})"
    except _Expected as problem:
        expected = str(problem)
    except (yaml.YAMLError, ValueError, RecursionError):
        expected = "a YAML file"
    raise ConfigError("--kubeconfig", path, expected)


class _Expected(Exception):
    """What would be right in the place of what a kubeconfig holds."""


def _named(config: dict[str, Any], section: str) -> dict[str, dict[str, Any]]:
    """The entries of a section by name, last one first: of two, the first counts."""
    entries, field = config.get(section), section.removesuffix("s")
    return {
        str(entry.get("name")): entry[field]
        for entry in (reversed(entries) if isinstance(entries, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get(field), dict)
    }


def _entry(config: dict[str, Any], section: str, name: object) -> dict[str, Any]:
    try:
        return _named(config, section)[str(name)]
    except KeyError:
        raise _Expected(f"an entry {name!r} under {section}") from None


def _target(name: str, cluster: dict[str, Any], user: dict[str, Any], home: Path, folder: Path) -> Target:
    server = str(cluster.get("server", ""))
    try:
        url = split_url(server)
        address = url.hostname or "", url.port or _PORTS[url.scheme]
    except (KeyError, ValueError):
        raise _Expected(f"a server of the form https://host:port, not {server!r}") from None
    if url.path.strip("/"):
        raise _Expected(f"a server without a path, not {server!r}: an agent's target is a host and a port")

    def file(part: dict[str, Any], field: str) -> str | None:
        """A path, counted from the kubeconfig's folder, or that of a new file with what it holds itself."""
        if data := part.get(f"{field}-data"):
            try:
                return put(folder / field, base64.b64decode(str(data), validate=True))
            except (binascii.Error, ValueError):
                raise _Expected(f"base64 under {field}-data") from None
        if not (named := part.get(field)):
            return None
        if not (home / str(named)).is_file():
            raise _Expected(f"the file that {field} names, {named!r}")
        return str(home / str(named))

    cert, key = file(user, "client-certificate"), file(user, "client-key")
    if (cert is None) != (key is None):
        raise _Expected("a client certificate and its key, not one alone")
    # A named file before a token in the kubeconfig, as kubectl has it.
    token = file(user, "tokenFile")
    if token is None and user.get("token"):
        token = put(folder / "token", str(user["token"]).encode())
    plugin = ends = None
    if token is None and cert is None and isinstance(user.get("exec"), dict):
        plugin = Plugin(user["exec"], cluster, home)
        given = plugin.ask()
        ends = given.ends
        if given.token:
            token = put(folder / "token", given.token.encode())
        if given.cert:
            cert = put(folder / "client-certificate", given.cert.encode())
            key = put(folder / "client-key", given.key.encode())
    if token is None and cert is None:
        raise _Expected(f"a user with a token or a client certificate (context {name!r} has neither)")
    agent = AgentConfig(
        target=address,
        sa_token_path=token or "",
        ca_cert=file(cluster, "certificate-authority"),
        target_client_cert=cert,
        target_client_key=key,
        target_host_name=cluster.get("tls-server-name"),
        plain_target=url.scheme == "http",
        insecure=cluster.get("insecure-skip-tls-verify") is True,
    )
    return Target(agent, name, plugin, ends)
