"""What to do about a step that failed: by the step, and by words in the sentence that says why."""

ADVICE: tuple[tuple[str, str, str], ...] = (
    # Names and the way to a machine
    (
        "",
        "the name cannot be resolved",
        "ask the DNS of this place for the name (nslookup); in a cluster, look at the pod's dnsPolicy and at "
        "network policies that keep it from port 53",
    ),
    ("", "was not resolved in time", "see whether this place can reach its DNS server: port 53, UDP and TCP"),
    (
        "server.proxy",
        "wants user and password",
        "put them into --proxy http://USER:PASSWORD@HOST:PORT, or have the proxy let this machine through",
    ),
    ("server.proxy", "user and password", "correct user and password in --proxy (or HTTPS_PROXY)"),
    (
        "server.proxy",
        "only Basic is known",
        "have the proxy take Basic credentials, or let this machine through without any",
    ),
    (
        "server.proxy",
        "",
        "have whoever runs the proxy allow CONNECT to the server's host and port, or name it in NO_PROXY "
        "where it can be reached without",
    ),
    (
        "server.tcp",
        "the proxy cannot be reached",
        "correct --proxy (or HTTPS_PROXY), or let this place reach it",
    ),
    (
        "server.tcp",
        "connection refused",
        "nothing listens there: compare host and port of --server with what the server's side exposes",
    ),
    (
        "server.tcp",
        "",
        "let this place reach the server's host and port: firewalls, network policies and security groups; "
        "where only a proxy leads outside, --proxy",
    ),
    (
        "api.tcp",
        "",
        "correct --target; in a cluster, look at network policies: they count after DNAT, so the API's own "
        "addresses and port must be let through",
    ),
    # TLS
    (
        "",
        "does not speak TLS",
        "the port speaks something else: compare host and port, and see whether a gateway ends TLS elsewhere",
    ),
    (
        "server.tls",
        "the CA certificates given",
        "name the CA that signed the server's certificate with --server-ca-cert; if a gateway before the "
        "server ends TLS, it is the gateway's CA",
    ),
    (
        "api.tls",
        "the CA certificates given",
        "name the CA of this API with --ca-cert; in a pod that is ca.crt beside the ServiceAccount token",
    ),
    (
        "",
        "has expired",
        "renew it; if it has not ended by another clock, set this machine's clock",
    ),
    (
        "",
        "is not valid yet",
        "set this machine's clock; if it is right, whoever made the certificate has a wrong one",
    ),
    (
        "server.tls",
        "not accepted",
        "dial a name that is in the certificate (--server), or put this name into it: certManager.dnsNames, "
        "--pki-names",
    ),
    ("api.tls", "not accepted", "name the one in the certificate with --target-host-name"),
    (
        "",
        "requires a client certificate",
        "name this cluster's certificate and key with --client-cert and --client-key",
    ),
    (
        "",
        "does not know the CA of our certificate",
        "the server's --tls-client-ca must be the CA that signed --client-cert: did one side get a new one "
        "alone?",
    ),
    ("", "our certificate", "get another certificate from whoever runs the server, for --client-cert"),
    ("server.tls", "", "see with openssl s_client -connect HOST:PORT who answers there"),
    ("api.tls", "", "see with openssl s_client -connect HOST:PORT who answers there"),
    # Who we are to the server
    (
        "server.access",
        "internal port",
        "name the public port in --server: the one of the server's --addr, or what leads to it",
    ),
    (
        "server.access",
        "the ServiceAccount token",
        "compare the clocks of both sides; the kubelet renews the token in a projected volume",
    ),
    (
        "server.access",
        "401",
        "compare the token's digest (printf %s TOKEN | sha256sum) with tokenSha256 in the server's clusters "
        "file, or ask whoever runs the server for the token",
    ),
    (
        "server.access",
        "certificate is revoked",
        "get another certificate from whoever runs the server: --revoked lists this one",
    ),
    (
        "server.access",
        "no client certificate arrived",
        "have the gateway pass TLS through to the server, or name --client-cert and --client-key",
    ),
    (
        "server.access",
        "403",
        "have whoever runs the server put a name of this certificate into certNames of the cluster's entry, "
        "or give this cluster a certificate of its own",
    ),
    ("server.access", "404", "correct the path in --server; the server's own is /connect"),
    (
        "server.access",
        "",
        "the server's log says why at this moment; where another answers in its place, it is a gateway or "
        "proxy",
    ),
    (
        "server.upgrade",
        "",
        "a proxy or gateway before the server must let WebSocket upgrades through, on HTTP/1.1",
    ),
    ("server.hello", "", "the server's log says why at this moment"),
    ("clock", "", "set this machine's clock: a service such as chrony or systemd-timesyncd keeps it right"),
    # Files
    ("server.token", "", "put this cluster's token into the file, or name another one"),
    (
        "api.token",
        "",
        "name a file that holds a ServiceAccount's token with --sa-token-path; in a pod, see its volumes",
    ),
    ("policy", "", "correct the policy; --policy-check FILE 'GET /api/v1/pods' tells what one says"),
    # The API
    (
        "api.version",
        "does not accept the agent's own credential",
        "the token (--sa-token-path) is of another cluster, or its ServiceAccount is gone: make it anew",
    ),
    ("api.version", "", "correct --target: something else than a Kubernetes API may answer there"),
    (
        "api.self",
        "",
        "give the agent's ServiceAccount the ClusterRole system:basic-user, as all users have it",
    ),
    (
        "api.rights",
        "",
        "bind a role to the agent's ServiceAccount; the chart does it by rbac.create, rbac.preset and "
        "rbac.rules",
    ),
    # The server's own
    ("clusters", "", "correct the clusters file; it is read again when it changes"),
    ("callers", "", "correct the callers file; it is read again when it changes"),
    ("certificates", "", "correct the file or its option"),
    (
        "port",
        "already in use",
        "end what listens there (ss -ltnp shows it), or name another address; if it is this very server "
        "that runs, all is well",
    ),
    ("port", "permission denied", "name a port from 1024 on, or give the process CAP_NET_BIND_SERVICE"),
    ("port", "", "name an address that this machine has"),
    (
        "registry",
        "",
        "correct --registry and its password, CA and certificates; see whether Redis runs there",
    ),
    (
        "peer",
        "",
        "let replicas reach each other at --peer-addr, with certificates of --peer-ca that name --peer-name",
    ),
    ("keys", "", "see whether this machine reaches the URL, and whether --jwks-ca is its CA"),
    ("traces", "is not installed", "install it, or take OTEL_EXPORTER_OTLP_ENDPOINT away"),
    (
        "traces",
        "does not take them",
        "look at the way to the collector's port for OTLP over HTTP, mostly 4318: its Service, and the "
        "NetworkPolicy here (networkPolicy.extraEgress)",
    ),
    ("traces", "", "correct that variable (extraEnv), as http://collector.monitoring:4318"),
    ("inside", "", "see the server's log and access log at this moment"),
    ("", "", "correct the option or the file that is named"),
)
"""A step (it may go on behind a dot or a space); words in what it says; what to do. The first counts."""


def advice(step: str, says: str) -> str:
    """What to do about a step of which this is said."""
    return next(todo for of, words, todo in ADVICE if words in says and _is_of(step, of))


def _is_of(step: str, of: str) -> bool:
    return not of or step == of or step.startswith((f"{of}.", f"{of} "))
