"""Argo CD's own notifications engine on the example's trigger and template; nothing is sent."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parents[3] / "examples" / "notifications" / "lost-cluster.yaml"
# The engine wants a cluster, and asks it for what this template has no need of.
NOBODY = """\
apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: none, context: {cluster: none, namespace: argocd}}]
current-context: none
"""


class Notifications:
    """What the program `argocd` makes of an Application; `folder` is for its files."""

    def __init__(self, argocd: Path, folder: Path) -> None:
        self._argocd = argocd
        self._folder = folder
        (folder / "nobody.yaml").write_text(NOBODY)

    def triggered(self, application: dict[str, Any]) -> bool:
        """Whether the trigger fires."""
        out = self._run("trigger", "run", "on-cluster-lost", application)
        return {"true": True, "false": False}[out.split()[-1]]

    def written(self, application: dict[str, Any]) -> str:
        """What is written then."""
        return self._run("template", "notify", "cluster-lost", application)

    def _run(self, kind: str, verb: str, name: str, application: dict[str, Any]) -> str:
        file = self._folder / "application.json"
        file.write_text(json.dumps(application))
        argv: list[str | Path] = [self._argocd, "admin", "notifications", kind, verb, name, file]
        argv += ["--config-map", EXAMPLE, "--secret", ":empty", "--kubeconfig", self._folder / "nobody.yaml"]
        environ = {**os.environ, "ARGOCD_BINARY_NAME": "argocd", "HOME": str(self._folder)}
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "failed to execute" not in done.stderr, done.stderr
        return done.stdout
