"""The Dockerfile as a list of stages, and a build of it without a container engine.

Stage `build` runs its RUN lines with bubblewrap, where Python 3.13 stands as in its official image; the
last stage is what is copied out of it. Base images cannot be had here: this machine's libraries, and the
standard library of its own Python 3.13, stand in for what they hold.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "3.13"
LIMIT = 600
"""Seconds for one RUN line; the longest one installs packages."""

COMMANDS = ("sh", "ln", "rm", "mkdir", "cp", "chmod", "cat", "env")
"""What the build stage may call, beside Python."""

NETWORK = re.compile(r"PIP_(CERT|INDEX_URL|EXTRA_INDEX_URL|DEFAULT_TIMEOUT)|(HTTPS?|NO)_PROXY", re.I)
"""Variables of this machine that a build needs to reach a package index."""


class MissingError(Exception):
    """What this machine lacks to build the image."""


@dataclass
class Stage:
    """One FROM and what follows; `env`, `user`, `entrypoint` and `labels` are of the image that it makes."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    exposed: list[str] = field(default_factory=list)
    user: str = ""
    entrypoint: list[str] = field(default_factory=list)


def instructions(text: str) -> list[tuple[str, str]]:
    """Name and arguments of each instruction, with continued lines joined and comments left out."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.M)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    pairs = [line.split(None, 1) for line in lines if line.strip()]
    return [(name.upper(), rest) for name, rest in pairs]


def stages(text: str) -> list[Stage]:
    """The stages of a Dockerfile; AssertionError for an instruction that nobody here understands."""
    found: list[Stage] = []
    for name, rest in instructions(text):
        if name == "ARG":
            continue
        if name == "FROM":
            words = [word for word in rest.split() if not word.startswith("--")]
            found.append(Stage(words[0], words[2] if len(words) > 2 else ""))
            continue
        stage = found[-1]
        if name in ("RUN", "COPY"):
            stage.steps.append((name, rest))
        elif name in ("ENV", "LABEL"):
            pairs = dict(word.split("=", 1) for word in shlex.split(rest))
            (stage.env if name == "ENV" else stage.labels).update(pairs)
        elif name == "EXPOSE":
            stage.exposed += rest.split()
        elif name == "USER":
            stage.user = rest.strip()
        elif name == "ENTRYPOINT":
            stage.entrypoint = json.loads(rest)
        else:
            raise AssertionError(f"the Dockerfile says {name}, which these tests do not know")
    return found


@dataclass(frozen=True)
class Image:
    """A built image: `files` holds what the last stage has beside its base, `python` stands in for that."""

    files: Path
    python: Path
    stage: Stage


def build(folder: Path) -> Image:
    """Build the Dockerfile in `folder`; raises MissingError, or AssertionError where a step fails."""
    need_sandbox()
    python = python_prefix()
    first, last = stages((ROOT / "Dockerfile").read_text("utf-8"))
    builder = Builder(folder / "build", python)
    for name, rest in first.steps:
        if name == "RUN":
            builder.run(rest)
        else:
            builder.copy(rest)
    files = folder / "image"
    for name, rest in last.steps:
        source, path, destination = rest.split()
        assert name == "COPY", "the last stage has no shell to run anything with"
        assert source == f"--from={first.name}"
        shutil.copytree(builder.root / path.lstrip("/"), files / destination.lstrip("/"), symlinks=True)
    return Image(files, python, last)


def need_sandbox() -> None:
    """Raise MissingError where bubblewrap is not installed or may not make namespaces."""
    if not shutil.which("bwrap"):
        raise MissingError("bubblewrap (bwrap) is not installed")
    tried = ["bwrap", "--ro-bind", "/", "/", "--unshare-user", "--unshare-pid", "--proc", "/proc", "true"]
    done = subprocess.run(tried, capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode:
        raise MissingError(f"bubblewrap does not work here: {done.stderr.strip()}")


def python_prefix() -> Path:
    """The folder in which a Python 3.13 is installed; raises MissingError."""
    candidates = [sys.executable, shutil.which(f"python{PYTHON}")]
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False).stdout.strip()
        candidates += sorted(map(str, Path(root, "versions").glob(f"{PYTHON}.*/bin/python{PYTHON}")))
    ask = f"import sys; print(sys.base_prefix if '%d.%d' % sys.version_info[:2] == '{PYTHON}' else '')"
    for each in filter(None, candidates):
        done = subprocess.run([each, "-c", ask], capture_output=True, text=True, check=False)
        prefix = Path(done.stdout.strip() or "/")
        # One of the distribution's own is spread over /usr and cannot be moved.
        if done.returncode == 0 and prefix not in (Path("/"), Path("/usr")):
            return prefix
    raise MissingError(f"no Python {PYTHON} with a folder of its own, as pyenv installs it")


class Builder:
    """The file system of the build stage."""

    def __init__(self, root: Path, python: Path) -> None:
        self.root = root
        self._python = python
        for name in ("usr/bin", "opt", "tmp"):
            (root / name).mkdir(parents=True)
        for name in COMMANDS:
            shutil.copy(shutil.which(name) or "", root / "usr" / "bin" / name)

    def run(self, command: str) -> None:
        """A RUN line, as root; AssertionError with what it said when it fails."""
        bind = [
            word
            for name in ("usr/bin", "opt", "tmp")
            for word in ("--bind", str(self.root / name), f"/{name}")
        ]
        env = {name: value for name, value in os.environ.items() if NETWORK.fullmatch(name)}
        env |= {"PATH": "/usr/local/bin:/usr/bin", "HOME": "/tmp", "LD_LIBRARY_PATH": "/usr/local/lib"}
        argv = [
            "bwrap",
            *system_libraries(),
            *("--ro-bind", str(self._python), "/usr/local"),
            # Called by another name it looks where it was built to stand, as the official one does.
            *("--ro-bind", str(self._python), str(self._python)),
            *("--ro-bind", "/etc", "/etc"),
            *("--symlink", "usr/bin", "/bin"),
            *bind,
            *("--proc", "/proc", "--dev", "/dev", "--die-with-parent", "--clearenv"),
            *environment(env),
            *("/bin/sh", "-c", command),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert done.returncode == 0, f"RUN {command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"

    def copy(self, arguments: str) -> None:
        """A COPY line with sources of this repository, which .dockerignore must let through."""
        *sources, destination = arguments.split()
        target = self.root / destination.lstrip("/")
        let_through = (ROOT / ".dockerignore").read_text("utf-8").split()
        for name in sources:
            assert f"!{name}" in let_through, f".dockerignore keeps {name} out"
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            elif destination.endswith("/"):
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
            else:
                shutil.copy(source, target)


def system_libraries() -> list[str]:
    """bwrap's arguments for this machine's C library and what Python is linked with."""
    binds = []
    for name in ("lib", "lib64"):
        binds += ["--ro-bind-try", f"/usr/{name}", f"/usr/{name}"]
        if Path("/", name).is_symlink():
            binds += ["--symlink", f"usr/{name}", f"/{name}"]
        else:
            binds += ["--ro-bind-try", f"/{name}", f"/{name}"]
    return binds


def environment(env: Mapping[str, str]) -> list[str]:
    """bwrap's arguments for these variables."""
    return [word for name, value in env.items() for word in ("--setenv", name, value)]
