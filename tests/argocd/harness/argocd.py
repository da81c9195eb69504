"""Argo CD as plain processes on loopback: Redis, git, repo server, both controllers, API server, CLI."""

import json
import os
import re
import secrets
import subprocess
import time
from pathlib import Path
from typing import Any

from bench.ports import free_port
from tests.argocd.harness import objects
from tests.argocd.harness.program import Program
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.http import Endpoint
from tests.e2e.harness.processes import Process
from tests.e2e.harness.waiting import until

APPLICATIONS = f"/apis/argoproj.io/v1alpha1/namespaces/{objects.ARGOCD}/applications"
PROJECTS = f"/apis/argoproj.io/v1alpha1/namespaces/{objects.ARGOCD}/appprojects"
APPLICATION_SETS = f"/apis/argoproj.io/v1alpha1/namespaces/{objects.ARGOCD}/applicationsets"
SECRETS = f"/api/v1/namespaces/{objects.ARGOCD}/secrets"
SETTINGS = {"exec.enabled": "true", "timeout.reconciliation": "3600s"}
"""What argocd-cm says beside the release's own; new commits are told to Argo CD as a webhook tells them."""

KUSTOMIZE = """#!/bin/sh
# The part of kustomize that kubectl has: Argo CD asks for nothing else here.
case $1 in
build) shift; exec {kubectl} kustomize "$@" ;;
version) echo v5.0.0 ;;
esac
"""


class ArgoCD:
    """All of Argo CD, with the management cluster's API as its store; start() returns when it serves.

    What is in `environment` is given to each part that is started after that.
    """

    def __init__(self, program: Program, management: Cluster, folder: Path, tools: dict[str, Path]) -> None:
        self.program = program
        self.management = management
        self.folder = folder
        self.processes: dict[str, Process] = {}
        self.password = secrets.token_urlsafe(12)
        self.environment: dict[str, str] = {}
        ports = ("redis", "git", "repo", "repo_metrics", "controller", "sets", "sets_probe", "sets_hook")
        self._ports = {name: free_port() for name in (*ports, "server", "server_metrics")}
        self.git_url = f"git://127.0.0.1:{self._ports['git']}"
        self.api = Endpoint(self._ports["server"])
        self.metrics = Endpoint(self._ports["controller"])
        folder.mkdir()
        for name in ("home", "tmp", "tls", "ssh", "gpg", "plugins", "redis", "git", "config", "path"):
            (folder / name).mkdir()
        self._add_tools(tools)

    def start(self) -> None:
        """Make the objects of the release, and run everything."""
        self._install()
        self._start_stores()
        self._start_repo_server()
        self.start_controller()
        self._start_application_sets()
        self._start_server()
        body = {"username": "admin", "password": self.password}
        token = until(
            "Argo CD lets admin in", lambda: self.api("POST", "/api/v1/session", body).json().get("token")
        )
        self.api = Endpoint(self.api.port, token=token)

    def stop(self) -> None:
        """End everything, what started last first."""
        for name in reversed(list(self.processes)):
            # All that they hold is in a folder that goes: none needs a long farewell.
            self.processes.pop(name).stop(seconds=3)

    def start_controller(self) -> None:
        """Run the application controller."""
        self._run(
            "controller",
            "argocd-application-controller",
            "--metrics-port", str(self._ports["controller"]),
            "--self-heal-backoff-timeout-seconds", "0",
        )  # fmt: skip
        self._wait_for("controller", self.metrics, "/healthz")

    def restart_controller(self) -> None:
        """End the application controller, and run a new one with an empty cache."""
        self.processes.pop("controller").stop()
        self.start_controller()

    # What a test does and asks

    def create(self, application: dict[str, Any]) -> str:
        """Create an application; its name."""
        answer = self.management.admin("POST", APPLICATIONS, application)
        assert answer.status == 201, answer
        return str(application["metadata"]["name"])

    def get(self, name: str) -> dict[str, Any]:
        """An application as the management cluster has it, or {}."""
        answer = self.management.admin.get(f"{APPLICATIONS}/{name}")
        assert answer.status in (200, 404), answer
        return answer.json() if answer.status == 200 else {}

    def list(self) -> list[dict[str, Any]]:
        """All applications."""
        return list(self.management.admin.get(APPLICATIONS).json()["items"])

    def patch(self, name: str, patch: dict[str, Any]) -> None:
        """Merge-patch an application."""
        kind = {"Content-Type": "application/merge-patch+json"}
        answer = self.management.admin("PATCH", f"{APPLICATIONS}/{name}", json.dumps(patch).encode(), kind)
        assert answer.status == 200, answer

    def refresh(self, name: str, how: str = "normal") -> None:
        """Have Argo CD look at git now, as a webhook would."""
        self.patch(name, {"metadata": {"annotations": {"argocd.argoproj.io/refresh": how}}})

    def delete(self, name: str, seconds: float = 60) -> None:
        """Delete an application, and wait until its finalizer has run."""
        answer = self.management.admin("DELETE", f"{APPLICATIONS}/{name}")
        assert answer.status in (200, 404), answer
        until(f"application {name} is gone", lambda: not self.get(name), seconds)

    def wait(
        self,
        name: str,
        seconds: float = 60,
        sync: str = "Synced",
        health: str = "Healthy",
        phase: str | None = "Succeeded",
        revision: str | None = None,
    ) -> dict[str, Any]:
        """The application's status once it is so."""
        seen: dict[str, Any] = {}

        def reached() -> bool:
            self.check()
            status = self.get(name).get("status", {})
            seen.clear()
            seen.update(status)
            return (
                status.get("sync", {}).get("status") == sync
                and status.get("health", {}).get("status") == health
                and (phase is None or status.get("operationState", {}).get("phase") == phase)
                and (revision is None or status["sync"].get("revision") == revision)
            )

        try:
            until(f"application {name} is {sync}, {health}", reached, seconds, every=0.05)
        except AssertionError as e:
            raise AssertionError(f"{e}; it is {objects.summary(seen)}") from None
        return dict(seen)

    def state(self, name: str) -> tuple[str, str]:
        """Sync and health status of an application."""
        status = self.get(name).get("status", {})
        return status.get("sync", {}).get("status", ""), status.get("health", {}).get("status", "")

    def connection(self, server: str) -> dict[str, Any]:
        """What Argo CD's API says about its connection to a cluster."""
        for each in self.api.get("/api/v1/clusters").json()["items"]:
            if each["server"] == server:
                return dict(each["info"] | {"state": each["info"]["connectionState"]["status"]})
        return {}

    def metric(self, name: str, server: str) -> float | None:
        """A gauge of the application controller about a cluster."""
        text = self.metrics.get("/metrics").body.decode()
        line = re.search(rf'^{name}\{{[^}}]*server="{re.escape(server)}"[^}}]*\}} (\S+)$', text, re.M)
        return float(line[1]) if line else None

    def configure(self, settings: dict[str, str]) -> None:
        """Change settings of argocd-cm."""
        patch = json.dumps({"data": settings})
        which = ("configmap", "argocd-cm", "-n", objects.ARGOCD)
        self.management.kubectl.run("patch", *which, "--type", "merge", "-p", patch)

    def cli(self, *args: str, seconds: float = 60) -> str:
        """What the `argocd` command prints, as admin."""
        argv = [self.program.argocd, *args, "--plaintext", "--server", f"127.0.0.1:{self.api.port}"]
        env = self._environment("argocd") | {"ARGOCD_AUTH_TOKEN": self.api.token or ""}
        done = subprocess.run(
            argv, env=env, capture_output=True, text=True, timeout=seconds, cwd=self.folder, check=False
        )
        assert done.returncode == 0, (
            f"argocd {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout

    def check(self) -> None:
        """AssertionError when one of the processes has ended."""
        for process in self.processes.values():
            process.check()

    # How it is run

    def _environment(self, component: str) -> dict[str, str]:
        return {
            "PATH": f"{self.folder / 'path'}:{self.program.scripts}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "KUBECONFIG": str(self.management.kubectl.kubeconfig),
            "HOSTNAME": "argocd-application-controller-0",
            "ARGOCD_BINARY_NAME": component,
            "ARGOCD_FAKE_IN_CLUSTER": "true",
            "ARGOCD_TLS_DATA_PATH": str(self.folder / "tls"),
            "ARGOCD_SSH_DATA_PATH": str(self.folder / "ssh"),
            "ARGOCD_GNUPGHOME": str(self.folder / "gpg"),
            "ARGOCD_GPG_DATA_PATH": str(self.folder / "gpg"),
            "ARGOCD_GPG_ENABLED": "false",
            "ARGOCD_PLUGINSOCKFILEPATH": str(self.folder / "plugins"),
            "ARGOCD_APP_CONF_PATH": str(self.folder / "config"),
            **self.environment,
        }

    def _run(self, name: str, component: str, *args: str) -> None:
        argv: list[str | Path] = [self.program.argocd, *args]
        if component in ("argocd-application-controller", "argocd-server"):
            argv += ["--redis", f"127.0.0.1:{self._ports['redis']}"]
        if component != "argocd-repo-server":
            flag = (
                "--argocd-repo-server" if component == "argocd-applicationset-controller" else "--repo-server"
            )
            argv += [flag, f"127.0.0.1:{self._ports['repo']}"]
            argv += ["--kubeconfig", self.management.kubectl.kubeconfig, "--namespace", objects.ARGOCD]
        self.processes[name] = Process(component, argv, self.folder, self._environment(component))

    def _wait_for(self, name: str, endpoint: Endpoint, path: str) -> None:
        process = self.processes[name]

        def serves() -> bool:
            process.check()
            return endpoint.get(path).status == 200

        until(f"{process.name} serves", serves)

    def _start_stores(self) -> None:
        options = ("--bind", "127.0.0.1", "--port", str(self._ports["redis"]), "--dir", self.folder / "redis")
        self.processes["redis"] = Process(
            "redis", [self.program.redis, *options, "--save", "", "--appendonly", "no"], self.folder
        )
        self.processes["git"] = Process(
            "git-daemon",
            [
                self.program.git_daemon,
                "--reuseaddr",
                "--listen=127.0.0.1",
                f"--port={self._ports['git']}",
                f"--base-path={self.folder / 'git'}",
                "--export-all",
            ],
            self.folder,
        )

    def _start_repo_server(self) -> None:
        self._run(
            "repo-server",
            "argocd-repo-server",
            "--address", "127.0.0.1",
            "--port", str(self._ports["repo"]),
            "--metrics-address", "127.0.0.1",
            "--metrics-port", str(self._ports["repo_metrics"]),
            "--redis", f"127.0.0.1:{self._ports['redis']}",
        )  # fmt: skip
        self._wait_for("repo-server", Endpoint(self._ports["repo_metrics"]), "/healthz?full=true")

    def _start_application_sets(self) -> None:
        self._run(
            "application-sets",
            "argocd-applicationset-controller",
            "--metrics-addr", f"127.0.0.1:{self._ports['sets']}",
            "--probe-addr", f"127.0.0.1:{self._ports['sets_probe']}",
            "--webhook-addr", f"127.0.0.1:{self._ports['sets_hook']}",
        )  # fmt: skip

    def _start_server(self) -> None:
        self._run(
            "server",
            "argocd-server",
            "--address", "127.0.0.1",
            "--port", str(self._ports["server"]),
            "--metrics-address", "127.0.0.1",
            "--metrics-port", str(self._ports["server_metrics"]),
            "--insecure",
            "--staticassets", str(self.folder / "tmp"),
        )  # fmt: skip
        self._wait_for("server", self.api, "/healthz")

    def _install(self) -> None:
        kubectl = self.management.kubectl
        self.management.create("/api/v1/namespaces", objects.namespace(objects.ARGOCD))
        files = [arg for path in self.program.manifests() for arg in ("-f", path)]
        kubectl.run("apply", "--server-side", "-n", objects.ARGOCD, *files)
        self.configure(SETTINGS)
        argv = [self.program.argocd, "account", "bcrypt", "--password", self.password]
        digest = subprocess.run(
            argv, env=self._environment("argocd"), capture_output=True, text=True, check=True
        )
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        data = {
            "admin.password": digest.stdout.strip(),
            "admin.passwordMtime": stamp,
            "server.secretkey": secrets.token_hex(32),
        }
        kubectl.run("apply", "-f", "-", stdin=objects.argocd_secret(data))
        for path in (APPLICATIONS, APPLICATION_SETS, PROJECTS):
            until(f"{path} is served", lambda path=path: self.management.admin.get(path).status == 200)
        self.management.create(PROJECTS, objects.project())

    def _add_tools(self, tools: dict[str, Path]) -> None:
        path = self.folder / "path"
        for name, binary in tools.items():
            (path / name).symlink_to(binary)
        (path / "kustomize").write_text(KUSTOMIZE.format(kubectl=self.management.binaries["kubectl"]))
        (path / "kustomize").chmod(0o755)
