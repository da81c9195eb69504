"""The others, where a server is one of several: the registry, and each replica that lives by its word."""

from collections.abc import Callable

from argotun.address import host_port
from argotun.check import certificates
from argotun.check.steps import Walk
from argotun.config import ServerConfig
from argotun.errors import ArgotunError
from argotun.replicas.directory import Directory
from argotun.replicas.engine import FAILURES, Engine
from argotun.replicas.feed import Feed
from argotun.replicas.shared import new_id
from argotun.server.addresses import place
from argotun.server.links import DIAL, peer_tls
from argotun.server.seeds import addresses
from argotun.transport.explain import explain
from argotun.transport.resolve import Resolver
from argotun.transport.tls import handshake_client


def walk(config: ServerConfig, found: Walk) -> None:
    """Read the registry as a replica does when it starts, and dial whoever stands there, or is at a seed."""
    directory = Directory(new_id())
    _registry(config, directory, found)
    for replica, each in directory.replicas.items():
        _reach(config, replica, each.address, found, found.fail)
    if config.peer_seeds is not None:
        _seeds(config, {each.address for each in directory.replicas.values()}, found)


def _registry(config: ServerConfig, directory: Directory, found: Walk) -> None:
    try:
        engine = Engine(config)
        with engine.client() as client:
            client.ping()
            Feed(engine, directory).read_members(client)
    except ArgotunError as error:
        found.fail("registry", str(error))
        return
    except FAILURES as error:
        why = explain(error) if isinstance(error, OSError) else " ".join(str(error).split())[:200]
        found.fail("registry", f"the registry cannot be used: {why}")
        return
    count = len(directory.replicas)
    others = f"{count} other replica{'s live' if count != 1 else ' lives'} there"
    found.ok("registry", f"the registry answers, under {config.registry_prefix!r}; {others}")
    if engine.tls is not None:
        for name, end in engine.tls.expiry().items():
            certificates.look(found, f"registry.{name.removeprefix('registry-')}", "the file's", end)


def _seeds(config: ServerConfig, known: set[str], found: Walk) -> None:
    """Whom a replica would ask while the registry is away; who does not answer may have ended: a warning."""
    assert config.peer_seeds is not None
    try:
        there = addresses(Resolver(*config.peer_seeds, DIAL))
    except ArgotunError as error:
        found.warn("seeds", str(error))
        return
    named = len(known.intersection(there))
    found.ok(
        "seeds",
        f"addresses of {host_port(*config.peer_seeds)}: {len(there)}; of replicas in the registry: {named}",
    )
    for address in there:
        if address not in known:
            _reach(config, "", address, found, found.warn)


def _reach(
    config: ServerConfig, replica: str, address: str, found: Walk, failed: Callable[[str, str], None]
) -> None:
    """Shake hands with one replica, as a link does; "" is whichever is there."""
    who = f"replica {replica}" if replica else "a replica"
    step = f"peer {address}"
    try:
        tls = peer_tls(config)
        sock = place(config, replica, address, DIAL).dial()
        sock = handshake_client(sock, tls.context(), config.peer_name, DIAL)
    except ArgotunError as error:
        failed(step, f"{who}: {error}")
        return
    answers = f"{who} answers"
    certificates.tell(found, step, sock, lambda names: f"{answers}, and its certificate", answers)
    sock.close()
