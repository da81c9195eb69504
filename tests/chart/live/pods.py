"""A pod as a kubelet runs it: a Deployment's args, env, mounts and probes, in a container of the image."""

import base64
import itertools
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.waiting import until
from tests.image.container import Container
from tests.image.dockerfile import Image

ROOT_CA = "kube-root-ca.crt"
"""The ConfigMap with the API's CA that Kubernetes puts into every namespace."""


class Pod:
    """The pod of a Deployment that is in the API already; it is not running until start()."""

    def __init__(self, cluster: Cluster, namespace: str, deployment: str, image: Image, folder: Path) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.template = self._get("deployment", deployment)["spec"]["template"]
        self.spec = self.template["spec"]
        (self.container,) = self.spec["containers"]
        self._image = image
        self._folder = folder
        self._generation = itertools.count()
        self.running: Container | None = None
        self.mounts = {
            each["mountPath"]: self._mount(each["name"]) for each in self.container["volumeMounts"]
        }

    def start(self, hosts: str = "") -> None:
        """Run it; `hosts` are lines of its /etc/hosts, where a cluster has its DNS."""
        # What the sandbox gives is what the pod asks for, or more closed: say so where a chart asks for more.
        context = self.spec["securityContext"]
        assert (context["runAsUser"], context["runAsNonRoot"]) == (65532, True)
        assert self.container["securityContext"]["readOnlyRootFilesystem"] is True
        env = {each["name"]: each["value"] for each in self.container.get("env", [])}
        self.running = Container(
            self._image,
            self._folder / "container",
            self.container["args"],
            env=env,
            mounts=self.mounts,
            hosts=hosts,
        )

    def wait_until_ready(self) -> None:
        """Until both probes succeed; AssertionError with the log's end when it ends before."""
        for probe in ("livenessProbe", "readinessProbe"):
            until(
                f"the {probe} of {self._folder.name} succeeds",
                lambda probe=probe: self.probe(probe),
                seconds=60,
            )

    def probe(self, name: str) -> bool:
        """One HTTP probe, as the kubelet does it."""
        assert self.running
        self.running.check()
        asked = self.container[name]["httpGet"]
        url = f"http://127.0.0.1:{self.port(asked['port'])}{asked['path']}"
        try:
            return requests.get(url, timeout=30).ok
        except requests.ConnectionError:
            return False

    def port(self, name: str | int) -> int:
        """The number of one of its ports, which may be a number already."""
        if isinstance(name, int):
            return name
        return next(each["containerPort"] for each in self.container["ports"] if each["name"] == name)

    def update(self) -> None:
        """Bring the mounted files up to date with the API, in one step each, as the kubelet does."""
        for each in self.container["volumeMounts"]:
            self._mount(each["name"])

    def stop(self) -> int:
        """SIGTERM, and its exit code within the grace that the pod has."""
        assert self.running
        return self.running.terminate(self.spec["terminationGracePeriodSeconds"])

    def kill(self) -> None:
        """End it, whether it runs or not."""
        if self.running:
            self.running.kill()

    def _get(self, kind: str, name: str) -> Any:
        return self.cluster.kubectl.json("get", kind, name, "-n", self.namespace)

    def _mount(self, name: str) -> Path:
        """Write a volume's files, linked as the kubelet links them, so that an update shows all at once."""
        volume = next(each for each in self.spec["volumes"] if each["name"] == name)
        folder = self._folder / "volumes" / name
        folder.mkdir(parents=True, exist_ok=True)
        data = folder / f"..{next(self._generation)}"
        data.mkdir()
        files = self._files(volume)
        for path, content in files.items():
            (data / path).write_bytes(content)
        link = folder / "..new"
        link.symlink_to(data.name)
        link.replace(folder / "..data")
        for path in files:
            if not (folder / path).is_symlink():
                (folder / path).symlink_to(f"..data/{path}")
        return folder

    def _files(self, volume: dict[str, Any]) -> dict[str, bytes]:
        """Name and content of each file of a volume."""
        if secret := volume.get("secret"):
            return self._chosen(self._get("secret", secret["secretName"]), secret)
        found: dict[str, bytes] = {}
        for source in volume["projected"]["sources"]:
            if token := source.get("serviceAccountToken"):
                found[token["path"]] = self._account_token(token)
            else:
                (kind, reference), *rest = source.items()
                assert not rest
                object_ = self._get(kind.lower(), reference["name"])
                found |= self._chosen(object_, reference)
        return found

    def _chosen(self, object_: dict[str, Any], reference: dict[str, Any]) -> dict[str, bytes]:
        """The items of a Secret or ConfigMap that a volume names; without one of them no pod starts."""
        secret = object_["kind"] == "Secret"
        data = {
            key: base64.b64decode(value) if secret else value.encode()
            for key, value in object_["data"].items()
        }
        items = reference.get("items") or [{"key": key, "path": key} for key in data]
        name = object_["metadata"]["name"]
        for item in items:
            assert item["key"] in data, f"{name} has no {item['key']}: the pod would not start"
        return {item["path"]: data[item["key"]] for item in items}

    def _account_token(self, asked: dict[str, Any]) -> bytes:
        account = self.spec["serviceAccountName"]
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "expirationSeconds": asked["expirationSeconds"],
                "audiences": [asked["audience"]] if "audience" in asked else [],
            },
        }
        answer = self.cluster.admin("POST", path, body)
        assert answer.status == 201, answer
        token: str = answer.json()["status"]["token"]
        return token.encode()


def make_namespace(cluster: Cluster, name: str) -> None:
    """A namespace with what Kubernetes' own controllers put into each."""
    cluster.create_namespace(name)
    cluster.create(
        f"/api/v1/namespaces/{name}/configmaps",
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": ROOT_CA},
            "data": {"ca.crt": cluster.ca.read_text()},
        },
    )


def behind_service(url: str, pod: Pod) -> int:
    """The port of `pod` that a Service's URL leads to, as a cluster's DNS and its proxy would find it."""
    parts = urlsplit(url)
    found = re.fullmatch(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc", parts.hostname or "")
    assert found, f"{url} names no Service"
    service = pod.cluster.kubectl.json("get", "service", found[1], "-n", found[2])
    assert service["spec"]["selector"].items() <= pod.template["metadata"]["labels"].items()
    port = next(each for each in service["spec"]["ports"] if each["port"] == parts.port)
    return pod.port(port["targetPort"])
