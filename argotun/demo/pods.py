"""Deployments of the stand-in API get pods, a moment after each change. No container runs."""

import json
import zlib

from gevent import spawn_later

from argotun.demo.resources import DEPLOYMENTS, PODS, Json, Resource, StatusError
from argotun.demo.store import Store

READY_AFTER = 0.3
"""Seconds until a deployment has its pods: long enough to be seen, short enough to wait for."""

NOTE = "stand-in API: no container runs"


class Pods:
    """Keeps the pods of each deployment in step with it."""

    def __init__(self, store: Store, ready_after: float) -> None:
        self._store = store
        self._ready_after = ready_after

    def changed(self, resource: Resource, obj: Json) -> None:
        """Follow a client's write or delete of an object."""
        meta = obj["metadata"]
        if resource == DEPLOYMENTS:
            spawn_later(self._ready_after, self._settle, meta["namespace"], meta["name"])
        elif resource == PODS:
            spawn_later(self._ready_after, self._settle, meta["namespace"], _owner(obj))

    def _settle(self, namespace: str, name: str) -> None:
        """Exactly the pods that the deployment wants; none where it is gone."""
        try:
            deployment = self._store.get(DEPLOYMENTS, namespace, name)
            wanted = {pod["metadata"]["name"]: pod for pod in _pods(deployment)}
        except StatusError:
            deployment, wanted = {}, {}
        for pod in self._store.objects(PODS, namespace):
            if _owner(pod) == name and wanted.pop(pod["metadata"]["name"], None) is None:
                self._store.delete(PODS, namespace, pod["metadata"]["name"])
        for pod in wanted.values():
            self._store.create(PODS, pod)
        if deployment:
            self._store.replace(DEPLOYMENTS, {**deployment, "status": _status(deployment)})


def _owner(pod: Json) -> str:
    """The name of a pod's deployment; every pod has one, for clients cannot make any."""
    return str(pod["metadata"]["ownerReferences"][0]["name"])


def _condition(kind: str) -> Json:
    return {"type": kind, "status": "True", "reason": "StandIn", "message": NOTE}


def _status(deployment: Json) -> Json:
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    return {
        "observedGeneration": deployment["metadata"]["generation"],
        **dict.fromkeys(counts, deployment["spec"]["replicas"]),
        "conditions": [_condition("Available")],
    }


def _pods(deployment: Json) -> list[Json]:
    """The pods of a deployment; their names change with its template."""
    own, template = deployment["metadata"], deployment["spec"]["template"]
    prefix = f"{own['name']}-{zlib.crc32(json.dumps(template).encode()):08x}"
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": own["name"], "uid": own["uid"]}
    meta = {
        "namespace": own["namespace"],
        "labels": template["metadata"]["labels"],
        "ownerReferences": [{**owner, "controller": True}],
    }
    containers = [
        {"name": c["name"], "image": c.get("image", ""), "imageID": "", "ready": True, "restartCount": 0}
        for c in template["spec"]["containers"]
    ]
    status = {"phase": "Running", "conditions": [_condition("Ready")], "containerStatuses": containers}
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": "stand-in", **template["spec"]}}
    return [
        {**pod, "metadata": {"name": f"{prefix}-{number}", **meta}, "status": {**status, "message": NOTE}}
        for number in range(deployment["spec"]["replicas"])
    ]
