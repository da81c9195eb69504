"""The image that the Dockerfile describes, in the sandbox that the chart's pods ask for."""

import hashlib
import json
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from argotun import __version__
from bench.ports import free_port
from tests.e2e.harness.waiting import until
from tests.image.container import Container
from tests.image.dockerfile import ROOT, Image, build, stages

PYTHON = ["/opt/argotun/bin/python3"]


def python(image: Image, folder: Path, code: str) -> str:
    """What Python code prints inside."""
    with Container(image, folder, ["-c", code], entrypoint=PYTHON) as container:
        assert container.wait() == 0, container.said()
        return container.said()


def test_the_entry_point_starts(image: Image, folder: Path) -> None:
    with Container(image, folder, ["--version"]) as container:
        assert container.wait() == 0, container.said()
        assert container.said().strip() == f"argotun {__version__}"


@pytest.mark.parametrize("option", ["--mode=server", "--mode=agent"])
def test_every_mode_can_be_loaded(image: Image, folder: Path, option: str) -> None:
    with Container(image, folder, [option]) as container:
        assert container.wait() == 2, container.said()
        assert "argotun: --" in container.said()


def test_it_can_export_traces(image: Image, folder: Path) -> None:
    code = "import sys; sys.path.append('/opt/argotun/app'); from argotun.observe import otlp; print('yes')"
    assert python(image, folder, code).strip() == "yes"


def test_the_process_may_do_only_what_it_needs(image: Image, folder: Path) -> None:
    code = "import os,json; print(json.dumps([os.getuid(), os.getgid(), os.getpid()]))"
    assert json.loads(python(image, folder, code)) == [65532, 65532, 1]
    status = dict(
        line.split(":\t", 1)
        for line in python(image, folder, "print(open('/proc/self/status').read())").splitlines()
        if ":\t" in line
    )
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("path", ["/", "/tmp", "/opt/argotun", "/opt/argotun/app", "/usr/lib/python3.13"])
def test_no_folder_can_be_written_to(image: Image, folder: Path, path: str) -> None:
    code = f"open({path!r} + '/written', 'w')"
    with Container(image, folder, ["-c", code], entrypoint=PYTHON) as container:
        assert container.wait() == 1
        assert re.search(r"Read-only file system|Permission denied", container.said())


def test_there_is_no_shell_and_no_package_manager(image: Image, folder: Path) -> None:
    code = """
import os, shutil
names = "sh bash dash ash busybox pip pip3 apt apt-get dpkg apk curl wget perl".split()
print([name for name in names if shutil.which(name, path="/opt/argotun/bin:/usr/bin:/bin:/usr/local/bin")])
"""
    assert python(image, folder, code).strip() == "[]"
    assert not list(image.files.rglob("pip"))
    assert not list(image.files.rglob("ensurepip"))


def test_no_file_can_raise_privileges_or_be_changed_by_others(image: Image) -> None:
    files = [path for path in image.files.rglob("*") if not path.is_symlink()]
    assert len(files) > 500
    for path in files:
        mode = path.stat().st_mode
        assert not mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH), path


def test_no_link_leads_out_of_the_image(image: Image) -> None:
    links = {path.readlink() for path in image.files.rglob("*") if path.is_symlink()}
    assert links <= {Path(name) for name in ("/usr/bin/python3", "python3", "lib")}


def test_every_module_is_compiled_before_it_starts(image: Image, folder: Path) -> None:
    code = """
import importlib.util, pathlib
missing = []
for path in pathlib.Path("/opt/argotun/app").rglob("*.py"):
    compiled = pathlib.Path(importlib.util.cache_from_source(str(path)))
    # Bits 0 and 1 of the flags: by hash, and not compared with the source (PEP 552).
    if not compiled.exists() or int.from_bytes(compiled.read_bytes()[4:8], "little") != 1:
        missing.append(str(path))
print(missing)
"""
    assert python(image, folder, code).strip() == "[]"


def test_a_second_build_makes_the_same_files(image: Image, tmp_path: Path) -> None:
    again = build(tmp_path / "again")

    def contents(files: Path) -> dict[str, bytes]:
        found = [path for path in files.rglob("*") if path.is_file() and not path.is_symlink()]
        return {str(path.relative_to(files)): hashlib.sha256(path.read_bytes()).digest() for path in found}

    assert contents(again.files) == contents(image.files)


def test_neither_tests_nor_history_are_in_the_image(image: Image) -> None:
    app = image.files / "opt" / "argotun" / "app"
    assert {path.name for path in app.iterdir()} <= {"argotun", "argotun.py", "LICENSE", "__pycache__"}


def test_an_agent_without_a_server_ends_at_sigterm(image: Image, folder: Path, tmp_path: Path) -> None:
    """PID 1 gets no signal that it has no handler for."""
    mounts = {"/token": tmp_path / "token"}
    mounts["/token"].mkdir()
    (mounts["/token"] / "token").write_text("t")
    port = free_port()
    arguments = [
        "--mode=agent",
        f"--server=ws://127.0.0.1:{free_port()}",
        "--allow-insecure-server",
        "--token-file=/token/token",
        "--sa-token-path=/token/token",
        "--insecure",
        f"--health-addr=127.0.0.1:{port}",
    ]
    with Container(image, folder, arguments, mounts=mounts) as container:
        healthy(container, port)
        assert container.terminate() == 0, container.said()


def test_a_server_ends_gracefully(image: Image, folder: Path) -> None:
    port = free_port()
    arguments = ["--mode=server", "--addr=127.0.0.1:0", f"--internal-addr=127.0.0.1:{port}", "--drain=1s"]
    env = {"ARGOTUN_CLUSTERS": '[{"id": "a", "token": "token-of-cluster-a"}]'}
    with Container(image, folder, arguments, env=env) as container:
        healthy(container, port)
        assert requests.get(f"http://127.0.0.1:{port}/tunnel/a/api", timeout=30).status_code == 502
        assert container.terminate() == 0, container.said()


def healthy(container: Container, port: int) -> None:
    def probe() -> bool:
        container.check()
        return bool(requests.get(f"http://127.0.0.1:{port}/healthz", timeout=30).ok)

    until("/healthz answers", probe)


def test_the_image_says_what_it_is() -> None:
    labels = stages((ROOT / "Dockerfile").read_text("utf-8"))[-1].labels
    for name in ("title", "description", "licenses", "version", "revision", "source"):
        assert f"org.opencontainers.image.{name}" in labels


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if not hadolint:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
