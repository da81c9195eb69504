"""Argo CD's objects, and those that its applications are made of, as JSON."""

from typing import Any

from tests.e2e.harness.objects import CONTAINER, NODE, metadata, namespace

ARGOCD = "argocd"
FINALIZER = "resources-finalizer.argocd.argoproj.io"

__all__ = ["CONTAINER", "NODE", "metadata", "namespace"]


def summary(status: dict[str, Any]) -> str:
    """What of an application's status explains that it is not as expected."""
    operation = status.get("operationState", {})
    unhappy = [
        (each["kind"], each["name"], each.get("status"), each.get("health", {}).get("status"))
        for each in status.get("resources", [])
        if each.get("status") != "Synced" or each.get("health", {}).get("status", "Healthy") != "Healthy"
    ]
    return str(
        {
            "sync": status.get("sync", {}).get("status"),
            "health": status.get("health", {}).get("status"),
            "revision": status.get("sync", {}).get("revision"),
            "phase": operation.get("phase"),
            "message": operation.get("message"),
            "conditions": [each.get("message") for each in status.get("conditions", [])],
            "resources": unhappy[:10],
        }
    )


def is_fine(application: dict[str, Any]) -> bool:
    """Whether an application is synced and healthy."""
    status = application.get("status", {})
    synced = status.get("sync", {}).get("status"), status.get("health", {}).get("status")
    return synced == ("Synced", "Healthy") and status.get("operationState", {}).get("phase") == "Succeeded"


def argocd_secret(data: dict[str, str]) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "argocd-secret", "app.kubernetes.io/part-of": "argocd"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata("argocd-secret", namespace=ARGOCD, labels=labels),
        "type": "Opaque",
        "stringData": data,
    }


def project(name: str = "default") -> dict[str, Any]:
    """A project that may do everything."""
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AppProject",
        "metadata": metadata(name, namespace=ARGOCD),
        "spec": {
            "sourceRepos": ["*"],
            "destinations": [{"namespace": "*", "server": "*"}],
            "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
        },
    }


def application(
    name: str,
    source: dict[str, Any],
    cluster: str,
    *options: str,
    namespace: str | None = None,
    automated: bool = True,
) -> dict[str, Any]:
    """An application for the cluster of that name, with CreateNamespace, self-heal and prune."""
    policy: dict[str, Any] = {"syncOptions": ["CreateNamespace=true", *options]}
    if automated:
        policy["automated"] = {"prune": True, "selfHeal": True}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": metadata(name, namespace=ARGOCD, finalizers=[FINALIZER]),
        "spec": {
            "project": "default",
            "source": source,
            "destination": {"name": cluster, "namespace": namespace or name},
            "syncPolicy": policy,
        },
    }


def configmap(name: str, data: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(name, **more), "data": data}


def service(name: str) -> dict[str, Any]:
    spec = {"ports": [{"port": 80, "targetPort": 80}], "selector": {"app": name}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(name), "spec": spec}


def pod_spec(**more: Any) -> dict[str, Any]:
    """One container, on the one node: nothing schedules here."""
    return {
        "nodeName": NODE,
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": CONTAINER, "image": "example.invalid/guestbook:1"}],
        **more,
    }


def deployment(name: str, replicas: int = 2) -> dict[str, Any]:
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


def job(name: str, **annotations: str) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(name, annotations=annotations),
        "spec": {"backoffLimit": 0, "template": {"spec": pod_spec(restartPolicy="Never")}},
    }


def guestbook() -> list[dict[str, Any]]:
    """A deployment, its service and a configmap."""
    return [
        configmap("guestbook-config", {"greeting": "hello"}),
        service("guestbook-ui"),
        deployment("guestbook-ui"),
    ]


def configmaps(count: int) -> list[dict[str, Any]]:
    """As many configmaps, each of some 300 bytes."""
    return [configmap(f"map-{i:03}", {"number": str(i), "padding": "x" * 200}) for i in range(count)]


def widgets() -> list[dict[str, Any]]:
    """A custom resource definition, and a resource of it."""
    group, schema = "example.com", {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return [
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": metadata(f"widgets.{group}"),
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"},
                "versions": [version],
            },
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "Widget",
            "metadata": metadata("first"),
            "spec": {"size": 1},
        },
    ]
