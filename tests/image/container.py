"""A container of the built image: read-only root, uid 65532, no capability, no shell, PID 1."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.image.dockerfile import PYTHON, Image, environment

HOSTS = "127.0.0.1 localhost\n"


class Container:
    """A process of the image with `arguments`, its output in `folder`/log.

    `mounts` are folders by the path where the container has them, read-only; `hosts` are more lines of its
    /etc/hosts; `entrypoint` replaces the image's own.
    """

    def __init__(
        self,
        image: Image,
        folder: Path,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str] = {},
        mounts: Mapping[str, Path] = {},
        hosts: str = "",
        entrypoint: Sequence[str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        (folder / "hosts").write_text(HOSTS + hosts)
        told, telling = os.pipe()
        argv = ["bwrap", *root(image, folder / "hosts", mounts), "--info-fd", str(telling), "--clearenv"]
        argv += environment({"PATH": "/usr/bin", **image.stage.env, **env})
        # Where the stand-in for the image's own Python keeps its shared library.
        argv += environment({"LD_LIBRARY_PATH": "/usr/local/lib"})
        argv += [*(image.stage.entrypoint if entrypoint is None else entrypoint), *arguments]
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(telling,)
            )
        os.close(telling)
        self.pid = child_pid(told)

    def __enter__(self) -> "Container":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def said(self) -> str:
        """All that it wrote."""
        return self.log.read_text(errors="replace")

    def check(self) -> None:
        """AssertionError with the log's end when it is over."""
        if (code := self._popen.poll()) is not None:
            raise AssertionError(f"{self.log} ended with {code}:\n{self.said()[-2000:]}")

    def wait(self, seconds: float = 60) -> int:
        """Its exit code, once it ended by itself."""
        return self._popen.wait(seconds)

    def terminate(self, seconds: float = 60) -> int:
        """SIGTERM to its process, as the kubelet does; its exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait(seconds)

    def kill(self) -> None:
        """End it at once; with the sandbox everything in it ends."""
        if self._popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._popen.kill()
        self._popen.wait()


def child_pid(told: int) -> int:
    """The process in the sandbox as this side counts it, from what bwrap tells; 0 where it says nothing."""
    text = b""
    while not text.rstrip().endswith(b"}") and (more := os.read(told, 4096)):
        text += more
    os.close(told)
    return int(json.loads(text)["child-pid"]) if text else 0


def root(image: Image, hosts: Path, mounts: Mapping[str, Path]) -> list[str]:
    """bwrap's arguments for the file system and the identity that the chart's pod asks for."""
    uid, _, gid = image.stage.user.partition(":")
    library = image.python / "lib"
    binds = [("/etc/ssl", "/etc/ssl"), (str(hosts), "/etc/hosts")]
    # The C library and OpenSSL of this machine; the folder of programs is not among them.
    binds += [(os.path.realpath(folder), folder) for folder in ("/lib", "/lib64", "/usr/lib/ssl")]
    binds += [(str(each), f"/usr/local/lib/{each.name}") for each in library.glob("libpython*")]
    binds += [
        (str(image.python / "bin" / f"python{PYTHON}"), f"/usr/bin/python{PYTHON}"),
        (str(library / f"python{PYTHON}"), f"/usr/lib/python{PYTHON}"),
    ]
    for each in image.files.iterdir():
        binds += [(str(inner), f"/{each.name}/{inner.name}") for inner in each.iterdir()]
    binds += [(str(folder), path) for path, folder in mounts.items()]
    return [
        *(word for outside, inside in binds for word in ("--ro-bind-try", outside, inside)),
        *("--symlink", f"python{PYTHON}", "/usr/bin/python3"),
        *("--proc", "/proc", "--dev", "/dev", "--dir", "/tmp", "--remount-ro", "/", "--chdir", "/"),
        *("--unshare-user", "--uid", uid, "--gid", gid, "--cap-drop", "ALL"),
        *("--unshare-pid", "--as-pid-1", "--unshare-ipc", "--new-session", "--die-with-parent"),
    ]
