"""What people added to a values file stays when `--mode pki` writes it again; what is this mode's own is new.

Comments go, since the file is read as values.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from argotun import files
from argotun.errors import ArgotunError
from argotun.pki.values import PROOFS, Values

LARGEST = 8 * 1024 * 1024
"""Bytes of a values file; ten thousand clusters have two million."""


def read(path: Path) -> Values:
    """The values in a file, with `clusters` as a map by id; empty where there is no file.

    Raises ArgotunError for a file that holds something else, which must not be replaced, and OSError.
    """
    if not path.exists():
        return {}
    try:
        values = yaml.safe_load(files.read(str(path), LARGEST).data)
        clusters = values.get("clusters")
        if isinstance(clusters, list):
            values["clusters"] = {each.pop("id"): each for each in clusters}
        elif not isinstance(clusters, dict | None):
            raise TypeError
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise ArgotunError(f"{path}: expected values of the chart; it was left as it is") from None
    return dict(values)


def text(values: Values) -> str:
    """Values as YAML that Helm reads as they are."""
    # Through JSON, so that nothing but plain scalars, lists and mappings is written.
    return str(yaml.dump(json.loads(json.dumps(values)), Dumper=_Dumper, sort_keys=False, width=1 << 16))


class _Dumper(yaml.SafeDumper):
    """Quotes what Helm takes for a truth value (YAML 1.1), as the `y` of an EC key, and PyYAML does not."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if text in ("y", "Y", "n", "N") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _represent)


def merged(there: Mapping[str, Any], own: Mapping[str, Any]) -> Values:
    """`own` over what is there, mapping by mapping: what only `there` has stays."""
    result = dict(there)
    for key, value in own.items():
        before = result.get(key)
        both = isinstance(value, Mapping) and isinstance(before, Mapping)
        result[key] = merged(before or {}, value) if both else value
    return result


def without(there: Values, paths: Collection[str]) -> Values:
    """The values without some of them, named by a dotted path of at most two keys."""
    result = dict(there)
    for path in paths:
        key, _, inner = path.partition(".")
        if not inner:
            result.pop(key, None)
        elif isinstance(part := result.get(key), dict):
            result[key] = {name: value for name, value in part.items() if name != inner}
    return result


def with_clusters(there: Values, own: Values, written: Collection[str]) -> Values:
    """The server's values with the entries that are there, but for what this mode wrote and has no more.

    `written` are the ids that it wrote the last time. How an agent proves itself is replaced as a whole;
    further names of its certificate stay.
    """
    mine: Values = own["clusters"]
    kept: Values = {}
    for id_, entry in (there.get("clusters") or {}).items():
        if id_ in mine:
            kept[id_] = {key: value for key, value in (entry or {}).items() if key not in PROOFS}
            if "certNames" in mine[id_]:
                names = mine[id_]["certNames"]
                more = (entry or {}).get("certNames") or []
                names += [each for each in more if each not in names]
        elif id_ not in written:
            kept[id_] = entry
    return merged({**there, "clusters": kept}, own)
