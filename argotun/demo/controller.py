"""What a cluster would do with workloads, played: deployments get ReplicaSets and pods, which become ready.

No container runs. Each pod says so in its status, and becomes ready a moment after it was made, so
that a watch has something to show. What an owner that is gone owned, goes too.
"""

import hashlib
import json

from gevent import Greenlet, spawn, spawn_later

from argotun.demo.refusal import Refusal
from argotun.demo.resources import DEPLOYMENTS, PODS, REPLICASETS, RESOURCES, Json, Resource
from argotun.demo.store import Change, Store, now

READY_AFTER = 0.3
"""Seconds from a pod's creation to its being ready: long enough to be seen, short enough to wait for."""

NOTE = "stand-in API: no container runs"


class Controller:
    """Follows the store from `start` to `stop` and brings deployments to what their spec says."""

    def __init__(self, store: Store, ready_after: float = READY_AFTER) -> None:
        self._store = store
        self._ready_after = ready_after
        self._loop: Greenlet | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._loop = spawn(self._follow)

    def stop(self) -> None:
        """End it."""
        if self._loop is not None:
            self._loop.kill()

    def _follow(self) -> None:
        changes = self._store.follow()
        try:
            while (change := changes.get()) is not None:
                try:
                    self._react(change)
                except Refusal:
                    # The object changed or went between two changes; its own change comes next.
                    continue
        finally:
            self._store.unfollow(changes)

    def _react(self, change: Change) -> None:
        if change.new is None and change.old is not None:
            self._collect(change.old)
        obj = change.new or change.old
        assert obj is not None
        meta = obj["metadata"]
        if change.resource is DEPLOYMENTS and change.new is not None:
            self._deployment(change.new)
        elif change.resource is REPLICASETS and change.new is not None:
            self._replicaset(change.new)
        elif change.resource is PODS and change.new is not None and change.old is None:
            spawn_later(self._ready_after, self._pod_ready, meta["namespace"], meta["name"], meta["uid"])
        owner = (meta.get("ownerReferences") or [{}])[0]
        above = {"ReplicaSet": REPLICASETS, "Deployment": DEPLOYMENTS}.get(owner.get("kind", ""))
        if above is not None and change.resource in (PODS, REPLICASETS):
            parent = self._store.get(above, meta["namespace"], owner["name"])
            (self._deployment if above is DEPLOYMENTS else self._replicaset)(parent)

    def _collect(self, gone: Json) -> None:
        """Delete what the gone object owned."""
        uid, namespace = gone["metadata"]["uid"], gone["metadata"].get("namespace", "")
        for resource in RESOURCES:
            for obj in self._store.objects(resource, namespace) if resource.namespaced else ():
                if any(ref.get("uid") == uid for ref in obj["metadata"].get("ownerReferences") or ()):
                    self._store.delete(resource, namespace, obj["metadata"]["name"])

    def _owned(self, resource: Resource, owner: Json) -> list[Json]:
        uid = owner["metadata"]["uid"]
        return [
            obj
            for obj in self._store.objects(resource, owner["metadata"]["namespace"])
            if any(ref.get("uid") == uid for ref in obj["metadata"].get("ownerReferences") or ())
        ]

    def _deployment(self, deployment: Json) -> None:
        """One ReplicaSet for the template as it is now; those of earlier templates go to zero."""
        meta, spec = deployment["metadata"], deployment["spec"]
        template = json.dumps(spec["template"], sort_keys=True).encode()
        name = f"{meta['name']}-{hashlib.sha256(template).hexdigest()[:10]}"
        sets = {rs["metadata"]["name"]: rs for rs in self._owned(REPLICASETS, deployment)}
        if name not in sets:
            revision = 1 + max((int(_revision(rs)) for rs in sets.values()), default=0)
            sets[name] = self._store.create(REPLICASETS, _replicaset(deployment, name, revision))
        for other, rs in sets.items():
            wanted = spec["replicas"] if other == name else 0
            if rs["spec"]["replicas"] != wanted:
                self._store.replace(REPLICASETS, {**rs, "spec": {**rs["spec"], "replicas": wanted}})
        current = self._store.get(REPLICASETS, meta["namespace"], name)
        status = _deployment_status(deployment, current, self._owned(REPLICASETS, deployment))

        def write(obj: Json) -> None:
            obj["status"] = status
            annotations = obj["metadata"].setdefault("annotations", {})
            annotations["deployment.kubernetes.io/revision"] = _revision(current)

        self._store.edit(DEPLOYMENTS, meta["namespace"], meta["name"], write)

    def _replicaset(self, rs: Json) -> None:
        """As many pods as its spec says."""
        namespace, wanted = rs["metadata"]["namespace"], rs["spec"]["replicas"]
        pods = self._owned(PODS, rs)
        for pod in pods[wanted:]:
            self._store.delete(PODS, namespace, pod["metadata"]["name"])
        made = [self._store.create(PODS, _pod(rs)) for _ in range(wanted - len(pods))]
        pods = pods[:wanted] + made
        ready = sum(1 for pod in pods if pod.get("status", {}).get("phase") == "Running")
        status = {
            "replicas": len(pods),
            "fullyLabeledReplicas": len(pods),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "observedGeneration": rs["metadata"]["generation"],
        }
        self._store.edit(
            REPLICASETS, namespace, rs["metadata"]["name"], lambda obj: obj.update(status=status)
        )

    def _pod_ready(self, namespace: str, name: str, uid: str) -> None:
        def write(pod: Json) -> None:
            if pod["metadata"]["uid"] == uid:
                pod["status"] = _running(pod)

        try:
            self._store.edit(PODS, namespace, name, write)
        except Refusal:
            return  # deleted before it was ready


def _revision(rs: Json) -> str:
    return str((rs["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision", "1"))


def _owner(owner: Json) -> list[Json]:
    return [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def _replicaset(deployment: Json, name: str, revision: int) -> Json:
    meta, spec = deployment["metadata"], deployment["spec"]
    mark = {"pod-template-hash": name.rpartition("-")[2]}
    template = spec["template"]
    labels = {**template["metadata"]["labels"], **mark}
    selector = {**spec["selector"], "matchLabels": {**spec["selector"]["matchLabels"], **mark}}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "labels": labels,
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
            "ownerReferences": _owner(deployment),
        },
        "spec": {
            "replicas": spec["replicas"],
            "selector": selector,
            "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
        },
    }


def _pod(rs: Json) -> Json:
    meta, template = rs["metadata"], rs["spec"]["template"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **template["metadata"],
            "generateName": f"{meta['name']}-",
            "namespace": meta["namespace"],
            "ownerReferences": _owner(rs),
        },
        "spec": {"nodeName": "stand-in", **template["spec"]},
        "status": {"phase": "Pending", "message": NOTE},
    }


def _condition(kind: str, true: bool, reason: str) -> Json:
    return {"type": kind, "status": "True" if true else "False", "reason": reason, "message": NOTE}


def _running(pod: Json) -> Json:
    started = now()
    return {
        "phase": "Running",
        "message": NOTE,
        "startTime": started,
        "conditions": [_condition("Ready", True, "StandIn"), _condition("ContainersReady", True, "StandIn")],
        "containerStatuses": [
            {
                "name": container.get("name", ""),
                "image": container.get("image", ""),
                "imageID": "",
                "ready": True,
                "started": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": started}},
            }
            for container in pod["spec"]["containers"]
        ],
    }


def _deployment_status(deployment: Json, current: Json, sets: list[Json]) -> Json:
    wanted = deployment["spec"]["replicas"]
    updated = current.get("status", {})
    ready = min(wanted, sum(rs.get("status", {}).get("readyReplicas", 0) for rs in sets))
    done = updated.get("replicas", 0) == wanted == updated.get("readyReplicas", 0)
    status = {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": sum(rs.get("status", {}).get("replicas", 0) for rs in sets),
        "updatedReplicas": updated.get("replicas", 0),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(0, wanted - ready),
        "conditions": [
            _condition("Available", ready >= wanted, "MinimumReplicas"),
            _condition("Progressing", True, "NewReplicaSetAvailable" if done else "ReplicaSetUpdated"),
        ],
    }
    return {key: value for key, value in status.items() if value != 0}
