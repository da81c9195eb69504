"""The tables of options and flags: parser, help, completion, man page and docs/options.md come from them.

To add one: a field with its default in models.py, a row here, a rule in checks.py if it depends on
another. The row's name is the flag, the key in the file and, as `ARGOTUN_…`, the environment name.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from argotun.config.callers import CALLER_NAMES
from argotun.config.clusters import MOST_AGENTS
from argotun.config.models import CONFIGS
from argotun.config.network import (
    ADVERTISED,
    HOST_NAME,
    HOST_NAMES,
    LISTEN,
    LISTEN_OR_OFF,
    NETWORKS,
    PROXY_URL,
    REGISTRY_URL,
    SEEDS,
    SERVER_URL,
    SOCKETS,
    STATUS_URL,
    TARGET,
    WEB_URL,
)
from argotun.config.values import (
    CLUSTER_FILES,
    CLUSTER_IDS,
    CLUSTERS,
    FILE,
    FILE_OR_OFF,
    FOLDER,
    LABEL,
    NAME,
    SECRET_TOKEN,
    SWITCH,
    WIRE_VERSION,
    Kind,
    choice,
    count,
    duration,
    rate,
    size,
)
from argotun.config.values import (
    PREFIX as REGISTRY_PREFIX,
)

PREFIX = "ARGOTUN_"
SERVER, AGENT, DEMO, PKI, STATUS = ("server",), ("agent",), ("demo",), ("pki",), ("status",)
TUNNEL = ("server", "agent")
EVERY = ("server", "agent", "demo", "pki", "status")


@dataclass(frozen=True, slots=True)
class Option:
    """One option; `also` are further environment names, in order after its own."""

    name: str
    modes: tuple[str, ...]
    kind: Kind
    help: str
    also: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """The option on the command line."""
        return f"--{self.name}"

    @property
    def field(self) -> str:
        """The option in its config's dataclass."""
        return self.name.replace("-", "_")

    @property
    def environment(self) -> tuple[str, ...]:
        """The environment names, the first that is set counts."""
        return (PREFIX + self.field.upper(), *self.also)

    def default(self, mode: str) -> Any:
        """The value in `mode` when nothing sets it."""
        return next(f.default for f in dataclasses.fields(CONFIGS[mode]) if f.name == self.field)

    def show(self, value: Any) -> str:
        """A value as a person may see it; empty for none."""
        return "" if value in (None, "") and not self.kind.may_be_off else self.kind.show(value)

    def describe_default(self) -> str:
        """The default in words, by mode where the modes differ."""
        shown = {mode: self.show(self.default(mode)) or "none" for mode in self.modes}
        if len(set(shown.values())) == 1:
            return next(iter(shown.values()))
        return ", ".join(f"{default} ({mode})" for mode, default in shown.items())


MODE = Option("mode", (), choice(*EVERY), "what this process is; has no default")


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag beside the options of the modes: it says where those stand, or ends the run early.

    values       what follows it, a word for each
    choices      what its value may be, the first where it stands alone and `alone` says that it may
    environment  the variable that says the same
    expected     what an error says of its values
    """

    flag: str
    help: str
    values: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    alone: bool = False
    environment: str = ""
    expected: str = ""

    @property
    def shown(self) -> str:
        """The flag with its values, as a page shows it."""
        word = "|".join(self.choices) or " ".join(self.values)
        return f"{self.flag}[={word}]" if self.alone else f"{self.flag} {word}".rstrip()


CONFIG = Flag(
    "--config",
    "YAML file of options, one `name: value` a line",
    values=("FILE",),
    environment=PREFIX + "CONFIG",
    expected="a YAML file of options",
)
CHECK = Flag(
    "--check",
    "walk what --mode server or agent would do with these options, and exit: 0 all is well, "
    "1 a step has failed; --check=json for programs",
    choices=("text", "json"),
    alone=True,
    expected="no value, or --check=json",
)
SHELLS = ("bash", "zsh", "fish")

FLAGS = (
    CONFIG,
    Flag(
        "--print-config",
        "print every value, where it came from and what its file holds, without secrets, and exit",
    ),
    CHECK,
    Flag(
        "--policy-check",
        "print what a --policy file says to a request such as 'GET /api/v1/pods', and exit: "
        "0 allowed, 1 refused",
        values=("FILE", "REQUEST"),
        expected="a policy file and a request such as 'GET /api/v1/pods'",
    ),
    Flag(
        "--completion",
        "print a shell's completion, such as for source <(argotun --completion bash), and exit",
        choices=SHELLS,
        expected=f"a shell: {', '.join(SHELLS)}",
    ),
    Flag("--version", "print the version and exit"),
    Flag("--help", "print the common options of a mode and exit"),
    Flag("--help-all", "print every option and exit"),
)
"""The flags beside the modes, in the order in which they are shown."""

OPTIONS: tuple[Option, ...] = (
    # Server
    Option(
        "clusters",
        SERVER,
        CLUSTERS,
        "list of the clusters and their tokens: a file in JSON or YAML, re-read when it changes, "
        "or the JSON itself",
        also=("CLUSTERS",),
    ),
    Option("addr", SERVER, LISTEN, "public address, dialled by agents: /connect and /healthz only"),
    Option("internal-addr", SERVER, LISTEN, "address for Argo CD: /tunnel/{id}/, probes, /metrics, /status"),
    Option(
        "reuse-port",
        SERVER,
        SWITCH,
        "let other replicas of this machine listen on --addr and --internal-addr too; only with --registry",
    ),
    Option("tls-cert", SERVER, FILE, "certificate chain of both ports, PEM; without it they are plain HTTP"),
    Option("tls-key", SERVER, FILE, "private key of --tls-cert, PEM"),
    Option("tls-client-ca", SERVER, FILE, "CA that client certificates on both ports must come from, PEM"),
    Option(
        "internal-client-ca",
        SERVER,
        FILE,
        "CA of its own for the internal port's clients, PEM; without it --tls-client-ca",
    ),
    Option(
        "internal-client-names",
        SERVER,
        CALLER_NAMES,
        "names of the certificates that may call at the internal port, with commas; without --callers only",
    ),
    Option(
        "callers",
        SERVER,
        FILE,
        "list, in JSON or YAML, of who may call, by certificate or token, and what they may; "
        "re-read when it changes",
    ),
    Option(
        "max-connections-per-caller",
        SERVER,
        count("connections", 0, 1_000_000),
        "connections that one caller may have to the internal port; 0 is no limit",
    ),
    Option(
        "revoked",
        SERVER,
        FILE,
        "certificates that no longer count, by SHA-256 or name, a line each; read again when it changes",
    ),
    Option(
        "jwks-ca",
        SERVER,
        FILE,
        "CA of the URLs that keys of ServiceAccount tokens are fetched from, PEM; else the system's",
    ),
    Option("internal-plain", SERVER, SWITCH, "keep the internal port plain HTTP, behind its NetworkPolicy"),
    Option(
        "rate-limit", SERVER, rate("requests per second"), "requests per second over all clusters, then 429"
    ),
    Option(
        "max-body",
        SERVER,
        size(1, "no limit"),
        "largest request body, then 413; bodies are streamed, never held, and the API has its own limit",
    ),
    Option(
        "reconnect-grace",
        SERVER,
        duration(0),
        "how long a request waits for its agent to come back before it gets a 503",
    ),
    Option(
        "response-timeout",
        SERVER,
        duration(0.1, "no limit"),
        "how long the API may be silent before a request gets a 504; not for watches, logs and upgrades",
    ),
    Option("head-timeout", SERVER, duration(0.1), "time for a client to send a request's head"),
    Option("body-timeout", SERVER, duration(0.1), "time between two pieces of a request's body"),
    Option("handshake-timeout", SERVER, duration(0.1), "time for a client to finish its TLS handshake"),
    Option(
        "hello-timeout",
        SERVER,
        duration(0.1),
        "time for a client's first words, its PROXY header and TLS ClientHello, from the accept on",
    ),
    Option(
        "trusted-proxies",
        SERVER,
        NETWORKS,
        "networks whose connections to the public port begin with a PROXY header (version 1 or 2), "
        "which is believed",
    ),
    Option(
        "public-connections",
        SERVER,
        count("connections", 16, 1_000_000),
        "connections to the public port at once; over it, who has shown no token longest is dropped",
    ),
    Option(
        "public-connections-per-address",
        SERVER,
        count("connections", 1, 1_000_000),
        "the same for one address; agents behind one NAT or load balancer share it",
    ),
    Option(
        "internal-connections",
        SERVER,
        count("connections", 16, 1_000_000),
        "connections to the internal port at once: each watch is one",
    ),
    Option(
        "internal-connections-per-address",
        SERVER,
        count("connections", 1, 1_000_000),
        "the same for one address; Argo CD's controller is one",
    ),
    Option(
        "min-wire-version",
        SERVER,
        WIRE_VERSION,
        "oldest version that an agent may speak; 1, for agents of old, has none of version 2's limits",
    ),
    Option(
        "idle-timeout",
        SERVER,
        duration(1),
        "how long an idle client connection is kept; more than the 5m that Argo CD keeps its own",
    ),
    Option(
        "registry",
        SERVER,
        REGISTRY_URL,
        "Redis in which replicas find each other's agents; without it this is the only server",
    ),
    Option(
        "registry-password-file",
        SERVER,
        FILE,
        "file that holds the password of --registry; read at each connection",
    ),
    Option(
        "registry-sentinel-password-file",
        SERVER,
        FILE,
        "file that holds the password of the Sentinels of --registry, if they have one",
    ),
    Option("registry-ca-cert", SERVER, FILE, "CA of the registry's certificate, PEM; else the system's CAs"),
    Option("registry-client-cert", SERVER, FILE, "certificate chain to show to the registry, PEM"),
    Option("registry-client-key", SERVER, FILE, "private key of --registry-client-cert, PEM"),
    Option(
        "registry-prefix",
        SERVER,
        REGISTRY_PREFIX,
        "what all keys in the registry begin with: one for each installation",
    ),
    Option(
        "peer-addr",
        SERVER,
        LISTEN,
        "address where other replicas of this server dial, with mutual TLS; only with --registry",
    ),
    Option(
        "advertise",
        SERVER,
        ADVERTISED,
        "what other replicas dial; else this host's address, and where it says no port that of --peer-addr",
    ),
    Option(
        "peer-sockets",
        SERVER,
        SOCKETS,
        "folder, for its owner only, of Unix sockets where replicas of one machine dial each other, "
        "in place of --peer-addr",
    ),
    Option(
        "peer-seeds",
        SERVER,
        SEEDS,
        "name with an address for each replica, and their port: where they look for others while "
        "--registry is away",
    ),
    Option("peer-cert", SERVER, FILE, "certificate chain of a replica, PEM; it carries --peer-name"),
    Option("peer-key", SERVER, FILE, "private key of --peer-cert, PEM"),
    Option("peer-ca", SERVER, FILE, "CA of the replicas' certificates, PEM; one that signs nobody else's"),
    Option("peer-name", SERVER, HOST_NAME, "DNS name in the certificate of every replica"),
    Option(
        "peer-keepalive",
        SERVER,
        duration(0.01),
        "time between PINGs on a link between replicas; one that misses three is used last",
    ),
    Option(
        "peer-keepalive-timeout", SERVER, duration(0.01), "time without a sign after which a link is dead"
    ),
    Option("peer-buffer", SERVER, size(1 << 20), "as --tunnel-buffer, for one link between replicas"),
    Option(
        "from-inside",
        SERVER,
        WEB_URL,
        "with --check: URL of the internal port, to call each cluster there as Argo CD would",
    ),
    Option("from-inside-cert", SERVER, FILE, "with --from-inside: certificate chain of who calls, PEM"),
    Option("from-inside-key", SERVER, FILE, "private key of --from-inside-cert, PEM"),
    Option("from-inside-token-file", SERVER, FILE, "with --from-inside: file that holds a caller's token"),
    # Agent
    Option("server", AGENT, SERVER_URL, "URL of the server's /connect", also=("SERVER_URL",)),
    Option(
        "token",
        AGENT,
        SECRET_TOKEN,
        "this cluster's token; or use --token-file or --server-token-path",
        also=("TOKEN",),
    ),
    Option("token-file", AGENT, FILE, "file that holds this cluster's token"),
    Option(
        "server-token-path",
        AGENT,
        FILE,
        "ServiceAccount token for the server, in place of a token; the kubelet renews it",
    ),
    Option("target", AGENT, TARGET, "the Kubernetes API; the agent dials nothing else"),
    Option(
        "target-host-name",
        AGENT,
        HOST_NAME,
        "name for Host, SNI and verification of --target where it is not the target's own",
    ),
    Option(
        "sa-token-path", AGENT, FILE_OR_OFF, "ServiceAccount token for the API, read again when it changes"
    ),
    Option("ca-cert", AGENT, FILE, "CA of the API's certificate, PEM"),
    Option(
        "target-client-cert",
        AGENT,
        FILE,
        "certificate chain to show to the API, PEM; beside or in place of a token",
    ),
    Option("target-client-key", AGENT, FILE, "private key of --target-client-cert, PEM"),
    Option("insecure", AGENT, SWITCH, "do not verify the API's certificate"),
    Option("plain-target", AGENT, SWITCH, "speak plain HTTP to the API; for tests"),
    Option("server-ca-cert", AGENT, FILE, "CA of the server's certificate, PEM; without it the system's CAs"),
    Option("client-cert", AGENT, FILE, "certificate chain to show to the server, PEM"),
    Option("client-key", AGENT, FILE, "private key of --client-cert, PEM"),
    Option("allow-insecure-server", AGENT, SWITCH, "allow a ws:// server, without TLS; for tests"),
    Option(
        "proxy",
        AGENT,
        PROXY_URL,
        "HTTP proxy to dial the server through; without it HTTPS_PROXY and NO_PROXY count",
    ),
    Option("dial-timeout", AGENT, duration(0.1), "time for a connection to the server or the API, each step"),
    Option(
        "tunnels",
        AGENT,
        count("tunnels", 1, MOST_AGENTS),
        "tunnels, each to another replica of the server",
    ),
    Option("max-retry", AGENT, duration(0.1), "longest wait before the server is dialled again"),
    Option("max-conns", AGENT, count("streams", 1, 1_000_000), "streams open at once, then 429"),
    Option(
        "idle-conns",
        AGENT,
        count("connections", 0, 10_000),
        "connections to the API that are kept for the next client's GET; 0 for none",
    ),
    Option("api-check", AGENT, duration(0.1, "never"), "how often the agent asks its API whether it answers"),
    Option("policy", AGENT, FILE, "YAML file of what may be asked of this cluster, re-read when it changes"),
    # Server and agent
    Option(
        "health-addr", TUNNEL, LISTEN_OR_OFF, "address for /healthz, /readyz, /metrics, /status; plain HTTP"
    ),
    Option("keepalive", TUNNEL, duration(0.01), "time between PINGs on a tunnel"),
    Option("keepalive-timeout", TUNNEL, duration(0.01), "time without a PONG after which a tunnel is dead"),
    Option(
        "ack-timeout",
        TUNNEL,
        duration(1.0, "no limit"),
        "how long nothing may be heard of a machine to which bytes are on their way",
    ),
    Option(
        "stall-timeout",
        TUNNEL,
        duration(0.1, "no limit"),
        "how long a client (server) or the API (agent) may take nothing of what is for it",
    ),
    Option(
        "tunnel-buffer", TUNNEL, size(1 << 20), "most bytes of one tunnel's bodies that wait in this process"
    ),
    Option("drain", TUNNEL, duration(0), "time for requests in flight to finish after SIGTERM"),
    Option("access-log", TUNNEL, SWITCH, "one log line per request; --no-access-log turns it off"),
    # Demo
    Option("demo-once", DEMO, SWITCH, "end after the guided run instead of staying up"),
    Option("kubeconfig", DEMO, FILE, "run the demo against the cluster of this file"),
    Option("context", DEMO, NAME, "context in --kubeconfig; without it the file's current one"),
    # Certificates
    Option("pki-folder", PKI, FOLDER, "where everything is written; what is there is kept and added to"),
    Option("pki-server", PKI, SERVER_URL, "URL that agents will dial"),
    Option("pki-clusters", PKI, CLUSTER_IDS, "ids of the clusters that are to have an agent, with commas"),
    Option(
        "pki-keys",
        PKI,
        CLUSTER_FILES,
        "clusters whose agents show tokens that the cluster signs, and the files with its public keys",
    ),
    Option(
        "pki-exposure",
        PKI,
        choice("as-it-is", "load-balancer", "node-port"),
        "how agents get to the server, written into the values: by a LoadBalancer or NodePort Service",
    ),
    Option("pki-context", PKI, NAME, "kubectl's context of the management cluster, for the commands"),
    Option("pki-chart", PKI, NAME, "the chart, for the commands: a folder, a package or an oci:// URL"),
    Option(
        "pki-names", PKI, HOST_NAMES, "more names or IP addresses of the server's certificate, with commas"
    ),
    Option("pki-namespace", PKI, LABEL, "namespace that the server is installed in"),
    Option("pki-release", PKI, LABEL, "name of the server's Helm release"),
    Option("pki-days", PKI, count("days", 1, 3650), "how long certificates are valid; the CA, ten years"),
    Option(
        "pki-callers-ca", PKI, SWITCH, "a CA of its own for who calls at the internal port, as Argo CD does"
    ),
    Option(
        "pki-replicas", PKI, SWITCH, "a certificate for several servers too, and a CA that signs nothing else"
    ),
    Option("pki-renew", PKI, SWITCH, "make the agents' certificates anew too; tokens and the CA stay"),
    Option("pki-passphrase-file", PKI, FILE, "file whose first line is the passphrase of the CA's key"),
    # Status
    Option("status-url", STATUS, STATUS_URL, "what to ask; short: argotun status URL"),
    Option("status-ca-cert", STATUS, FILE, "CA of its certificate, PEM; without it the system's CAs"),
    Option("status-client-cert", STATUS, FILE, "certificate chain that says who asks, PEM"),
    Option("status-client-key", STATUS, FILE, "private key of --status-client-cert, PEM"),
    Option("status-token-file", STATUS, FILE, "file with a caller's ServiceAccount token, in place of those"),
    # Every mode
    Option("log-level", EVERY, choice("debug", "info", "warn", "error"), "least severity that is logged"),
    Option("log-format", EVERY, choice("text", "json"), "form of the log lines"),
)

BY_NAME = {option.name: option for option in OPTIONS}

GROUPS = {
    SERVER: "--mode server",
    AGENT: "--mode agent",
    TUNNEL: "--mode server and --mode agent",
    DEMO: "--mode demo",
    PKI: "--mode pki",
    STATUS: "--mode status",
    EVERY: "every mode",
}
"""Headings, in the order in which help and reference show them."""


def of_mode(mode: str) -> tuple[Option, ...]:
    """The options of one mode."""
    return tuple(option for option in OPTIONS if mode in option.modes)
