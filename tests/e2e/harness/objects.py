"""The Kubernetes objects of a run, as JSON."""

from typing import Any

AGENT_NAMESPACE = "argotun"
AGENT = "argotun-agent"
NODE = "node-1"
CONTAINER = "main"

# All that the tests do; secrets are left out, so that there is something to refuse.
_AGENT_RULES = [
    {
        "apiGroups": [""],
        "resources": ["namespaces", "configmaps", "events", "pods", "pods/log", "serviceaccounts"],
        "verbs": ["*"],
    },
    {
        "apiGroups": [""],
        "resources": ["pods/exec", "pods/attach", "pods/portforward"],
        "verbs": ["get", "create"],
    },
    {"apiGroups": ["apps"], "resources": ["*"], "verbs": ["*"]},
    {"apiGroups": [""], "resources": ["users", "groups"], "verbs": ["impersonate"]},
]


def metadata(name: str, **more: Any) -> dict[str, Any]:
    """Name and whatever else."""
    return {"name": name, **more}


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata(name)}


def service_account(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(name)}


def configmap(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(name), "data": data}


def node(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata(name)}


def pod_spec() -> dict[str, Any]:
    """One container, on the one node: nothing schedules here."""
    return {
        "nodeName": NODE,
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": CONTAINER, "image": "none"}],
    }


def pod(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata(name), "spec": pod_spec()}


def deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec()},
        },
    }


def agent_role() -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": metadata(AGENT),
        "rules": _AGENT_RULES,
    }


def agent_binding(*accounts: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": metadata(AGENT),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": AGENT},
        "subjects": [{"kind": "ServiceAccount", "name": a, "namespace": AGENT_NAMESPACE} for a in accounts],
    }
