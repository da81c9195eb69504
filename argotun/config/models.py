"""What each role is told: frozen dataclasses, and the only place where a default is written.

A field is the option of the same name (`tls_cert` is `--tls-cert`). Times are seconds, sizes are
bytes, `None` is "not set". `argotun.options.load.load` fills and checks them; code that builds one by
hand (a test, the demo) answers for its values itself. `repr` never shows a secret.
"""

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from argotun.address import bracketed, host_port
from argotun.config.proxies import Proxy
from argotun.config.registries import RegistryUrl

Address = tuple[str, int]
"""Host and port. An empty host, in an address to listen on, is every interface."""

ANYWHERE = ("", "0.0.0.0", "::")
"""Hosts of an address to listen on that stand for every address of the machine."""


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """Where agents find their server, of the URL `text`; by default nowhere.

    `tls` says that it is dialled by wss://, `target` is what the upgrade asks for.
    """

    text: str = ""
    tls: bool = True
    host: str = ""
    port: int = 443
    target: str = "/connect"

    @property
    def name(self) -> str:
        """What the Host field of a request to it says."""
        usual = 443 if self.tls else 80
        return bracketed(self.host) if self.port == usual else host_port(self.host, self.port)

    def __str__(self) -> str:
        return self.text


Networks = tuple[IPv4Network | IPv6Network, ...]
"""Networks, as CIDR writes them."""

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where Kubernetes mounts a pod's token and its API's CA."""

KUBERNETES: Address = ("kubernetes.default.svc", 443)
"""The API of the cluster that a pod runs in."""

LAST_PART = 0.1
"""Such a part of `drain` is left for requests in progress when new ones had to be served until then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """How every mode writes its log."""

    log_level: str = "info"
    log_format: str = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelConfig(LogConfig):
    """What both ends of a tunnel have in common."""

    access_log: bool = True
    ack_timeout: float = 30.0
    """How long a machine that owes TCP an answer may be silent; 0 is no limit. Bytes were sent eight times by
    then (again after 0.2 s, and each time after twice as long), and the HTTP/2 clients of kube-apiserver give
    up after 45 s. A network that is back sooner has cost nothing but time."""
    drain: float = 20.0
    keepalive: float = 15.0
    keepalive_timeout: float = 45.0
    stall_timeout: float = 600.0
    """How long a client or an API may take nothing of what is for it; 0 is no limit."""
    tunnel_buffer: int = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig(TunnelConfig):
    """`--mode server`: the end beside Argo CD."""

    clusters: str = field(default="", repr=False)
    """Path of the clusters file, or its JSON text when it starts with `[`."""
    addr: Address = ("", 8443)
    internal_addr: Address = ("", 8080)
    reuse_port: bool = False
    """Whether other replicas of this machine listen on `addr` and `internal_addr` too."""
    health_addr: Address | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    internal_client_ca: str | None = None
    """`tls_client_ca` where none is named."""
    internal_client_names: tuple[str, ...] = ("argocd",)
    """Of the callers' certificates, where client certificates are asked for and `callers` names no file."""
    callers: str | None = None
    max_connections_per_caller: int = 0
    """0 is no limit: Argo CD is most often the one caller, and has a connection for each of its watches."""
    revoked: str | None = None
    jwks_ca: str | None = None
    internal_plain: bool = False
    rate_limit: float = 0.0
    """Requests per second over all clusters; 0 is no limit."""
    max_body: int = 0
    """Largest request body; 0 is no limit: bodies are streamed, never held, and the API has its own limit."""
    reconnect_grace: float = 2.0
    response_timeout: float = 300.0
    """Silence of the API before a 504; 0 is off. kube-apiserver answers within 60 s or gives up itself."""
    head_timeout: float = 10.0
    body_timeout: float = 60.0
    handshake_timeout: float = 10.0
    hello_timeout: float = 2.0
    """From the accept to a whole ClientHello. It is one packet or two; a lost one delays it by a second."""
    public_connections: int = 8192
    """One for each agent, and one for each attempt: a server has hundreds of clusters. One that has shown no
    token yet costs 10 KiB before its ClientHello, 40 KiB behind TLS: a third of the chart's 1 GiB at most."""
    public_connections_per_address: int = 4096
    """Half of them: all agents may come from the one address of a load balancer or a NAT."""
    internal_connections: int = 16384
    """One for each request in progress and each kept connection. Argo CD has 100 to 200 watches in a cluster,
    and 1,395 (45 namespaces of 31 kinds) in one that gives it single namespaces. A watch costs 10 KiB, 24 KiB
    with TLS: under half of the chart's 1 GiB."""
    internal_connections_per_address: int = 12288
    """Three quarters: nearly all of them are those of one address, Argo CD's controller."""
    trusted_proxies: Networks = ()
    """From here a connection to the public port begins with a PROXY header."""
    min_wire_version: int = 2
    """Version 1 has no credit, and a message of 16 MiB is one turn of the event loop: only if asked for."""
    registry: RegistryUrl | None = None
    """Of all replicas; None is one server by itself."""
    registry_password_file: str | None = None
    registry_sentinel_password_file: str | None = None
    registry_ca_cert: str | None = None
    registry_client_cert: str | None = None
    registry_client_key: str | None = None
    registry_prefix: str = "argotun"
    peer_addr: Address = ("", 8444)
    """Where other replicas dial, if there is a registry."""
    advertise: Address | None = None
    """What they dial; None is this host's address. Its port is that of `peer_addr` where it is 0."""
    peer_sockets: str | None = None
    """Folder of Unix sockets where replicas of one machine dial each other; None is `peer_addr`."""
    peer_seeds: Address | None = None
    """Name and port: replicas are looked for at its addresses while the registry is away; None is nowhere."""
    peer_cert: str | None = None
    peer_key: str | None = None
    peer_ca: str | None = None
    peer_name: str = "argotun-peer"
    """DNS name in every replica's certificate, and in nobody else's."""
    peer_keepalive: float = 0.5
    peer_keepalive_timeout: float = 5.0
    """A link's round trip is a fraction of a millisecond: who is silent for that long has ended."""
    peer_buffer: int = 64 << 20
    """Of one link; an answer that nobody reads may hold its stream's share of it at both ends."""
    from_inside: str | None = None
    """URL of the internal port, as a caller of the check names it."""
    from_inside_cert: str | None = None
    from_inside_key: str | None = None
    from_inside_token_file: str | None = None
    idle_timeout: float = 600.0
    """How long an idle client connection is kept; clients such as Argo CD reuse theirs for 5 minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig(TunnelConfig):
    """`--mode agent`: the end beside the Kubernetes API."""

    server: ServerUrl = ServerUrl()
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    server_token_path: str | None = None
    """Of `token`, `token_file` and `server_token_path` exactly one is set."""
    target: Address = KUBERNETES
    target_host_name: str | None = None
    target_at: Address | None = None
    """Where to dial `target` when that is KUBERNETES and the platform gives an address; it is no option."""
    sa_token_path: str = f"{SERVICE_ACCOUNT}/token"
    """Empty (`off`): no token is added, and the API knows the agent by `target_client_cert`."""
    ca_cert: str | None = f"{SERVICE_ACCOUNT}/ca.crt"
    target_client_cert: str | None = None
    target_client_key: str | None = None
    insecure: bool = False
    plain_target: bool = False
    allow_insecure_server: bool = False
    server_ca_cert: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    proxy: Proxy | None = None
    """To dial the server through; HTTPS_PROXY is resolved already."""
    tunnels: int = 2
    """Each to another replica of the server, where that has several: one that dies leaves the other."""
    max_retry: float = 60.0
    max_conns: int = 4096
    """Argo CD's watches alone may be 1,395 (see `ServerConfig`). An idle stream is a connection to the API of
    34 KiB: all of them and a full `tunnel_buffer` fit into the chart's 256 MiB."""
    idle_conns: int = 64
    """Connections to the API that are kept for the next stream; 0 for none."""
    api_check: float = 60.0
    """Seconds; 0 for never. A wrong address, CA or credential is told before anybody asks."""
    policy: str | None = None
    """Path of the customer's policy; without one the account's RBAC alone decides."""
    dial_timeout: float = 10.0
    health_addr: Address | None = ("", 8081)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig(LogConfig):
    """`--mode demo`: server, agent and an API in one process."""

    demo_once: bool = False
    kubeconfig: str | None = None
    context: str | None = None
    log_level: str = "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class PkiConfig(LogConfig):
    """`--mode pki`: certificates, tokens and the chart's values, in a folder."""

    pki_folder: str = "argotun-pki"
    pki_server: ServerUrl = ServerUrl()
    """What agents will dial; its host is a name of the server's certificate."""
    pki_names: tuple[str, ...] = ()
    pki_clusters: tuple[str, ...] = ()
    pki_keys: tuple[tuple[str, str], ...] = ()
    """Clusters that prove themselves by ServiceAccount tokens, and the files with their public keys."""
    pki_exposure: str = "as-it-is"
    pki_context: str = "management"
    pki_chart: str = "./chart"
    pki_namespace: str = "argotun"
    pki_release: str = "argotun"
    pki_days: int = 365
    pki_renew: bool = False
    pki_passphrase_file: str | None = None
    """File whose first line encrypts the CA's key; None leaves the key in clear."""
    pki_callers_ca: bool = False
    pki_replicas: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusConfig(LogConfig):
    """`--mode status`: what a server or an agent says of itself, in a terminal."""

    status_url: str = "http://127.0.0.1:8080/status"
    """A server's internal or health port, or an agent's health port."""
    status_ca_cert: str | None = None
    """None is the system's CAs."""
    status_client_cert: str | None = None
    status_client_key: str | None = None
    status_token_file: str | None = None
    """Of a ServiceAccount that the callers file lists."""


Config = ServerConfig | AgentConfig | DemoConfig | PkiConfig | StatusConfig

CONFIGS: dict[str, type[Config]] = {
    "server": ServerConfig,
    "agent": AgentConfig,
    "demo": DemoConfig,
    "pki": PkiConfig,
    "status": StatusConfig,
}
"""The config of each mode."""
