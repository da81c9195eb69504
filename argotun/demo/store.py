"""The stand-in's memory: objects, the versions they go through, and the changes that watches follow.

An object in the store is never changed in place: every write puts a new one there, so that what a
reader or a watch was given stays as it was. Nothing here waits, so a write is whole before the next.
"""

import uuid
from collections import deque
from datetime import UTC, datetime
from typing import NamedTuple

from gevent.event import Event

from argotun.demo.refusal import Refusal
from argotun.demo.resources import NAMESPACES, RESOURCES, Json, Resource

HISTORY = 2000
"""Changes that are kept: how far a watch may begin in the past, or fall behind."""

_OWN = ("uid", "creationTimestamp", "generation")


class Change(NamedTuple):
    """One change: `old` is None for a new object, `new` is None once it is gone."""

    revision: int
    resource: Resource
    old: Json | None
    new: Json | None


class Store:
    """Objects by resource, namespace ("" for cluster-scoped ones) and name; one counter for all versions."""

    def __init__(self) -> None:
        self.revision = 1
        self.ended = False
        """Whether watches are to end."""
        self.changed = Event()
        """Set at the next change, and then replaced."""
        self._objects: dict[tuple[Resource, str, str], Json] = {}
        self._changes: deque[Change] = deque(maxlen=HISTORY)

    def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """The object; a 404 Refusal where there is none."""
        try:
            return self._objects[resource, namespace, name]
        except KeyError:
            raise Refusal(404, "NotFound", f'{resource.qualified} "{name}" not found') from None

    def objects(self, resource: Resource, namespace: str = "") -> list[Json]:
        """Objects of a type in the order of namespace and name; all namespaces where none is given."""
        keys = [key for key in self._objects if key[0] == resource and namespace in ("", key[1])]
        return [self._objects[key] for key in sorted(keys, key=lambda key: key[1:])]

    def create(self, resource: Resource, obj: Json) -> Json:
        """Store a new object; 404 without its namespace, 409 where the name is taken."""
        meta = obj["metadata"]
        namespace, name = meta.get("namespace", ""), meta["name"]
        if namespace:
            self.get(NAMESPACES, "", namespace)
        if (resource, namespace, name) in self._objects:
            raise Refusal(409, "AlreadyExists", f'{resource.qualified} "{name}" already exists')
        made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        own = {"uid": str(uuid.uuid4()), "creationTimestamp": made, "generation": 1}
        return self._put(resource, None, {**obj, "metadata": {**meta, **own}})

    def replace(self, resource: Resource, obj: Json) -> Json:
        """Store a new version of an object; 409 where it names a `resourceVersion` that is not current."""
        meta = obj["metadata"]
        old = self.get(resource, meta.get("namespace", ""), meta["name"])
        version = old["metadata"]["resourceVersion"]
        if meta.get("resourceVersion") not in (None, "", version):
            raise Refusal(409, "Conflict", f'{resource.qualified} "{meta["name"]}" has been modified')
        own = {field: old["metadata"][field] for field in _OWN}
        own["generation"] += obj.get("spec") != old.get("spec")
        new = {**obj, "metadata": {**meta, **own, "resourceVersion": version}}
        return old if new == old else self._put(resource, old, new)

    def delete(self, resource: Resource, namespace: str, name: str) -> Json:
        """Remove an object, and with a namespace all that is in it."""
        old = self.get(resource, namespace, name)
        if resource == NAMESPACES:
            for inside in RESOURCES:
                for obj in self.objects(inside, name) if inside.namespaced else ():
                    self._put(inside, obj, None)
        return self._put(resource, old, None)

    def _put(self, resource: Resource, old: Json | None, new: Json | None) -> Json:
        """Record one change and wake who follows; the object with its version (a gone one's last)."""
        self.revision += 1
        subject = new or old or {}
        meta = {**subject["metadata"], "resourceVersion": str(self.revision)}
        stamped = {**subject, "metadata": meta}
        key = resource, meta.get("namespace", ""), meta["name"]
        if new is None:
            del self._objects[key]
            self._changes.append(Change(self.revision, resource, stamped, None))
        else:
            self._objects[key] = stamped
            self._changes.append(Change(self.revision, resource, old, stamped))
        self.wake()
        return stamped

    def since(self, revision: int) -> list[Change]:
        """Changes after a version; a 410 Refusal where some of them are forgotten."""
        if revision < (self._changes[0].revision - 1 if self._changes else self.revision):
            raise Refusal(410, "Expired", f"too old resource version: {revision}")
        return [change for change in self._changes if change.revision > revision]

    def wake(self) -> None:
        """Let every watch look again: for changes, and whether it is to end."""
        self.changed.set()
        self.changed = Event()
