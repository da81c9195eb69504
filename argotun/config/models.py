"""What each role is told: frozen dataclasses, and the only place where a default is written.

A field is the option of the same name (`tls_cert` is `--tls-cert`). Times are seconds, sizes are
bytes, `None` is "not set". `argotun.options.load.load` fills and checks them; code that builds one by
hand (a test, the demo) answers for its values itself. `repr` never shows a secret.
"""

from dataclasses import dataclass, field

from argotun.config.proxies import Proxy

Address = tuple[str, int]
"""Host and port. An empty host, in an address to listen on, is every interface."""

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where Kubernetes mounts a pod's token and its API's CA."""

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """How every mode writes its log."""

    log_level: str = "info"
    log_format: str = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelConfig(LogConfig):
    """What both ends of a tunnel have in common."""

    access_log: bool = True
    drain: float = 20.0
    keepalive: float = 15.0
    keepalive_timeout: float = 45.0
    stall_timeout: float = 600.0
    """How long a client or an API may take nothing of what is for it; 0 is no limit."""
    tunnel_buffer: int = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig(TunnelConfig):
    """`--mode server`: the end beside Argo CD."""

    clusters: str = field(default="", repr=False)
    """Path of the clusters file, or its JSON text when it starts with `[`."""
    addr: Address = ("", 8443)
    internal_addr: Address = ("", 8080)
    health_addr: Address | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
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
    idle_timeout: float = 600.0
    """How long an idle client connection is kept; clients such as Argo CD reuse theirs for 5 minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig(TunnelConfig):
    """`--mode agent`: the end beside the Kubernetes API."""

    server: str = ""
    """`wss://host[:port]/path`; the path is `/connect` when none was given."""
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    server_token_path: str | None = None
    """Of `token`, `token_file` and `server_token_path` exactly one is set."""
    target: Address = ("kubernetes.default.svc", 443)
    target_host_name: str | None = None
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
    max_retry: float = 60.0
    max_conns: int = 1024
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
    pki_server: str = ""
    """URL that agents will dial; its host is a name of the server's certificate."""
    pki_names: tuple[str, ...] = ()
    pki_clusters: tuple[str, ...] = ()
    pki_namespace: str = "argotun"
    pki_release: str = "argotun"
    pki_days: int = 365
    pki_renew: bool = False


Config = ServerConfig | AgentConfig | DemoConfig | PkiConfig

CONFIGS: dict[str, type[Config]] = {
    "server": ServerConfig,
    "agent": AgentConfig,
    "demo": DemoConfig,
    "pki": PkiConfig,
}
"""The config of each mode."""
