"""Entries of `clusters`: a list, or a map that several files add to; names that Argo CD can tell apart."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.chart.helm import Helm, Refused, Rendered
from tests.chart.values import CLUSTERS, MATRIX, SERVER

ARGOCD = {"argocd": {"enabled": True}}


def listed(rendered: Rendered) -> list[dict[str, Any]]:
    """The clusters file that the server reads."""
    data = rendered.one("Secret", "argotun-clusters")["data"]["clusters.json"]
    return json.loads(base64.b64decode(data))  # type: ignore[no-any-return]


def by_id(clusters: list[dict[str, Any]]) -> dict[str, Any]:
    """The same clusters as a map."""
    return {each["id"]: {key: value for key, value in each.items() if key != "id"} for each in clusters}


@pytest.mark.parametrize("name", ["server-plain", "server-cert-manager", "server-mtls"])
def test_a_map_by_id_is_the_same_as_a_list(helm: Helm, name: str) -> None:
    values = MATRIX[name]
    assert helm.render(values | {"clusters": by_id(CLUSTERS)}) == helm.render(values)


def test_files_add_clusters_and_parts_of_clusters(helm: Helm, tmp_path: Path) -> None:
    files = (
        {"clusters": {"eu-1": {"token": "token-number-aaaa"}, "eu-2": {"token": "token-number-bbbb"}}},
        {
            "clusters": {
                "us-1": {"token": "token-number-cccc"},
                "eu-1": {"rateLimit": 5, "argocd": {"labels": {"region": "eu"}}},
            }
        },
        {"clusters": {"eu-2": None}},
    )
    more = []
    for number, values in enumerate(files):
        (tmp_path / f"{number}.json").write_text(json.dumps(values))
        more += ["--values", str(tmp_path / f"{number}.json")]
    rendered = helm.render(SERVER | ARGOCD, *more)
    assert listed(rendered) == [
        {"id": "eu-1", "token": "token-number-aaaa", "rateLimit": 5},
        {"id": "us-1", "token": "token-number-cccc"},
    ]
    secrets = [each for each in rendered.all("Secret") if each["metadata"]["namespace"] == "argocd"]
    assert [each["metadata"]["name"] for each in secrets] == ["argotun-cluster-eu-1", "argotun-cluster-us-1"]
    assert secrets[0]["metadata"]["labels"]["region"] == "eu"


@pytest.mark.parametrize("clusters", [CLUSTERS, by_id(CLUSTERS), None])
def test_either_form_is_taken_without_a_warning(helm: Helm, clusters: Any) -> None:
    done = helm.run("template", "argotun", "chart", values=SERVER | {"clusters": clusters})
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("clusters", "words"),
    [
        ({"a": {"id": "b", "token": "token-number-tttt"}}, 'clusters.a.id: expected none, or "a"'),
        ({"a": {}}, "expected token"),
        ({"a/b": {"token": "token-number-tttt"}}, "clusters[0].id: expected 1 to 128 letters"),
        ({"a": {"tokn": "t"}}, "tokn"),
        ([None], "clusters"),
        ([{"token": "token-number-tttt"}], "id"),
    ],
)
def test_a_wrong_entry_is_refused_in_words(helm: Helm, clusters: Any, words: str) -> None:
    with pytest.raises(Refused) as refused:
        helm.render(SERVER | {"clusters": clusters})
    assert words in str(refused.value)


# Names in Argo CD


@pytest.mark.parametrize(
    "entry",
    [
        {"id": "b", "argocd": {"name": "a"}},
        {"id": "in-cluster"},
        {"id": "b", "argocd": {"name": "in-cluster"}},
        {"id": "hub"},
    ],
)
def test_a_name_that_argocd_has_already_is_refused(helm: Helm, entry: dict[str, Any]) -> None:
    clusters = [{"id": "a", "token": "token-number-ssss"}, {"token": "token-number-tttt", **entry}]
    argocd = {"enabled": True, "reservedNames": ["hub"]}
    with pytest.raises(Refused, match="two clusters with the name"):
        helm.render(SERVER | {"argocd": argocd, "clusters": clusters})
    # Without a cluster secret there is no name in Argo CD.
    entry = entry | {"token": "token-number-tttt", "argocd": entry.get("argocd", {}) | {"enabled": False}}
    assert helm.render(SERVER | {"argocd": argocd, "clusters": [clusters[0], entry]}).objects
    assert helm.render(SERVER | {"clusters": clusters}).objects
