"""Credentials from a kubeconfig's exec plugin, as EKS, GKE and AKS have them.

The program prints an ExecCredential with a token or a client certificate, and until when it is good
(client.authentication.k8s.io/v1, https://kubernetes.io/docs/reference/config-api/client-authentication.v1/).
"""

import json
import logging
import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import time
from typing import Any

import gevent

from argotun import files
from argotun.errors import ArgotunError
from argotun.observe.logs import fields

log = logging.getLogger("argotun.demo")

VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")

PATIENCE = 60.0
"""Seconds for one run: a plugin may ask a cloud, or open a browser."""

BEFORE = 60.0
"""Seconds before a token's end at which another one is asked for."""

LEAST = 10.0
"""Seconds between two runs, whatever the plugin says of the end."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What a plugin gave; texts are empty where it gave none, `ends` is Unix time, None for no end."""

    token: str
    cert: str
    key: str
    ends: float | None


class Plugin:
    """The program under a user's `exec`; `cluster` is the kubeconfig's own, and paths count from `home`."""

    def __init__(self, entry: dict[str, Any], cluster: dict[str, Any], home: Path) -> None:
        """Raises ArgotunError for an entry that no program can be run by."""
        self.command = str(entry.get("command") or "")
        arguments, variables = entry.get("args") or [], entry.get("env") or []
        if not self.command or not isinstance(arguments, list) or not isinstance(variables, list):
            raise ArgotunError(
                "the exec entry of a kubeconfig's user needs a command, a list args and a list env"
            )
        if entry.get("apiVersion") not in VERSIONS:
            raise ArgotunError(f"the exec plugin {self.command}: expected apiVersion {' or '.join(VERSIONS)}")
        if entry.get("interactiveMode") == "Always":
            raise ArgotunError(f"the exec plugin {self.command} asks questions, and here nobody is asked")
        self._version = str(entry["apiVersion"])
        self._hint = str(entry.get("installHint") or "").strip()
        self._arguments = [str(each) for each in arguments]
        self._home = home
        spec: dict[str, Any] = {"interactive": False}
        if entry.get("provideClusterInfo"):
            spec["cluster"] = cluster
        info = {"apiVersion": self._version, "kind": "ExecCredential", "spec": spec}
        named = {
            str(each.get("name")): str(each.get("value")) for each in variables if isinstance(each, dict)
        }
        self._environment = {**os.environ, **named, "KUBERNETES_EXEC_INFO": json.dumps(info)}

    def ask(self) -> Credential:
        """Run it. Raises ArgotunError with its own last words where it gives no credential."""
        # As kubectl has it: a path counts from the kubeconfig, a bare name is looked for in PATH.
        path = str(self._home / self.command) if os.sep in self.command else self.command
        program = shutil.which(path, path=self._environment.get("PATH"))
        if program is None:
            raise self._fault("there is no such program", self._hint)
        try:
            done = subprocess.run(
                [program, *self._arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise self._fault("it did not run", str(error)) from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise self._fault(f"it ended with {done.returncode}", said[-1] if said else "")
        return self._read(done.stdout)

    def _read(self, said: bytes) -> Credential:
        try:
            credential = json.loads(said)
            if (credential["apiVersion"], credential["kind"]) != (self._version, "ExecCredential"):
                raise self._fault(f"it gave no ExecCredential of {self._version}")
            status = credential["status"]
            token, cert, key = (
                str(status.get(each) or "") for each in ("token", "clientCertificateData", "clientKeyData")
            )
            end = status.get("expirationTimestamp")
            ends = datetime.fromisoformat(end).timestamp() if end else None
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            raise self._fault("it printed no ExecCredential") from None
        if bool(cert) != bool(key) or not (token or cert):
            raise self._fault("it gave neither a token nor a certificate with its key")
        return Credential(token, cert, key, ends)

    def _fault(self, what: str, more: str = "") -> ArgotunError:
        return ArgotunError(f"the exec plugin {self.command}: {what}{f': {more}' if more else ''}")

    def renew(self, file: str, ends: float) -> None:
        """Put a new token into `file` before the one in it ends, for ever or until a plugin names no end."""
        while True:
            gevent.sleep(max(ends - time() - BEFORE, LEAST))
            try:
                credential = self.ask()
            except ArgotunError as error:
                log.warning("%s", error, extra=fields(retry_seconds=LEAST))
                continue
            files.replace(Path(file), credential.token.encode())
            if credential.ends is None:
                return
            ends = credential.ends
