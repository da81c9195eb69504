"""The others, where a server is one of several: the registry, and each replica that lives by its word."""

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
from argotun.transport.explain import explain
from argotun.transport.tls import handshake_client


def walk(config: ServerConfig, found: Walk) -> None:
    """Read the registry as a replica does when it starts, and dial whoever stands there."""
    directory = Directory(new_id())
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
    for replica, each in directory.replicas.items():
        _reach(config, replica, each.address, found)


def _reach(config: ServerConfig, replica: str, address: str, found: Walk) -> None:
    """Shake hands with one replica, as a link does."""
    step = f"peer {address}"
    try:
        tls = peer_tls(config)
        sock = place(config, replica, address, DIAL).dial()
        sock = handshake_client(sock, tls.context(), config.peer_name, DIAL)
    except ArgotunError as error:
        found.fail(step, f"replica {replica}: {error}")
        return
    answers = f"replica {replica} answers"
    certificates.tell(found, step, sock, lambda names: f"{answers}, and its certificate", answers)
    sock.close()
