"""buildah, with stand-ins for the Dockerfile's base images: they are on registries that nobody here can ask.

The build stage's base has this machine's Python 3.13, its C library and the commands that the stage calls;
the last stage's base is empty, and the Python that it would bring is mounted by whoever runs the image.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.image.dockerfile import COMMANDS, NETWORK, PYTHON, ROOT, MissingError, python_prefix, stages

LIMIT = 300
"""Seconds for one run of buildah."""

LEFT_OUT = ("test", "idlelib", "tkinter", "config-*", "__pycache__", "*.a")


class Engine:
    """buildah with a storage of its own, which has the base images of the Dockerfile."""

    def __init__(self, folder: Path) -> None:
        """Raises MissingError where it is not installed, or may not work here."""
        if not shutil.which("buildah"):
            raise MissingError("buildah is not installed (Debian: buildah)")
        folder.mkdir(parents=True)
        settings = folder / "storage.conf"
        places = f'runroot = "{folder / "run"}"\ngraphroot = "{folder / "storage"}"\n'
        settings.write_text(f'[storage]\ndriver = "overlay"\n{places}')
        names = folder / "registries.conf"
        names.write_text('unqualified-search-registries = ["docker.io"]\n')
        self.environment = {
            "CONTAINERS_STORAGE_CONF": str(settings),
            "CONTAINERS_REGISTRIES_CONF": str(names),
            # What needs no rights that a container of CI does not have.
            "BUILDAH_ISOLATION": "chroot",
        }
        self._folder = folder
        self._make_bases()

    def run(self, *arguments: str) -> str:
        """What buildah prints; AssertionError with what it said where it fails."""
        env = {**os.environ, **self.environment}
        done = subprocess.run(
            ["buildah", *arguments], env=env, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert done.returncode == 0, f"buildah {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def _make_bases(self) -> None:
        first, last = stages((ROOT / "Dockerfile").read_text("utf-8"))
        try:
            empty = self.run("from", "scratch")
        except AssertionError as why:
            raise MissingError(f"buildah does not work here: {why}") from None
        files = self._folder / "base"
        build_files(files, python_prefix())
        full = self.run("from", "scratch")
        self.run("copy", "--quiet", full, str(files), "/")
        shutil.rmtree(files)
        variables = {name: value for name, value in os.environ.items() if NETWORK.fullmatch(name)}
        variables |= {"PATH": "/usr/local/bin:/usr/bin", "LD_LIBRARY_PATH": "/usr/local/lib"}
        for name, value in variables.items():
            self.run("config", "--env", f"{name}={value}", full)
        self.run("commit", "--quiet", "--rm", full, qualified(first.base))
        self.run("commit", "--quiet", "--rm", empty, qualified(last.base))


def qualified(name: str) -> str:
    """The name of an image with its registry, as engines complete it."""
    return name if "/" in name else f"docker.io/library/{name}"


def build_files(root: Path, python: Path) -> None:
    """Write what the build stage needs of its base image."""
    shutil.copytree(python, root / "usr" / "local", symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in ("usr/bin", "tmp", "opt", "etc", "root"):
        (root / name).mkdir(parents=True, exist_ok=True)
    programs = [Path(shutil.which(name) or "") for name in COMMANDS]
    for path in programs:
        shutil.copy(path, root / "usr" / "bin")
    (root / "bin").symlink_to("usr/bin")
    # Called by another name it looks where it was built to stand, as the official one does.
    built = root / python.relative_to("/")
    built.parent.mkdir(parents=True, exist_ok=True)
    built.symlink_to("/usr/local")
    modules = (python / "lib" / f"python{PYTHON}" / "lib-dynload").glob("*.so")
    for library in libraries([*programs, python / "bin" / f"python{PYTHON}", *modules]):
        target = root / library.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    shutil.copytree("/etc/ssl", root / "etc" / "ssl", ignore=shutil.ignore_patterns("private"))
    if Path("/etc/pip.conf").exists():
        shutil.copy("/etc/pip.conf", root / "etc")


def libraries(programs: list[Path]) -> set[Path]:
    """The shared libraries that they are linked with, by the paths where they are looked for."""
    done = subprocess.run(["ldd", *programs], capture_output=True, text=True, timeout=LIMIT, check=False)
    return {Path(each) for each in re.findall(r"(/\S+\.so\S*) \(0x", done.stdout)}
