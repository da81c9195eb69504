"""The callers file: what it says, and what a slip in it is told."""

import json
from typing import Any

import pytest

from argotun.config.callers import parse_callers
from argotun.config.clusters import Cluster
from argotun.errors import ConfigError

ONE = Cluster("one", (), labels=(("eu", ""), ("stage", "test")))
TWO = Cluster("two", ())
DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("clusters", "reached"),
    [
        ("*", [ONE, TWO]),
        (["*"], [ONE, TWO]),
        ([], []),
        (["two", "gone"], [TWO]),
        ({"labels": {"stage": "test"}}, [ONE]),
        ({"labels": {"stage": "test", "eu": ""}}, [ONE]),
        ({"labels": {"stage": "prod"}}, []),
    ],
)
def test_clusters_are_named_in_three_ways(clusters: Any, reached: list[Cluster]) -> None:
    (caller,) = parse_callers(json.dumps([{"name": "a", "clusters": clusters}]))
    assert [each for each in (ONE, TWO) if caller.reaches(each)] == reached


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"clusters": "*"}, "name"),
        ({"name": "a"}, "clusters"),
        ({"name": "a,b", "clusters": "*"}, "name"),
        ({"name": "a\r\nb", "clusters": "*"}, "name"),
        ({"name": "\u212a", "clusters": "*"}, "name"),
        ({"name": "a", "clusters": {"labels": {}}}, "clusters"),
        ({"name": "a", "clusters": "all"}, "clusters"),
        ({"name": "a", "clusters": "*", "readonly": True}, "readOnly was probably meant"),
        ({"name": "a", "clusters": "*", "readOnly": "yes"}, "readOnly"),
        ({"name": "a", "clusters": "*", "tokenSha256": "secret"}, "tokenSha256"),
        ({"name": "a", "clusters": "*", "impersonate": {"groups": ["g"]}}, "impersonate"),
        ({"name": "a", "clusters": "*", "impersonate": {"user": "a\r\nb"}}, "impersonate"),
        (
            {"name": "a", "clusters": "*", "impersonate": {"user": "u"}, "mayImpersonate": True},
            "mayImpersonate",
        ),
    ],
)
def test_a_slip_is_named(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_callers(json.dumps([entry]))
    assert "callers[0]" in str(error.value)
    assert words in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "[[]]", '[{"name": "a", "name": "b"}]', "[NaN]"])
def test_what_is_no_list_of_callers_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--callers"):
        parse_callers(text)


@pytest.mark.parametrize(
    "more", [{"name": "a", "clusters": "*"}, {"name": "b", "clusters": "*", "tokenSha256": DIGEST}]
)
def test_a_name_and_a_token_are_one_callers_only(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"callers\[1\]"):
        parse_callers(json.dumps([{"name": "a", "clusters": "*", "tokenSha256": DIGEST}, more]))
