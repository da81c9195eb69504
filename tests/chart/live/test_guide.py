"""Every command of docs/install.md, run as it stands there against two real API servers, until a pod serves.

The release is made once, by the page's own lines: buildah builds the Dockerfile, and image and chart go to
a real registry, from where Helm and the pods take them. What is not here is played: the Dockerfile's base
images (see tests/image/engine.py), pods, for which `rollout status` waits while this test runs them,
certificates for cert-manager, and namespaces for Kubernetes' own controllers; Helm gets ports of this
machine as more values.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

import argotun
from bench.ports import free_port
from tests.chart.helm import ROOT, Helm
from tests.chart.live.argocd import ClusterSecret
from tests.chart.live.pods import Pod, behind_service, make_namespace
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.waiting import until
from tests.image.clone import copy_clone
from tests.image.dockerfile import NETWORK, Image, MissingError, need_sandbox
from tests.image.engine import Engine
from tests.image.registry import PullError, Registry

GUIDE = (ROOT / "docs" / "install.md").read_text("utf-8")
HOST = "argotun.example.com"
HOSTS = f"127.0.0.1 {HOST} kubernetes.default.svc\n"
CLUSTERS = ("management", "customer-a")
WAYS = (
    "Nothing secret is exchanged",
    "Certificates from argotun",
    "Certificates from cert-manager",
    "Certificates by hand",
)
STRICT = ("-euxo", "pipefail", "-c")
SECONDS = 600
PLACE = "export REGISTRY=registry.example.com/platform\n"
"""The one line that the guide tells its readers to change."""

ROLLOUT = """\
#!/bin/sh
# kubectl, but what needs controllers is asked and waited for by means of two files.
case " $* " in
  *" rollout status "*) wanted="pod-$2" ;;
  *" wait --for=condition=Ready certificates "*) wanted="certificates-$2" ;;
  *" create namespace argotun "*) wanted="namespace-$2" ;;
  *) exec {kubectl} "$@" ;;
esac
: > "{folder}/wanted-$wanted"
# The shell that asked may be killed.
until [ -e "{folder}/done-$wanted" ] || ! kill -0 $PPID 2>/dev/null; do sleep 0.1; done
"""
HELM = """\
#!/bin/sh
# helm, with values of this machine after those of the guide, which may use --set.
case " $* " in
  *" --kube-context customer-a upgrade "*)
    exec {helm} "$@" -f "{folder}/machine-$2.yaml" --set-string serverURL={url} ;;
  *" upgrade "*) exec {helm} "$@" -f "{folder}/machine-$2.yaml" ;;
  *) exec {helm} "$@" ;;
esac
"""


def blocks(title: str) -> list[str]:
    """The blocks of commands of one part of the guide."""
    part = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", GUIDE, re.M | re.S)
    assert part, title
    return re.findall(r"^```sh\n(.*?)^```$", part[1], re.M | re.S)


def scripts(title: str) -> str:
    """All commands of one part of the guide."""
    return "".join(blocks(title))


def test_every_part_of_the_guide_is_run() -> None:
    titles = re.findall(r"^## (.+)$", GUIDE, re.M)
    # The commands of the first are run in tests/chart/test_replicas.py.
    ran = {"Several replicas", "A release", "The way in", *WAYS, "An Application", "Taking it away"}
    assert set(titles) == ran
    assert GUIDE.count("```") == 2 * len(re.findall(r"^```sh$", GUIDE, re.M))


class Release:
    """What the guide's lines made of the clone in `folder`, in a registry of this machine."""

    def __init__(self, folder: Path, registry: Registry, engine: Engine, helm: Helm) -> None:
        self.registry, self.folder = registry, folder
        self.place = f"export REGISTRY={registry.host}/platform\n"
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python3").symlink_to(sys.executable)
        (folder / "bin" / "helm").symlink_to(helm.path)
        self.clone = copy_clone(folder / "clone")
        env = environment(folder) | registry.environment | engine.environment | {"ENGINE": "buildah"}
        script = self.placed("".join(blocks("A release")))
        done = subprocess.run(
            ["bash", *STRICT, script], cwd=self.clone, env=env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        self._pulled: dict[str, Image] = {}

    def placed(self, script: str) -> str:
        """A script of the guide with the line changed that is to be changed."""
        assert script.startswith(PLACE)
        return self.place + script.removeprefix(PLACE)

    def pull(self, name: str) -> Image:
        """The image of a pod; raises PullError."""
        if name not in self._pulled:
            self._pulled[name] = self.registry.pull(name, self.folder / f"pulled-{len(self._pulled)}")
        return self._pulled[name]


def environment(folder: Path) -> dict[str, str]:
    """A reader's environment, with the programs of `folder`/bin before all others."""
    network = {name: value for name, value in os.environ.items() if NETWORK.fullmatch(name)}
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return network | {"PATH": path, "HOME": str(folder / "home"), "LANG": "C.UTF-8"}


class Reader:
    """Somebody who follows the guide, in a folder with no more of the clone than it says."""

    def __init__(self, helm: Helm, release: Release, clusters: dict[str, Cluster], folder: Path) -> None:
        self.clusters, self.release, self.folder = clusters, release, folder
        self.pods: dict[str, Pod] = {}
        self.ports = {name: free_port() for name in ("port", "internalPort", "healthPort")}
        for name in ("clone", "bin", "home", "signals"):
            (folder / name).mkdir(parents=True)
        (folder / "clone" / ".venv").symlink_to(release.clone / ".venv")
        self._program(
            "kubectl",
            ROLLOUT.format(kubectl=clusters["management"].binaries["kubectl"], folder=self._signals),
        )
        url = f"wss://{HOST}:{self.ports['port']}/connect"
        self._program("helm", HELM.format(helm=helm.path, folder=self._signals, url=url))
        self._write_kubeconfig()
        agent = {
            "targetAddr": f"kubernetes.default.svc:{clusters['customer-a'].api_port}",
            "healthPort": free_port(),
        }
        for context, values in (
            ("management", self.ports | {"service": {"port": 0}}),
            ("customer-a", agent),
        ):
            (self._signals / f"machine-{context}.yaml").write_text(yaml.safe_dump(values))

    @property
    def _signals(self) -> Path:
        return self.folder / "signals"

    def _program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def _write_kubeconfig(self) -> None:
        merged: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [],
            "users": [],
            "contexts": [],
        }
        for name, cluster in self.clusters.items():
            config = json.loads(cluster.kubectl.kubeconfig.read_text())
            merged["clusters"].append({"name": name, "cluster": config["clusters"][0]["cluster"]})
            merged["users"].append({"name": name, "user": config["users"][0]["user"]})
            merged["contexts"].append({"name": name, "context": {"cluster": name, "user": name}})
        (self.folder / "kubeconfig").write_text(json.dumps(merged))

    def follow(self, script: str, shell: str = "bash") -> str:
        """Run commands one after the other; what they printed, or AssertionError with what failed."""
        env = environment(self.folder) | self.release.registry.environment
        env["KUBECONFIG"] = str(self.folder / "kubeconfig")
        log = self.folder / "commands.log"
        first, _, again = blocks("A release")
        script = self.release.placed(first) + again + script
        with log.open("w") as out:
            running = subprocess.Popen(
                [shell, *STRICT, script],
                cwd=self.folder / "clone", env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip
            try:
                until("the commands end", lambda: self._play() or running.poll() is not None, SECONDS, 0.1)
            finally:
                running.kill()
        assert running.wait() == 0, log.read_text()[-4000:]
        return log.read_text()

    def _play(self) -> None:
        """Do what a command waits for."""
        for wanted in self._signals.glob("wanted-*"):
            wanted.unlink()
            what, _, context = wanted.name.removeprefix("wanted-").partition("-")
            if what == "namespace":
                make_namespace(self.clusters[context], "argotun")
            elif what == "certificates":
                issue_certificates(self.clusters[context])
            elif context not in self.pods:
                deployment = self.clusters[context].kubectl.json("get", "deploy", "argotun", "-n", "argotun")
                (container,) = deployment["spec"]["template"]["spec"]["containers"]
                image = self.release.pull(container["image"])
                pod = Pod(self.clusters[context], "argotun", "argotun", image, self.folder / context)
                self.pods[context] = pod
                pod.start(HOSTS)
                pod.wait_until_ready()
            (self._signals / wanted.name.replace("wanted", "done")).touch()

    def stop(self) -> None:
        """End the pods, and leave the clusters as they were."""
        for pod in self.pods.values():
            pod.kill()
        for cluster in self.clusters.values():
            cluster.kubectl.run("delete", "secrets,configmaps,serviceaccounts", "--all", "-n", "argotun")


def issue_certificates(cluster: Cluster) -> None:
    """What cert-manager does for each Certificate: a Secret with certificate, key and CA."""
    ca = trustme.CA()
    for each in cluster.kubectl.json("get", "certificates", "-n", "argotun")["items"]:
        spec = each["spec"]
        if spec.get("isCA"):
            continue
        names = spec.get("dnsNames") or [spec["commonName"]]
        leaf = ca.issue_cert(*names, common_name=spec.get("commonName"))
        files = {
            "ca.crt": ca.cert_pem.bytes(),
            "tls.crt": leaf.cert_chain_pems[0].bytes(),
            "tls.key": leaf.private_key_pem.bytes(),
        }
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": spec["secretName"], "namespace": "argotun"},
            "type": "kubernetes.io/tls",
            "data": {key: base64.b64encode(content).decode() for key, content in files.items()},
        }
        cluster.kubectl.run("apply", "-f", "-", stdin=secret)


@pytest.fixture(scope="module")
def clusters(informed: Cluster, customer: Cluster) -> dict[str, Cluster]:
    make_namespace(informed, "argocd")
    return dict(zip(CLUSTERS, (informed, customer), strict=True))


@pytest.fixture(scope="module")
def release(helm: Helm, folder: Path) -> Iterator[Release]:
    """Image, chart and wheel, made by the page's own lines."""
    try:
        need_sandbox()
        registry = Registry(folder / "registry")
    except MissingError as why:
        pytest.skip(str(why))
    try:
        yield Release(folder / "release", registry, Engine(folder / "engine"), helm)
    except MissingError as why:
        pytest.skip(str(why))
    finally:
        registry.close()


@pytest.fixture
def reader(
    helm: Helm, release: Release, openssl: str, clusters: dict[str, Cluster], tmp_path: Path
) -> Iterator[Reader]:
    reader = Reader(helm, release, clusters, tmp_path)
    try:
        yield reader
    finally:
        reader.stop()


def test_the_release_has_the_names_of_the_guide(release: Release) -> None:
    version = argotun.__version__
    wheel = f"argotun-{version}-py3-none-any.whl"
    for name in (f"<registry>/argotun:{version}", "oci://<registry>/charts/argotun", wheel):
        assert f"`{name}`" in GUIDE
    assert (release.clone / "dist" / wheel).is_file()
    image = release.pull(f"{release.registry.host}/platform/argotun:{version}")
    assert image.stage.labels["org.opencontainers.image.version"] == version
    assert image.stage.user == "65532:65532"
    assert set(re.findall(r"\b\d+\.\d+\.\d+\b", scripts("A release"))) == {version}


def test_an_image_that_was_never_pushed_is_not_pulled(release: Release, tmp_path: Path) -> None:
    for name in ("argotun:0.1.0", f"{release.registry.host}/platform/argotun:0.0.1"):
        with pytest.raises(PullError):
            release.registry.pull(name, tmp_path)


@pytest.mark.parametrize(
    ("way", "shell"),
    # What zsh could read in another way is in these three.
    [*((way, "bash") for way in WAYS), *((way, "zsh") for way in WAYS if way != "Certificates from argotun")],
)
def test_the_commands_of_the_guide_lead_to_the_cluster(reader: Reader, way: str, shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    for cluster in reader.clusters.values():
        make_namespace(cluster, "argotun")
    said = reader.follow(scripts("The way in") + scripts(way) + scripts("An Application"), shell)
    assert "application.argoproj.io/guestbook" in said
    management = reader.clusters["management"]
    (found,) = management.kubectl.json(
        "get", "secrets", "-n", "argocd", "-l", "argocd.argoproj.io/secret-type=cluster"
    )["items"]
    secret = ClusterSecret(found)
    port = behind_service(secret.server, reader.pods["management"])
    status, body, _ = secret.get("/api/v1/namespaces", secret.context(reader.folder), port)
    assert status == 200
    assert "argotun" in {each["metadata"]["name"] for each in body["items"]}
    reader.follow(scripts("Taking it away"), shell)
    left = management.kubectl.json("get", "secrets", "-n", "argocd")["items"]
    assert not left
