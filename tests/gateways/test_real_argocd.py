"""The ways to argocd-server with the real one and the real CLI, where both are built already.

`make argocd` builds them, and keeps them in its cache.
"""

import base64
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.ports import free_port
from tests.argocd.harness import objects, program
from tests.argocd.harness.argocd import SECRETS, ArgoCD
from tests.chart.helm import Helm
from tests.e2e.harness import binaries
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.http import Endpoint
from tests.gateways.door import (
    CILIUM,
    WAYS,
    Certificates,
    by_user_agent,
    gateway,
    insecure,
    objects_and_values,
)

Objects = list[dict[str, Any]]

HOST = "localhost"
"""A name that the CLI, which is not in this process, can resolve."""
FALLS_BACK = "Failed to invoke grpc call. Use flag --grpc-web"
"""What the CLI warns of when native gRPC did not get through and gRPC-web did."""
LIMIT = 120
"""Seconds for one run of the CLI."""


def built() -> tuple[binaries.Binaries, program.Program]:
    """What earlier runs have built; the test is skipped where that is nothing."""
    kubernetes = program.CACHE.parent / "e2e" / binaries._fingerprint()
    if not ((kubernetes.exists() or "KUBEBUILDER_ASSETS" in os.environ) and program_folder().exists()):
        pytest.skip("there is no Argo CD yet: make argocd builds it")
    try:
        return binaries.find(print), program.find(print)
    except (binaries.MissingError, binaries.UnusableError) as why:
        pytest.skip(str(why))


def program_folder() -> Path:
    return program.CACHE / program._fingerprint()


class Servers(ArgoCD):
    """Of Argo CD only argocd-server, twice: with TLS of its own, and without."""

    def start(self) -> None:
        self._install()
        self._start_stores()
        self.ports = {"secure": self._ports["server"], "insecure": free_port()}
        for name, port in self.ports.items():
            self._run(
                name,
                "argocd-server",
                "--address", "127.0.0.1",
                "--port", str(port),
                "--metrics-address", "127.0.0.1",
                "--metrics-port", str(free_port()),
                "--staticassets", str(self.folder / "tmp"),
                *(["--insecure"] if name == "insecure" else []),
            )  # fmt: skip
        self._wait_for("insecure", Endpoint(self.ports["insecure"]), "/healthz")


@dataclass(frozen=True)
class Real:
    """The servers, and the certificate that the one with TLS has from its Secret."""

    servers: Servers
    certificates: Certificates

    @contextmanager
    def behind(
        self,
        helm: Helm,
        exposure: dict[str, Any],
        cilium: bool = False,
        changed: Callable[[Objects], Objects] = lambda rendered: rendered,
    ) -> Iterator["Client"]:
        """The CLI before Envoy before the server that the printed values make."""
        rendered, values = objects_and_values(helm, exposure, HOST)
        pod = self.servers.ports["insecure" if insecure(values) else "secure"]
        with gateway(changed(rendered), values, pod, self.certificates, cilium) as (_, ports):
            yield Client(self.servers, f"{HOST}:{ports[443]}", self.certificates.authority.path("ca.pem"))


@dataclass(frozen=True)
class Client:
    """The CLI of somebody who knows no more than an address."""

    servers: Servers
    address: str
    ca: str

    def login(self, *options: str) -> "subprocess.CompletedProcess[str]":
        """Log in, then list the projects with what the login has left."""
        home = tempfile.mkdtemp(dir=self.servers.folder)
        env = {"PATH": os.environ["PATH"], "HOME": home, "ARGOCD_BINARY_NAME": "argocd"}
        # As if a public CA had issued it.
        env["SSL_CERT_FILE"] = self.ca
        account = ("--username", "admin", "--password", self.servers.password)
        steps = [("login", self.address, *account), ("proj", "list", "--server", self.address)]
        for step in steps:
            argv = [self.servers.program.argocd, *step, *options]
            done = subprocess.run(
                argv, env=env, capture_output=True, text=True, timeout=LIMIT, check=False, cwd=home
            )
            if done.returncode:
                break
        return done


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    kubernetes, argocd = built()
    folder = Path(tempfile.mkdtemp(prefix="argotun-gateways-"))
    certificates = Certificates.make(tmp_path_factory.mktemp("certificates"), HOST)
    management = Cluster(kubernetes, folder / "management")
    servers = Servers(argocd, management, folder / "argocd", {})
    ended: list[Callable[[], None]] = []
    try:
        ended.append(management.stop)
        management.start()
        management.create("/api/v1/namespaces", objects.namespace(objects.ARGOCD))
        management.create(SECRETS, tls_secret(certificates))
        ended.append(servers.stop)
        servers.start()
        yield Real(servers, certificates)
    finally:
        for end in reversed(ended):
            end()
        shutil.rmtree(folder)


def tls_secret(certificates: Certificates) -> dict[str, Any]:
    """What cert-manager makes of the chart's Certificate."""
    files = {"tls.crt": certificates.certificate, "tls.key": certificates.key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "argocd-server-tls", "namespace": objects.ARGOCD},
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(Path(path).read_bytes()).decode() for name, path in files.items()},
    }


@pytest.mark.parametrize("way", WAYS)
def test_the_real_cli_gets_through(helm: Helm, real: Real, way: str) -> None:
    options, native = WAYS[way]
    with real.behind(helm, {"way": way, **options}, cilium=way.startswith("gateway-")) as client:
        web = client.login("--grpc-web")
        assert web.returncode == 0, web.stderr
        assert "default" in web.stdout
        grpc = client.login()
        assert grpc.returncode == 0, grpc.stderr
        assert (FALLS_BACK not in grpc.stderr) == native, grpc.stderr


def test_the_real_cli_does_not_get_through_ciliums_filter(helm: Helm, real: Real) -> None:
    """The words of the report that this fault is known from."""
    with real.behind(helm, {"way": "gateway-terminate", **CILIUM}, cilium=True) as client:
        web = client.login("--grpc-web")
        assert web.returncode != 0
        assert "/session.SessionService/Create failed with status code 404" in web.stderr


def test_the_real_cli_does_not_get_through_a_split_by_user_agent(helm: Helm, real: Real) -> None:
    with real.behind(helm, {"way": "istio-split"}, changed=by_user_agent) as client:
        grpc = client.login()
        assert grpc.returncode == 0, grpc.stderr
        assert FALLS_BACK not in grpc.stderr
        web = client.login("--grpc-web")
        assert web.returncode != 0
        assert re.search("failed with status code (415|503)", web.stderr), web.stderr
