"""Merge patches, and the strategic ones that `kubectl apply` sends."""

import pytest

from argotun.demo.patch import merge, merge_strategic
from argotun.demo.resources import StatusError


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        (["a"], {"a": 1}, {"a": 1}),
        ({"a": 1}, ["c"], ["c"]),
    ],
)
def test_merge_patch_is_that_of_rfc_7396(target, patch, result):
    before = repr(target)
    assert merge(target, patch) == result
    assert repr(target) == before


WEB = {"name": "web", "image": "nginx:1", "env": [{"name": "A", "value": "1"}]}
LOG = {"name": "log", "image": "log:1"}


@pytest.mark.parametrize(
    ("patch", "result"),
    [
        ({"containers": [{"name": "web", "image": "nginx:2"}]}, [{**WEB, "image": "nginx:2"}, LOG]),
        ({"containers": [{"name": "new"}]}, [WEB, LOG, {"name": "new"}]),
        ({"containers": [{"name": "web", "$patch": "delete"}]}, [LOG]),
        ({"containers": None}, None),
        (
            {
                "$setElementOrder/containers": [{"name": "log"}, {"name": "web"}],
                "containers": [{"name": "log"}],
            },
            [LOG, WEB],
        ),
        (
            {"containers": [{"name": "web", "env": [{"name": "A", "$patch": "delete"}]}]},
            [{**WEB, "env": []}, LOG],
        ),
    ],
)
def test_strategic_patch_merges_containers_by_name(patch, result):
    assert merge_strategic({"containers": [WEB, LOG]}, patch).get("containers") == result


@pytest.mark.parametrize(
    "patch",
    [{"$patch": "replace"}, {"containers": [1]}, {"containers": [{}]}, {"$deleteFromPrimitiveList/x": 1}],
)
def test_strategic_patch_that_is_not_understood_is_refused(patch):
    with pytest.raises(StatusError):
        merge_strategic({}, patch)
