"""The stand-in API's verbs: a request in; an object, a watch or a refusal out."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from gevent import get_hub
from gevent.queue import Empty

from argotun.demo.patch import merge, strategic
from argotun.demo.pods import Pods
from argotun.demo.refusal import Refusal, bad_request, not_found, not_implemented
from argotun.demo.resources import BY_PATH, DEPLOYMENTS, REVIEWS, Json, Resource, document
from argotun.demo.store import Change, Store

MAX_REPLICAS = 100
"""Pods of one deployment: enough to see scaling, too few to fill the memory of a laptop."""

WATCH_SECONDS = 1800
"""How long a watch lives at most, and where it names no `timeoutSeconds`."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_PATCHES = {
    "application/merge-patch+json": merge,
    "application/strategic-merge-patch+json": strategic,
}
_PHASES = {(False, True): "ADDED", (True, True): "MODIFIED", (True, False): "DELETED"}


@dataclass(slots=True)
class Request:
    """A request as the API sees it: `target` is the raw one, `fd` the client's socket."""

    method: str
    target: str
    body: bytes
    kind: str
    """The media type of the body."""
    user: str
    fd: int


class Api:
    """The verbs over a store."""

    def __init__(self, store: Store, pods: Pods) -> None:
        self._store = store
        self._pods = pods

    def answer(self, request: Request) -> "tuple[int, Json | Watch]":
        """Status code and object of an answer; raises a Refusal."""
        path, _, query = request.target.partition("?")
        if request.method == "GET" and (fixed := document(path.strip("/"))) is not None:
            return 200, fixed
        resource, namespace, name = _resource_path([unquote(part) for part in path.strip("/").split("/")])
        options = dict(parse_qsl(query))
        if "dryRun" in options:
            raise bad_request("the stand-in API has no dry run")
        verb = _VERBS.get((request.method, bool(name)))
        if verb not in resource.verbs or (verb == "create" and bool(namespace) != resource.namespaced):
            raise Refusal(405, "MethodNotAllowed", f"{request.method} is not allowed on {resource.qualified}")
        if verb == "list":
            return 200, self._list(resource, namespace, options, request.fd)
        if verb == "get":
            return 200, self._store.get(resource, namespace, name)
        if verb == "delete":
            gone = self._store.delete(resource, namespace, name)
            self._pods.changed(resource, gone)
            return 200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        kinds = _PATCHES if verb == "patch" else {"application/json": None, "": None}
        if request.kind not in kinds:
            raise Refusal(
                415, "UnsupportedMediaType", f"not JSON, as kubectl apply sends it: {request.kind!r}"
            )
        try:
            body = json.loads(request.body)
            # What fits only just would be too deep later, as a part of a list.
            json.loads(b"[" * 100 + request.body + b"]" * 100)
        except (ValueError, RecursionError) as problem:
            raise bad_request(f"the body is not JSON: {problem}") from problem
        if resource is REVIEWS:
            user = {"username": request.user, "groups": ["system:authenticated"]}
            return 201, {**_object(body), "status": {"userInfo": user}}
        old = {} if verb == "create" else self._store.get(resource, namespace, name)
        if verb == "patch":
            body = _PATCHES[request.kind](old, body)
        obj = _checked(resource, body, namespace, name)
        if "status" in old:
            obj["status"] = old["status"]
        made = (self._store.create if verb == "create" else self._store.replace)(resource, obj)
        self._pods.changed(resource, made)
        return 201 if verb == "create" else 200, made

    def _list(self, resource: Resource, namespace: str, options: dict[str, str], fd: int) -> "Json | Watch":
        matches = _selected(options)
        if options.get("watch") in ("true", "1"):
            return Watch(self._store, resource, namespace, matches, options, fd)
        return {
            "kind": f"{resource.kind}List",
            "apiVersion": resource.group_version,
            "metadata": {"resourceVersion": str(self._store.revision)},
            "items": [obj for obj in self._store.objects(resource, namespace) if matches(obj)],
        }


_VERBS = {
    ("GET", False): "list",
    ("GET", True): "get",
    ("POST", False): "create",
    ("PUT", True): "update",
    ("PATCH", True): "patch",
    ("DELETE", True): "delete",
}


class Watch:
    """What is there, then every change as a line of JSON, until time is up or the client is gone."""

    def __init__(
        self,
        store: Store,
        resource: Resource,
        namespace: str,
        matches: Callable[[Json], bool],
        options: dict[str, str],
        fd: int,
    ) -> None:
        version, seconds = options.get("resourceVersion") or "0", options.get("timeoutSeconds") or "0"
        if not (version.isdecimal() and seconds.isdecimal() and len(version + seconds) < 40):
            raise bad_request("resourceVersion and timeoutSeconds are whole numbers")
        self._resource = resource
        self._store = store
        self._deadline = time.monotonic() + min(int(seconds) or WATCH_SECONDS, WATCH_SECONDS)
        self._matches: Callable[[Json], bool] = lambda obj: (
            namespace in ("", obj["metadata"].get("namespace")) and matches(obj)
        )
        initial = options.get("sendInitialEvents") in ("true", "1")
        self._first = self._begin(0 if initial else int(version))
        if initial:
            meta = {
                "annotations": {"k8s.io/initial-events-end": "true"},
                "resourceVersion": str(store.revision),
            }
            end = {"kind": resource.kind, "apiVersion": resource.group_version, "metadata": meta}
            self._first.append(_line("BOOKMARK", end))
        self._queue = store.follow()
        # A client that watches has nothing to say: when its socket is readable, it has gone.
        self._gone: Any = get_hub().loop.io(fd, 1)
        self._gone.start(self._queue.put, None)

    def _begin(self, version: int) -> list[bytes]:
        if version:
            return [self._event(change) for change in self._store.since(version)]
        return [_line("ADDED", obj) for obj in self._store.objects(self._resource) if self._matches(obj)]

    def _event(self, change: Change) -> bytes:
        """The line of a change, b"" where it is none of this watch's; leaving a selector is a DELETED."""
        if change.resource is not self._resource:
            return b""
        before, after = (obj is not None and self._matches(obj) for obj in (change.old, change.new))
        kind = _PHASES.get((before, after))
        return _line(kind, change.new or change.old) if kind else b""

    def __iter__(self) -> Iterator[bytes]:
        yield from filter(None, self._first)
        try:
            while change := self._queue.get(timeout=max(0.0, self._deadline - time.monotonic())):
                if line := self._event(change):
                    yield line
        except Empty:
            return

    def close(self) -> None:
        """Release the store and the socket."""
        self._gone.stop()
        self._gone.close()
        self._store.unfollow(self._queue)


def _line(kind: str, obj: Json | None) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def _resource_path(path: list[str]) -> tuple[Resource, str, str]:
    """Resource, namespace and name that a path names; a 404 Refusal where it is none of ours."""
    group, rest = ("", path[2:]) if path[0] == "api" else ("".join(path[1:2]), path[3:])
    version = path[1:2] if path[0] == "api" else path[2:3]
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    if path[0] not in ("api", "apis") or version != ["v1"] or not all(path) or not rest:
        raise not_found()
    if len(rest) == 3 and rest[0] == "pods" and rest[2] in ("exec", "attach", "portforward", "log"):
        raise not_implemented(rest[2])
    plural, name = rest[0], "".join(rest[1:2])
    resource = BY_PATH.get((group, plural))
    if resource is None or len(rest) > 2 or (bool(namespace) != resource.namespaced and (namespace or name)):
        raise not_found()
    return resource, namespace, name


def _selected(options: dict[str, str]) -> Callable[[Json], bool]:
    """Label and field selectors, equality alone; a 400 Refusal for any other."""
    wanted: list[tuple[list[str], str]] = []
    for option, fields in (("labelSelector", False), ("fieldSelector", True)):
        for term in filter(None, options.get(option, "").split(",")):
            key, equals, value = term.replace("==", "=").partition("=")
            if not equals or key.endswith("!") or "=" in value:
                raise bad_request(f"the stand-in API selects by equality alone, not by {term!r}")
            wanted.append((key.split(".") if fields else ["metadata", "labels", key], value))
    return lambda obj: all(_at(obj, path) == value for path, value in wanted)


def _at(obj: Any, path: list[str]) -> Any:
    for key in path:
        obj = obj.get(key) if isinstance(obj, dict) else None
    return obj


def _object(value: Any) -> Json:
    """`value`, or {} where it is no object."""
    return value if isinstance(value, dict) else {}


def _checked(resource: Resource, body: Any, namespace: str, name: str) -> Json:
    """The object of a body, with what the path says; a 422 Refusal for one that the rest could not read."""
    meta = {**_object(_object(body).get("metadata"))}
    obj = {**_object(body), "apiVersion": resource.group_version, "kind": resource.kind, "metadata": meta}
    spec = obj["spec"] = {**_object(obj.get("spec"))}
    if namespace:
        meta["namespace"] = namespace
    meta["name"] = name or meta.get("name")
    checks = {
        "apiVersion": _object(body).get("apiVersion", obj["apiVersion"]) == obj["apiVersion"],
        "kind": _object(body).get("kind", obj["kind"]) == obj["kind"],
        "metadata.name": isinstance(meta["name"], str) and _NAME.fullmatch(meta["name"]),
        "metadata.namespace": _at(body, ["metadata", "namespace"]) in (None, "", namespace),
        "metadata.labels": isinstance(meta.get("labels") or {}, dict),
    }
    if resource is DEPLOYMENTS:
        replicas = spec.setdefault("replicas", 1)
        containers = _at(spec, ["template", "spec", "containers"])
        checks["spec.replicas"] = type(replicas) is int and 0 <= replicas <= MAX_REPLICAS
        checks["spec.template.metadata.labels"] = isinstance(
            _at(spec, ["template", "metadata", "labels"]), dict
        )
        checks["spec.template.spec.containers"] = isinstance(containers, list) and all(
            isinstance(_at(container, ["name"]), str) for container in containers
        )
    if wrong := [field for field, right in checks.items() if not right]:
        raise Refusal(422, "Invalid", f'{resource.kind} "{meta["name"]}" is invalid: {", ".join(wrong)}')
    return obj if spec else {key: value for key, value in obj.items() if key != "spec"}
