"""The git repository that Argo CD deploys from: a work copy here, served by git-daemon."""

import json
import subprocess
from pathlib import Path
from typing import Any


class Repository:
    """A repository NAME.git below `served`, and a work copy of it."""

    def __init__(self, name: str, served: Path, folder: Path, url: str) -> None:
        self.url = f"{url}/{name}.git"
        self._folder = folder
        self._home = folder.parent
        folder.mkdir()
        self._git("init", "-q", "--bare", "-b", "main", str(served / f"{name}.git"))
        self._git("init", "-q", "-b", "main", ".")
        self._git("config", "user.name", "tester")
        self._git("config", "user.email", "tester@example.invalid")
        self._git("remote", "add", "origin", str(served / f"{name}.git"))

    def source(self, path: str, **more: Any) -> dict[str, Any]:
        """The source of an application that is in that folder of the repository."""
        return {"repoURL": self.url, "targetRevision": "main", "path": path, **more}

    def write(self, path: str, content: str) -> None:
        """Write a file of the work copy."""
        file = self._folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    def objects(self, path: str, *objects: dict[str, Any]) -> None:
        """Write a file of Kubernetes objects, as JSON."""
        self.write(path, json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def commit(self, message: str) -> str:
        """Commit the work copy and push it; the revision."""
        self._git("add", "-A")
        self._git("commit", "-q", "-m", message)
        self._git("push", "-q", "origin", "main")
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *args: str) -> str:
        env = {"HOME": str(self._home), "GIT_CONFIG_NOSYSTEM": "1", "PATH": "/usr/local/bin:/usr/bin:/bin"}
        done = subprocess.run(
            ["git", *args], cwd=self._folder, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"git {' '.join(args)}: {done.stderr}"
        return done.stdout
