"""The stand-in API's verbs: a request in; an object, a watch or a refusal out."""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from argotun.demo.patch import merge, merge_strategic
from argotun.demo.pods import Pods
from argotun.demo.resources import (
    BY_PATH,
    DEPLOYMENTS,
    DOCUMENTS,
    REVIEWS,
    Json,
    Resource,
    StatusError,
    bad_request,
)
from argotun.demo.store import Store

MAX_REPLICAS = 100
"""Pods of one deployment: enough to see scaling, too few to fill the memory of a laptop."""

WATCH_SECONDS = 1800
"""How long a watch lives at most, and where it names no `timeoutSeconds`."""

BEAT = 5.0
"""Seconds without a change after which a watch sends an empty line, which fails where the client has gone."""

_PATH = re.compile(
    r"(?:api|apis/(?P<group>[^/]+))/v1(?:/namespaces/(?P<namespace>[^/]+)(?=/.))?/(?P<rest>.+)"
)
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_OF_CONTAINERS = ("exec", "attach", "portforward", "log")
_VERBS = {
    ("GET", False): "list",
    ("GET", True): "get",
    ("POST", False): "create",
    ("PATCH", True): "patch",
    ("DELETE", True): "delete",
}
_PATCHES = {
    "application/merge-patch+json": merge,
    "application/strategic-merge-patch+json": merge_strategic,
}


class Request(NamedTuple):
    """A request as it arrived; names of headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    query: str = ""
    body: bytes = b""


class Api:
    """The verbs over a store."""

    def __init__(self, store: Store, pods: Pods) -> None:
        self._store = store
        self._pods = pods

    def answer(self, request: Request, user: str) -> tuple[int, Json | Iterator[bytes]]:
        """Status code, and the object or the lines of a watch; raises a StatusError."""
        path = request.path.strip("/")
        if request.method == "GET" and (document := DOCUMENTS.get(path)):
            return 200, document
        resource, namespace, name = _find(path)
        verb = _VERBS.get((request.method, bool(name)))
        if verb not in resource.verbs or (verb == "create" and bool(namespace) != resource.namespaced):
            raise StatusError(
                405, "MethodNotAllowed", f"{request.method} is not allowed on {resource.qualified}"
            )
        options = dict(parse_qsl(request.query))
        if "dryRun" in options:
            raise bad_request("the stand-in API has no dry run")
        if verb == "list":
            return self._list(resource, namespace, options)
        if verb == "get":
            return 200, self._store.get(resource, namespace, name)
        if verb == "delete":
            self._pods.changed(resource, self._store.delete(resource, namespace, name))
            return 200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        body = _json(request.body)
        if resource == REVIEWS:
            who = {"username": user, "groups": ["system:authenticated"]}
            return 201, {**_dict(body), "status": {"userInfo": who}}
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if verb == "create":
            made = self._store.create(resource, _checked(resource, body, namespace, name))
        elif kind in _PATCHES:
            new = _PATCHES[kind](self._store.get(resource, namespace, name), body)
            made = self._store.replace(resource, _checked(resource, new, namespace, name))
        else:
            raise StatusError(415, "UnsupportedMediaType", f"no patch of a kind that is known here: {kind!r}")
        self._pods.changed(resource, made)
        return 201 if verb == "create" else 200, made

    def _list(
        self, resource: Resource, namespace: str, options: dict[str, str]
    ) -> tuple[int, Json | Iterator[bytes]]:
        selected = _selected(options)

        def look() -> dict[str, Json]:
            found = self._store.objects(resource, namespace)
            return {obj["metadata"]["uid"]: obj for obj in found if selected(obj)}

        there = look()
        if options.get("watch") not in ("true", "1"):
            meta = {"resourceVersion": str(self._store.revision)}
            head = {"kind": f"{resource.kind}List", "apiVersion": resource.group_version}
            return 200, {**head, "metadata": meta, "items": [*there.values()]}
        if "sendInitialEvents" in options:
            # The word of an API without such watches; clients list instead.
            raise StatusError(422, "Invalid", "sendInitialEvents: the stand-in API has no watches that list")
        numbers = [options.get(option) or "0" for option in ("resourceVersion", "timeoutSeconds")]
        if not all(re.fullmatch("[0-9]{1,18}", number) for number in numbers):
            raise bad_request("resourceVersion and timeoutSeconds are whole numbers")
        version, seconds = map(int, numbers)
        known = {k: v for k, v in there.items() if int(v["metadata"]["resourceVersion"]) <= version}
        ends = time.monotonic() + min(seconds or WATCH_SECONDS, WATCH_SECONDS)
        return 200, self._watch(look, known, ends)

    def _watch(
        self, look: Callable[[], dict[str, Json]], known: dict[str, Json], ends: float
    ) -> Iterator[bytes]:
        """How what is there differs from what is known, as lines of JSON, at each change until time is up."""
        while (left := ends - time.monotonic()) > 0:
            revision = self._store.revision
            there = look()
            changes = [("DELETED", known[uid]) for uid in known if uid not in there]
            changes += [
                ("MODIFIED" if uid in known else "ADDED", obj)
                for uid, obj in there.items()
                if obj != known.get(uid)
            ]
            for kind, obj in changes:
                yield json.dumps({"type": kind, "object": obj}).encode() + b"\n"
            known = there
            if revision == self._store.revision and not self._store.changed.wait(min(left, BEAT)):
                yield b"\n"


def _find(path: str) -> tuple[Resource, str, str]:
    """Resource, namespace and name that a path names; raises a 404 where it is none of ours, else a 501."""
    if found := _PATH.fullmatch(path):
        plural, _, name = found["rest"].partition("/")
        resource, namespace = BY_PATH.get((found["group"] or "", plural)), found["namespace"] or ""
        name, _, sub = name.partition("/")
        if resource and resource.plural == "pods" and sub in _OF_CONTAINERS:
            why = f"{sub}: this is argotun's demo API: it runs no containers"
            raise StatusError(501, "NotImplemented", why)
        fits = resource and (bool(namespace) == resource.namespaced or not (namespace or name))
        if resource and fits and not sub:
            return resource, namespace, name
    raise StatusError(404, "NotFound", "the server could not find the requested resource")


def _selected(options: dict[str, str]) -> Callable[[Json], bool]:
    """Label and field selectors, equality alone; a 400 StatusError for any other."""
    wanted: list[tuple[list[str], str]] = []
    for option in ("labelSelector", "fieldSelector"):
        for term in filter(None, options.get(option, "").split(",")):
            key, equals, value = term.replace("==", "=").partition("=")
            if not equals or key.endswith("!"):
                raise bad_request(f"the stand-in API selects by equality alone, not by {term!r}")
            wanted.append(
                (["metadata", "labels", key] if option == "labelSelector" else key.split("."), value)
            )
    return lambda obj: all(_at(obj, *path) == value for path, value in wanted)


def _at(obj: Any, *path: str) -> Any:
    for key in path:
        obj = obj.get(key) if isinstance(obj, dict) else None
    return obj


def _dict(value: Any) -> Json:
    """`value`, or {} where it is no object."""
    return value if isinstance(value, dict) else {}


def _json(body: bytes) -> Any:
    try:
        # What fits only just would be too deep later, as a part of a list.
        json.loads(b"[" * 100 + body + b"]" * 100)
        return json.loads(body)
    except (ValueError, RecursionError) as problem:
        raise bad_request(f"the body is not JSON: {problem}") from problem


def _checked(resource: Resource, body: Any, namespace: str, name: str) -> Json:
    """The object of a body, with what the path says; raises a 422 for one that the rest could not read."""
    own = {"apiVersion": resource.group_version, "kind": resource.kind}
    meta = {**_dict(_at(body, "metadata"))}
    meta["name"] = name or meta.get("name")
    checks = {field: _dict(body).get(field, own[field]) == own[field] for field in own}
    checks["metadata.name"] = isinstance(meta["name"], str) and bool(_NAME.fullmatch(meta["name"]))
    checks["metadata.namespace"] = meta.get("namespace") in (None, "", namespace)
    checks["metadata.labels"] = isinstance(meta.get("labels") or {}, dict)
    if namespace:
        meta["namespace"] = namespace
    obj = {**_dict(body), **own, "metadata": meta}
    if resource == DEPLOYMENTS:
        spec = obj["spec"] = {"replicas": 1, **_dict(obj.get("spec"))}
        replicas, containers = spec["replicas"], _at(spec, "template", "spec", "containers")
        checks["spec.replicas"] = type(replicas) is int and 0 <= replicas <= MAX_REPLICAS
        checks["spec.template.metadata.labels"] = bool(_at(spec, "template", "metadata", "labels"))
        named = isinstance(containers, list) and all(_at(each, "name") for each in containers)
        checks["spec.template.spec.containers"] = named
    if wrong := [field for field, right in checks.items() if not right]:
        raise StatusError(422, "Invalid", f'{resource.kind} "{meta["name"]}" is invalid: {", ".join(wrong)}')
    return obj
