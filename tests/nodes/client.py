"""A pod beside Argo CD that asks as Argo CD does, with the credentials of its cluster secret."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.nodes.images import TOOLS
from tests.nodes.node import Node
from tests.nodes.rig import Rig

NAME, NAMESPACE = "client", "argocd"
SCRIPTS = [Path(__file__).parent / name for name in ("ask.py", "stall.py", "slow.py")]
WRITE = (
    "import json, sys\nfor name, text in json.load(sys.stdin).items(): open(f'/tmp/{name}', 'w').write(text)"
)
MAPS = 50
"""ConfigMaps of the customer that requests ask for in turn."""


@dataclass(frozen=True)
class Asked:
    """What became of requests: how many came to what, and which answers were those of other requests.

    `unconnected` has the connections that did not come about, and were tried again.
    """

    counts: dict[str, int]
    wrong: list[str]
    unconnected: list[str]
    worst: float
    """Seconds of the slowest one."""

    @property
    def whole(self) -> bool:
        """Whether each had its own answer, at the first try."""
        return not self.wrong and not self.unconnected and self.counts == {"200": self.total}

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts.values())


class Client:
    """The pod on the management cluster."""

    def __init__(self, rig: Rig) -> None:
        self._node = rig.management
        secret = self._secret()
        self.server = base64.b64decode(secret["server"]).decode()
        config = json.loads(base64.b64decode(secret["config"]))["tlsClientConfig"]
        self._node.kubectl("apply", "-f", "-", said=json.dumps(pod(NAME, NAMESPACE)))
        wait(self._node, NAME, NAMESPACE)
        files = {name: base64.b64decode(config[name]).decode() for name in ("caData", "certData", "keyData")}
        files |= {script.name: script.read_text("utf-8") for script in SCRIPTS}
        files["kubeconfig"] = json.dumps(kubeconfig(self.server))
        self.run("python3", "-c", WRITE, said=json.dumps(files))
        maps = [config_map(number) for number in range(MAPS)]
        listed = {"apiVersion": "v1", "kind": "List", "items": maps}
        rig.customer.kubectl("apply", "--server-side", "-f", "-", said=json.dumps(listed))

    def run(self, *words: str, said: str | None = None) -> str:
        """What a command in the pod prints."""
        more = () if said is None else ("-i",)
        return self._node.kubectl("-n", NAMESPACE, "exec", *more, NAME, "--", *words, said=said)

    def kubectl(self, *words: str, said: str | None = None) -> str:
        """What kubectl prints, through the tunnel."""
        return self.run("kubectl", "--kubeconfig=/tmp/kubeconfig", *words, said=said)

    @contextmanager
    def asking(self, seconds: float, rate: int = 100) -> Iterator[list[Asked]]:
        """Ask `rate` times a second while the block runs, for `seconds` at least.

        The list has what came of it once the block is over.
        """
        words = ["python3", "/tmp/ask.py", self.server, str(seconds), str(rate), str(MAPS)]
        found: list[Asked] = []
        process = self._node.start_kubectl("-n", NAMESPACE, "exec", "-i", NAME, "--", *words)
        try:
            assert process.stdout
            # It says so when its first answers are there.
            assert process.stdout.readline().strip() == b"asking"
            yield found
            # The end of its input tells it that the block is over.
            told, failed = process.communicate(timeout=600)
            assert process.returncode == 0, failed.decode()[-2000:]
            found.append(Asked(**json.loads(told)))
        finally:
            process.kill()
            process.wait()

    @contextmanager
    def stalled(self, path: str, number: int) -> Iterator[None]:
        """Hold `number` connections that asked for `path` and read no answer, while the block runs."""
        words = ["python3", "/tmp/stall.py", self.server + path, str(number)]
        process = self._node.start_kubectl("-n", NAMESPACE, "exec", "-i", NAME, "--", *words)
        try:
            assert process.stdout
            assert process.stdout.readline().strip() == b"stalled"
            yield
            process.communicate(timeout=120)
        finally:
            process.kill()
            process.wait()

    @contextmanager
    def reading(self, path: str, number: int, rate: int) -> Iterator[list[str]]:
        """Read one long answer on `number` connections, each `rate` bytes a second, while the block runs.

        The list has what came of each once all are over.
        """
        words = ["python3", "/tmp/slow.py", self.server + path, str(number), str(rate)]
        found: list[str] = []
        process = self._node.start_kubectl("-n", NAMESPACE, "exec", "-i", NAME, "--", *words)
        try:
            assert process.stdout
            assert process.stdout.readline().strip() == b"reading"
            yield found
            told, failed = process.communicate(timeout=300)
            assert process.returncode == 0, failed.decode()[-2000:]
            found += json.loads(told)
        finally:
            process.kill()
            process.wait()

    def ask(self, seconds: float = 2, rate: int = 20) -> Asked:
        """Ask for a while."""
        with self.asking(seconds, rate) as found:
            pass
        return found[0]

    def _secret(self) -> dict[str, str]:
        label = "argocd.argoproj.io/secret-type=cluster"
        found: list[dict[str, Any]] = self._node.json("-n", NAMESPACE, "get", "secrets", "-l", label)["items"]
        (secret,) = found
        return secret["data"]  # type: ignore[no-any-return]


def wait(node: Node, name: str, namespace: str) -> None:
    """Until a pod is ready."""
    node.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s")


def pod(
    name: str, namespace: str, *command: str, stdin: bool = False, labels: dict[str, str] | None = None
) -> dict[str, Any]:
    """A pod with tools, which waits for commands unless it has one of its own."""
    container = {
        "name": "tools",
        "image": TOOLS,
        "command": list(command) or ["sleep", "infinity"],
        "stdin": stdin,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }


def config_map(number: int) -> dict[str, Any]:
    """One of those that are asked for."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"asked-{number}", "namespace": "default"},
        "data": {"number": str(number)},
    }


def kubeconfig(server: str) -> dict[str, Any]:
    """kubectl's, with the files that the pod has."""
    files = {"client-certificate": "/tmp/certData", "client-key": "/tmp/keyData"}
    cluster = {"server": server, "certificate-authority": "/tmp/caData"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "tunnel",
        "clusters": [{"name": "tunnel", "cluster": cluster}],
        "users": [{"name": "argocd", "user": files}],
        "contexts": [
            {"name": "tunnel", "context": {"cluster": "tunnel", "user": "argocd", "namespace": "default"}}
        ],
    }
