"""What each set of values renders, for people to read: `python -m tests.chart.golden` writes it anew.

The least of each mode stands there whole; every other set as the objects that it adds, changes and leaves
out. Secrets are shown decoded, and the chart's version as VERSION, so that a release changes nothing here.
"""

import base64
import difflib
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.chart.helm import RELEASES, Helm, Rendered, binary
from tests.chart.values import MATRIX, MODES

FOLDER = Path(__file__).with_name("golden")
LABELS = ("app.kubernetes.io/version", "helm.sh/chart", "app.kubernetes.io/managed-by")
"""The same on every object; left out."""


def shown(part: Any) -> Any:
    """An object as it is shown."""
    if isinstance(part, list):
        return [shown(each) for each in part]
    if not isinstance(part, dict):
        return part
    if part.get("kind") == "Secret" and "data" in part:
        decoded = {key: readable(base64.b64decode(value).decode()) for key, value in part["data"].items()}
        part = {key: value for key, value in part.items() if key != "data"} | {"data, decoded": decoded}
    if part.get("kind") == "ConfigMap" and "data" in part:
        part = part | {"data": sorted(part["data"])}
    return {key: shown(value) for key, value in part.items() if key not in LABELS}


def readable(text: str) -> Any:
    """JSON as what it says, other text as it is."""
    return json.loads(text) if text[:1] in {"{", "["} else text


def texts(rendered: Rendered) -> dict[str, str]:
    """Each object as YAML, by kind, namespace and name."""
    found = {}
    for each in rendered.objects:
        meta = each["metadata"]
        name = " ".join(filter(None, (each["kind"], meta.get("namespace"), meta["name"])))
        text = yaml.safe_dump(shown(each), sort_keys=False, width=110, allow_unicode=True)
        found[name] = re.sub(r"\bargotun:\d+\.\d+\.\d+\b", "argotun:VERSION", text)
    return found


def changes(base: dict[str, str], new: dict[str, str]) -> str:
    """What is different: whole objects that are added, lines of those that are changed."""
    parts = [f"# without {name}\n" for name in base if name not in new]
    for name, text in new.items():
        if name not in base:
            parts.append(f"# new: {name}\n{text}")
        elif text != base[name]:
            lines = difflib.unified_diff(base[name].splitlines(), text.splitlines(), n=1, lineterm="")
            body = ("@@" if line.startswith("@@") else line for line in list(lines)[2:])
            parts.append(f"# changed: {name}\n" + "".join(f"{line}\n" for line in body))
    return "\n".join(parts)


def expected(helm: Helm, name: str) -> str:
    """The text of a golden file, rendered now."""
    new = texts(helm.render(MATRIX[name]))
    if name in MODES:
        return "---\n".join(new.values())
    return changes(texts(helm.render(MODES[MATRIX[name]["mode"]])), new)


def file(name: str) -> Path:
    """Where the golden file of a set is."""
    return FOLDER / f"{name}.{'yaml' if name in MODES else 'txt'}"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    with tempfile.TemporaryDirectory() as home:
        newest = Helm(RELEASES[-1].version, binary(RELEASES[-1].version), Path(home))
        for each in MATRIX:
            file(each).write_text(expected(newest, each), "utf-8")
