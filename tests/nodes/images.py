"""The images of the pods: argotun's by its Dockerfile and `make image`, on bases of Debian's packages.

The bases stand in for two images that only a registry has. They are kept in the cache; argotun's image is
built anew for each run.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import argotun
from tests.image.dockerfile import NETWORK, PYTHON, ROOT, stages
from tests.image.engine import Engine, qualified
from tests.nodes.programs import CACHE, Programs

SUITE = "trixie"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
LIMIT = 1800
"""Seconds for one root of Debian, or the image."""

ARGOTUN = f"argotun:{argotun.__version__}"
TOOLS = "tools:1"
"""An image with a shell, Python, tar, kubectl and Redis, for pods to test from."""


@dataclass(frozen=True)
class Base:
    """A root file system of Debian's packages: `variant` is mmdebstrap's."""

    name: str
    variant: str
    packages: tuple[str, ...]


BUILD = Base("build", "minbase", (f"python{PYTHON}", "python3-pip", "ca-certificates", "redis-server"))
RUN = Base(
    "run",
    "extract",
    (
        *("base-files", "netbase", "tzdata", "media-types", "ca-certificates", "zlib1g"),
        *("libc6", "libgcc-s1", "libstdc++6", "libssl3t64", "libexpat1", "libffi8", "liblzma5", "libbz2-1.0"),
        *("libncursesw6", "libreadline8t64", "libsqlite3-0", "libtinfo6", "libuuid1"),
        *(f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", f"python{PYTHON}-minimal"),
    ),
)
USERS = {"root": (0, "/root"), "nobody": (65534, "/nonexistent"), "nonroot": (65532, "/home/nonroot")}
"""Who is known in the image that runs, as in the one that it stands in for."""


def make(programs: Programs, folder: Path, say: Callable[[str], None]) -> list[Path]:
    """Archives of all images that the clusters need, in `folder`."""
    for base in (BUILD, RUN):
        if not archive(base).exists():
            say(f"making a root of Debian {SUITE} for the {base.name} stage (minutes, once)")
            debootstrap(base)
    engine = DebianEngine(folder / "engine")
    env = {**os.environ, **engine.environment}
    done = subprocess.run(
        ["make", "image", "ENGINE=buildah", f"IMAGE={qualified(ARGOTUN)}"], cwd=ROOT, env=env,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for name in ("pause", "coredns"):
        engine.single(name, Path(programs[name]))
    engine.add(TOOLS, Path(programs["kubectl"]))
    archives = []
    for name in ("pause:1", "coredns:1", TOOLS, ARGOTUN):
        path = folder / f"{name.partition(':')[0]}.tar"
        engine.run("push", "--quiet", qualified(name), f"docker-archive:{path}:{qualified(name)}")
        archives.append(path)
    return archives


class DebianEngine(Engine):
    """buildah, whose images of the Dockerfile's base names are made of the roots in the cache."""

    def single(self, name: str, program: Path) -> None:
        """An image of one program."""
        made = self.run("from", "scratch")
        self.run("copy", "--quiet", made, str(program), f"/{name}")
        self.run("config", "--entrypoint", f'["/{name}"]', made)
        self.run("commit", "--quiet", "--rm", made, qualified(f"{name}:1"))

    def add(self, image: str, program: Path) -> None:
        """Put one more program into an image."""
        made = self.run("from", "--pull-never", qualified(image))
        self.run("copy", "--quiet", made, str(program), "/usr/local/bin/")
        self.run("commit", "--quiet", "--rm", made, qualified(image))

    def _make_bases(self) -> None:
        first, last = stages((ROOT / "Dockerfile").read_text("utf-8"))
        network = {name: value for name, value in os.environ.items() if NETWORK.fullmatch(name)}
        self._base(BUILD, {}, TOOLS)
        self._base(
            BUILD, network, first.base, tuple(filter(os.path.exists, ["/etc/pip.conf", "/etc/ssl/certs"]))
        )
        self._base(RUN, {"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}, last.base)

    def _base(self, base: Base, env: dict[str, str], name: str, more: tuple[str, ...] = ()) -> None:
        """An image of one root, with this machine's own files of the paths `more`."""
        made = self.run("from", "scratch")
        self.run("add", "--quiet", made, str(archive(base)), "/")
        for path in more:
            self.run("copy", "--quiet", made, path, path)
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        for key, value in {"PATH": path, "LANG": "C.UTF-8", **env}.items():
            self.run("config", "--env", f"{key}={value}", made)
        self.run("commit", "--quiet", "--rm", made, qualified(name))


def archive(base: Base) -> Path:
    """Where a root is kept."""
    return CACHE / f"{base.name}-{hashlib.sha256(repr(base).encode()).hexdigest()[:12]}.tar"


def debootstrap(base: Base) -> None:
    """Make a root from Debian's packages, in the cache."""
    target = archive(base)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        raw = Path(folder, "raw.tar")
        words = ["mmdebstrap", "--quiet", "--mode=root", f"--variant={base.variant}", f"--keyring={KEYS}"]
        words += ["--aptopt=APT::Install-Recommends false", f"--include={','.join(base.packages)}"]
        subprocess.run([*words, SUITE, str(raw), mirror()], check=True, timeout=LIMIT)
        root = Path(folder, "root")
        root.mkdir()
        subprocess.run(["tar", "-xf", raw, "-C", root], check=True, timeout=LIMIT)
        (strip if base is RUN else add_names)(root)
        packed = Path(folder, "packed.tar")
        subprocess.run(["tar", "--numeric-owner", "-cf", packed, "-C", root, "."], check=True, timeout=LIMIT)
        packed.rename(target)


def mirror() -> str:
    """Where this machine's apt has Debian from."""
    for path in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
        text = path.read_text() if path.exists() else ""
        if found := re.search(r"^(?:URIs:|deb(?: \[.*?\])?) *(\S+)", text, re.M):
            return found[1]
    raise AssertionError("apt has no source here")


def add_names(root: Path) -> None:
    """Have Python also where the official image has it."""
    for name in (f"python{PYTHON}", "python3"):
        (root / "usr/local/bin" / name).symlink_to(f"/usr/bin/python{PYTHON}")


def strip(root: Path) -> None:
    """Leave Python as the only program, and users, CAs and links as package scripts would have made them."""
    certificates = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    target = root / "etc/ssl/certs/ca-certificates.crt"
    target.write_bytes(b"".join(path.read_bytes() for path in certificates))
    known = {"passwd": "{0}:x:{1}:{1}:{0}:{2}:/sbin/nologin\n", "group": "{0}:x:{1}:\n"}
    for name, line in known.items():
        text = "".join(line.format(user, number, home) for user, (number, home) in USERS.items())
        (root / "etc" / name).write_text(text)
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "home/nonroot").mkdir(parents=True)
    os.chown(root / "home/nonroot", 65532, 65532)
    for folder in ("usr/bin", "usr/sbin"):
        for path in (root / folder).iterdir():
            if path.name != f"python{PYTHON}":
                path.unlink()
    (root / "usr/bin/python3").symlink_to(f"python{PYTHON}")
    for name in ("bin", "sbin", "lib", "lib64"):
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    unused = ("var/lib/apt", "var/cache/apt", "var/lib/dpkg", "etc/apt", "usr/share/doc", "usr/share/man")
    for name in (*unused, "usr/share/locale", "usr/share/perl5"):
        shutil.rmtree(root / name, ignore_errors=True)
