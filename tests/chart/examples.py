"""The folder `examples`: what is values, what is objects, and what each file says of itself."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.chart.helm import LOADER, ROOT, Helm, Rendered
from tests.chart.values import AGENT, ARGOCD, SERVER, TLS

FOLDER = ROOT / "examples"
BASES: dict[str, dict[str, Any]] = {
    "applicationset/labels.yaml": SERVER
    | {
        "argocd": ARGOCD,
        "tls": TLS,
        "clusters": {each: {"token": f"token-of-{each}"} for each in ("customer-a", "customer-b")},
    },
    "redis/replicas.yaml": SERVER | {"certManager": {"enabled": True}},
    "policy/cautious.yaml": AGENT,
}
"""The values that a file adds to, where it is none by itself."""


@dataclass(frozen=True)
class Example:
    """A file of the folder: its name there, and its documents."""

    name: str
    documents: list[dict[str, Any]]

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Its objects; none where it is values."""
        return [each for each in self.documents if "kind" in each]

    @property
    def said(self) -> str:
        """What it says of itself: the comment that it begins with."""
        found = re.match(r"(?:#.*\n)+", (FOLDER / self.name).read_text("utf-8"))
        return found[0] if found else ""

    def render(self, helm: Helm) -> Rendered:
        """What Helm makes of it, where it is values or an Application with values of this chart."""
        if not self.objects:
            path = str(FOLDER / self.name)
            return helm.render(BASES.get(self.name, {}), "--values", path, namespace="argotun")
        (application,) = self.objects
        values = application["spec"]["source"]["helm"]["valuesObject"]
        return helm.render(values, namespace=application["spec"]["destination"]["namespace"])


def read(path: Path) -> Example:
    """One file of the folder."""
    documents = [each for each in yaml.load_all(path.read_text("utf-8"), LOADER) if each]
    return Example(str(path.relative_to(FOLDER)), documents)


EXAMPLES = {each.name: each for each in map(read, sorted(FOLDER.glob("*/*.yaml")))}
RENDERED = [
    each
    for each in EXAMPLES.values()
    if not each.objects or "helm" in each.objects[0].get("spec", {}).get("source", {})
]
"""Those that Helm makes objects of this chart from."""
