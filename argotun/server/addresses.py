"""Where replicas find each other: what this one says of itself, and where it dials the others."""

from gevent import socket

from argotun.address import host_port, ip_of
from argotun.config import ServerConfig
from argotun.config.models import ANYWHERE
from argotun.errors import ConfigError
from argotun.transport.dial import Destination
from argotun.transport.paths import SocketPath, path_of


def own_path(config: ServerConfig, me: str) -> str | None:
    """The Unix socket on which the replica `me` listens for the others; None where it has a port."""
    return None if config.peer_sockets is None else path_of(config.peer_sockets, me)


def own_address(config: ServerConfig, me: str, port: int) -> str:
    """What the replica `me` says of itself; `port` is where it listens, if it does not at a Unix socket.

    Raises ConfigError where the others could not dial it.
    """
    path = own_path(config, me)
    return host_port(*advertised(config, port)) if path is None else f"unix:{path}"


def place(config: ServerConfig, replica: str, address: str, timeout: float) -> Destination | SocketPath:
    """Where to dial another replica, `timeout` seconds each time; anybody may have written its `address`."""
    if config.peer_sockets is not None:
        # What is said of a path does not count: it is in our own folder, or nowhere.
        return SocketPath(path_of(config.peer_sockets, replica))
    host, _, port = address.rpartition(":")
    # Port 0 is nobody's.
    return Destination(host, int(port) if port.isdecimal() else 0, timeout)


def advertised(config: ServerConfig, port: int) -> tuple[str, int]:
    """The address of the port for other replicas, as they dial it; `port` is where this one listens.

    Raises ConfigError where they could not.
    """
    if config.advertise is not None:
        host, port = config.advertise[0], config.advertise[1] or port
    else:
        host = config.peer_addr[0]
        if host in ANYWHERE:
            host = _own_address()
    if _is_here(host) and not _is_near(config):
        raise ConfigError("--advertise", host_port(host, port), "an address that other replicas can dial")
    return host, port


def _own_address() -> str:
    name = socket.gethostname()
    try:
        address: str = socket.getaddrinfo(name, None, 0, socket.SOCK_STREAM)[0][4][0]
    except OSError:
        raise ConfigError(
            "--advertise", None, f"what other replicas dial, since {name} has no address"
        ) from None
    return address


def _is_near(config: ServerConfig) -> bool:
    """Whether the registry is on this machine, as the other replicas may be then."""
    registry = config.registry
    return registry is not None and (bool(registry.path) or all(_is_here(host) for host, _ in registry.hosts))


def _is_here(host: str) -> bool:
    """Whether an address means this machine to whoever dials it."""
    address = ip_of(host)
    if address is None:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified
