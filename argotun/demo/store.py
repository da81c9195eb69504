"""The stand-in's memory: objects, and a word to the watches when one of them changes.

An object in the store is never changed in place: every write puts a new one there, so that what a
reader or a watch was given stays as it was. Nothing here waits, so a write is whole before the next.
"""

import uuid
from datetime import UTC, datetime

from gevent.event import Event

from argotun.demo.resources import NAMESPACES, RESOURCES, Json, Resource, StatusError

_OWN = ("uid", "creationTimestamp", "generation")


class Store:
    """Objects by resource, namespace ("" for cluster-scoped ones) and name; one counter for all versions."""

    def __init__(self) -> None:
        self.revision = 1
        self.changed = Event()
        """Set at the next change, and then replaced."""
        self._objects: dict[tuple[Resource, str, str], Json] = {}

    def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """The object; a 404 StatusError where there is none."""
        try:
            return self._objects[resource, namespace, name]
        except KeyError:
            raise StatusError(404, "NotFound", f'{resource.qualified} "{name}" not found') from None

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
            raise StatusError(409, "AlreadyExists", f'{resource.qualified} "{name}" already exists')
        made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        own = {"uid": str(uuid.uuid4()), "creationTimestamp": made, "generation": 1}
        return self._put(resource, {**obj, "metadata": {**meta, **own}})

    def replace(self, resource: Resource, obj: Json) -> Json:
        """Store a new version of an object; 409 where it names a `resourceVersion` that is not current."""
        meta = obj["metadata"]
        old = self.get(resource, meta.get("namespace", ""), meta["name"])
        version = old["metadata"]["resourceVersion"]
        if meta.get("resourceVersion") not in (None, "", version):
            raise StatusError(409, "Conflict", f'{resource.qualified} "{meta["name"]}" has been modified')
        own = {field: old["metadata"][field] for field in _OWN}
        own["generation"] += obj.get("spec") != old.get("spec")
        new = {**obj, "metadata": {**meta, **own, "resourceVersion": version}}
        return old if new == old else self._put(resource, new)

    def delete(self, resource: Resource, namespace: str, name: str) -> Json:
        """Remove an object, and with a namespace all that is in it; what it was."""
        old = self.get(resource, namespace, name)
        if resource == NAMESPACES:
            for inside in RESOURCES:
                for obj in self.objects(inside, name) if inside.namespaced else ():
                    del self._objects[inside, name, obj["metadata"]["name"]]
        del self._objects[resource, namespace, name]
        self._tell()
        return old

    def _put(self, resource: Resource, obj: Json) -> Json:
        self._tell()
        meta = {**obj["metadata"], "resourceVersion": str(self.revision)}
        stored = self._objects[resource, meta.get("namespace", ""), meta["name"]] = {**obj, "metadata": meta}
        return stored

    def _tell(self) -> None:
        """Count one change, and let every watch look again once it is made."""
        self.revision += 1
        self.changed.set()
        self.changed = Event()
