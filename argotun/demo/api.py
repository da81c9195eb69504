"""The stand-in API's verbs: a request in; an object, a watch or a refusal out."""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

import gevent

from argotun.demo.patch import merge, merge_strategic
from argotun.demo.pods import Pods
from argotun.demo.refusal import Refusal, bad_request
from argotun.demo.resources import BY_PATH, DEPLOYMENTS, DOCUMENTS, REVIEWS, Json, Resource
from argotun.demo.store import Store

MAX_REPLICAS = 100
"""Pods of one deployment: enough to see scaling, too few to fill the memory of a laptop."""

WATCH_SECONDS = 1800
"""How long a watch lives at most, and where it names no `timeoutSeconds`."""

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
_FORMS: dict[str, dict[str, Callable[[Any, Any], Any]]] = {
    "create": {"application/json": lambda _, body: body, "": lambda _, body: body},
    "patch": {
        "application/merge-patch+json": merge,
        "application/strategic-merge-patch+json": merge_strategic,
    },
}
"""Media types of a body, and what each makes of the old object and the body."""
_EVENTS = {(False, True): "ADDED", (True, True): "MODIFIED", (True, False): "DELETED"}

Matches = Callable[[Json | None], bool]


class Request(NamedTuple):
    """A request as the API sees it: `target` is the raw one, `kind` the media type of the body."""

    method: str
    target: str
    body: bytes
    kind: str
    user: str
    fd: int
    """The client's socket."""


class Api:
    """The verbs over a store."""

    def __init__(self, store: Store, pods: Pods) -> None:
        self._store = store
        self._pods = pods

    def answer(self, request: Request) -> tuple[int, Json | Iterator[bytes]]:
        """Status code, and the object or the lines of a watch; raises a Refusal."""
        path, _, query = request.target.partition("?")
        if request.method == "GET" and (document := DOCUMENTS.get(path.strip("/"))):
            return 200, document
        resource, namespace, name = _find(path)
        verb = _VERBS.get((request.method, bool(name)))
        if verb not in resource.verbs or (verb == "create" and bool(namespace) != resource.namespaced):
            raise Refusal(405, "MethodNotAllowed", f"{request.method} is not allowed on {resource.qualified}")
        options = dict(parse_qsl(query))
        if "dryRun" in options:
            raise bad_request("the stand-in API has no dry run")
        if verb == "list":
            return 200, self._list(resource, namespace, options, request.fd)
        if verb == "get":
            return 200, self._store.get(resource, namespace, name)
        if verb == "delete":
            self._pods.changed(resource, self._store.delete(resource, namespace, name))
            return 200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        if request.kind not in _FORMS[verb]:
            why = f"not JSON, as kubectl apply sends it: {request.kind!r}"
            raise Refusal(415, "UnsupportedMediaType", why)
        body = _json(request.body)
        if resource == REVIEWS:
            user = {"username": request.user, "groups": ["system:authenticated"]}
            return 201, {**_dict(body), "status": {"userInfo": user}}
        old = self._store.get(resource, namespace, name) if verb == "patch" else {}
        obj = _checked(resource, _FORMS[verb][request.kind](old, body), namespace, name)
        if "status" in old:
            obj["status"] = old["status"]
        made = self._store.replace(resource, obj) if old else self._store.create(resource, obj)
        self._pods.changed(resource, made)
        return 200 if old else 201, made

    def _list(
        self, resource: Resource, namespace: str, options: dict[str, str], fd: int
    ) -> Json | Iterator[bytes]:
        selected = _selected(options)
        if options.get("watch") not in ("true", "1"):
            items = [obj for obj in self._store.objects(resource, namespace) if selected(obj)]
            meta = {"resourceVersion": str(self._store.revision)}
            head = {"kind": f"{resource.kind}List", "apiVersion": resource.group_version}
            return {**head, "metadata": meta, "items": items}
        if "sendInitialEvents" in options:
            # The word of an API without such watches; clients list instead.
            raise Refusal(422, "Invalid", "sendInitialEvents: the stand-in API has no watches that list")
        numbers = [options.get(option) or "0" for option in ("resourceVersion", "timeoutSeconds")]
        if not all(re.fullmatch("[0-9]{1,18}", number) for number in numbers):
            raise bad_request("resourceVersion and timeoutSeconds are whole numbers")
        version, seconds = map(int, numbers)
        first = [] if version else [obj for obj in self._store.objects(resource, namespace) if selected(obj)]
        version = version or self._store.revision
        self._store.since(version)  # refuses a version that is forgotten
        ends = time.monotonic() + min(seconds or WATCH_SECONDS, WATCH_SECONDS)

        def matches(obj: Json | None) -> bool:
            return obj is not None and namespace in ("", obj["metadata"].get("namespace")) and selected(obj)

        return self._watch(resource, first, version, matches, ends, fd)

    def _watch(
        self, resource: Resource, first: list[Json], version: int, matches: Matches, ends: float, fd: int
    ) -> Iterator[bytes]:
        """What is there, then every change as a line of JSON, until time is up or the client is gone."""
        gone: list[bool] = []
        # A client that watches has nothing to say: when its socket is readable, it has gone.
        readable = gevent.get_hub().loop.io(fd, 1)

        def leave() -> None:
            readable.stop()
            gone.append(True)
            self._store.wake()

        readable.start(leave)
        try:
            for obj in first:
                yield _line("ADDED", obj)
            while not gone and not self._store.ended and time.monotonic() < ends:
                for change in self._store.since(version):
                    version = change.revision
                    kind = _EVENTS.get((matches(change.old), matches(change.new)))
                    if kind and change.resource == resource:
                        yield _line(kind, change.new or change.old)
                if version == self._store.revision:
                    self._store.changed.wait(max(0.0, ends - time.monotonic()))
        except Refusal:
            return  # too far behind; the client begins again
        finally:
            readable.stop()
            readable.close()


def _line(kind: str, obj: Json | None) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def _find(path: str) -> tuple[Resource, str, str]:
    """Resource, namespace and name that a path names; a 404 Refusal where it is none of ours, else a 501."""
    if found := _PATH.fullmatch(path.strip("/")):
        plural, _, name = found["rest"].partition("/")
        resource, namespace = BY_PATH.get((found["group"] or "", plural)), found["namespace"] or ""
        name, _, sub = name.partition("/")
        if resource and resource.plural == "pods" and sub in _OF_CONTAINERS:
            why = f"{sub}: this is argotun's demo API: it runs no containers"
            raise Refusal(501, "NotImplemented", why)
        fits = resource and (bool(namespace) == resource.namespaced or not (namespace or name))
        if resource and fits and not sub:
            return resource, unquote(namespace), unquote(name)
    raise Refusal(404, "NotFound", "the server could not find the requested resource")


def _selected(options: dict[str, str]) -> Callable[[Json], bool]:
    """Label and field selectors, equality alone; a 400 Refusal for any other."""
    wanted: list[tuple[list[str], str]] = []
    for option, above in (("labelSelector", ["metadata", "labels"]), ("fieldSelector", [])):
        for term in filter(None, options.get(option, "").split(",")):
            key, equals, value = term.replace("==", "=").partition("=")
            if not equals or key.endswith("!") or "=" in value:
                raise bad_request(f"the stand-in API selects by equality alone, not by {term!r}")
            wanted.append(([*above, key] if above else key.split("."), value))
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
    """The object of a body, with what the path says; a 422 Refusal for one that the rest could not read."""
    meta, own = (
        dict(_dict(_at(body, "metadata"))),
        {"apiVersion": resource.group_version, "kind": resource.kind},
    )
    meta["name"] = name or meta.get("name")
    checks = {field: _dict(body).get(field, own[field]) == own[field] for field in own}
    checks["metadata.name"] = isinstance(meta["name"], str) and _NAME.fullmatch(meta["name"]) is not None
    checks["metadata.namespace"] = meta.get("namespace") in (None, "", namespace)
    checks["metadata.labels"] = isinstance(meta.get("labels") or {}, dict)
    if namespace:
        meta["namespace"] = namespace
    obj = {**_dict(body), **own, "metadata": meta}
    if resource == DEPLOYMENTS:
        spec = obj["spec"] = {"replicas": 1, **_dict(obj.get("spec"))}
        containers = _at(spec, "template", "spec", "containers")
        checks["spec.replicas"] = type(spec["replicas"]) is int and 0 <= spec["replicas"] <= MAX_REPLICAS
        checks["spec.template.metadata.labels"] = isinstance(
            _at(spec, "template", "metadata", "labels"), dict
        )
        checks["spec.template.spec.containers"] = isinstance(containers, list) and all(
            isinstance(_at(container, "name"), str) for container in containers
        )
    if wrong := [field for field, right in checks.items() if not right]:
        raise Refusal(422, "Invalid", f'{resource.kind} "{meta["name"]}" is invalid: {", ".join(wrong)}')
    return obj
