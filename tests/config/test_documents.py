"""Clusters and callers in YAML: what JSON says too, none of its surprises, and the line of what is wrong."""

import json
from hashlib import sha256

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from argotun.config.callers import parse_callers
from argotun.config.clusters import parse_clusters
from argotun.config.documents import DEEPEST, LARGEST_YAML, read_list
from argotun.errors import ClustersError, ConfigError

TOKEN = "a-token-of-many-characters"
DIGEST = sha256(TOKEN.encode()).hexdigest()


def entries(text: str) -> object:
    return read_list(text, "--x", "a list", ConfigError).entries


def wrong(text: str) -> str:
    with pytest.raises(ClustersError) as error:
        parse_clusters(text, "/etc/clusters.yaml")
    assert TOKEN not in str(error.value)
    return str(error.value)


def test_clusters_in_yaml_are_those_in_json() -> None:
    written = f"""\
# Who may connect.
- id: c1
  tokenSha256: {DIGEST}
  labels:
    stage: test
  rateLimit: 2.5
  certNames: [agent.example, c1]
- id: "2026"
  token: {TOKEN}-2
  targetAddr: ~
  serviceAccount:
"""
    same = [
        {
            "id": "c1",
            "tokenSha256": DIGEST,
            "labels": {"stage": "test"},
            "rateLimit": 2.5,
            "certNames": ["agent.example", "c1"],
        },
        {"id": "2026", "token": f"{TOKEN}-2", "targetAddr": None, "serviceAccount": None},
    ]
    assert parse_clusters(written) == parse_clusters(json.dumps(same))
    assert parse_clusters("---\n" + written + "...\n") == parse_clusters(json.dumps(same))


def test_callers_in_yaml_are_those_in_json() -> None:
    written = 'name: argocd\n  clusters: "*"\n  mayImpersonate: true\n'
    same = [{"name": "argocd", "clusters": "*", "mayImpersonate": True}]
    assert parse_callers(f"- {written}") == parse_callers(json.dumps(same))


@pytest.mark.parametrize(
    "word", ["no", "Yes", "on", "OFF", "0123", "0o17", "0x1F", "1e3", "1_000", "12:30:45"]
)
@pytest.mark.parametrize("place", ["- id: a\n  labels:\n    stage: {}\n", "- id: {}\n", "- id: a\n  {}: x\n"])
def test_a_word_that_readers_take_differently_wants_quotes(word: str, place: str) -> None:
    text = place.format(word)
    line = 1 + text[: text.index(word)].count("\n")
    assert wrong(text).startswith(f"--clusters /etc/clusters.yaml: line {line}: ")
    assert "quotes around it" in wrong(text)
    quoted = place.format(f'"{word}"')
    assert entries(quoted) == yaml.safe_load(quoted)


@pytest.mark.parametrize("word", [".inf", "2026-01-01", "=", "<<", "+1", "1.", ".5"])
def test_other_odd_words_want_quotes(word: str) -> None:
    assert "quotes around it" in wrong(f"- id: {word}\n")


@pytest.mark.parametrize("value", ["2026", "1.5", "true"])
def test_an_id_that_is_no_text_wants_quotes(value: str) -> None:
    assert "line 2, id: " in wrong(f"#\n- id: {value}\n  token: {TOKEN}\n")
    assert "text, in quotes" in wrong(f"#\n- id: {value}\n  token: {TOKEN}\n")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("- id: a\n  id: b\n", "line 2: 'id' is not valid: expected each key once"),
        (f"- id: a\n  token: *{TOKEN}\n", "line 2: "),
        (f"- id: a\n  token: {TOKEN}: x\n", "line 2, column "),
        (f"- id: a\n token: {TOKEN}\n", "line 2, column "),
        ("- id: a\n\t- x\n", "line 2, column "),
        ("- id: !!binary x\n", "line 1: "),
        (f'- id: a\n  labels: {{a: "b}}\n  token: {TOKEN}\n- id: "c"\n', "line 2: (hidden) is not valid"),
        (f"- id: |\n    a\n    token: {TOKEN}\n", "line 1: (hidden) is not valid"),
        (f"- id: 'a\n  token: {TOKEN}\n  targetAddr: 'b:1'\n", "line 1: (hidden) is not valid"),
        ("- id: &a x\n- *a\n", "line 2: "),
        ("- id: a\n---\n- id: b\n", "line 2: "),
        ("- [a]: b\n", "line 1: "),
        ("- " * (DEEPEST + 2), "line 1: "),
        ("- " * 100_000, "line 1: "),
        ("a: " + "[" * 100_000, "line 1: "),
        ("- id: a\x00\n", "(hidden) is not valid: expected YAML without control characters"),
        ("clusters:\n- id: a\n", "(hidden) is not valid: expected a list of clusters"),
        ("- id: a\n" * (LARGEST_YAML // 8 + 1), "a file of this size is not valid"),
        (f"- id: a\n  token: {TOKEN}\n\n- id: b\n  tokn: {TOKEN}\n", "clusters[1], line 4 (id 'b'), key: "),
        (
            f'[\n {{"id": "a", "token": "{TOKEN}"}},\n\n {{"id": "b",\n  "rate": 1}}]',
            "clusters[1], line 4 (id 'b'), key: ",
        ),
    ],
)
def test_what_is_wrong_has_its_file_and_line(text: str, where: str) -> None:
    assert wrong(text).startswith(f"--clusters /etc/clusters.yaml: {where}")


def test_a_wrong_caller_has_its_file_and_line() -> None:
    with pytest.raises(ConfigError, match=r"--callers /f: callers\[1\], line 3 \(name 'b'\), clusters"):
        parse_callers('- name: a\n  clusters: "*"\n- name: b\n', "/f")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(values, max_size=3))
def test_what_is_taken_from_yaml_is_what_others_read(value: list[object]) -> None:
    text = "# YAML\n" + yaml.safe_dump(value, width=10**6)
    said, found = "", None
    try:
        found = entries(text)
    except ConfigError as error:
        said = str(error)
    assert found == value == yaml.safe_load(text) or "quotes" in said or "on its line" in said


@given(st.text(max_size=40))
def test_no_text_raises_anything_but_config_error(text: str) -> None:
    try:
        entries("# YAML\n" + text)
    except ConfigError:
        pass


@given(
    st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3), max_size=4), st.sampled_from([None, 1])
)
def test_the_lines_of_json_are_where_its_entries_begin(value: list[object], indent: int | None) -> None:
    text = "\n" + json.dumps(value, indent=indent)
    lines = read_list(text, "--x", "a list", ConfigError).lines()
    assert len(lines) == len(value)
    assert all("{" in text.splitlines()[line - 1] for line in lines)
