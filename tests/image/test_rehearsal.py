"""The release workflow, rehearsed: every script of its own jobs, with a real Helm against a real registry.

What runs elsewhere: tests and kind before it, and docker's action, in whose place nothing builds; the guide's
test builds and pushes the image. `gh` and `cosign`, which need GitHub, only write down what they are asked.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import argotun
from tests.chart.helm import RELEASES, MissingHelm, binary
from tests.image.clone import copy_clone
from tests.image.dockerfile import NETWORK, MissingError
from tests.image.registry import Registry
from tests.image.workflow import FailedError, Runner, scripts

VERSION = argotun.__version__
DIGEST = "sha256:" + "0" * 64
WRITES_DOWN = """\
#!/bin/sh
printf '%s\\n' "{name} $*" >> "{folder}/asked"
case "$*" in *-stdin*) cat > /dev/null ;; esac
"""
PYTHON = f"""\
#!/bin/sh
exec {sys.executable} "$@"
"""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    try:
        registry = Registry(tmp_path / "registry")
    except MissingError as why:
        pytest.skip(str(why))
    yield registry
    registry.close()


@pytest.fixture
def runner(registry: Registry, tmp_path: Path) -> Runner:
    """A runner whose clone has a changelog as at the tag."""
    for program in ("git", "make"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    programs = tmp_path / "bin"
    programs.mkdir()
    try:
        (programs / "helm").symlink_to(binary(RELEASES[-1].version))
    except MissingHelm as why:
        pytest.skip(str(why))
    for name in ("gh", "cosign"):
        write_program(programs / name, WRITES_DOWN.format(name=name, folder=tmp_path))
    clone = copy_clone(tmp_path / "clone")
    changelog = clone / "CHANGELOG.md"
    head = f"## [Unreleased]\n\n## [{VERSION}] - 2026-01-01\n"
    changelog.write_text(changelog.read_text("utf-8").replace("## [Unreleased]\n", head), "utf-8")
    commit(clone)
    # An environment that has all that `make wheel` would install.
    venv = tmp_path / "venv"
    write_program(venv / "bin" / "python", PYTHON)
    (venv / ".run").touch()
    env = {name: value for name, value in os.environ.items() if NETWORK.fullmatch(name)}
    env |= registry.environment | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "VENV": str(venv),
        "REGISTRY": registry.host,
        "GITHUB_REF_NAME": f"v{VERSION}",
        "GITHUB_ACTOR": "somebody",
    }
    context = {
        "github.repository": "Somebody/argotun",
        "github.repository_owner": "Somebody",
        "github.token": "token",
        "secrets.GITHUB_TOKEN": "token",
        "inputs.version": VERSION,
    }
    return Runner(clone, context, env, {"build": {"digest": DIGEST}})


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def commit(clone: Path) -> None:
    """Make a commit of it, whose time the image gets."""
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    for command in (["init"], ["add", "."], [*who, "commit", "--no-verify", "--message=a"]):
        subprocess.run(["git", *command], cwd=clone, check=True, capture_output=True, timeout=60)


def test_every_script_of_a_release_runs_from_the_tag_to_its_notes(
    runner: Runner, registry: Registry, tmp_path: Path
) -> None:
    version = runner.run("release.yaml", "version")["version"]
    assert version == VERSION
    image = runner.run("image.yaml", "image")
    assert image == {"digest": DIGEST}
    runner.run("chart.yaml", "chart")
    needed = {"needs.version.outputs.version": version, "needs.image.outputs.digest": image["digest"]}
    runner.run("release.yaml", "release", **needed)
    assert runner.ran == [
        *scripts("release.yaml")[:1],
        *scripts("image.yaml"),
        *scripts("chart.yaml"),
        *scripts("release.yaml")[1:],
    ]

    charts = f"{registry.host}/somebody/charts/argotun"
    pushed = registry.digest(f"somebody/charts/argotun:{VERSION}")
    asked = (tmp_path / "asked").read_text().splitlines()
    assert f"cosign sign --yes --recursive {registry.host}/somebody/argotun@{DIGEST}" in asked
    assert f"cosign sign --yes {charts}@{pushed}" in asked
    (made,) = (line for line in asked if line.startswith("gh release create"))
    wheel = f"dist/argotun-{VERSION}-py3-none-any.whl"
    assert made.split()[-2:] == [f"dist/argotun-{VERSION}.tgz", wheel]
    assert (runner.clone / wheel).is_file()
    notes = (runner.clone / "notes.md").read_text("utf-8")
    assert DIGEST in notes
    assert "### Added" in notes
    assert "## [" not in notes


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("argotun/__init__.py", f'__version__ = "{VERSION}"', '__version__ = "9.9.9"'),
        ("chart/Chart.yaml", f"version: {VERSION}", "version: 9.9.9"),
        ("chart/Chart.yaml", f'appVersion: "{VERSION}"', 'appVersion: "9.9.9"'),
        ("CHANGELOG.md", f"## [{VERSION}]", "## [9.9.9]"),
    ],
)
def test_a_tag_of_another_version_is_refused(runner: Runner, name: str, old: str, new: str) -> None:
    path = runner.clone / name
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(FailedError):
        runner.run("release.yaml", "version")


def test_a_chart_that_the_registry_does_not_take_is_not_signed(runner: Runner, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "full", read_only=True)
    runner.environment |= registry.environment | {"REGISTRY": registry.host}
    try:
        with pytest.raises(FailedError, match="chart-push"):
            runner.run("chart.yaml", "chart")
    finally:
        registry.close()
    assert "cosign sign" not in (tmp_path / "asked").read_text()


def test_the_chart_of_a_release_has_its_image_and_says_its_version(
    runner: Runner, registry: Registry
) -> None:
    runner.run("chart.yaml", "chart")
    helm = ["helm", "show", "all", f"oci://{registry.host}/somebody/charts/argotun:{VERSION}"]
    done = subprocess.run(
        helm, env=runner.environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert f"repository: {registry.host}/somebody/argotun\n" in done.stdout
    assert f"appVersion: {VERSION}\n" in done.stdout.replace('"', "")
