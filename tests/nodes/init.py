"""The first process of a node: it mounts what a node has of its own, runs its programs, and runs them again.

Runs inside new namespaces, with nothing but Python's own modules. Its argument is a file that node.py writes.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

AGAIN = 1.0
"""Seconds until a program that ended is started again."""


def main(spec: dict[str, Any]) -> None:
    """Make this the node that `spec` describes; does not return."""
    folder = Path(spec["folder"])
    socket.sethostname(spec["name"])
    mount_all(folder, spec)
    for name, value in spec["sysctls"].items():
        Path("/proc/sys", name).write_text(value)
    due: dict[str, float] = dict.fromkeys(spec["programs"], 0.0)
    running: dict[int, str] = {}
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        for name in [name for name, at in due.items() if at <= time.monotonic()]:
            del due[name]
            running[start(spec["programs"][name], folder / f"{name}.log", spec["environment"])] = name
        # Every orphan of the node ends up here.
        while (ended := reap()) is not None:
            if name := running.pop(ended, ""):
                due[name] = time.monotonic() + AGAIN
        time.sleep(0.1)


def start(words: list[str], log: Path, environment: dict[str, str]) -> int:
    """Start a program whose output goes to `log`; its pid."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(words[0], words, environment, file_actions=streams)


def reap() -> int | None:
    """The pid of a child that is over, if there is one."""
    try:
        pid, _ = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return pid or None


def mount_all(folder: Path, spec: dict[str, Any]) -> None:
    """The machine's file system, with /sys, the cgroups, /run and /var of the node's own."""
    mount("--make-rprivate", "/")
    mount("--make-rshared", "/")
    mount("-t", "sysfs", "sysfs", "/sys")
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/sys/fs/cgroup")
    for path, options in spec["cgroups"]:
        Path(path).mkdir()
        mount("-t", "cgroup", "-o", options, "cgroup", path)
    for name in ("log", "tmp", "lib/kubelet", "lib/containerd", "lib/cni", "lib/etcd"):
        (folder / "var" / name).mkdir(parents=True)
    (folder / "var" / "run").symlink_to("/run")
    mount("--bind", str(folder / "var"), "/var")
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for name in ("netns", "lock"):
        Path("/run", name).mkdir()
    for path, text in spec["files"].items():
        own = folder / path.strip("/").replace("/", "-")
        own.write_text(text)
        mount("--bind", str(own), path)


def mount(*arguments: str) -> None:
    """mount(8), with an error that ends this process."""
    subprocess.run([shutil.which("mount") or "mount", *arguments], check=True)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
