"""The stand-in API's verbs: a request in; an object, a list, a stream or a refusal out. No socket here."""

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from argotun.demo import bodies, patch, refusal, resources, selectors, tables
from argotun.demo.admission import admit
from argotun.demo.messages import TEXT, Answer, Request, as_json
from argotun.demo.resources import Json, Resource
from argotun.demo.store import Store, now
from argotun.demo.watch import Watch


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    sub: str = ""


class Api:
    """The verbs over a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._verbs: dict[tuple[str, str], Callable[[Request, Target], Answer]] = {
            ("GET", "all"): self._list_or_watch,
            ("POST", "all"): self._create,
            ("DELETE", "all"): self._delete_all,
            ("GET", "one"): self._get,
            ("PUT", "one"): self._update,
            ("PATCH", "one"): self._patch,
            ("DELETE", "one"): self._delete,
            ("GET", "scale"): self._get_scale,
            ("PUT", "scale"): self._set_scale,
            ("PATCH", "scale"): self._set_scale,
        }

    def answer(self, request: Request) -> Answer:
        """Serve one request; every refusal is an answer too."""
        try:
            return self._serve(request)
        except refusal.Refusal as refused:
            return as_json(refused.status(), refused.code)
        except RecursionError:
            return as_json(refusal.bad_request("the object is nested too deeply").status(), 400)

    def _serve(self, request: Request) -> Answer:
        if fixed := _document(request.path):
            if request.method not in ("GET", "HEAD"):
                raise refusal.method_not_allowed()
            return fixed
        target = _resource_path(request.path)
        if not bodies.form(request.accept):
            raise refusal.not_acceptable()
        if target.resource.verbs == ("create",):
            return self._review(request, target)
        shape = target.sub or ("one" if target.name else "all")
        verb = self._verbs.get((request.method, shape))
        if verb is None:
            raise refusal.method_not_allowed()
        return verb(request, target)

    # Reading

    def _list_or_watch(self, request: Request, target: Target) -> Answer:
        query = request.query
        matches = selectors.both(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        if query.get("watch") in ("true", "1"):
            show = _shown(request, target.resource)
            return Answer(
                200, Watch(self.store, target.resource, target.namespace, matches, query, request.fd, show)
            )
        found = [obj for obj in self.store.objects(target.resource, target.namespace) if matches(obj)]
        meta: Json = {"resourceVersion": str(self.store.revision)}
        if token := query.get("continue", ""):
            after = _continue_key(token)
            found = [obj for obj in found if _key(obj) > after]
        limit = _whole_number("limit", query.get("limit", "0"))
        if limit and len(found) > limit:
            meta["remainingItemCount"] = len(found) - limit
            found = found[:limit]
            meta["continue"] = base64.urlsafe_b64encode(json.dumps(_key(found[-1])).encode()).decode()
        if bodies.form(request.accept) == "table":
            return as_json(tables.table(target.resource.kind, found, meta, _included(request)))
        return as_json(_list_of(target.resource, found, meta))

    def _get(self, request: Request, target: Target) -> Answer:
        obj = self.store.get(target.resource, target.namespace, target.name)
        return as_json(_shown(request, target.resource)(obj))

    # Writing

    def _create(self, request: Request, target: Target) -> Answer:
        if target.resource.namespaced and not target.namespace:
            raise refusal.method_not_allowed()
        obj = admit(target.resource, bodies.read_object(request), target.namespace, None)
        return as_json(self.store.create(target.resource, obj, request.dry_run), 201)

    def _update(self, request: Request, target: Target) -> Answer:
        obj = admit(target.resource, bodies.read_object(request), target.namespace, target.name)
        return as_json(self.store.replace(target.resource, obj, request.dry_run))

    def _patch(self, request: Request, target: Target) -> Answer:
        kind, document = bodies.read_patch(request)
        if kind == bodies.APPLY:
            return self._apply(request, target, document)
        old = self.store.get(target.resource, target.namespace, target.name)
        patched = _PATCHES[kind](old, document)
        obj = admit(target.resource, patched, target.namespace, target.name)
        return as_json(self.store.replace(target.resource, obj, request.dry_run))

    def _apply(self, request: Request, target: Target, config: Any) -> Answer:
        """Server-side apply: create the object, or merge what this manager wants into it."""
        manager = request.query.get("fieldManager", "")
        if not manager:
            raise refusal.bad_request("fieldManager is required for apply patch")
        if not isinstance(config, dict):
            raise refusal.bad_request("an applied configuration is an object")
        wanted = {key: value for key, value in config.items() if key != "status"}
        meta = wanted.get("metadata")
        if isinstance(meta, dict) and meta.get("managedFields"):
            raise refusal.bad_request("metadata.managedFields must be nil")
        try:
            live = self.store.get(target.resource, target.namespace, target.name)
        except refusal.Refusal:
            checked = admit(target.resource, wanted, target.namespace, target.name)
            checked["metadata"]["managedFields"] = [_managed(target.resource, manager, wanted)]
            obj = self.store.create(target.resource, checked, request.dry_run)
            code = 201
        else:
            last = self.store.applied.get(live["metadata"]["uid"], {}).get(manager, {})
            merged = admit(target.resource, patch.apply(live, last, wanted), target.namespace, target.name)
            if wanted != last:
                managed = merged["metadata"].get("managedFields") or []
                others = [entry for entry in managed if entry.get("manager") != manager]
                merged["metadata"]["managedFields"] = [*others, _managed(target.resource, manager, wanted)]
            obj = self.store.replace(target.resource, merged, request.dry_run)
            code = 200
        if not request.dry_run:
            self.store.applied.setdefault(obj["metadata"]["uid"], {})[manager] = wanted
        return as_json(obj, code)

    def _delete(self, request: Request, target: Target) -> Answer:
        resource, name = target.resource, target.name
        obj = self.store.get(resource, target.namespace, name)
        options = bodies.read_options(request)
        for key, value in (options.get("preconditions") or {}).items():
            if value not in (None, obj["metadata"].get(key)):
                raise refusal.conflict(
                    resource, name, f"Precondition failed: {key} does not match the object's"
                )
        dry_run = request.dry_run or options.get("dryRun") == ["All"]
        gone = self.store.delete(resource, target.namespace, name, dry_run)
        if "deletionTimestamp" in gone["metadata"]:
            return as_json(gone)
        details = {
            "name": name,
            "group": resource.group,
            "kind": resource.plural,
            "uid": obj["metadata"]["uid"],
        }
        return as_json(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        )

    def _delete_all(self, request: Request, target: Target) -> Answer:
        query, resource = request.query, target.resource
        if resource.namespaced and not target.namespace:
            raise refusal.method_not_allowed()
        matches = selectors.both(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        gone = [obj for obj in self.store.objects(resource, target.namespace) if matches(obj)]
        for obj in gone:
            self.store.delete(resource, target.namespace, obj["metadata"]["name"], request.dry_run)
        return as_json(_list_of(resource, gone, {"resourceVersion": str(self.store.revision)}))

    # Scale

    def _get_scale(self, request: Request, target: Target) -> Answer:
        return as_json(_scale(self.store.get(target.resource, target.namespace, target.name)))

    def _set_scale(self, request: Request, target: Target) -> Answer:
        obj = self.store.get(target.resource, target.namespace, target.name)
        if request.method == "PATCH":
            kind, document = bodies.read_patch(request)
            scale = _PATCHES.get(kind, patch.merge)(_scale(obj), document)
        else:
            scale = bodies.read_object(request)
        try:
            replicas = scale["spec"]["replicas"]
        except (KeyError, TypeError):
            raise refusal.bad_request("a Scale names spec.replicas") from None
        scaled = {**obj, "spec": {**obj["spec"], "replicas": replicas}}
        obj = admit(target.resource, scaled, target.namespace, target.name)
        return as_json(_scale(self.store.replace(target.resource, obj, request.dry_run)))

    # Reviews: answered, never stored

    def _review(self, request: Request, target: Target) -> Answer:
        if request.method != "POST" or target.name:
            raise refusal.method_not_allowed()
        body = bodies.read_object(request)
        if not isinstance(body, dict):
            raise refusal.bad_request("a review is an object")
        if target.resource is resources.IDENTITY_REVIEWS:
            status: Json = {"userInfo": {"username": request.user, "groups": ["system:authenticated"]}}
        else:
            status = {"allowed": True, "reason": "the stand-in API allows everything"}
        return as_json({**body, "status": status}, 201)


_PATCHES: dict[str, Callable[[Any, Any], Any]] = {
    bodies.JSON_PATCH: patch.json_patch,
    bodies.MERGE: patch.merge,
    bodies.STRATEGIC: patch.strategic,
}


def _document(path: list[str]) -> Answer | None:
    """The fixed documents: version, probes, discovery, OpenAPI; None for any other path."""
    match path:
        case ["healthz" | "livez" | "readyz", *_]:
            return Answer(200, b"ok", TEXT)
        case [""]:
            return as_json({"paths": ["/api", "/apis", "/healthz", "/openapi/v3", "/version"]})
        case ["version"]:
            return as_json(resources.version_info())
        case ["api"]:
            return as_json(resources.api_versions())
        case ["api", version]:
            found = resources.resource_list("", version)
        case ["apis"]:
            return as_json(resources.group_list())
        case ["apis", group]:
            found = resources.group(group)
        case ["apis", group, version]:
            found = resources.resource_list(group, version)
        case ["openapi", "v3"]:
            return as_json(resources.openapi_index())
        case ["openapi", "v3", "api", version]:
            found = resources.openapi_document("", version)
        case ["openapi", "v3", "apis", group, version]:
            found = resources.openapi_document(group, version)
        case _:
            return None
    if found is None:
        raise refusal.unknown_path()
    return as_json(found)


def _resource_path(path: list[str]) -> Target:
    """What the path of a resource names; a 404 Refusal where it is none of ours."""
    match path:
        case ["api", version, *rest]:
            group = ""
        case ["apis", group, version, *rest]:
            pass
        case _:
            raise refusal.unknown_path()
    if not all(path):
        raise refusal.unknown_path()
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    if not 1 <= len(rest) <= 3:
        raise refusal.unknown_path()
    plural, name, sub = (*rest, "", "")[:3]
    resource = resources.BY_PATH.get((group, version, plural))
    if resource is None or (sub and not (sub == "scale" and resource.scale)):
        raise refusal.unknown_path()
    if bool(namespace) != resource.namespaced and (namespace or name):
        raise refusal.unknown_path()
    return Target(resource, namespace, name, sub)


def _list_of(resource: Resource, items: list[Json], meta: Json) -> Json:
    return {
        "kind": f"{resource.kind}List",
        "apiVersion": resource.group_version,
        "metadata": meta,
        "items": items,
    }


def _included(request: Request) -> str:
    include = request.query.get("includeObject") or "Metadata"
    if include not in tables.INCLUDE:
        raise refusal.bad_request(
            f"includeObject must be one of {', '.join(tables.INCLUDE)}, not {include!r}"
        )
    return include


def _shown(request: Request, resource: Resource) -> Callable[[Json], Json]:
    """How the client wants to see one object: as it is, or as a table of one row."""
    if bodies.form(request.accept) != "table":
        return lambda obj: obj
    include = _included(request)
    return lambda obj: tables.table(
        resource.kind, [obj], {"resourceVersion": obj["metadata"]["resourceVersion"]}, include
    )


def _key(obj: Json) -> list[str]:
    return [obj["metadata"].get("namespace", ""), obj["metadata"]["name"]]


def _continue_key(token: str) -> list[str]:
    try:
        key = json.loads(base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError):
        key = None
    if not isinstance(key, list) or not all(isinstance(part, str) for part in key):
        raise refusal.bad_request("continue key is not valid")
    return key


def _whole_number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise refusal.bad_request(f"{name} must be a whole number, not {text!r}")
    return int(text)


def _managed(resource: Resource, manager: str, config: Json) -> Json:
    fields = {key: value for key, value in config.items() if key not in ("apiVersion", "kind")}
    meta = {k: v for k, v in (fields.get("metadata") or {}).items() if k not in ("name", "namespace")}
    return {
        "manager": manager,
        "operation": "Apply",
        "apiVersion": resource.group_version,
        "time": now(),
        "fieldsType": "FieldsV1",
        "fieldsV1": patch.field_set({**fields, "metadata": meta}),
    }


def _scale(obj: Json) -> Json:
    meta = {
        key: obj["metadata"][key]
        for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    }
    chosen = ",".join(f"{key}={value}" for key, value in obj["spec"]["selector"]["matchLabels"].items())
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": meta,
        "spec": {"replicas": obj["spec"]["replicas"]},
        "status": {"replicas": obj.get("status", {}).get("replicas", 0), "selector": chosen},
    }
