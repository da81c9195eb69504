"""HTTP proxies: what a URL says of one, and which one the environment names for an address."""

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from urllib.parse import SplitResult, unquote_to_bytes

from argotun.address import host_port, ip_of

PORTS = {"http": 80, "https": 443}

_VARIABLES = ("HTTPS_PROXY", "https_proxy")

_TELLING = 6
"""Characters of a credential that must not be shown: the other side's words may be cut anywhere."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy: `tls` for an https:// one, `authorization` the value of Proxy-Authorization.

    `secrets` is what no message may repeat.
    """

    host: str
    port: int
    tls: bool = False
    authorization: str | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, url: SplitResult) -> "Proxy":
        """The proxy that the parts of an http(s) URL name, its user and password included."""
        tls = url.scheme == "https"
        host, port = url.hostname or "", url.port or PORTS[url.scheme]
        if url.username is None:
            return cls(host, port, tls)
        password = unquote_to_bytes(url.password or "")
        encoded = b64encode(unquote_to_bytes(url.username) + b":" + password).decode()
        return cls(host, port, tls, f"Basic {encoded}", (encoded, password.decode("utf-8", "replace")))

    def show(self, hidden: str) -> str:
        """Its URL, with `hidden` for user and password."""
        user = f"{hidden}@" if self.authorization is not None else ""
        return f"{'https' if self.tls else 'http'}://{user}{host_port(self.host, self.port)}"

    def leaks_into(self, text: str) -> bool:
        """Whether `text` holds the credentials, or what could be the beginning of them."""
        return any(secret and secret[:_TELLING] in text for secret in self.secrets)


def from_environment(host: str, port: int, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The variable that names the proxy for an address, and its value; None where NO_PROXY exempts that.

    Capital names count before small ones. NO_PROXY is a list, by commas or space, of `*`, names (their
    subdomains too), `.names` (subdomains only), addresses and networks, each with or without `:port`.
    Loopback is never dialled through the environment's proxy.
    """
    variable = next((each for each in _VARIABLES if environ.get(each, "").strip()), None)
    if variable is None:
        return None
    exempt = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    name = host.strip("[]").rstrip(".").lower()
    if _is_loopback(name) or any(_matches(entry, name, port) for entry in re.split(r"[,\s]+", exempt)):
        return None
    return variable, environ[variable].strip()


def _matches(entry: str, name: str, port: int) -> bool:
    """Whether one entry of NO_PROXY names this host."""
    entry = entry.strip().lower()
    if not entry:
        return False
    if entry == "*":
        return True
    bare, wanted = _split_port(entry)
    bare = bare.rstrip(".")
    if wanted is not None and wanted != port:
        return False
    address = ip_of(name)
    if address is None:
        suffix = bare.removeprefix("*")
        return name.endswith(suffix) if suffix.startswith(".") else name == bare or name.endswith(f".{bare}")
    try:
        return address in ip_network(bare, strict=False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, int | None]:
    """Split `host:port`, `[v6]:port`, `host`, `v6` or `v6/net`."""
    host, colon, port = entry.rpartition(":")
    if colon and port.isdigit() and (host.endswith("]") or ":" not in host):
        return host.strip("[]"), int(port)
    return entry.strip("[]"), None


def _is_loopback(name: str) -> bool:
    address = ip_of(name)
    return name == "localhost" if address is None else address.is_loopback
