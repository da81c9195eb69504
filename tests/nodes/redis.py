"""Argo CD's Redis as a pod, with the password, the Service and the NetworkPolicy that its manifests have."""

import json
from typing import Any

from tests.nodes.images import TOOLS
from tests.nodes.node import Node

NAME, NAMESPACE = "argocd-redis", "argocd"
LABELS = {"app.kubernetes.io/name": NAME}
OTHERS = ("argocd-server", "argocd-repo-server", "argocd-application-controller")
"""Who reaches it: nobody else, unless there is one more policy."""

PORT = 6379


def start(node: Node) -> None:
    """Bring it up."""
    node.kubectl(
        "apply", "-f", "-", said=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects()})
    )
    wait(node)


def wait(node: Node) -> None:
    """Until it is ready."""
    node.kubectl("-n", NAMESPACE, "rollout", "status", f"deploy/{NAME}", "--timeout=300s")


def objects() -> list[dict[str, Any]]:
    """What it is made of."""
    here = {"name": NAME, "namespace": NAMESPACE}
    password = {"secretKeyRef": {"name": NAME, "key": "auth"}}
    container = {
        "name": "redis",
        "image": TOOLS,
        "command": ["redis-server", "--save", "", "--appendonly", "no", "--requirepass", "$(REDIS_PASSWORD)"],
        "env": [{"name": "REDIS_PASSWORD", "valueFrom": password}],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}},
    }
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [container]}}
    admitted = [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": each}}} for each in OTHERS]
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": here, "stringData": {"auth": "redis-of-argo-cd"}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": here,
            "spec": {"selector": LABELS, "ports": [{"port": PORT}]},
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": f"{NAME}-network-policy", "namespace": NAMESPACE},
            "spec": {
                "podSelector": {"matchLabels": LABELS},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": admitted, "ports": [{"port": PORT}]}],
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": here,
            "spec": {"selector": {"matchLabels": LABELS}, "template": template},
        },
    ]


def restart(node: Node) -> None:
    """Delete its pod, and wait for the next one, which knows nothing."""
    selector = ",".join(f"{key}={value}" for key, value in LABELS.items())
    node.kubectl("-n", NAMESPACE, "delete", "pod", "-l", selector)
    wait(node)
