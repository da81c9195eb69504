"""JSON merge patches (RFC 7396), and as much of Kubernetes' strategic merge as `kubectl apply` sends."""

from typing import Any

from argotun.demo.resources import bad_request

_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "ports": "containerPort",
    "volumes": "name",
    "volumeMounts": "mountPath",
}
"""Lists that a strategic merge patch merges item by item, and the field that tells the items apart."""

_ORDER = "$setElementOrder/"


def merge(target: Any, patch: Any, keys: dict[str, str] | None = None) -> Any:
    """`target` with a patch applied; neither is changed. Lists named in `keys` are merged item by item."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if keys and key.startswith(("$retainKeys", _ORDER)):
            pass  # they say what the rest of the patch does too
        elif keys and key.startswith("$"):
            raise bad_request(f"the stand-in API does not know {key} in a patch")
        elif value is None:
            result.pop(key, None)
        elif keys and key in keys and isinstance(value, list):
            order = patch.get(_ORDER + key)
            result[key] = _merge_items(result.get(key), value, keys[key], keys, order)
        else:
            result[key] = merge(result.get(key), value, keys)
    return result


def merge_strategic(target: Any, patch: Any) -> Any:
    """As `merge`, for a strategic merge patch; 400 for directives that are not known here."""
    return merge(target, patch, _KEYS)


def _merge_items(target: Any, patch: list[Any], key: str, keys: dict[str, str], order: Any) -> list[Any]:
    """A list with the items of a patch merged in, in the order that the patch asks for."""
    found = _by_key(target if isinstance(target, list) else [], key)
    for name, item in _by_key(patch, key).items():
        if item.get("$patch") == "delete":
            found.pop(name, None)
        else:
            found[name] = merge(found.get(name), item, keys)
    wanted = list(_by_key(order, key)) if isinstance(order, list) else []
    return [found[name] for name in sorted(found, key=lambda n: wanted.index(n) if n in wanted else -1)]


def _by_key(items: list[Any], key: str) -> dict[str, Any]:
    if not all(isinstance(item, dict) and key in item for item in items):
        raise bad_request(f"every item of this list needs {key}")
    return {str(item[key]): item for item in items}
