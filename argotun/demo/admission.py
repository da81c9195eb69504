"""What an object must look like before it is stored: its identity, the checks and defaults of its kind.

The checks are the ones without which the rest of the stand-in would meet something it cannot read,
and a few that people run into; a real API checks every field.
"""

import copy
import re
from collections.abc import Callable

from argotun.demo.refusal import bad_request, invalid
from argotun.demo.resources import CONFIGMAPS, DEPLOYMENTS, REPLICASETS, Json, Resource

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_NAME_RULE = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'"


def admit(resource: Resource, body: object, namespace: str, name: str | None) -> Json:
    """The object of a request's body, complete and checked; `name` is None where the path has none.

    Raises a 400 or 422 Refusal. The body itself is left alone.
    """
    if not isinstance(body, dict):
        raise bad_request(f"expected an object of kind {resource.kind}, got {type(body).__name__}")
    for field, expected in (("apiVersion", resource.group_version), ("kind", resource.kind)):
        if body.get(field, expected) != expected:
            raise bad_request(f"{field} {body[field]!r} in the body, but the path is that of {expected}")
    obj: Json = {"apiVersion": resource.group_version, "kind": resource.kind, **copy.deepcopy(body)}
    meta = obj.setdefault("metadata", {})
    if not isinstance(meta, dict):
        raise bad_request("metadata must be an object")
    if resource.namespaced:
        if meta.get("namespace") not in (None, "", namespace):
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        meta["namespace"] = namespace
    else:
        meta.pop("namespace", None)
    if name is not None:
        if meta.get("name") not in (None, "", name):
            raise bad_request(f"the name of the object ({meta['name']}) does not match the path ({name})")
        meta["name"] = name
    _check_metadata(resource, meta)
    if not isinstance(obj.get("spec", {}), dict):
        raise invalid(resource, str(meta.get("name")), "spec", "must be an object")
    if kind_rules := _RULES.get(resource):
        kind_rules(resource, obj)
    return obj


def _check_metadata(resource: Resource, meta: Json) -> None:
    name, prefix = meta.get("name"), meta.get("generateName")
    if not name and not prefix:
        raise invalid(resource, "", "metadata.name", "Required value: name or generateName is required")
    for field in ("name", "generateName"):
        value = meta.get(field)
        if value and not (isinstance(value, str) and _NAME.fullmatch(value.rstrip("-") or "-")):
            raise invalid(
                resource, str(value), f"metadata.{field}", f"Invalid value: {value!r}: {_NAME_RULE}"
            )
    if name and not _NAME.fullmatch(name):
        raise invalid(resource, name, "metadata.name", f"Invalid value: {name!r}: {_NAME_RULE}")
    for field in ("labels", "annotations"):
        if meta.get(field) is None:
            meta.pop(field, None)
        elif not _is_text_map(meta[field]):
            raise invalid(resource, str(name), f"metadata.{field}", "must map strings to strings")
    for field, kind in (("finalizers", str), ("ownerReferences", dict), ("managedFields", dict)):
        items = meta.get(field)
        if items is None:
            meta.pop(field, None)
        elif not (isinstance(items, list) and all(isinstance(item, kind) for item in items)):
            raise invalid(resource, str(name), f"metadata.{field}", f"must be a list of {kind.__name__}")


def _is_text_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())


def _configmap(resource: Resource, obj: Json) -> None:
    for field in ("data", "binaryData"):
        if obj.get(field) is None:
            obj.pop(field, None)
        elif not _is_text_map(obj[field]):
            raise invalid(resource, str(obj["metadata"].get("name")), field, "must map strings to strings")


def _workload(resource: Resource, obj: Json) -> None:
    """Deployments and ReplicaSets: replicas, and a selector that chooses the pods of the template."""
    name, spec = str(obj["metadata"].get("name")), obj.setdefault("spec", {})
    replicas = spec.setdefault("replicas", 1)
    if type(replicas) is not int or not 0 <= replicas <= MAX_REPLICAS:
        raise invalid(
            resource, name, "spec.replicas", f"must be between 0 and {MAX_REPLICAS} in the stand-in API"
        )
    wanted = (
        (spec.get("selector") or {}).get("matchLabels")
        if isinstance(spec.get("selector") or {}, dict)
        else None
    )
    if not wanted or not _is_text_map(wanted):
        raise invalid(resource, name, "spec.selector.matchLabels", "Required value")
    template = spec.get("template")
    meta = template.get("metadata") if isinstance(template, dict) else None
    labels = meta.get("labels") if isinstance(meta, dict) else None
    if not _is_text_map(labels) or not wanted.items() <= (labels or {}).items():
        raise invalid(
            resource, name, "spec.template.metadata.labels", "`selector` does not match template `labels`"
        )
    pod = template.get("spec") if isinstance(template, dict) else None
    containers = pod.get("containers") if isinstance(pod, dict) else None
    if not isinstance(containers, list) or not containers or not all(isinstance(c, dict) for c in containers):
        raise invalid(resource, name, "spec.template.spec.containers", "Required value")


def _deployment(resource: Resource, obj: Json) -> None:
    _workload(resource, obj)
    spec = obj["spec"]
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    spec.setdefault("strategy", rolling)


MAX_REPLICAS = 100
"""Pods of one deployment: enough to see scaling, too few to fill the memory of a laptop."""

_RULES: dict[Resource, Callable[[Resource, Json], None]] = {
    CONFIGMAPS: _configmap,
    DEPLOYMENTS: _deployment,
    REPLICASETS: _workload,
}
