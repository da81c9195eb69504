"""kubectl as a user runs it: a kubeconfig, a home of its own, no proxies from the environment."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from .http import Endpoint
from .processes import die_with_parent


class Kubectl:
    """kubectl against one endpoint, with one namespace as its default."""

    def __init__(self, binary: Path, folder: Path, endpoint: Endpoint, namespace: str = "default") -> None:
        self._binary = binary
        self._folder = folder
        folder.mkdir()
        (folder / "config").write_text(json.dumps(kubeconfig(endpoint, namespace)))
        self.kubeconfig = folder / "config"

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a run."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._folder),
            "KUBECONFIG": str(self._folder / "config"),
            **more,
        }

    def run(
        self, *args: str | Path, stdin: bytes | object = b"", code: int = 0, seconds: float = 60, **env: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run to the end; AssertionError with what kubectl said when its exit code is another one."""
        if not isinstance(stdin, bytes):
            stdin = json.dumps(stdin).encode()
        done = subprocess.run(
            [self._binary, *args],
            input=stdin,
            capture_output=True,
            timeout=seconds,
            env=self.environment(**env),
            cwd=self._folder,
            check=False,
        )
        said = f"kubectl {' '.join(map(str, args))}: exit code {done.returncode}, not {code}"
        assert done.returncode == code, f"{said}\n{done.stdout[-2000:]!r}\n{done.stderr[-4000:].decode()}"
        return done

    def text(self, *args: str | Path, stdin: bytes | object = b"") -> str:
        """What a successful run prints, without the last newline."""
        return self.run(*args, stdin=stdin).stdout.decode().rstrip("\n")

    def json(self, *args: str | Path, stdin: bytes | object = b"") -> Any:
        """What a successful run prints with -o json."""
        return json.loads(self.run(*args, "-o", "json", stdin=stdin).stdout)

    def start(self, *args: str | Path, terminal: int | None = None, **env: str) -> subprocess.Popen[bytes]:
        """Run in the background, with pipes or on a terminal."""
        end = subprocess.PIPE if terminal is None else terminal
        return subprocess.Popen(
            [self._binary, *args],
            stdin=end,
            stdout=end,
            stderr=end,
            env=self.environment(**env),
            cwd=self._folder,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one thread, and one system call
        )


def kubeconfig(endpoint: Endpoint, namespace: str) -> dict[str, Any]:
    """A kubeconfig with one context, as a dictionary."""
    cluster = {"server": endpoint.url, **({"certificate-authority": str(endpoint.ca)} if endpoint.ca else {})}
    user: dict[str, Any] = {"token": endpoint.token} if endpoint.token else {}
    if endpoint.certificate:
        user["client-certificate"] = str(endpoint.certificate.cert)
        user["client-key"] = str(endpoint.certificate.key)
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "e2e",
        "clusters": [{"name": "e2e", "cluster": cluster}],
        "users": [{"name": "e2e", "user": user}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e", "namespace": namespace}}],
    }
