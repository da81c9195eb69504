"""Tables: the columns that kubectl shows where it asks the API for rows instead of objects."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from argotun.demo.resources import Json

Cell = Callable[[Json], Any]

INCLUDE = ("None", "Metadata", "Object")
"""Values of the query's `includeObject`: how much of each object comes along with its row."""


def table(kind: str, objects: list[Json], meta: Json, include: str = "Metadata") -> Json:
    """The table of objects of one kind; `meta` is that of the list, or of the one object."""
    columns = _COLUMNS.get(kind, _NAME_AND_AGE)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": [
            {
                "name": name,
                "type": "string",
                "format": "name" if name == "Name" else "",
                "description": "",
                "priority": 0,
            }
            for name, _ in columns
        ],
        "rows": [{"cells": [cell(obj) for _, cell in columns], **_included(obj, include)} for obj in objects],
    }


def _included(obj: Json, include: str) -> Json:
    if include == "None":
        return {}
    if include == "Object":
        return {"object": obj}
    partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
    return {"object": partial}


def age(since: str, now: datetime | None = None) -> str:
    """How long ago a time of the API's was, as kubectl writes it: `9s`, `12m`, `3h`, `5d`."""
    try:
        began = datetime.strptime(since, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return "<unknown>"
    seconds = max(0, int(((now or datetime.now(UTC)) - began).total_seconds()))
    for unit, size, up_to in (("s", 1, 120), ("m", 60, 180), ("h", 3600, 48)):
        if seconds < size * up_to:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86400}d"


def _status(*path: str, default: Any = 0) -> Cell:
    def cell(obj: Json) -> Any:
        value: Any = obj.get("status", {})
        for key in path:
            value = value.get(key, {}) if isinstance(value, dict) else {}
        return default if value == {} else value

    return cell


def _ready_pods(obj: Json) -> str:
    return f"{obj.get('status', {}).get('readyReplicas', 0)}/{obj['spec']['replicas']}"


def _ready_containers(obj: Json) -> str:
    ready = obj.get("status", {}).get("containerStatuses", [])
    return f"{len(ready)}/{len(obj.get('spec', {}).get('containers', []))}"


def _entries(obj: Json) -> int:
    return len(obj.get("data", {})) + len(obj.get("binaryData", {}))


_NAME: tuple[str, Cell] = ("Name", lambda obj: obj["metadata"]["name"])
_AGE: tuple[str, Cell] = ("Age", lambda obj: age(obj["metadata"]["creationTimestamp"]))
_NAME_AND_AGE: tuple[tuple[str, Cell], ...] = (_NAME, _AGE)

_COLUMNS: dict[str, tuple[tuple[str, Cell], ...]] = {
    "Namespace": (_NAME, ("Status", _status("phase", default="Active")), _AGE),
    "ConfigMap": (_NAME, ("Data", _entries), _AGE),
    "Pod": (
        _NAME,
        ("Ready", _ready_containers),
        ("Status", _status("phase", default="Pending")),
        ("Restarts", lambda _: 0),
        _AGE,
    ),
    "Deployment": (
        _NAME,
        ("Ready", _ready_pods),
        ("Up-to-date", _status("updatedReplicas")),
        ("Available", _status("availableReplicas")),
        _AGE,
    ),
    "ReplicaSet": (
        _NAME,
        ("Desired", lambda obj: obj["spec"]["replicas"]),
        ("Current", _status("replicas")),
        ("Ready", _status("readyReplicas")),
        _AGE,
    ),
}
