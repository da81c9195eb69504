"""The four ways to patch an object: merge, JSON, strategic merge and server-side apply.

All of them leave their arguments alone and return a new object. Strategic merge and apply know
which lists are merged by key from one table of field names (`MERGE_KEYS`) instead of the schemas of
the kinds; apply remembers what each manager sent last and removes what it no longer sends, and knows
no conflicts between managers: the last one wins.
"""

import copy
from collections.abc import Callable
from typing import Any

from argotun.demo.refusal import Refusal, bad_request
from argotun.demo.resources import Json

MERGE_KEYS = {
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "ephemeralContainers": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "ports": "containerPort",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""Field name of a list of objects -> the field that tells its items apart; other lists are replaced whole."""

_ADDED_SETS = ("finalizers",)
_PRIMITIVES = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic(target: Any, patch: Any) -> Any:
    """As `merge`, but the lists of MERGE_KEYS merge item by item, and `$` directives are obeyed."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {key: copy.deepcopy(value) for key, value in patch.items() if key != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    if "$retainKeys" in patch:
        retained = _listed("$retainKeys", patch["$retainKeys"])
        result = {key: value for key, value in result.items() if key in retained}
    for key, value in patch.items():
        if key in ("$patch", "$retainKeys") or key.startswith(_ORDER):
            continue
        if key.startswith(_PRIMITIVES):
            field = key.removeprefix(_PRIMITIVES)
            old, gone = result.get(field), _listed(key, value)
            result[field] = [item for item in old if item not in gone] if isinstance(old, list) else []
        elif value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
            result.pop(key, None)
        elif isinstance(value, list):
            result[key] = _strategic_list(key, result.get(key), value)
        else:
            result[key] = strategic(result.get(key), value)
    return result


def _listed(directive: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise bad_request(f"{directive} must be a list")
    return value


def _strategic_list(field: str, target: Any, patch: list[Any]) -> list[Any]:
    items = [item for item in patch if item != {"$patch": "replace"}]
    if len(items) != len(patch):
        return copy.deepcopy(items)
    if field in _ADDED_SETS:
        old = target if isinstance(target, list) else []
        return old + [item for item in items if item not in old]
    result = _by_key(field, target, items)
    if result is None:
        return copy.deepcopy(items)
    for key, item in _keyed(MERGE_KEYS[field], items).items():
        if item.get("$patch") == "delete":
            result.pop(key, None)
        else:
            result[key] = strategic(result.get(key), item)
    return list(result.values())


def _by_key(field: str, target: Any, items: list[Any]) -> dict[Any, Any] | None:
    """The target's items by merge key, or None where the list must be replaced whole."""
    key = MERGE_KEYS.get(field)
    if key is None or not all(isinstance(item, dict) and key in item for item in items):
        return None
    old = target if isinstance(target, list) else []
    return _keyed(key, [item for item in old if isinstance(item, dict) and key in item])


def _keyed(key: str, items: list[Any]) -> dict[Any, Any]:
    return {str(item[key]): item for item in items}


def apply(live: Json, last: Json, config: Json) -> Json:
    """Server-side apply of `config` over `live`, where the same manager applied `last` before (or {})."""
    result: Json = _overlay(_prune(live, last, config), config)
    return result


def _prune(live: Any, last: Any, config: Any) -> Any:
    """`live` without what `last` named and `config` no longer names."""
    if not (isinstance(live, dict) and isinstance(last, dict)):
        return live
    wanted = config if isinstance(config, dict) else {}
    result = dict(live)
    for key, value in last.items():
        if key not in result:
            continue
        if isinstance(value, dict):
            result[key] = _prune(result[key], value, wanted.get(key))
            if not result[key] and key not in wanted:
                del result[key]
        elif isinstance(value, list) and (old := _by_key(key, result[key], value)) is not None:
            now = _by_key(key, wanted.get(key), []) or {}
            kept = {k: item for k, item in old.items() if k in now or k not in _keyed(MERGE_KEYS[key], value)}
            for k, item in _keyed(MERGE_KEYS[key], value).items():
                if k in kept:
                    kept[k] = _prune(kept[k], item, now[k])
            result[key] = list(kept.values())
        elif key not in wanted:
            del result[key]
    return result


def _overlay(live: Any, config: Any) -> Any:
    """`live` with every field of `config` set."""
    if not isinstance(config, dict):
        return copy.deepcopy(config)
    result = dict(live) if isinstance(live, dict) else {}
    for key, value in config.items():
        old = _by_key(key, result.get(key), value) if isinstance(value, list) else None
        if old is None:
            result[key] = _overlay(result.get(key), value)
            continue
        for k, item in _keyed(MERGE_KEYS[key], value).items():
            old[k] = _overlay(old.get(k), item)
        result[key] = list(old.values())
    return result


def field_set(config: Any) -> Json:
    """The `fieldsV1` of a configuration: which fields a manager has set."""
    result: Json = {}
    if not isinstance(config, dict):
        return result
    for key, value in config.items():
        mine: Json = field_set(value)
        if isinstance(value, list) and (items := _by_key(key, value, value)) is not None:
            merge_key = MERGE_KEYS[key]
            for item in items.values():
                name = str(item[merge_key]) if isinstance(item[merge_key], int) else f'"{item[merge_key]}"'
                mine[f'k:{{"{merge_key}":{name}}}'] = {".": {}, **field_set(item)}
        result[f"f:{key}"] = mine
    return result


def json_patch(target: Json, operations: Any) -> Any:
    """RFC 6902. Raises a 400 Refusal for a malformed patch, 422 for one that does not fit the object."""
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    result: Any = copy.deepcopy(target)
    for operation in operations:
        try:
            step = _OPERATIONS[operation["op"]]
            result = step(result, operation)
        except (KeyError, IndexError, ValueError, TypeError) as problem:
            raise Refusal(
                422, "Invalid", f"the server rejected our request: {operation!r} ({problem!r})"
            ) from problem
    return result


def _pointer(text: str) -> list[str]:
    if text and not text.startswith("/"):
        raise ValueError("a JSON pointer starts with a slash")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _index(items: list[Any], key: str, end: int) -> int:
    if not key.isdecimal() or (key != "0" and key.startswith("0")) or int(key) >= end:
        raise IndexError(key)
    return int(key)


def _find(document: Any, path: list[str]) -> Any:
    for key in path:
        document = document[_index(document, key, len(document)) if isinstance(document, list) else key]
    return document


def _add(document: Any, operation: Json) -> Any:
    return _insert(document, _pointer(operation["path"]), copy.deepcopy(operation["value"]))


def _insert(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent, key = _find(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        parent.insert(len(parent) if key == "-" else _index(parent, key, len(parent) + 1), value)
    else:
        parent[key] = value
    return document


def _remove(document: Any, operation: Json) -> Any:
    path = _pointer(operation["path"])
    if not path:
        return {}
    parent, key = _find(document, path[:-1]), path[-1]
    del parent[_index(parent, key, len(parent)) if isinstance(parent, list) else key]
    return document


def _replace(document: Any, operation: Json) -> Any:
    path = _pointer(operation["path"])
    _find(document, path)
    return _insert(_remove(document, operation), path, copy.deepcopy(operation["value"]))


def _move(document: Any, operation: Json) -> Any:
    value = _find(document, _pointer(operation["from"]))
    return _insert(_remove(document, {"path": operation["from"]}), _pointer(operation["path"]), value)


def _copy(document: Any, operation: Json) -> Any:
    value = copy.deepcopy(_find(document, _pointer(operation["from"])))
    return _insert(document, _pointer(operation["path"]), value)


def _test(document: Any, operation: Json) -> Any:
    if _find(document, _pointer(operation["path"])) != operation["value"]:
        raise ValueError("test failed")
    return document


_OPERATIONS: dict[str, Callable[[Any, Json], Any]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}
