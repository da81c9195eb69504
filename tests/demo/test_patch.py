"""The four kinds of patch, by example, and with anything at all."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argotun.demo import objects, patch
from argotun.demo.api import Api
from argotun.demo.bodies import PATCH_TYPES
from argotun.demo.messages import Request
from argotun.demo.refusal import Refusal
from argotun.demo.resources import DEPLOYMENTS, NAMESPACES
from argotun.demo.store import Store


@pytest.mark.parametrize(
    ("target", "change", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": "b"}, ["c"], ["c"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_differs_from_rfc_7396(target, change, result):
    assert patch.merge(target, change) == result


CONTAINERS = [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]


@pytest.mark.parametrize(
    ("target", "change", "result"),
    [
        (
            {"containers": CONTAINERS},
            {"containers": [{"name": "b", "image": "2"}]},
            {"containers": [CONTAINERS[0], {"name": "b", "image": "2"}]},
        ),
        (
            {"containers": CONTAINERS},
            {"containers": [{"name": "c"}], "$setElementOrder/containers": [{"name": "c"}]},
            {"containers": [*CONTAINERS, {"name": "c"}]},
        ),
        (
            {"containers": CONTAINERS},
            {"containers": [{"name": "a", "$patch": "delete"}]},
            {"containers": [CONTAINERS[1]]},
        ),
        (
            {"containers": CONTAINERS},
            {"containers": [{"$patch": "replace"}, {"name": "c"}]},
            {"containers": [{"name": "c"}]},
        ),
        ({"args": ["a", "b"]}, {"args": ["c"]}, {"args": ["c"]}),
        ({"finalizers": ["a"]}, {"finalizers": ["b", "a"]}, {"finalizers": ["a", "b"]}),
        (
            {"finalizers": ["a", "b"]},
            {"$deleteFromPrimitiveList/finalizers": ["a"]},
            {"finalizers": ["b"]},
        ),
        ({"a": {"b": 1, "c": 2}}, {"a": {"$patch": "replace", "d": 3}}, {"a": {"d": 3}}),
        ({"a": {"b": 1}}, {"a": {"$patch": "delete"}}, {}),
        (
            {"strategy": {"type": "R", "rollingUpdate": {"x": 1}}},
            {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}},
            {"strategy": {"type": "Recreate"}},
        ),
        ({"a": 1}, {"a": None}, {}),
    ],
)
def test_strategic_merge_differs_from_kubernetes(target, change, result):
    before = copy.deepcopy(target)
    assert patch.strategic(target, change) == result
    assert target == before


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/b", "value": 1}], {"a": [1, 2], "b": 1}),
        ([{"op": "add", "path": "/a/1", "value": 9}], {"a": [1, 9, 2]}),
        ([{"op": "add", "path": "/a/-", "value": 9}], {"a": [1, 2, 9]}),
        ([{"op": "remove", "path": "/a/0"}], {"a": [2]}),
        ([{"op": "replace", "path": "/a", "value": {}}], {"a": {}}),
        ([{"op": "move", "from": "/a/0", "path": "/c"}], {"a": [2], "c": 1}),
        ([{"op": "copy", "from": "/a", "path": "/c"}], {"a": [1, 2], "c": [1, 2]}),
        ([{"op": "test", "path": "/a/0", "value": 1}], {"a": [1, 2]}),
        ([{"op": "add", "path": "/x~1y~0z", "value": 1}], {"a": [1, 2], "x/y~z": 1}),
    ],
)
def test_json_patch_differs_from_rfc_6902(operations, result):
    target = {"a": [1, 2]}
    assert patch.json_patch(target, operations) == result
    assert target == {"a": [1, 2]}


@pytest.mark.parametrize(
    "operations",
    [
        {},
        [1],
        [{}],
        [{"op": "nope", "path": ""}],
        [{"op": "add", "path": "/a"}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "add", "path": "/a/3", "value": 1}],
        [{"op": "add", "path": "/a/01", "value": 1}],
        [{"op": "add", "path": "/a/0/b", "value": 1}],
        [{"op": "remove", "path": "/b"}],
        [{"op": "remove", "path": "/a/-1"}],
        [{"op": "replace", "path": "/b", "value": 1}],
        [{"op": "test", "path": "/a", "value": 1}],
    ],
)
def test_json_patch_that_does_not_fit_is_taken(operations):
    with pytest.raises(Refusal):
        patch.json_patch({"a": [1, 2]}, operations)


@pytest.mark.parametrize(
    ("live", "last", "config", "result"),
    [
        ({}, {}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {}}, {"a": {"c": 2}}),
        ({"a": {"b": 1}}, {"a": {"b": 1}}, {}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {}, {"a": {"c": 2}}),
        (
            {"containers": [{"name": "a", "x": 1, "y": 2}, {"name": "b"}, {"name": "c"}]},
            {"containers": [{"name": "a", "x": 1}, {"name": "b"}]},
            {"containers": [{"name": "a", "z": 3}]},
            {"containers": [{"name": "a", "y": 2, "z": 3}, {"name": "c"}]},
        ),
        ({"args": [1, 2]}, {"args": [1, 2]}, {"args": [3]}, {"args": [3]}),
    ],
)
def test_apply_keeps_or_loses_the_wrong_fields(live, last, config, result):
    assert patch.apply(live, last, config) == result


def test_field_set_forgets_a_field():
    fields = patch.field_set(
        {"spec": {"replicas": 1, "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}}
    )
    ports = {"f:containerPort": {}, ".": {}}
    container = {".": {}, "f:name": {}, "f:ports": {'k:{"containerPort":80}': ports}}
    assert fields == {"f:spec": {"f:replicas": {}, "f:containers": {'k:{"name":"c"}': container}}}


KEYS = st.sampled_from(
    [
        *("metadata", "spec", "status", "name", "labels", "containers", "template", "ports", "env", "data"),
        *("selector", "matchLabels", "replicas", "apiVersion", "managedFields", "finalizers"),
        *("op", "path", "value", "from", "$patch", "$retainKeys"),
        *("$setElementOrder/containers", "$deleteFromPrimitiveList/finalizers"),
    ]
)
TEXTS = st.sampled_from(
    ["", "a", "web", "add", "remove", "move", "/spec", "/spec/replicas", "/metadata/-", "delete"]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
PATHS = st.sampled_from(
    [
        "/apis/apps/v1/namespaces/default/deployments/web",
        "/apis/apps/v1/namespaces/default/deployments/web/scale",
        "/apis/apps/v1/namespaces/default/deployments/new",
        "/apis/apps/v1/namespaces/default/deployments",
        "/api/v1/namespaces/default/configmaps",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    PATHS,
    st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]),
    st.sampled_from([*PATCH_TYPES, "application/json"]),
    ANYTHING,
)
def test_some_body_is_answered_with_an_exception(path, method, kind, body):
    store = Store()
    store.create(NAMESPACES, objects.namespace("default"))
    deployment = objects.deployment("web", 1)
    deployment["metadata"]["namespace"] = "default"
    store.create(DEPLOYMENTS, deployment)
    answer = Api(store).answer(Request(method, f"{path}?fieldManager=m", json.dumps(body).encode(), kind))
    assert 200 <= answer.code < 500
    assert isinstance(json.loads(answer.body), dict)
