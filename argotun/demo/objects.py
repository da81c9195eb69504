"""What the guided run creates."""

from argotun.demo.resources import Json

_LABELS = {"app.kubernetes.io/managed-by": "argotun-demo"}


def namespace(name: str) -> Json:
    """A namespace, marked as the demo's."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": _LABELS}}


def configmap(name: str, text: str) -> Json:
    """A configmap with one text."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": _LABELS},
        "data": {"text": text},
    }


def deployment(name: str, replicas: int) -> Json:
    """A deployment of one container."""
    app = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {**_LABELS, **app}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": app},
            "template": {
                "metadata": {"labels": app},
                "spec": {"containers": [{"name": "web", "image": "nginx:1.29"}]},
            },
        },
    }


def self_review() -> Json:
    """The question whom the API takes the request for."""
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
