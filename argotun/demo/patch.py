"""Merge patches, and as much of Kubernetes' strategic merge as `kubectl apply` sends."""

from typing import Any

from argotun.demo.refusal import bad_request

_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "ports": "containerPort",
    "volumes": "name",
    "volumeMounts": "mountPath",
}
"""Lists that are merged item by item, and the field that tells the items apart."""

_ORDER = "$setElementOrder/"


def merge(target: Any, patch: Any) -> Any:
    """`target` with a JSON merge patch (RFC 7396) applied; neither is changed."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic(target: Any, patch: Any) -> Any:
    """As `merge`, but lists that have a key merge by it; 400 for directives that are not known here."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    if isinstance(retained := patch.get("$retainKeys"), list):
        result = {key: value for key, value in result.items() if key in retained}
    for key, value in patch.items():
        if key == "$retainKeys" or key.startswith(_ORDER):
            continue
        if key.startswith("$"):
            raise bad_request(f"the stand-in API does not know {key} in a patch")
        if value is None:
            result.pop(key, None)
        elif isinstance(value, list) and key in _KEYS:
            result[key] = _items(result.get(key), value, _KEYS[key], patch.get(_ORDER + key))
        else:
            result[key] = strategic(result.get(key), value)
    return result


def _items(target: Any, patch: list[Any], key: str, order: Any) -> list[Any]:
    """A keyed list with the items of a patch merged in, in the order that the patch asks for."""
    found = _keyed(target if isinstance(target, list) else [], key)
    for name, item in _keyed(patch, key).items():
        if item.get("$patch") == "delete":
            found.pop(name, None)
        else:
            found[name] = strategic(found.get(name), item)
    wanted = list(_keyed(order, key)) if isinstance(order, list) else []
    return [found[name] for name in sorted(found, key=lambda n: wanted.index(n) if n in wanted else -1)]


def _keyed(items: list[Any], key: str) -> dict[str, Any]:
    if not all(isinstance(item, dict) and key in item for item in items):
        raise bad_request(f"every item of this list needs {key}")
    return {str(item[key]): item for item in items}
