"""The chart as it is published: what is in the package, for which releases it is."""

import re
import tarfile
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

import argotun
from tests.chart.helm import CHART, Helm, Refused
from tests.chart.values import MATRIX, SERVER

META = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))


@pytest.fixture(scope="module")
def package(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive that `helm package` makes."""
    folder = tmp_path_factory.mktemp("package")
    done = helm.run("package", str(CHART), "--destination", str(folder))
    assert done.returncode == 0, done.stderr
    return folder / f"argotun-{META['version']}.tgz"


def test_the_package_has_its_files_and_no_others(package: Path) -> None:
    with tarfile.open(package) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    there = {str(path.relative_to(CHART)) for path in CHART.rglob("*") if path.is_file()}
    there = {name for name in there if not name.startswith("ci/")}
    assert names - {".helmignore"} == there - {".helmignore"}
    assert {"values.schema.json", "files/formats.yaml", "templates/NOTES.txt", "README.md"} <= names


@pytest.mark.parametrize("values", [None, *sorted((CHART / "ci").iterdir())], ids=str)
def test_lint_finds_nothing(helm: Helm, values: Path | None) -> None:
    more = ("--values", str(values)) if values else ()
    done = helm.run("lint", "--strict", str(CHART), *more)
    assert (done.returncode, done.stdout.count("[")) == (0, 0), done.stdout + done.stderr
    # In lint Helm passes over a refusal, with a line that looks like one.
    assert "cannot be used" not in done.stdout + done.stderr
    if values:
        assert helm.render(yaml.safe_load(values.read_text("utf-8"))).objects


def test_the_chart_says_what_a_catalogue_of_charts_shows() -> None:
    assert META["icon"].startswith("data:image/svg+xml;base64,")
    assert all(each["name"] for each in META["maintainers"])
    assert META["annotations"]["artifacthub.io/license"] == "Apache-2.0"
    assert META["annotations"].keys() >= {"artifacthub.io/category", "artifacthub.io/operator"}


@pytest.mark.parametrize("name", ["server-monitored", "agent-read-only"])
def test_the_package_renders_the_same_as_the_folder(helm: Helm, package: Path, name: str) -> None:
    assert helm.render(MATRIX[name], chart=package) == helm.render(MATRIX[name])


def test_the_chart_installs_its_own_release(helm: Helm) -> None:
    assert META["appVersion"] == argotun.__version__
    assert helm.render(SERVER).container["image"].endswith(f":{argotun.__version__}")


def test_a_kubernetes_that_is_too_old_is_refused(helm: Helm) -> None:
    assert helm.render(SERVER, "--kube-version", "1.28.0").objects
    assert helm.render(SERVER, "--kube-version", "v1.28.3-gke.100").objects
    with pytest.raises(Refused, match=r"1\.27"):
        helm.render(SERVER, "--kube-version", "1.27.9")


def test_the_readme_shows_values_that_are_taken(helm: Helm) -> None:
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", (CHART / "README.md").read_text("utf-8"), re.M)
    shown = [yaml.safe_load(textwrap.dedent(each)) for each in blocks if "mode:" in each]
    assert [each["mode"] for each in shown] == ["server", "server", "agent"]
    for each in shown:
        assert helm.render(each).objects


# The values of the two charts before this one, as their documents used them.
TLS_SERVER = {"enabled": True, "certSecret": "proxy-server-tls", "clientCASecret": "proxy-ca-keypair"}
TLS_AGENT = {"serverCASecret": "proxy-server-ca", "clientCertSecret": "proxy-client-tls"}
SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
BEFORE: dict[str, dict[str, Any]] = {
    "server": {
        "clusters": [{"id": "customer-a", "token": "x" * 16, "targetAddr": "kubernetes.default.svc:443"}],
        "tls": TLS_SERVER,
        "argocd": {
            "enabled": True,
            "namespace": "argocd",
            "caData": "Yw==",
            "clientCertData": "Yw==",
            "clientKeyData": "aw==",
        },
        "pdb": {"enabled": True, "minAvailable": 0},
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "topologySpreadConstraints": [SPREAD | {"labelSelector": {"matchLabels": {}}}],
        "networkPolicy": {"enabled": True, "extraEgress": []},
        "replicas": 1,
        "logLevel": "info",
    },
    "agent": {
        "serverURL": "wss://proxy.management.example.com/connect",
        "token": "x",
        "targetAddr": "kubernetes.default.svc:443",
        "saTokenPath": "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "insecure": False,
        "maxRetryInterval": "60s",
        "healthPort": 8081,
        "tls": TLS_AGENT,
        "rbac": {
            "create": True,
            "clusterWide": True,
            "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch", "create"]}],
        },
        "networkPolicy": {"proxyServerCIDR": "192.0.2.1/32", "ingressFrom": [], "extraEgress": []},
        "pdb": {"enabled": True, "minAvailable": 0},
    },
}


@pytest.mark.parametrize("mode", BEFORE)
def test_the_values_of_before_are_taken(helm: Helm, mode: str) -> None:
    rendered = helm.render({"mode": mode} | BEFORE[mode])
    assert rendered.one("PodDisruptionBudget")["spec"]["minAvailable"] == 0
    for each in rendered.pod.get("topologySpreadConstraints", []):
        assert each["labelSelector"]["matchLabels"]
