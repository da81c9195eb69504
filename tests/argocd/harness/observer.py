"""What an outage did: to an application's status, to its objects, and to Argo CD's log."""

import json
import re
import time
from collections import Counter
from typing import Any

import gevent

from tests.argocd.harness.argocd import ArgoCD
from tests.e2e.harness.cluster import Cluster

KLOG_ERROR = re.compile(r"^E\d{4} ")


class Observer:
    """Looks at an application and its objects from `with` to its end, ten times a second."""

    def __init__(self, argocd: ArgoCD, cluster: Cluster, application: str) -> None:
        self._argocd = argocd
        self._cluster = cluster
        self._application = application
        self._log = argocd.processes["controller"].log
        self.states: Counter[tuple[str, str]] = Counter()
        self.errors: Counter[str] = Counter()
        self.gone: list[str] = []

    def __enter__(self) -> "Observer":
        self._before = self._objects()
        assert self._before
        self._offset = self._log.stat().st_size
        self._started = time.monotonic()
        self._greenlet = gevent.spawn(self._look)
        return self

    def __exit__(self, *exc: object) -> None:
        self._greenlet.kill()
        self.read_log()
        after = self._objects()
        self.gone = [name for name, uid in self._before.items() if after.get(name) != uid]

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._started

    def report(self, what: str, healed: float) -> str:
        """One line about the outage."""
        lines = f"{self.error_lines} error lines" + "".join(
            f"; {n} x {said!r}" for said, n in self.errors.items()
        )
        others = {state for state in self.states if state != ("Synced", "Healthy")}
        return f"{what}: healed {healed:.1f} s after; {lines}; seen beside Synced: {others or 'nothing'}"

    @property
    def error_lines(self) -> int:
        """Lines of the controller's log that are errors."""
        return sum(self.errors.values())

    def read_log(self) -> None:
        """Count the errors that the controller has logged since the beginning."""
        self.errors.clear()
        with self._log.open(errors="replace") as log:
            log.seek(self._offset)
            for line in log:
                if said := error_in(line):
                    self.errors[said] += 1

    def _look(self) -> None:
        while True:
            self.states[self._argocd.state(self._application)] += 1
            gevent.sleep(0.1)

    def _objects(self) -> dict[str, str]:
        """The application's objects and their uids, as the customer's API has them."""
        found = {}
        for each in self._argocd.get(self._application)["status"]["resources"]:
            base = (
                f"/apis/{each['group']}/{each['version']}" if each.get("group") else f"/api/{each['version']}"
            )
            kind = each["kind"].lower() + "s"
            path = f"{base}/namespaces/{each['namespace']}/{kind}/{each['name']}"
            answer = self._cluster.admin.get(path)
            found[path] = str(answer.json().get("metadata", {}).get("uid"))
        return found


def error_in(line: str) -> str | None:
    """What an error line says, without what differs from line to line; None for any other line."""
    if KLOG_ERROR.match(line):
        return _words(line.split("] ", 1)[-1].strip())
    if '"level":"error"' not in line and '"level":"fatal"' not in line:
        return None
    said: dict[str, Any] = json.loads(line)
    return _words(f"{said.get('msg')} {said.get('error', '')}")


def _words(text: str) -> str:
    """The first words, without addresses and numbers."""
    return re.sub(r'"?https?://\S+|[\d.:]*\d', "…", text)[:60]
