"""The stand-in's memory: objects, the versions they go through, and the changes that watches follow.

An object in the store is never changed in place: every write puts a new one there, so that what a
reader or a watch was given stays as it was. Nothing here waits, so one greenlet's write is whole
before another one's begins.
"""

import copy
import secrets
import uuid
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from gevent.queue import SimpleQueue

from argotun.demo import refusal
from argotun.demo.resources import NAMESPACES, RESOURCES, Json, Resource

HISTORY = 2000
"""Changes kept for watches that start from an older version; a few minutes of a busy demo."""

_SET_BY_API = ("uid", "creationTimestamp", "generation", "deletionTimestamp")


class Change(NamedTuple):
    """One change: `old` is None for a new object, `new` is None once it is gone."""

    revision: int
    resource: Resource
    old: Json | None
    new: Json | None


Key = tuple[Resource, str, str]


def now() -> str:
    """The time as Kubernetes writes it: UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """Objects by resource, namespace ("" for cluster-scoped ones) and name; one counter for all versions."""

    def __init__(self, history: int = HISTORY) -> None:
        self.revision = 1
        self.applied: dict[str, dict[str, Json]] = {}
        """What each field manager applied last: uid -> manager -> configuration."""
        self._objects: dict[Key, Json] = {}
        self._changes: deque[Change] = deque(maxlen=history)
        self._followers: set[SimpleQueue[Change | None]] = set()

    def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """The object; a 404 Refusal where there is none."""
        try:
            return self._objects[resource, namespace, name]
        except KeyError:
            raise refusal.not_found(resource, name) from None

    def objects(self, resource: Resource, namespace: str = "") -> list[Json]:
        """Objects of a type in the order of namespace and name; all namespaces where none is given."""
        keys = sorted(
            (key[1], key[2]) for key in self._objects if key[0] is resource and namespace in ("", key[1])
        )
        return [self._objects[resource, *key] for key in keys]

    def create(self, resource: Resource, obj: Json, dry_run: bool = False) -> Json:
        """Store a new object; 404 without its namespace, 409 where the name is taken."""
        obj = copy.deepcopy(obj)
        meta = obj["metadata"]
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = f"{meta['generateName']}{secrets.token_hex(3)[:5]}"
        namespace, name = meta.get("namespace", ""), meta["name"]
        if namespace:
            self.get(NAMESPACES, "", namespace)
        if (resource, namespace, name) in self._objects:
            raise refusal.already_exists(resource, name)
        meta.pop("deletionTimestamp", None)
        meta.update(uid=str(uuid.uuid4()), creationTimestamp=now())
        if resource.generation:
            meta["generation"] = 1
        return self._put(resource, None, obj, dry_run)

    def replace(self, resource: Resource, obj: Json, dry_run: bool = False, own_status: bool = False) -> Json:
        """Store a new version of an object.

        `obj` may name the version (`resourceVersion`) and the object (`uid`) that it is based on: 409
        where these are no longer current. `status` stays as it was unless `own_status` says that the
        write is the API's own. A write that changes nothing makes no new version.
        """
        obj = copy.deepcopy(obj)
        meta = obj["metadata"]
        old = self.get(resource, meta.get("namespace", ""), meta["name"])
        for field, why in _STALE.items():
            if meta.get(field) not in (None, "", old["metadata"][field]):
                raise refusal.conflict(resource, meta["name"], why)
        for field in _SET_BY_API:
            meta.pop(field, None)
            if field in old["metadata"]:
                meta[field] = old["metadata"][field]
        meta["resourceVersion"] = old["metadata"]["resourceVersion"]
        if resource.generation and not own_status:
            obj.pop("status", None)
            if "status" in old:
                obj["status"] = old["status"]
        if resource.generation and obj.get("spec") != old.get("spec"):
            meta["generation"] += 1
        if obj == old:
            return old
        if "deletionTimestamp" in meta and not meta.get("finalizers"):
            return self._put(resource, obj, None, dry_run)
        return self._put(resource, old, obj, dry_run)

    def edit(self, resource: Resource, namespace: str, name: str, change: Callable[[Json], None]) -> None:
        """Let `change` work on a copy of the object and store it as the API's own write, status included."""
        obj = copy.deepcopy(self.get(resource, namespace, name))
        change(obj)
        self.replace(resource, obj, own_status=True)

    def delete(self, resource: Resource, namespace: str, name: str, dry_run: bool = False) -> Json:
        """Remove an object, and all that is in a namespace; finalizers keep it until they are gone."""
        old = self.get(resource, namespace, name)
        if old["metadata"].get("finalizers"):
            if "deletionTimestamp" in old["metadata"]:
                return old
            marked = copy.deepcopy(old)
            marked["metadata"]["deletionTimestamp"] = now()
            return self._put(resource, old, marked, dry_run)
        if resource is NAMESPACES and not dry_run:
            for inside in RESOURCES:
                for obj in self.objects(inside, name) if inside.namespaced else ():
                    self._put(inside, obj, None, dry_run)
        return self._put(resource, old, None, dry_run)

    def _put(self, resource: Resource, old: Json | None, new: Json | None, dry_run: bool) -> Json:
        """Record one change and tell who follows; returns the object with its version (a gone one's last)."""
        subject = new if new is not None else old
        assert subject is not None
        meta = subject["metadata"]
        if dry_run:
            return subject
        self.revision += 1
        stamped = {**subject, "metadata": {**meta, "resourceVersion": str(self.revision)}}
        key = resource, meta.get("namespace", ""), meta["name"]
        if new is None:
            del self._objects[key]
            self.applied.pop(meta["uid"], None)
            change = Change(self.revision, resource, stamped, None)
        else:
            self._objects[key] = stamped
            change = Change(self.revision, resource, old, stamped)
        self._changes.append(change)
        for follower in tuple(self._followers):
            if follower.qsize() >= HISTORY:
                self.unfollow(follower)
                follower.put(None)
            else:
                follower.put(change)
        return stamped

    def since(self, revision: int) -> list[Change]:
        """Changes after a version; a 410 Refusal where some of them are forgotten."""
        oldest = self._changes[0].revision - 1 if self._changes else self.revision
        if revision < oldest:
            raise refusal.expired(oldest)
        return [change for change in self._changes if change.revision > revision]

    def follow(self) -> SimpleQueue[Change | None]:
        """A queue that gets every change from now on, until `unfollow`.

        None in it is the end: its reader fell HISTORY changes behind, or `end_all` was called.
        """
        queue: SimpleQueue[Change | None] = SimpleQueue()
        self._followers.add(queue)
        return queue

    def unfollow(self, queue: SimpleQueue[Change | None]) -> None:
        """End what `follow` began."""
        self._followers.discard(queue)

    def end_all(self) -> None:
        """Tell everyone who follows that there will be no more."""
        for follower in self._followers:
            follower.put(None)
        self._followers.clear()


_STALE = {
    "uid": "Precondition failed: UID in precondition does not match the object's",
    "resourceVersion": (
        "the object has been modified; please apply your changes to the latest version and try again"
    ),
}
