"""CRDs of the projects that the chart has objects for, from the Go modules in which they are published."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.harness.cluster import Cluster

LIMIT = 300
"""Seconds for one download."""


@dataclass(frozen=True)
class Source:
    """Files of a Go module that hold CRDs."""

    module: str
    pattern: str


SOURCES = (
    Source("sigs.k8s.io/gateway-api@v1.5.0", "config/crd/standard/*_*s.yaml"),
    Source("istio.io/api@v1.31.1", "kubernetes/customresourcedefinitions.gen.yaml"),
    Source("github.com/cert-manager/cert-manager@v1.21.2", "deploy/crds/*.yaml"),
    Source(
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "example/prometheus-operator-crd/*.yaml",
    ),
    Source(
        "github.com/traefik/traefik/v3@v3.7.13",
        "docs/content/reference/dynamic-configuration/traefik.io_*.yaml",
    ),
    Source("github.com/projectcontour/contour@v1.33.8", "examples/contour/01-crds.yaml"),
    Source(
        "github.com/cilium/cilium@v1.20.2",
        "pkg/k8s/apis/cilium.io/client/crds/v2alpha1/ciliumgatewayclassconfigs.yaml",
    ),
    Source("github.com/argoproj/argo-cd/v3@v3.5.6", "manifests/crds/application*-crd.yaml"),
    Source("github.com/cert-manager/trust-manager@v0.25.0", "deploy/crds/trust.cert-manager.io_bundles.yaml"),
    Source(
        "github.com/external-secrets/external-secrets@v1.3.2",
        "config/crds/bases/external-secrets.io_externalsecrets.yaml",
    ),
)


def install(cluster: Cluster) -> None:
    """Make a cluster know them all; raises MissingError."""
    # Server-side, because some are larger than the annotation that the other way writes.
    paths = [word for path in files() for word in ("-f", path)]
    cluster.kubectl.run("apply", "--server-side", *paths, seconds=300)
    cluster.kubectl.run("wait", "--for=condition=Established", "crds", "--all", "--timeout=120s", seconds=150)


class MissingError(Exception):
    """Why the CRDs cannot be had."""


def files() -> Iterator[Path]:
    """The files of all sources; raises MissingError."""
    go = shutil.which("go")
    if not go:
        raise MissingError("the CRDs come as Go modules, and there is no Go")
    for source in SOURCES:
        command = [go, "mod", "download", "-json", source.module]
        env = {**os.environ, "GOFLAGS": "-mod=mod"}
        done = subprocess.run(
            command, cwd="/", env=env, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        if done.returncode:
            raise MissingError(f"{' '.join(command)} failed: {done.stdout[-200:]} {done.stderr[-200:]}")
        found = sorted(Path(json.loads(done.stdout)["Dir"]).glob(source.pattern))
        assert found, f"{source.module} has no {source.pattern}"
        yield from found
