"""Everything that the chart can render, whatever it is rendered for."""

import functools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.chart.helm import CHART, RELEASES, Helm, helm_or_skip
from tests.chart.values import MATRIX, SECRETS

OLDEST = "1.28.0"
"""The Kubernetes version that Chart.yaml asks for."""
NEWEST = kubernetes_validate.latest_version()

ELSEWHERE = ("gateway.networking.k8s.io/", "cert-manager.io/", "monitoring.coreos.com/")
"""API groups whose schemas come with their own projects."""

each_set = pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)


@functools.cache
def validate(text: str, version: str) -> None:
    """Compare an object, as JSON, with the schema of a version; raises ValidationError."""
    kubernetes_validate.validate(json.loads(text), version, strict=True)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@each_set
def test_every_object_fits_the_schema_of_the_kubernetes_that_it_is_made_for(
    helm: Helm, values: dict[str, Any], version: str
) -> None:
    objects = helm.render(values, "--kube-version", version).objects
    own = [each for each in objects if not each["apiVersion"].startswith(ELSEWHERE)]
    assert len(own) > 4
    for each in own:
        validate(json.dumps(each), version)


def test_the_schema_of_kubernetes_does_not_let_everything_pass(helm: Helm) -> None:
    deployment = helm.render(MATRIX["server"]).one("Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="imagePullPolice"):
        validate(json.dumps(deployment), NEWEST)


@each_set
def test_every_object_has_labels_and_the_release_in_its_name(helm: Helm, values: dict[str, Any]) -> None:
    objects = helm.render(values, name="eu").objects
    seen = set()
    for each in objects:
        meta = each["metadata"]
        assert meta["labels"]["app.kubernetes.io/instance"] == "eu"
        component = "check" if meta["name"] == "eu-argotun-check" else values["mode"]
        assert meta["labels"]["app.kubernetes.io/component"] == component
        assert meta["name"].startswith("eu-argotun")
        key = (each["kind"], meta.get("namespace"), meta["name"])
        assert key not in seen
        seen.add(key)
        if each["kind"] not in {"ClusterRole", "ClusterRoleBinding"}:
            assert meta["namespace"]


@each_set
def test_lint_has_nothing_to_say(helm: Helm, values: dict[str, Any]) -> None:
    done = helm.run("lint", "--strict", str(CHART), values=values)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


@each_set
def test_two_helms_render_the_same(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.getbasetemp()
    first, second = (helm_or_skip(each.version, home).render(values) for each in RELEASES)
    assert first == second


@each_set
def test_rendering_again_gives_the_same(helm: Helm, values: dict[str, Any]) -> None:
    again = Helm(helm.version, helm.path, helm.home / "elsewhere")
    assert again.render(values) == helm.render(values)


@pytest.fixture(scope="session")
def talking_chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with its notes as a manifest: Helm prints notes only where it reaches a cluster."""
    chart = tmp_path_factory.mktemp("chart") / "argotun"
    shutil.copytree(CHART, chart)
    notes = chart / "templates" / "NOTES.txt"
    text = notes.read_text("utf-8")
    text = (
        f"""{{{{ define "notes" }}}}{text}{{{{ end }}}}{{{{ dict "notes" (include "notes" .) | toYaml }}}}"""
    )
    notes.with_name("notes.yaml").write_text(text, "utf-8")
    notes.unlink()
    return chart


OTHER_EACH_TIME = re.compile(
    r"\b(lookup|rand\w+|gen[A-Z]\w+|derivePassword|uuidv4|now|bcrypt|htpasswd|getHostByName)\b"
)
COMMENT = re.compile(r"\{\{-? ?/\*.*?\*/ ?-?\}\}", re.S)
ACTION = re.compile(r"\{\{.*?\}\}", re.S)


def test_no_template_asks_the_cluster_or_makes_a_secret() -> None:
    """Argo CD renders without a cluster, and again and again."""
    paths = [path for path in (CHART / "templates").rglob("*") if path.is_file()]
    assert len(paths) > 20
    for path in paths:
        for action in ACTION.findall(COMMENT.sub("", path.read_text("utf-8"))):
            assert not OTHER_EACH_TIME.search(action), f"{path.name}: {action}"


@each_set
def test_the_notes_can_be_written(helm: Helm, talking_chart: Path, values: dict[str, Any]) -> None:
    command = ("template", "argotun", str(talking_chart), "--show-only", "templates/notes.yaml")
    done = helm.run(*command, values=values)
    assert done.returncode == 0, done.stderr
    notes = yaml.safe_load(done.stdout)["notes"]
    assert f"argotun's {values['mode']} is installed" in notes
    assert "<no value>" not in notes
    assert not any(secret in notes for secret in SECRETS)


def test_no_name_is_too_long_for_a_service(helm: Helm) -> None:
    for each in helm.render(MATRIX["server"], name="x" * 53).all("Service"):
        assert len(each["metadata"]["name"]) <= 63


def test_names_can_be_replaced(helm: Helm) -> None:
    named = helm.render(MATRIX["server"] | {"fullnameOverride": "proxy-server"})
    assert [each["metadata"]["name"] for each in named.all("Service")] == [
        "proxy-server",
        "proxy-server-internal",
    ]
    named = helm.render(MATRIX["server"] | {"nameOverride": "tunnel"}, name="eu")
    assert named.one("Deployment", "eu-tunnel")
