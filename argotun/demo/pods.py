"""Deployments of the stand-in API get pods, which become ready a moment later. No container runs."""

import secrets

from gevent import spawn_later

from argotun.demo.refusal import Refusal
from argotun.demo.resources import DEPLOYMENTS, PODS, Json, Resource
from argotun.demo.store import Store

READY_AFTER = 0.3
"""Seconds from a pod's creation to its being ready: long enough to be seen, short enough to wait for."""

NOTE = "stand-in API: no container runs"


class Pods:
    """Keeps the pods of each deployment in step with it."""

    def __init__(self, store: Store, ready_after: float) -> None:
        self._store = store
        self._ready_after = ready_after

    def changed(self, resource: Resource, obj: Json) -> None:
        """Follow a client's write or delete of an object."""
        if resource in (DEPLOYMENTS, PODS):
            meta = obj["metadata"]
            self._settle(meta["namespace"], meta["name"] if resource == DEPLOYMENTS else _owner(obj))

    def _settle(self, namespace: str, name: str) -> None:
        """As many pods of the present template as the deployment wants; none where it is gone."""
        try:
            deployment = self._store.get(DEPLOYMENTS, namespace, name)
        except Refusal:
            for pod in self._owned(namespace, name):
                self._store.delete(PODS, namespace, pod["metadata"]["name"])
            return
        wanted, pattern = deployment["spec"]["replicas"], _pod(deployment)
        kept = 0
        for pod in self._owned(namespace, name):
            fits = all(pod["metadata"][k] == pattern["metadata"][k] for k in ("labels", "ownerReferences"))
            if fits and pod["spec"] == pattern["spec"] and kept < wanted:
                kept += 1
            else:
                self._store.delete(PODS, namespace, pod["metadata"]["name"])
        for _ in range(wanted - kept):
            self._store.create(PODS, _pod(deployment))
        self._tell(deployment)
        spawn_later(self._ready_after, self._ready, namespace, name)

    def _owned(self, namespace: str, name: str) -> list[Json]:
        return [pod for pod in self._store.objects(PODS, namespace) if _owner(pod) == name]

    def _ready(self, namespace: str, name: str) -> None:
        for pod in self._owned(namespace, name):
            self._store.replace(PODS, {**pod, "status": _running(pod)})
        try:
            self._tell(self._store.get(DEPLOYMENTS, namespace, name))
        except Refusal:
            return  # deleted before its pods were ready

    def _tell(self, deployment: Json) -> None:
        """Write into the deployment's status how many pods there are."""
        meta, wanted = deployment["metadata"], deployment["spec"]["replicas"]
        pods = self._owned(meta["namespace"], meta["name"])
        ready = sum(pod["status"]["phase"] == "Running" for pod in pods)
        status = {
            "observedGeneration": meta["generation"],
            "replicas": len(pods),
            "updatedReplicas": len(pods),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": wanted - ready,
            "conditions": [_condition("Available", ready == wanted)],
        }
        self._store.replace(DEPLOYMENTS, {**deployment, "status": status})


def _owner(pod: Json) -> str:
    """The name of a pod's deployment; every pod has one, for clients cannot make any."""
    return str(pod["metadata"]["ownerReferences"][0]["name"])


def _condition(kind: str, true: bool) -> Json:
    return {"type": kind, "status": "True" if true else "False", "reason": "StandIn", "message": NOTE}


def _pod(deployment: Json) -> Json:
    own, template = deployment["metadata"], deployment["spec"]["template"]
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": own["name"], "uid": own["uid"]}
    meta = {
        "name": f"{own['name']}-{secrets.token_hex(4)}",
        "namespace": own["namespace"],
        "labels": template["metadata"]["labels"],
        "ownerReferences": [{**owner, "controller": True}],
    }
    spec, status = {"nodeName": "stand-in", **template["spec"]}, {"phase": "Pending", "message": NOTE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status}


def _running(pod: Json) -> Json:
    containers = [
        {"name": c["name"], "image": c.get("image", ""), "imageID": "", "ready": True, "restartCount": 0}
        for c in pod["spec"]["containers"]
    ]
    ready = [_condition("Ready", True)]
    return {"phase": "Running", "message": NOTE, "conditions": ready, "containerStatuses": containers}
