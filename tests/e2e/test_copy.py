"""kubectl cp: half a gigabyte into a pod and out of it, byte for byte."""

import hashlib
import os
from pathlib import Path

import pytest

from .harness.way import Way

pytestmark = pytest.mark.node
SIZE = 500_000_000


def digest(file: Path) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("copy") / "original"
    file.write_bytes(os.urandom(SIZE))
    return file


@pytest.mark.parametrize("websockets", ["true", "false"], ids=["websocket", "spdy"])
def test_a_file_is_the_same_after_the_way_in_and_out(
    way: Way, pod: str, original: Path, tmp_path: Path, websockets: str
) -> None:
    setting = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websockets}
    inside = way.container / "copied"
    inside.unlink(missing_ok=True)
    way.kubectl.run("cp", original, f"{pod}:copied", **setting)
    assert digest(inside) == digest(original)
    way.kubectl.run("cp", f"{pod}:copied", tmp_path / "back", **setting)
    assert digest(tmp_path / "back") == digest(original)
    inside.unlink()
    (tmp_path / "back").unlink()


def test_a_folder_is_copied_with_its_tree(way: Way, pod: str, tmp_path: Path) -> None:
    for name in ("a/one", "a/b/two", "three"):
        file = tmp_path / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    way.kubectl.run("cp", tmp_path / "tree", f"{pod}:tree")
    way.kubectl.run("cp", f"{pod}:tree", tmp_path / "back")
    assert {str(f.relative_to(tmp_path / "back")) for f in (tmp_path / "back").rglob("*") if f.is_file()} == {
        "a/one",
        "a/b/two",
        "three",
    }
