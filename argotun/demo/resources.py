"""Which resources the stand-in API serves, one row each; version, discovery and OpenAPI are drawn from it."""

from dataclasses import dataclass
from typing import Any

from argotun.demo.refusal import not_found

Json = dict[str, Any]

VERSION = "v1.36.0+argotun-stand-in"
"""What `/version` says: a version that clients know how to treat, marked as what it is."""

_VERBS = ("create", "delete", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource type; `group` is empty for the core group, as in Kubernetes."""

    group: str
    plural: str
    kind: str
    short: tuple[str, ...] = ()
    namespaced: bool = True
    verbs: tuple[str, ...] = _VERBS

    @property
    def group_version(self) -> str:
        """`v1` or `apps/v1`: an object's `apiVersion`."""
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def qualified(self) -> str:
        """`configmaps` or `deployments.apps`: how messages name the type."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


NAMESPACES = Resource("", "namespaces", "Namespace", ("ns",), namespaced=False)
CONFIGMAPS = Resource("", "configmaps", "ConfigMap", ("cm",))
PODS = Resource("", "pods", "Pod", ("po",), verbs=("delete", "get", "list", "watch"))
# These two stay empty; `kubectl describe` asks for them.
EVENTS = Resource("", "events", "Event", ("ev",), verbs=("list", "watch"))
REPLICASETS = Resource("apps", "replicasets", "ReplicaSet", ("rs",), verbs=("list", "watch"))
DEPLOYMENTS = Resource("apps", "deployments", "Deployment", ("deploy",))
REVIEWS = Resource(
    "authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview", namespaced=False, verbs=("create",)
)

RESOURCES = (NAMESPACES, CONFIGMAPS, PODS, EVENTS, REPLICASETS, DEPLOYMENTS, REVIEWS)
BY_PATH = {(r.group, r.plural): r for r in RESOURCES}
_PATHS = {f"apis/{r.group}/v1" if r.group else "api/v1": r.group for r in RESOURCES}


def document(path: str) -> Json | None:
    """The fixed document at a path without its outer slashes; None where the path is none of these.

    Raises a 404 Refusal for a document that would be one, of a group that is not served.
    """
    if path == "version":
        return {"major": "1", "minor": "36", "gitVersion": VERSION, "platform": "argotun/demo"}
    if path == "api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "apis":
        groups = [_group(group) for group in _PATHS.values() if group]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    if path == "openapi/v3":
        return {"paths": {known: {"serverRelativeURL": f"/openapi/v3/{known}"} for known in _PATHS}}
    if path in _PATHS:
        return _resource_list(_PATHS[path])
    if path.removeprefix("openapi/v3/") in _PATHS:
        return _openapi(path.removeprefix("openapi/v3/"))
    if f"{path}/v1" in _PATHS:
        return _group(_PATHS[f"{path}/v1"])
    if path.startswith("openapi/"):
        raise not_found()
    return None


def _group(name: str) -> Json:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": name,
        "versions": [version],
        "preferredVersion": version,
    }


def _resource_list(group: str) -> Json:
    served = [r for r in RESOURCES if r.group == group]
    entries = [
        {
            "name": r.plural,
            "singularName": r.kind.lower(),
            "namespaced": r.namespaced,
            "kind": r.kind,
            "verbs": r.verbs,
            "shortNames": r.short,
        }
        for r in served
    ]
    version = served[0].group_version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": entries}


def _openapi(path: str) -> Json:
    """Only that writes take `fieldValidation`: without it kubectl would ask for schemas."""
    field = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
    paths = {}
    for r in RESOURCES:
        if r.group == _PATHS[path]:
            gvk = {"group": r.group, "version": "v1", "kind": r.kind}
            write = {"parameters": [field], "responses": {}, "x-kubernetes-group-version-kind": gvk}
            paths[f"/{path}/{r.plural}/{{name}}"] = {"patch": write, "put": write}
    return {"openapi": "3.0.0", "info": {"title": "argotun stand-in", "version": VERSION}, "paths": paths}
