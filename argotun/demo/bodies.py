"""Reading request bodies: JSON and YAML, which patch is which, and what a client accepts."""

import json
from collections.abc import Callable
from typing import Any

import yaml

from argotun.demo import protobuf
from argotun.demo.messages import Request
from argotun.demo.refusal import bad_request, unsupported_media_type
from argotun.demo.resources import Json

APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

PATCH_TYPES = (JSON_PATCH, MERGE, STRATEGIC, APPLY)


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes means it: dates stay text. No aliases: they can make few bytes a huge object."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise bad_request("YAML aliases are not read by the stand-in API")
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def form(accept: str) -> str:
    """What an `Accept` header (empty: anything) prefers: `object`, `table`, or "" for neither of them.

    The order of the header decides; weights are not read, as no Kubernetes client sends any.
    """
    for offer in accept.split(",") if accept else ["*/*"]:
        kind, *parameters = (part.strip() for part in offer.split(";"))
        if kind.lower() not in ("application/json", "application/*", "*/*"):
            continue
        if {"as=Table", "g=meta.k8s.io", "v=v1"} <= set(parameters):
            return "table"
        if not any(parameter.startswith("as=") for parameter in parameters):
            return "object"
    return ""


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as problem:
        raise bad_request(f"the body is not JSON: {problem}") from problem


def _yaml(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        pass
    try:
        return yaml.load(body, _Loader)
    except (yaml.YAMLError, ValueError) as problem:
        raise bad_request(f"the body is not YAML: {problem}") from problem


_READERS: dict[str, Callable[[bytes], Any]] = {
    "application/json": _json,
    "application/yaml": _yaml,
    protobuf.MEDIA_TYPE: protobuf.decode,
}


def read_object(request: Request) -> Any:
    """The object of a create or update; 400 for what cannot be read, 415 for a form that is not."""
    kind = _media_type(request.content_type) or "application/json"
    if kind not in _READERS:
        raise unsupported_media_type(request.content_type, tuple(_READERS))
    return _READERS[kind](request.body)


def read_patch(request: Request) -> tuple[str, Any]:
    """Which of PATCH_TYPES a patch is, and its document; 400 or 415 as `read_object`."""
    kind = _media_type(request.content_type)
    if kind not in PATCH_TYPES:
        raise unsupported_media_type(request.content_type, PATCH_TYPES)
    return kind, _yaml(request.body) if kind == APPLY else _json(request.body)


def read_options(request: Request) -> Json:
    """The DeleteOptions of a delete; {} where it has none."""
    if not request.body:
        return {}
    options = read_object(request)
    if not isinstance(options, dict) or not isinstance(options.get("preconditions") or {}, dict):
        raise bad_request("DeleteOptions must be an object")
    return options
