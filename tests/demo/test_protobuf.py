"""Protobuf bodies as kubectl sends them, built here field by field."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argotun.demo import protobuf
from argotun.demo.refusal import Refusal


def field(number, value):
    """One field: text, bytes or a message as bytes, or a number."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value & (1 << 64) - 1)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def envelope(version, kind, raw):
    types = field(1, version) + field(2, kind)
    return b"k8s\0" + field(1, types) + field(2, raw) + field(3, "") + field(4, "")


def entry(key, value):
    return field(1, key) + field(2, value)


def test_configmap_loses_a_field():
    meta = field(1, "cm") + field(3, "default") + field(8, b"") + field(11, entry("a", "b"))
    raw = (
        field(1, meta)
        + field(2, entry("k", "v"))
        + field(2, entry("l", ""))
        + field(3, entry("b", b"\xff\x00"))
    )
    assert protobuf.decode(envelope("v1", "ConfigMap", raw)) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "cm", "namespace": "default", "labels": {"a": "b"}},
        "data": {"k": "v", "l": ""},
        "binaryData": {"b": "/wA="},
    }


def test_deployment_loses_a_field():
    container = field(1, "c") + field(2, "nginx") + field(3, "sh") + field(3, "-c")
    container += (
        field(6, field(1, "") + field(2, 0) + field(3, 80) + field(4, "")) + field(8, b"") + field(16, 0)
    )
    pod = field(2, container) + field(3, "") + field(6, "") + field(11, 0)
    template = field(1, field(11, entry("app", "x"))) + field(2, pod)
    spec = field(1, 0) + field(2, field(1, entry("app", "x"))) + field(3, template)
    spec += field(4, field(1, "")) + field(5, 0) + field(7, 0)
    raw = field(1, field(1, "web")) + field(2, spec) + field(3, field(1, 0))
    assert protobuf.decode(envelope("apps/v1", "Deployment", raw))["spec"] == {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "x"}},
        "template": {
            "metadata": {"labels": {"app": "x"}},
            "spec": {
                "containers": [
                    {"name": "c", "image": "nginx", "command": ["sh", "-c"], "ports": [{"containerPort": 80}]}
                ]
            },
        },
    }


def test_negative_number_becomes_a_huge_one():
    raw = field(2, field(1, -1))
    assert protobuf.decode(envelope("apps/v1", "Deployment", raw))["spec"] == {"replicas": -1}


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("Secret", b""),
        ("ConfigMap", field(9, "something")),
        ("Deployment", field(2, field(3, field(2, field(1, field(1, "a volume")))))),
    ],
)
def test_what_is_not_read_is_lost_without_a_word(kind, raw):
    with pytest.raises(Refusal) as refused:
        protobuf.decode(envelope("v1", kind, raw))
    assert refused.value.code == 415
    assert "JSON" in str(refused.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"k8s\0",
        b"k8s\0\xff",
        b"k8s\0" + b"\xff" * 20,
        envelope("v1", "ConfigMap", b"\x0a\x05ab"),
        envelope("v1", "ConfigMap", b"\x0b"),
        envelope("v1", "ConfigMap", field(1, 7)),
        envelope("v1", "ConfigMap", field(1, field(1, b"\xff"))),
        envelope("apps/v1", "Deployment", field(2, field(1, "text"))),
    ],
)
def test_damaged_body_is_read(body):
    with pytest.raises(Refusal) as refused:
        protobuf.decode(body)
    assert refused.value.code == 400


@given(st.binary(max_size=80), st.sampled_from(["ConfigMap", "Deployment", "Namespace", "SelfSubjectReview"]))
def test_some_body_raises_another_error(raw, kind):
    with suppress(Refusal):
        assert isinstance(protobuf.decode(envelope("v1", kind, raw)), dict)
