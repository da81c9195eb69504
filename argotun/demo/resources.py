"""Which resources the stand-in API serves: one row each; discovery and OpenAPI are drawn from it."""

import hashlib
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

VERSION = "v1.36.0+argotun-stand-in"
"""What `/version` says: a version that clients know how to treat, marked as what it is."""

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource type; `group` is empty for the core group, as in Kubernetes."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    categories: tuple[str, ...] = ()
    scale: bool = False
    generation: bool = False
    """True where a change of `spec` counts up `metadata.generation` and `status` is the API's own."""

    @property
    def group_version(self) -> str:
        """`v1` or `apps/v1`: an object's `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`configmaps` or `deployments.apps`: how messages name the type."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False, short=("ns",))
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap", short=("cm",))
PODS = Resource("", "v1", "pods", "Pod", short=("po",), categories=("all",), generation=True)
EVENTS = Resource("", "v1", "events", "Event", short=("ev",))
DEPLOYMENTS = Resource(
    "apps",
    "v1",
    "deployments",
    "Deployment",
    short=("deploy",),
    categories=("all",),
    scale=True,
    generation=True,
)
REPLICASETS = Resource(
    "apps", "v1", "replicasets", "ReplicaSet", short=("rs",), categories=("all",), generation=True
)
ACCESS_REVIEWS = Resource(
    "authorization.k8s.io",
    "v1",
    "selfsubjectaccessreviews",
    "SelfSubjectAccessReview",
    False,
    verbs=("create",),
)
IDENTITY_REVIEWS = Resource(
    "authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", False, verbs=("create",)
)

RESOURCES = (
    NAMESPACES,
    CONFIGMAPS,
    PODS,
    EVENTS,
    DEPLOYMENTS,
    REPLICASETS,
    ACCESS_REVIEWS,
    IDENTITY_REVIEWS,
)

BY_PATH = {(r.group, r.version, r.plural): r for r in RESOURCES}
GROUP_VERSIONS = tuple(dict.fromkeys((r.group, r.version) for r in RESOURCES))

PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
)
"""What OpenAPI lists. Strategic merge is accepted too, but a client that reads of it here would look
for merge keys in the schemas, which a stand-in has not; unlisted, kubectl uses those it was built with."""


def version_info() -> Json:
    """The body of `/version`."""
    return {
        "major": "1",
        "minor": "36",
        "gitVersion": VERSION,
        "gitCommit": "",
        "gitTreeState": "stand-in",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": "argotun/demo",
    }


def api_versions() -> Json:
    """The body of `/api`."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group(name: str) -> Json | None:
    """The body of `/apis/{name}`; None for a group that is not served."""
    versions = [
        {"groupVersion": f"{name}/{version}", "version": version}
        for g, version in GROUP_VERSIONS
        if g == name
    ]
    if not name or not versions:
        return None
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": name,
        "versions": versions,
        "preferredVersion": versions[0],
    }


def group_list() -> Json:
    """The body of `/apis`."""
    groups = [group(name) for name in dict.fromkeys(g for g, _ in GROUP_VERSIONS if g)]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def resource_list(group_name: str, version: str) -> Json | None:
    """The body of `/api/v1` and `/apis/{group}/{version}`; None when not served."""
    served = [r for r in RESOURCES if (r.group, r.version) == (group_name, version)]
    if not served:
        return None
    entries: list[Json] = []
    for r in served:
        entries.append(
            {
                "name": r.plural,
                "singularName": r.kind.lower(),
                "namespaced": r.namespaced,
                "kind": r.kind,
                "verbs": list(r.verbs),
                "shortNames": list(r.short),
                "categories": list(r.categories),
            }
        )
        if r.scale:
            entries.append(
                {
                    "name": f"{r.plural}/scale",
                    "singularName": "",
                    "namespaced": r.namespaced,
                    "group": "autoscaling",
                    "version": "v1",
                    "kind": "Scale",
                    "verbs": ["get", "patch", "update"],
                }
            )
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": served[0].group_version,
        "resources": entries,
    }


def _gv_path(group_name: str, version: str) -> str:
    return f"apis/{group_name}/{version}" if group_name else f"api/{version}"


def openapi_index() -> Json:
    """The body of `/openapi/v3`: where the document of each group version is."""
    paths: Json = {}
    for group_name, version in GROUP_VERSIONS:
        path = _gv_path(group_name, version)
        digest = hashlib.sha256(repr(openapi_document(group_name, version)).encode()).hexdigest()[:16]
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest.upper()}"}
    return {"paths": paths}


def openapi_document(group_name: str, version: str) -> Json | None:
    """The body of `/openapi/v3/…`: the operations, with schemas that accept any object.

    It is what kubectl needs in order to see that the server takes `fieldValidation`, without which
    it would want to check fields itself, with schemas that are not here. It still does for `kind: List`,
    which takes `--validate=false`; several documents in one file need nothing.
    """
    served = [r for r in RESOURCES if (r.group, r.version) == (group_name, version)]
    if not served:
        return None
    paths: Json = {}
    schemas: Json = {}
    for r in served:
        gvk = {"group": r.group, "version": r.version, "kind": r.kind}
        schema = f"stand-in.{r.group_version.replace('/', '.')}.{r.kind}"
        schemas[schema] = {
            "type": "object",
            "description": f"{r.kind}: the stand-in API has no schema of it and takes any field.",
            "x-kubernetes-preserve-unknown-fields": True,
            "x-kubernetes-group-version-kind": [gvk],
        }
        reference = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
        base = f"/{_gv_path(group_name, version)}"
        collection = f"{base}/namespaces/{{namespace}}/{r.plural}" if r.namespaced else f"{base}/{r.plural}"
        operation = {
            "parameters": [
                {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
                for name in ("dryRun", "fieldManager", "fieldValidation")
            ],
            "responses": {"200": {"description": "OK", "content": {"application/json": reference}}},
            "x-kubernetes-group-version-kind": gvk,
        }
        body = {"content": {"application/json": reference}}
        paths[collection] = {"post": {**operation, "x-kubernetes-action": "post", "requestBody": body}}
        if "patch" in r.verbs:
            content = dict.fromkeys(PATCH_TYPES, reference)
            paths[f"{collection}/{{name}}"] = {
                "put": {**operation, "x-kubernetes-action": "put", "requestBody": body},
                "patch": {**operation, "x-kubernetes-action": "patch", "requestBody": {"content": content}},
            }
    return {
        "openapi": "3.0.0",
        "info": {"title": "argotun stand-in API", "version": VERSION},
        "paths": paths,
        "components": {"schemas": schemas},
    }
