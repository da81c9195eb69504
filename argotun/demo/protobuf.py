"""Reading the few objects that kubectl sends only as protobuf: `kubectl create namespace`, `auth whoami`, ….

kubectl's typed commands speak `application/vnd.kubernetes.protobuf` and do not fall back to JSON. The
table below names the fields that these commands send (numbers from Kubernetes' generated.proto files);
a field that is not in it and is not empty is refused, so that nothing is lost without a word.
"""

import base64
from collections.abc import Iterator
from typing import Any

from argotun.demo.refusal import Refusal
from argotun.demo.resources import Json

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"

_MAGIC = b"k8s\x00"
_TYPE_META, _RAW = 1, 2  # fields of runtime.Unknown, the envelope
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Field types: a scalar ("text", "number", "bool", "bytes"), "map" or "bytes map" from text, "ignored", or the
# name of another message. A "+" means that it repeats; a "0" that a zero is a value (a pointer in Go).
_FIELDS: dict[str, dict[int, tuple[str, str]]] = {
    "TypeMeta": {1: ("apiVersion", "text"), 2: ("kind", "text")},
    "ObjectMeta": {
        1: ("name", "text"),
        2: ("generateName", "text"),
        3: ("namespace", "text"),
        5: ("uid", "text"),
        6: ("resourceVersion", "text"),
        8: ("creationTimestamp", "ignored"),
        11: ("labels", "map"),
        12: ("annotations", "map"),
        14: ("finalizers", "text+"),
    },
    "Namespace": {1: ("metadata", "ObjectMeta"), 2: ("spec", "ignored"), 3: ("status", "ignored")},
    "ConfigMap": {
        1: ("metadata", "ObjectMeta"),
        2: ("data", "map"),
        3: ("binaryData", "bytes map"),
        4: ("immutable", "bool"),
    },
    "Deployment": {1: ("metadata", "ObjectMeta"), 2: ("spec", "DeploymentSpec"), 3: ("status", "ignored")},
    "DeploymentSpec": {
        1: ("replicas", "number0"),
        2: ("selector", "LabelSelector"),
        3: ("template", "PodTemplateSpec"),
        4: ("strategy", "DeploymentStrategy"),
        5: ("minReadySeconds", "number"),
        6: ("revisionHistoryLimit", "number0"),
        7: ("paused", "bool"),
        9: ("progressDeadlineSeconds", "number0"),
    },
    "DeploymentStrategy": {1: ("type", "text")},
    "LabelSelector": {1: ("matchLabels", "map")},
    "PodTemplateSpec": {1: ("metadata", "ObjectMeta"), 2: ("spec", "PodSpec")},
    "PodSpec": {
        2: ("containers", "Container+"),
        3: ("restartPolicy", "text"),
        4: ("terminationGracePeriodSeconds", "number0"),
        6: ("dnsPolicy", "text"),
        7: ("nodeSelector", "map"),
        8: ("serviceAccountName", "text"),
        10: ("nodeName", "text"),
        14: ("securityContext", "Empty"),
        19: ("schedulerName", "text"),
    },
    "Container": {
        1: ("name", "text"),
        2: ("image", "text"),
        3: ("command", "text+"),
        4: ("args", "text+"),
        5: ("workingDir", "text"),
        6: ("ports", "ContainerPort+"),
        7: ("env", "EnvVar+"),
        8: ("resources", "Empty"),
        14: ("imagePullPolicy", "text"),
    },
    "ContainerPort": {
        1: ("name", "text"),
        2: ("hostPort", "number"),
        3: ("containerPort", "number"),
        4: ("protocol", "text"),
    },
    "EnvVar": {1: ("name", "text"), 2: ("value", "text")},
    "SelfSubjectAccessReview": {
        1: ("metadata", "ignored"),
        2: ("spec", "SelfSubjectAccessReviewSpec"),
        3: ("status", "ignored"),
    },
    "SelfSubjectAccessReviewSpec": {
        1: ("resourceAttributes", "ResourceAttributes"),
        2: ("nonResourceAttributes", "NonResourceAttributes"),
    },
    "ResourceAttributes": {
        1: ("namespace", "text"),
        2: ("verb", "text"),
        3: ("group", "text"),
        4: ("version", "text"),
        5: ("resource", "text"),
        6: ("subresource", "text"),
        7: ("name", "text"),
    },
    "NonResourceAttributes": {1: ("path", "text"), 2: ("verb", "text")},
    "SelfSubjectReview": {1: ("metadata", "ignored"), 2: ("status", "ignored")},
    "Empty": {},
}


def decode(body: bytes) -> Json:
    """The object of a body, as JSON would have it; a 400 Refusal where it is broken, 415 where unread."""
    if not body.startswith(_MAGIC):
        raise Refusal(
            400, "BadRequest", "the body is not Kubernetes' protobuf: its first four bytes are others"
        )
    try:
        envelope = dict(_parts(memoryview(body)[len(_MAGIC) :]))
        types = _message("TypeMeta", _bytes(envelope[_TYPE_META]))
        kind = types["kind"]
        if kind not in _FIELDS:
            raise _not_read(kind)
        return {**types, **_message(kind, _bytes(envelope[_RAW]))}
    except (KeyError, IndexError, ValueError) as problem:
        raise Refusal(
            400, "BadRequest", "the body is not Kubernetes' protobuf: it is cut or damaged"
        ) from problem


def _not_read(what: str) -> Refusal:
    message = (
        f"{what} is not read from protobuf by the stand-in API; send JSON or YAML (kubectl create -f, apply)"
    )
    return Refusal(415, "UnsupportedMediaType", message)


def _message(kind: str, data: memoryview) -> Json:
    result: Json = {}
    fields = _FIELDS[kind]
    for number, value in _parts(data):
        if number not in fields:
            if value if isinstance(value, int) else len(value):
                raise _not_read(f"field {number} of {kind}")
            continue
        name, form = fields[number]
        if form.endswith("+"):
            result.setdefault(name, []).append(_value(form[:-1], value))
        elif form.endswith("map"):
            entry = dict(_parts(_bytes(value)))
            content = _value("bytes" if form == "bytes map" else "text", entry.get(2, memoryview(b"")))
            result.setdefault(name, {})[_value("text", entry.get(1, memoryview(b"")))] = content
        elif form.endswith("0"):
            result[name] = _value(form[:-1], value)
        elif form != "ignored" and (decoded := _value(form, value)) not in ("", 0, False, {}):
            result[name] = decoded
    return result


def _value(form: str, value: int | memoryview) -> Any:
    match form:
        case "text":
            return bytes(_bytes(value)).decode()
        case "bytes":
            return base64.b64encode(_bytes(value)).decode()
        case "number" | "bool":
            if not isinstance(value, int):
                raise ValueError("a number was expected")
            number = value - (1 << 64) if value >> 63 else value
            return bool(number) if form == "bool" else number
        case _:
            return _message(form, _bytes(value))


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("bytes were expected")
    return value


def _parts(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of one message; IndexError or ValueError where it is cut or damaged."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire_type == _BYTES:
            size, at = _varint(data, at)
        elif wire_type in (_FIXED64, _FIXED32):
            size = 8 if wire_type == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire_type}")
        if at + size > len(data):
            raise IndexError("cut")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value & (1 << 64) - 1, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
