"""The kinds of value that name a place on the network: addresses to listen on and to dial, URLs."""

import dataclasses
import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from argotun.address import host_port, ip_of
from argotun.config.models import Address, Networks, ServerUrl
from argotun.config.proxies import PORTS, Proxy
from argotun.config.registries import PORTS as REGISTRY_PORTS
from argotun.config.registries import RegistryUrl, split
from argotun.config.values import HIDDEN, OFF, Kind, Refused, hidden, list_of, quote_unless_secret

HOST_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST = re.compile(rf"{HOST_LABEL}(?:\.{HOST_LABEL})*\.?", re.ASCII)
ADDRESS = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>\d{1,5})", re.ASCII)


def is_host(text: str) -> bool:
    """Whether `text` is an IPv4 address or a DNS name."""
    return len(text) <= 253 and HOST.fullmatch(text) is not None


def is_ipv6(text: str) -> bool:
    """Whether `text` is an IPv6 address, without brackets."""
    return isinstance(ip_of(text), ipaddress.IPv6Address)


def parse_address(text: str) -> Address:
    """`host:port`, `:port` or `[ipv6]:port`; raises ValueError. The host may be empty, the port 0."""
    found = ADDRESS.fullmatch(text)
    if not found or int(found["port"]) > 65535:
        raise ValueError
    if found["six"] is not None:
        if not is_ipv6(found["six"]):
            raise ValueError
        return found["six"], int(found["port"])
    if found["host"] and not is_host(found["host"]):
        raise ValueError
    return found["host"], int(found["port"])


def parse_target(text: str) -> Address:
    """`host:port` that can be dialled; raises ValueError."""
    host, port = parse_address(text)
    if not host or not port:
        raise ValueError
    return host, port


def parse_advertised(text: str) -> Address:
    """As `parse_target`, or a host by itself with 0 for its port; raises ValueError.

    An IPv6 address by itself has no brackets, so that a pod's address can stand here as it is.
    """
    if is_host(text) or is_ipv6(text):
        return text, 0
    return parse_target(text)


def show_advertised(address: Address) -> str:
    """An address as `parse_advertised` takes it."""
    return host_port(*address) if address[1] else address[0]


def show_address(address: Address | None) -> str:
    """An address as the options take it; `off` for none."""
    if address is None:
        return OFF
    return host_port(*address)


def parse_optional_address(text: str) -> Address | None:
    """As `parse_address`, or None for `off`."""
    return None if text == OFF else parse_address(text)


def parse_host_name(text: str) -> str:
    """A DNS name or IP address, as TLS would verify it."""
    if not is_host(text) and not is_ipv6(text):
        raise ValueError
    return text


LISTEN_EXPECTED = "an address to listen on such as :8443, 127.0.0.1:0 or [::1]:443"
LISTEN = Kind("ADDRESS", "[host]:port", LISTEN_EXPECTED, parse_address, show_address)
LISTEN_OR_OFF = Kind(
    "ADDRESS", "[host]:port or off", f"{LISTEN_EXPECTED}, or off", parse_optional_address, show_address
)
TARGET = Kind(
    "HOST:PORT", "host:port", "host:port such as kubernetes.default.svc:443", parse_target, show_address
)
SEEDS = Kind("HOST:PORT", "host:port", "host:port such as argotun-peers:8444", parse_target, show_address)
ADVERTISED = Kind(
    "HOST[:PORT]",
    "host[:port]",
    "host or host:port such as 10.0.3.7 or [fd00::7]:8444",
    parse_advertised,
    show_advertised,
)
HOST_NAME = Kind("NAME", "host name", "a DNS name or an IP address without a port", parse_host_name)
HOST_NAMES = Kind(
    "NAME,…",
    "host names",
    "DNS names or IP addresses without ports, with commas between",
    list_of(parse_host_name),
    ",".join,
)


def parse_sockets(path: str) -> str:
    """An absolute path with room for a replica's name behind it (unix(7): 107 bytes); raises ValueError."""
    if not re.fullmatch(r"/[\x21-\x7e]{1,84}", path):
        raise ValueError
    return path


SOCKETS = Kind(
    "FOLDER",
    "path",
    "an absolute path of at most 85 characters, without spaces, such as /run/argotun",
    parse_sockets,
)


def parse_networks(text: str) -> Networks:
    """Networks or single addresses with commas between; raises ValueError."""
    return tuple(dict.fromkeys(ipaddress.ip_network(part.strip()) for part in text.split(",")))


NETWORKS = Kind(
    "CIDR,…",
    "networks",
    "networks or addresses with commas between, such as 10.0.0.0/8,192.0.2.7",
    parse_networks,
    lambda networks: ",".join(map(str, networks)),
)


# URLs


def split_url(text: str) -> SplitResult:
    """The parts of a URL whose host and port are sound; raises ValueError."""
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError
    parts = urlsplit(text)
    # Reading `port` is what checks it.
    if not parts.hostname or parts.port == 0 or not (is_host(parts.hostname) or is_ipv6(parts.hostname)):
        raise ValueError
    return parts


SERVER_URL_EXPECTED = "the server's URL such as wss://tunnel.example.com/connect"
WEB_SCHEMES = {"https": "wss", "http": "ws"}


def parse_server_url(text: str) -> ServerUrl:
    """A ws or wss URL without user or fragment; a missing path becomes `/connect`. Raises ValueError."""
    scheme = text.partition("://")[0].lower()
    if scheme in WEB_SCHEMES:
        raise Refused(f"{SERVER_URL_EXPECTED}, with {WEB_SCHEMES[scheme]}:// in place of {scheme}://")
    if "://" not in text and "@" not in text:
        raise Refused(f"{SERVER_URL_EXPECTED}, with wss:// before the host")
    parts = split_url(text)
    if parts.scheme not in ("ws", "wss") or "@" in parts.netloc or "#" in text:
        raise ValueError
    parts = parts._replace(path=parts.path if parts.path.strip("/") else "/connect")
    tls = parts.scheme == "wss"
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    return ServerUrl(parts.geturl(), tls, parts.hostname or "", parts.port or (443 if tls else 80), target)


def parse_web_url(text: str) -> str:
    """An http or https URL without user, query or fragment."""
    parts = split_url(text)
    if parts.scheme not in WEB_SCHEMES or "@" in parts.netloc or parts.query or "#" in text:
        raise ValueError
    return parts.geturl()


def parse_status_url(text: str) -> str:
    """An http or https URL without user or fragment; a missing path becomes `/status`. Raises ValueError."""
    parts = split_url(text if "://" in text else f"http://{text}")
    if parts.scheme not in WEB_SCHEMES or "@" in parts.netloc or "#" in text:
        raise ValueError
    return parts._replace(path=parts.path if parts.path.strip("/") else "/status").geturl()


STATUS_URL = Kind(
    "URL",
    "http or https URL",
    "the URL of a port that serves /status, such as http://127.0.0.1:8080, without user or password",
    parse_status_url,
    quote=quote_unless_secret(re.compile("@")),
)


def parse_proxy(text: str) -> Proxy:
    """`http[s]://[user:password@]host[:port]`; the scheme may be left out."""
    parts = split_url(text if "://" in text else f"http://{text}")
    if parts.scheme not in PORTS or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError
    return Proxy.of(parts)


def parse_registry(text: str) -> RegistryUrl:
    """Where the registry is; ports that are left out are the usual ones. Raises ValueError."""
    url, hosts = split(text)
    port = REGISTRY_PORTS[url.kind]
    named = [host if re.search(r":\d+$", host) else f"{host}:{port}" for host in hosts]
    return dataclasses.replace(url, hosts=tuple(map(parse_target, named)))


SERVER_URL = Kind(
    "URL",
    "ws or wss URL",
    f"{SERVER_URL_EXPECTED}, without user or password",
    parse_server_url,
    quote=quote_unless_secret(re.compile("@")),
)
WEB_URL = Kind(
    "URL",
    "http or https URL",
    "a URL such as https://argotun.argotun:8080, without user or password",
    parse_web_url,
    quote=quote_unless_secret(re.compile("@")),
)
PROXY_URL = Kind(
    "URL",
    "http or https URL",
    "http[s]://[user:password@]host[:port]",
    parse_proxy,
    lambda proxy: proxy.show(HIDDEN),
    hidden,
)
REGISTRY_URL = Kind(
    "URL",
    "Redis URL",
    "redis://[user[:password]@]host[:port][/db], rediss:// with TLS, unix:///path, "
    "redis+sentinel://host[:port],…/master[/db] or redis+cluster://host[:port],…",
    parse_registry,
    lambda url: url.show(HIDDEN),
    quote_unless_secret(re.compile("@")),
)
