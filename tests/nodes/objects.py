"""What a node's programs are told, and the objects that each cluster begins with."""

from pathlib import Path
from typing import Any

from tests.e2e.harness.pki import Pair
from tests.nodes.network import BALANCER, DNS, PODS
from tests.nodes.programs import PLUGINS

HOST = "argotun.example.com"
AGENT = "system:serviceaccount:argotun:argotun"
"""Who an agent is to its API."""

PAUSE = "docker.io/library/pause:1"
COREDNS = "docker.io/library/coredns:1"


def containerd(cni: Path) -> str:
    """containerd's configuration: runc, and no registry to ask."""
    cri = "io.containerd.cri.v1"
    return f"""
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[plugins."{cri}.images"]
snapshotter = "overlayfs"

[plugins."{cri}.images".pinned_images]
sandbox = "{PAUSE}"

[plugins."{cri}.runtime"]
# Less than 0 needs CAP_SYS_RESOURCE, which root of a container has not.
restrict_oom_score_adj = true

[plugins."{cri}.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."{cri}.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."{cri}.runtime".cni]
bin_dirs = ["{PLUGINS}"]
conf_dir = "{cni}"
"""


def bridge() -> dict[str, Any]:
    """The pods' network: a bridge, and the node's address for what leaves it."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]}
    plugin = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": ipam,
    }
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [plugin]}


def kubelet(ca: Path, serving: Pair) -> dict[str, Any]:
    """The kubelet's configuration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(ca)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.cert),
        "tlsPrivateKeyFile": str(serving.key),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        # It checks what the machine is set to, and sets nothing.
        "protectKernelDefaults": True,
        "clusterDNS": [DNS],
        "clusterDomain": "cluster.local",
        "resolvConf": "/etc/resolv.conf",
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
            "imagefs.inodesFree": "1%",
        },
    }


def audit() -> dict[str, Any]:
    """What the API notes down: each request for a ConfigMap by an agent, with the token that it showed."""
    maps = [{"group": "", "resources": ["configmaps"]}]
    agents = {"level": "Metadata", "users": [AGENT], "verbs": ["get"], "resources": maps}
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [agents, {"level": "None"}],
    }


def proxy(node: str, kubeconfig: Path) -> dict[str, Any]:
    """kube-proxy's configuration."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": PODS,
        "hostnameOverride": node,
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "oomScoreAdj": 0,
        # The machine's own limits stay.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


COREFILE = f"""\
.:53 {{
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa {{
        fallthrough in-addr.arpa
    }}
    hosts {{
        {BALANCER} {HOST}
        fallthrough
    }}
    cache 30
}}
"""


def dns() -> list[dict[str, Any]]:
    """CoreDNS, which knows the server's public name too."""
    name, labels = "coredns", {"k8s-app": "kube-dns"}
    here = {"name": name, "namespace": "kube-system"}
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    group = "rbac.authorization.k8s.io"
    container = {
        "name": name,
        "image": COREDNS,
        "args": ["-conf", "/etc/coredns/Corefile"],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}},
    }
    pod = {
        "serviceAccountName": name,
        "dnsPolicy": "Default",
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": name}}],
    }
    ports = [{"name": f"dns-{each.lower()}", "port": 53, "protocol": each} for each in ("UDP", "TCP")]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here},
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", **here}],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": here, "data": {"Corefile": COREFILE}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"clusterIP": DNS, "selector": labels, "ports": ports},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": here,
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
    ]
