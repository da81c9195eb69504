"""Where the registry of replicas is: the URL of a Redis, a Sentinel's master, a Cluster, or a Unix socket."""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from argotun.address import host_port

PORTS = {"": 6379, "cluster": 6379, "sentinel": 26379}
"""The port of an address without one, by what is there."""

_URL = re.compile(
    r"(?P<scheme>redis|rediss)(?:\+(?P<kind>sentinel|cluster))?://(?:(?P<user>[^@/]*)@)?(?P<hosts>[^@/?#]+)"
    r"(?:/(?P<path>[A-Za-z0-9._/-]*))?",
    re.ASCII,
)
_UNIX = re.compile(r"unix://(?:(?P<user>[^@/]*)@)?(?P<path>/[\x21-\x3e\x40-\x7e]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class RegistryUrl:
    """What a URL says: `kind` is "", `sentinel` or `cluster`; `hosts` are to be asked in this order.

    `master` is the name that Sentinel knows; `path` a Unix socket, and then there are no hosts.
    """

    hosts: tuple[tuple[str, int], ...] = ()
    kind: str = ""
    tls: bool = False
    path: str = ""
    master: str = ""
    database: int = 0
    user: str = ""
    password: str = field(default="", repr=False)

    def show(self, hidden: str) -> str:
        """The URL, with `hidden` for a password."""
        user = self.user + (f":{hidden}" if self.password else "")
        at = f"{user}@" if user else ""
        if self.path:
            return f"unix://{at}{self.path}"
        scheme = ("rediss" if self.tls else "redis") + (f"+{self.kind}" if self.kind else "")
        parts = [self.master, str(self.database) if self.database else ""]
        path = "".join(f"/{part}" for part in parts if part)
        return f"{scheme}://{at}{','.join(host_port(*each) for each in self.hosts)}{path}"


def split(text: str) -> tuple[RegistryUrl, list[str]]:
    """The parts of a URL, and its hosts as they stand there; raises ValueError.

    `unix:///path`, `redis[s]://[user[:password]@]host[:port][/db]`, `redis[s]+sentinel://host[:port],…/master[/db]`,
    `redis[s]+cluster://host[:port],…`.
    """
    found = _UNIX.fullmatch(text)
    if found is not None:
        user, password = _credentials(found["user"])
        return RegistryUrl(path=found["path"], user=user, password=password), []
    found = _URL.fullmatch(text)
    if found is None:
        raise ValueError
    kind, path = found["kind"] or "", (found["path"] or "").rstrip("/").split("/")
    master = path.pop(0) if kind == "sentinel" else ""
    database = path.pop(0) if path else ""
    hosts = found["hosts"].split(",")
    fits = {"": len(hosts) == 1, "sentinel": bool(master), "cluster": not database}[kind]
    if path or not fits or not re.fullmatch(r"\d{0,5}", database, re.ASCII):
        raise ValueError
    user, password = _credentials(found["user"])
    tls = found["scheme"] == "rediss"
    url = RegistryUrl((), kind, tls, "", master, int(database or 0), user, password)
    return url, hosts


def _credentials(text: str | None) -> tuple[str, str]:
    user, _, password = (text or "").partition(":")
    return unquote(user), unquote(password)
