"""What a server would do with these options: its files, its ports, and whom it needs besides.

Nothing is joined and nobody let in: ports are bound for a moment, the registry is read only, and another
replica sees a TLS handshake that ends.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace

from argotun import descriptors
from argotun.address import host_port
from argotun.check import certificates, inside
from argotun.check.steps import Walk
from argotun.config import ServerConfig
from argotun.config.clusters import ANY_NAME, Cluster, weak_tokens
from argotun.config.models import Address
from argotun.errors import ArgotunError
from argotun.files import read
from argotun.observe.metrics import ServerMetrics
from argotun.observe.words import plural
from argotun.server.app import Server
from argotun.server.callers import Callers
from argotun.server.clusters import LARGEST_FILE, ClustersFile
from argotun.server.keysets import fetch, parse_bytes
from argotun.server.links import peer_tls
from argotun.server.revoked import RevokedFile
from argotun.transport import paths
from argotun.transport.listen import Listener
from argotun.transport.tls import ClientTls, ServerTls

MOST_NAMED = 5
"""Clusters that one sentence names."""


def walk(config: ServerConfig, found: Walk) -> None:
    """Walk it all; what needs nothing of a part that failed is walked nevertheless."""
    clusters = files(config, found)
    for cluster in clusters.clusters.values():
        if cluster.account is not None and cluster.account.jwks_url is not None:
            _keys(config, cluster.id, cluster.account.jwks_url, found)
    if not found.failed:
        # What only shows when all parts are there.
        found.attempt("server", lambda: Server(replace(config, access_log=False)))
    if config.from_inside is None:
        # A server that is to answer has them already.
        _ports(config, found)
    _descriptors(config, found)
    if config.registry is not None:
        # Only here: a server by itself has no use for redis-py.
        from argotun.check import replicas  # noqa: PLC0415  see above

        replicas.walk(config, found)
    if config.from_inside is not None:
        inside.walk(config, config.from_inside, clusters.clusters, found)


def files(config: ServerConfig, found: Walk) -> ClustersFile:
    """Read what the options name; the clusters."""
    clusters = _clusters(config, found)
    _callers(config, clusters, found)
    if config.revoked is not None:
        _revoked(config.revoked, found)
    _certificates(config, found)
    return clusters


# ── who may come ───────────────────────────────────────────────────────────────────────────────────


def _clusters(config: ServerConfig, found: Walk) -> ClustersFile:
    file = ClustersFile(config.clusters)
    if not found.done("clusters", file.load):
        return file
    clusters = file.clusters
    if not clusters:
        found.warn("clusters", "there is no cluster, so that no agent is let in", "add one to --clusters")
    else:
        found.ok("clusters", f"{plural(len(clusters), 'cluster')}: {_named(clusters)}")
    if weak := weak_tokens(_text(config.clusters)):
        found.warn(
            "clusters.weak",
            f"the token of {_named(weak)} could be guessed",
            "make another one (openssl rand -hex 32), and let `tokens` hold both until the agent has it",
        )
    if unbound := [name for name, each in clusters.items() if not _bound(each, config)]:
        found.warn(
            "clusters.unbound",
            f"{_named(unbound)}: bound to no certificate, so that whoever has the token is the agent",
            "ask for certificates with --tls-client-ca, and name one in certNames of the entry",
        )
    owners = defaultdict(list)
    for name, each in clusters.items():
        for certificate in each.cert_names:
            if certificate != ANY_NAME:
                owners[certificate].append(name)
    if double := {certificate: names for certificate, names in owners.items() if len(names) > 1}:
        certificate, names = next(iter(double.items()))
        found.warn(
            "clusters.double",
            f"the certificate of {certificate} may speak for {_named(names)}"
            + (f", and {len(double) - 1} more are in several entries" if len(double) > 1 else ""),
            "give each cluster a certificate of its own, so that one that is stolen opens one cluster only",
        )
    return file


def _bound(cluster: Cluster, config: ServerConfig) -> bool:
    """Whether a stolen token alone is of no use."""
    if not cluster.tokens:
        return True
    return config.tls_client_ca is not None and ANY_NAME not in cluster.cert_names


def _text(source: str) -> str:
    """The clusters file's text, which is sound."""
    text = source.lstrip("\ufeff \t\r\n")
    return text if text.startswith("[") else read(source, LARGEST_FILE).data.decode()


def _callers(config: ServerConfig, clusters: ClustersFile, found: Walk) -> None:
    asked = bool(config.internal_client_ca or config.tls_client_ca)
    callers = Callers(
        config.callers,
        config.internal_client_names,
        clusters,
        ServerMetrics().caller,
        asked=asked,
        bound=config.tls_client_ca is not None,
        limit=0,
    )
    if not found.done("callers", callers.load):
        return
    if config.callers is None and (not asked or config.internal_plain or config.tls_cert is None):
        found.warn(
            "callers",
            "whoever reaches the internal port may call, and is asked for nothing",
            "let a NetworkPolicy or a firewall decide who reaches it, or ask for certificates "
            "(--internal-client-ca) or tokens (--callers)",
        )
    elif not callers.names:
        found.warn("callers", "there is no caller, so that nobody may call", "add one to --callers")
    else:
        found.ok("callers", f"{plural(len(callers.names), 'caller')}: {_named(callers.names)}")


def _revoked(path: str, found: Walk) -> None:
    file = RevokedFile(path, lambda: None)
    if found.done("revoked", file.load):
        listed = file.listed
        what = f"{plural(len(listed.fingerprints), 'fingerprint')} and {plural(len(listed.names), 'name')}"
        found.ok("revoked", f"--revoked {path} lists {what}")


def _keys(config: ServerConfig, cluster: str, url: str, found: Walk) -> None:
    """Fetch the keys that a cluster's ServiceAccount tokens are signed by."""
    try:
        keys = parse_bytes(fetch(url, config.jwks_ca))
    except ValueError as error:
        found.fail(f"keys {cluster}", f"{url} gives no keys: {error}")
    else:
        found.ok(f"keys {cluster}", f"{url} gives {plural(len(keys), 'key')}")


# ── certificates ───────────────────────────────────────────────────────────────────────────────────


def _certificates(config: ServerConfig, found: Walk) -> None:
    if config.tls_cert is None or config.tls_key is None:
        found.warn(
            "certificates",
            "there is no TLS: anyone on the way can read tokens and requests",
            "name a certificate with --tls-cert and --tls-key, unless a gateway before both ports ends TLS",
        )
    else:
        cert, key = config.tls_cert, config.tls_key
        _set(found, "", lambda: ServerTls(cert, key, config.tls_client_ca), cert, config.tls_client_ca)
        if (ca := config.internal_client_ca) is not None:
            option = "--internal-client-ca"
            _set(found, "internal-", lambda: ServerTls(cert, key, ca, ca_option=option), None, ca)
    if config.peer_cert is not None and config.peer_key is not None:
        _set(found, "peer-", lambda: peer_tls(config), config.peer_cert, config.peer_ca)


def _set(
    found: Walk, prefix: str, make: Callable[[], ServerTls | ClientTls], cert: str | None, ca: str | None
) -> None:
    """Tell of one set of files: whose certificate it is, and when it and the CA end."""
    tls = found.attempt("certificates", make)
    if tls is None:
        return
    ends = tls.expiry()
    if cert is not None:
        says = f"the certificate in {cert} is that of {certificates.of_file(cert).names}, and"
        certificates.look(found, f"certificates.{prefix}own", says, ends["certificate"])
    if ca is not None:
        certificates.look(found, f"certificates.{prefix}ca", f"the CA in {ca}", ends["ca"])


# ── ports ──────────────────────────────────────────────────────────────────────────────────────────

SHARED = ("public", "internal")
"""The ports that --reuse-port lets replicas of one machine have together."""


def _ports(config: ServerConfig, found: Walk) -> None:
    ports: list[tuple[str, Address | None]] = [
        ("public", config.addr),
        ("internal", config.internal_addr),
        ("health", config.health_addr),
        ("peer", config.peer_addr if config.registry is not None and not config.peer_sockets else None),
    ]
    sockets = config.peer_sockets
    if sockets is not None and found.done("port.peer", lambda: paths.prepare(sockets)):
        found.ok("port.peer", f"{sockets} is there, for this user only")
    for name, address in ports:
        if address is None:
            continue
        if config.reuse_port and name in SHARED:
            # Who listens there, if only for a moment, takes connections away from those who serve.
            found.ok(f"port.{name}", f"{host_port(*address)} is not tried: other replicas may have it too")
            continue
        listener = Listener(address, lambda sock, peer: None, handshake_timeout=1.0, hello_timeout=1.0)
        try:
            listener.start()
        except ArgotunError as error:
            found.fail(f"port.{name}", str(error))
        else:
            listener.stop_accepting()
            found.ok(f"port.{name}", f"{host_port(*address)} is free")


def _descriptors(config: ServerConfig, found: Walk) -> None:
    descriptors.raise_limit()
    limit = descriptors.allowed()
    wanted = (config.public_connections, config.internal_connections)
    given = descriptors.divide(limit, *wanted)
    if given == wanted:
        found.ok("descriptors", f"this process may have {limit}")
    else:
        found.warn(
            "descriptors",
            f"this process may have {limit}, which lets the public port take {given[0]} connections and the "
            f"internal {given[1]}, in place of {wanted[0]} and {wanted[1]}",
            "raise the hard limit (ulimit -Hn, LimitNOFILE of systemd, the container runtime's), or lower "
            "--public-connections and --internal-connections",
        )


def _named(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
