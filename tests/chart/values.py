"""Values that the tests render: the least of each mode, and one set for each way to use the chart."""

from typing import Any

PEM = "LS0tLS1CRUdJTg=="

SECRETS = (
    "token-of-customer-a",
    "first-of-customer-b",
    "second-of-customer-b",
    "token-of-an-agent",
    "a2V5LW9mLWFyZ28=",
    "a2V5LW9mLXJlcGxpY2Fz",
)
"""What stands for a secret in the sets below."""

SERVER: dict[str, Any] = {"mode": "server"}
AGENT: dict[str, Any] = {
    "mode": "agent",
    "serverURL": "wss://argotun.example.com/connect",
    "existingSecret": "tunnel-token",
}
MODES = {"server": SERVER, "agent": AGENT}
TLS = {"enabled": True, "certSecret": "server-tls", "clientCASecret": "client-ca"}
ARGOCD = {"enabled": True, "caData": PEM, "clientCertData": "Yw==", "clientKeyData": "a2V5LW9mLWFyZ28="}
CLUSTERS = [
    {"id": "customer-a", "token": "token-of-customer-a"},
    {"id": "customer-b", "tokens": ["first-of-customer-b", "second-of-customer-b"]},
]
ACCOUNT: dict[str, Any] = {
    "issuer": "https://kubernetes.default.svc.cluster.local",
    "audience": "argotun/customer-a",
    "subject": "system:serviceaccount:argotun:argotun",
    "jwks": {
        "keys": [
            {
                "kty": "EC",
                "kid": "key-1",
                "crv": "P-256",
                "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
                "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
            }
        ]
    },
}
REGISTRY = {
    "url": "redis://argocd-redis.argocd:6379",
    "existingSecret": "argocd-redis",
    "passwordKey": "auth",
}
PEER = {"certData": PEM, "keyData": "a2V5LW9mLXJlcGxpY2Fz", "caData": PEM}
MONITORING = {
    "monitoring": {"namespace": "monitoring"},
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "30s"},
    "prometheusRule": {
        "enabled": True,
        "runbookURL": "https://example.com/alerts",
        "alertLabels": {"team": "x"},
    },
}
PLACEMENT = {
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}
            ]
        }
    },
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "priorityClassName": "system-cluster-critical",
    "imagePullSecrets": [{"name": "registry"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"c": "d"},
    "commonLabels": {"e": "f"},
    "resources": {"limits": {"memory": "2Gi"}},
    "lifecycle": {"preStop": {"httpGet": {"path": "/healthz", "port": "health"}}},
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "extraArgs": ["--keepalive=10s"],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "configSecret": "more-options",
    "pdb": {"minAvailable": 0},
}

MATRIX: dict[str, dict[str, Any]] = {
    "server": SERVER,
    "server-mtls": SERVER | {"clusters": CLUSTERS, "tls": TLS, "argocd": ARGOCD},
    "server-data": SERVER
    | {
        "clusters": CLUSTERS,
        "tls": {"enabled": True, "certData": PEM, "keyData": "aw==", "clientCAData": PEM},
        "argocd": ARGOCD,
    },
    "server-plain": SERVER | {"clusters": CLUSTERS, "argocd": {"enabled": True}, "rateLimit": 0.5},
    "server-internal-plain": SERVER
    | {"clusters": CLUSTERS, "tls": TLS | {"internalPlain": True}, "argocd": {"enabled": True}},
    "server-existing-secret": SERVER
    | {"clusters": [{"id": "customer-a"}], "existingClustersSecret": "own", "argocd": {"enabled": True}},
    "server-account": SERVER
    | {
        "clusters": [{"id": "customer-a", "serviceAccount": ACCOUNT}],
        "revoked": [f"sha256 {'3f' * 32}", "name customer-b"],
    },
    "server-cert-manager": SERVER | {"clusters": CLUSTERS, "certManager": {"enabled": True}},
    "server-own-issuer": SERVER
    | {"certManager": {"enabled": True, "issuerRef": {"name": "corp", "kind": "ClusterIssuer"}}},
    "server-load-balancer": SERVER
    | {
        "service": {
            "type": "LoadBalancer",
            "port": 443,
            "nodePort": 30443,
            "annotations": {"a": "b"},
            "loadBalancerClass": "example.com/nlb",
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
            "externalTrafficPolicy": "Local",
        }
    },
    "server-ingress": SERVER
    | {"tls": TLS, "ingress": {"enabled": True, "host": "argotun.example.com", "className": "haproxy"}},
    "server-gateway": SERVER
    | {"tls": TLS, "gateway": {"create": True, "className": "cilium", "hostname": "argotun.example.com"}},
    "server-terminate": SERVER
    | {
        "gateway": {
            "create": True,
            "className": "istio",
            "hostname": "argotun.example.com",
            "tlsMode": "Terminate",
            "certIssuer": "letsencrypt",
            "tls": {"secretName": "gateway-tls"},
        }
    },
    "server-monitored": SERVER
    | MONITORING
    | {"podMonitor": {}, "serviceMonitor": {"enabled": True}, "dashboard": {"enabled": True}},
    "server-placed": SERVER | PLACEMENT,
    "server-closed": SERVER
    | {
        "networkPolicy": {
            "publicFrom": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
            "internalFrom": [{"podSelector": {}}],
            "extraEgress": [{"ports": [{"port": 53, "protocol": "UDP"}]}],
        }
    },
    "server-replicas": SERVER
    | {"replicas": 3, "clusters": CLUSTERS, "tls": TLS, "registry": REGISTRY, "peer": PEER},
    "server-replicas-cert-manager": SERVER
    | {
        "replicas": 2,
        "certManager": {"enabled": True, "issuerRef": {"name": "corp"}, "argocdCertificate": False},
        "registry": {"url": "redis://redis"},
        "peer": {"port": 9444, "name": "argotun-eu"},
    },
    "server-replicas-sentinel": SERVER
    | {
        "registry": {
            "url": "rediss+sentinel://argotun@one:26379,two:26380/mymaster",
            "existingSecret": "redis",
            "sentinelPasswordKey": "sentinel",
            "caSecret": "redis-ca",
            "clientCertSecret": "redis-client",
            "prefix": "eu",
        },
        "peer": {"certSecret": "peer"},
        "networkPolicy": {"registryTo": [{"podSelector": {"matchLabels": {"app": "redis"}}}]},
    },
    "server-replicas-hidden-url": SERVER
    | {
        "registry": {"existingSecret": "managed-redis", "urlKey": "uri"},
        "peer": {"certSecret": "peer", "caSecret": "peer-ca"},
    },
    "agent": AGENT,
    "agent-replicas": AGENT | {"replicas": 2},
    "agent-mtls": AGENT | {"tls": {"serverCASecret": "server-ca", "clientCertSecret": "client-tls"}},
    "agent-data": AGENT | {"tls": {"serverCAData": PEM, "clientCertData": "Yw==", "clientKeyData": "aw=="}},
    "agent-token": {"mode": "agent", "serverURL": "wss://argotun.example.com", "token": "token-of-an-agent"},
    "agent-account": {
        "mode": "agent",
        "serverURL": "wss://argotun.example.com/connect",
        "serverToken": {"audience": "argotun/customer-a"},
        "tls": {"serverCASecret": "server-ca"},
    },
    "agent-test": AGENT
    | {"serverURL": "ws://argotun:8443/connect", "allowInsecureServer": True, "insecure": True},
    "agent-cert-manager": AGENT | {"certManager": {"enabled": True, "issuerRef": {"name": "corp"}}},
    "agent-read-only": AGENT | {"rbac": {"preset": "read-only"}},
    "agent-policy": AGENT
    | {
        "policy": {
            "presets": ["no-shell", "no-secrets"],
            "rules": [{"name": "dev", "allow": {"namespaces": ["dev"], "resources": ["pods/exec"]}}],
            "default": "allow",
        }
    },
    "agent-own-policy": AGENT | {"policy": {"existingConfigMap": "our-policy"}},
    "agent-namespaced": AGENT | {"rbac": {"preset": "namespaced", "namespaces": ["one", "two"]}},
    "agent-proxy": AGENT
    | {
        "proxy": "http://proxy.example.com:3128",
        "networkPolicy": {
            "proxyServerCIDR": "192.0.2.1/32",
            "apiServerCIDRs": ["198.51.100.0/24"],
            "ingressFrom": [{"podSelector": {}}],
        },
    },
    "agent-monitored": AGENT | MONITORING,
    "agent-placed": AGENT | PLACEMENT,
    "agent-other-api": AGENT
    | {
        "targetAddr": "api.example.com:6443",
        "targetHostName": "kubernetes",
        "saTokenPath": "/api/credentials/token",
    },
}
"""Every set can be installed."""
