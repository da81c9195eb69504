"""Which resources the stand-in API serves, one row each; version, discovery and OpenAPI are drawn from it."""

from typing import Any, NamedTuple

from argotun.errors import ArgotunError

Json = dict[str, Any]


class StatusError(ArgotunError):
    """A request that the stand-in API refuses; `code` is the HTTP status, `reason` the API's word for it."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason

    def status(self) -> Json:
        """The `Status` object that says it, as Kubernetes does."""
        about = {"status": "Failure", "message": str(self), "reason": self.reason, "code": self.code}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, **about}


def bad_request(why: str) -> StatusError:
    """400 for a body or a query that cannot be read, or asks for more than the stand-in can do."""
    return StatusError(400, "BadRequest", why)


VERSION = "v1.36.0+argotun-stand-in"
"""What `/version` says: a version that clients know how to treat, marked as what it is."""

_ALL = ("create", "delete", "get", "list", "patch", "watch")


class Resource(NamedTuple):
    """One resource type; `group` is empty for the core group, as in Kubernetes."""

    group: str
    plural: str
    kind: str
    short: tuple[str, ...] = ()
    namespaced: bool = True
    verbs: tuple[str, ...] = _ALL

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
REVIEWS = Resource("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview", (), False, ("create",))

RESOURCES = (NAMESPACES, CONFIGMAPS, PODS, EVENTS, REPLICASETS, DEPLOYMENTS, REVIEWS)
BY_PATH = {(r.group, r.plural): r for r in RESOURCES}


def _documents() -> dict[str, Json]:
    groups: list[Json] = []
    index, found = Json(), Json()
    for group in dict.fromkeys(r.group for r in RESOURCES):
        served = [r for r in RESOURCES if r.group == group]
        version = {"groupVersion": served[0].group_version, "version": "v1"}
        if group:
            groups.append({"name": group, "versions": [version], "preferredVersion": version})
        path = f"{'apis' if group else 'api'}/{served[0].group_version}"
        found[path] = {"kind": "APIResourceList", **version, "resources": [_entry(r) for r in served]}
        found[f"openapi/v3/{path}"] = {
            "openapi": "3.0.0",
            "paths": {f"/{r.plural}": _writes(r) for r in served},
        }
        index[path] = {"serverRelativeURL": f"/openapi/v3/{path}"}
    return found | {
        "version": {"major": "1", "minor": "36", "gitVersion": VERSION, "platform": "argotun/demo"},
        "api": {"kind": "APIVersions", "versions": ["v1"]},
        "apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
        "openapi/v3": {"paths": index},
    }


def _entry(r: Resource) -> Json:
    entry = {"name": r.plural, "singularName": r.kind.lower(), "namespaced": r.namespaced, "kind": r.kind}
    return {**entry, "verbs": r.verbs, "shortNames": r.short}


def _writes(r: Resource) -> Json:
    """Only that writes take `fieldValidation`: without it kubectl would ask for schemas."""
    kind = {"group": r.group, "version": "v1", "kind": r.kind}
    parameters = [{"name": "fieldValidation", "in": "query"}]
    return {"patch": {"parameters": parameters, "x-kubernetes-group-version-kind": kind}}


DOCUMENTS = _documents()
"""Fixed documents, by their paths without the outer slashes."""
