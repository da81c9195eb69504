"""A way to the API: kubectl and plain HTTP for a test to ask it with, and a watch that keeps listening."""

import json
from dataclasses import dataclass
from pathlib import Path

import gevent

from .cluster import Cluster
from .http import Answer, Endpoint
from .kubectl import Kubectl
from .waiting import until


@dataclass(frozen=True)
class Way:
    """One way to the cluster, with a namespace and a pod of its own."""

    name: str
    cluster: Cluster
    api: Endpoint
    kubectl: Kubectl
    pod: str = "pod"

    @classmethod
    def open(cls, name: str, cluster: Cluster, api: Endpoint, folder: Path) -> "Way":
        """Make its namespace, and its pod where there is a node."""
        way = cls(
            name, cluster, api, Kubectl(cluster.binaries["kubectl"], folder / f"kubectl-{name}", api, name)
        )
        cluster.create_namespace(name)
        if cluster.pods.exists():
            cluster.create_pod(name, way.pod)
        return way

    @property
    def namespace(self) -> str:
        """The namespace in which its tests work."""
        return self.name

    def path(self, resource: str) -> str:
        """The path of a core resource in that namespace."""
        return f"/api/v1/namespaces/{self.namespace}/{resource}"

    def create(self, resource: str, body: object) -> Answer:
        """POST a core object."""
        answer = self.api("POST", self.path(resource), body)
        assert answer.status == 201, answer
        return answer

    @property
    def container(self) -> Path:
        """The working folder of the pod's container."""
        return self.cluster.folder_of(self.namespace, self.pod)

    @property
    def log(self) -> Path:
        """The log of the pod's container."""
        return self.cluster.log_of(self.namespace, self.pod)


class Watch:
    """A watch on one connection, never reopened: .events grow as they come, .ended says why it is over."""

    def __init__(self, endpoint: Endpoint, path: str) -> None:
        self.events: list[tuple[str, str, str]] = []  # type, namespace/name, resource version
        self.ended = ""
        self._greenlet = gevent.spawn(self._listen, endpoint, path)

    def wait_for(self, name: str, kind: str = "ADDED") -> None:
        """Until an event of that kind for namespace/name has come."""
        until(f"{kind} of {name}", lambda: self.ended or any(e[:2] == (kind, name) for e in self.events))

    def stop(self) -> None:
        self._greenlet.kill()

    def _listen(self, endpoint: Endpoint, path: str) -> None:
        with endpoint.connection(seconds=3600) as conn:
            response = endpoint.send(conn, "GET", path)
            if response.status != 200:
                self.ended = f"{response.status} {response.read()!r}"
                return
            try:
                for line in response:
                    event = json.loads(line)
                    meta = event["object"]["metadata"]
                    self.events.append(
                        (event["type"], f"{meta['namespace']}/{meta['name']}", meta["resourceVersion"])
                    )
                self.ended = "closed in order"
            except (OSError, ValueError) as e:
                self.ended = repr(e)
