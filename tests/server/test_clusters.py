"""The clusters file: strict reading, sentences without tokens, and following the file as it changes."""

import hashlib
import json
import logging
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argotun import files
from argotun.config import clusters as module
from argotun.config.clusters import Cluster, parse_clusters
from argotun.errors import ClustersError
from argotun.server import clusters as live
from argotun.server.clusters import Change, ClustersFile

SECRET = "s3cr3t-value-of-a"
T = "t" * 16
IDS = "1 to 128 letters, digits, dots, dashes and underscores, beginning and ending with a letter or digit"
TOKEN = "text of 16 to 16384 visible ASCII characters without spaces"
DIGESTS = "64 hex digits, the SHA-256 of the token, or a list of such"
KEYS = "one of token, tokens, tokenSha256 or serviceAccount"
TARGET = "host:port such as kubernetes.default.svc:443, or no such key"
NAMES = 'a list of names of the agent\'s certificate, or ["*"] for any'
ALL = "one of " + ", ".join(module.KEYS)
RATE = "a number of requests per second, or 0 for no limit"


def digest(token):
    return hashlib.sha256(token.encode()).digest()


def read(*entries):
    return parse_clusters(json.dumps(entries))


# What is read


def test_the_plain_form_is_read_and_the_token_not_kept():
    clusters = read({"id": "customer-a", "token": SECRET, "targetAddr": "kubernetes.default.svc:443"})
    assert clusters == {
        "customer-a": Cluster("customer-a", (digest(SECRET),), target_addr="kubernetes.default.svc:443")
    }
    assert SECRET not in repr(clusters)


def test_every_key_is_read():
    clusters = read(
        {
            "id": "a",
            "token": "one" * 6,
            "tokens": ["two" * 6, "three-three-three", "one" * 6],
            "tokenSha256": digest("four").hex().upper(),
            "targetAddr": "[fd00::1]:6443",
            "certNames": ["agent.a", "a"],
            "rateLimit": 2.5,
        }
    )
    assert clusters["a"] == Cluster(
        "a",
        tuple(map(digest, ("one" * 6, "two" * 6, "three-three-three", "four"))),
        target_addr="[fd00::1]:6443",
        cert_names=("agent.a", "a"),
        rate_limit=2.5,
    )


@pytest.mark.parametrize(
    "entry",
    [
        {"tokenSha256": digest(T).hex()},
        {"tokenSha256": [digest(T).hex()]},
        {"tokens": [T]},
        {
            "token": T,
            "tokens": None,
            "tokenSha256": "",
            "targetAddr": "",
            "certNames": None,
            "rateLimit": 0,
        },
    ],
)
def test_what_a_chart_leaves_empty_counts_as_absent(entry):
    assert read({"id": "a", **entry}) == {"a": Cluster("a", (digest(T),))}


@pytest.mark.parametrize("name", ["a", "7", "A.b-c_d", "x" * 128])
def test_ids_that_need_no_escaping_are_taken(name):
    assert list(read({"id": name, "token": T})) == [name]


def test_an_empty_list_is_no_clusters():
    assert parse_clusters(" [ ] ") == {}


# What is refused


A = {"id": "a", "token": T}
WRONG = [
    ([1], "clusters[0]", "(hidden)", 'an object such as {"id": …, "token": …}'),
    ([{}], "clusters[0], id", None, IDS),
    ([{"token": T}], "clusters[0], id", None, IDS),
    ([{**A, "id": 7}], "clusters[0], id", "7", f"text, in quotes: {IDS}"),
    ([{**A, "id": ""}], "clusters[0] (id ''), id", "''", IDS),
    ([{**A, "id": ".."}], "clusters[0] (id '..'), id", "'..'", IDS),
    ([{**A, "id": "a/b"}], "clusters[0] (id 'a/b'), id", "'a/b'", IDS),
    ([{**A, "id": "a b"}], "clusters[0] (id 'a b'), id", "'a b'", IDS),
    ([{**A, "id": "a%2f"}], "clusters[0] (id 'a%2f'), id", "'a%2f'", IDS),
    ([{**A, "id": "a\n"}], "clusters[0] (id 'a\\n'), id", "'a\\n'", IDS),
    ([{**A, "id": "é"}], "clusters[0] (id 'é'), id", "'é'", IDS),
    ([A, {"id": "b"}], "clusters[1] (id 'b'), token", None, KEYS),
    (
        [{"id": "a", "token": ""}],
        "clusters[0] (id 'a'), token",
        None,
        KEYS,
    ),
    (
        [{"id": "a", "tokens": []}],
        "clusters[0] (id 'a'), token",
        None,
        KEYS,
    ),
    ([{"id": "a", "token": 5}], "clusters[0] (id 'a'), token", "(hidden)", TOKEN),
    ([{"id": "a", "token": SECRET + " "}], "clusters[0] (id 'a'), token", "(hidden)", TOKEN),
    ([{"id": "a", "token": SECRET + "\r\n"}], "clusters[0] (id 'a'), token", "(hidden)", TOKEN),
    ([{"id": "a", "token": SECRET + "é"}], "clusters[0] (id 'a'), token", "(hidden)", TOKEN),
    ([{"id": "a", "token": [SECRET]}], "clusters[0] (id 'a'), token", "(hidden)", TOKEN),
    ([{"id": "a", "tokens": SECRET}], "clusters[0] (id 'a'), tokens", "(hidden)", "a list of tokens"),
    ([{"id": "a", "tokens": [SECRET, ""]}], "clusters[0] (id 'a'), tokens", "(hidden)", "a list of tokens"),
    ([{"id": "a", "tokens": [[SECRET]]}], "clusters[0] (id 'a'), tokens", "(hidden)", TOKEN),
    ([{"id": "a", "tokenSha256": SECRET}], "clusters[0] (id 'a'), tokenSha256", "(hidden)", DIGESTS),
    ([{"id": "a", "tokenSha256": "0" * 63}], "clusters[0] (id 'a'), tokenSha256", "(hidden)", DIGESTS),
    (
        [{"id": "a", "tokenSha256": digest("").hex()}],
        "clusters[0] (id 'a'), tokenSha256",
        "the SHA-256 of nothing",
        "the SHA-256 of a token",
    ),
    ([{**A, "targetAddr": "host"}], "clusters[0] (id 'a'), targetAddr", "'host'", TARGET),
    ([{**A, "targetAddr": 6443}], "clusters[0] (id 'a'), targetAddr", "6443", TARGET),
    ([{**A, "targetAddr": "https://h:1"}], "clusters[0] (id 'a'), targetAddr", "'https://h:1'", TARGET),
    ([{**A, "certNames": "a"}], "clusters[0] (id 'a'), certNames", "'a'", NAMES),
    ([{**A, "certNames": []}], "clusters[0] (id 'a'), certNames", "[]", NAMES),
    (
        [{**A, "certNames": ["*", "a"]}],
        "clusters[0] (id 'a'), certNames",
        "['*', 'a']",
        'names, or "*" alone',
    ),
    ([{"id": "a", "token": "x" * 15}], "clusters[0] (id 'a'), token", "(hidden)", TOKEN),
    ([{"id": "a", "tokens": [T, "x" * 15]}], "clusters[0] (id 'a'), tokens", "(hidden)", TOKEN),
    (
        [{**A, "certnames": ["a"]}],
        "clusters[0] (id 'a'), key",
        "'certnames'",
        f"{ALL} (certNames was probably meant)",
    ),
    ([{**A, "zzz": 1}], "clusters[0] (id 'a'), key", "'zzz'", ALL),
    ([{**A, "argocdx": 1}], "clusters[0] (id 'a'), key", "'argocdx'", ALL),
    ([{**A, "certNames": [" "]}], "clusters[0] (id 'a'), certNames", "[' ']", NAMES),
    ([{**A, "rateLimit": "5"}], "clusters[0] (id 'a'), rateLimit", "'5'", RATE),
    ([{**A, "rateLimit": True}], "clusters[0] (id 'a'), rateLimit", "True", RATE),
    ([{**A, "rateLimit": -1}], "clusters[0] (id 'a'), rateLimit", "-1", RATE),
    ([A, A], "clusters[1] (id 'a'), id", "'a'", "an id that no other entry has"),
    (
        [{"id": "a", "token": SECRET}, {"id": "b", "tokens": ["x" * 16, SECRET]}],
        "clusters[1] (id 'b'), token",
        "(hidden)",
        "a token that no other cluster has; 'a' has it too",
    ),
    (
        [{"id": "a", "token": SECRET}, {"id": "b", "tokenSha256": digest(SECRET).hex()}],
        "clusters[1] (id 'b'), token",
        "(hidden)",
        "a token that no other cluster has; 'a' has it too",
    ),
]


@pytest.mark.parametrize(("entries", "where", "value", "expected"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_entry_is_named_with_its_key(entries, where, value, expected):
    with pytest.raises(ClustersError) as caught:
        read(*entries)
    wrong = "is not set" if value is None else f"{value} is not valid"
    assert (
        str(caught.value)
        == f"--clusters: {where}{' ' if value is None else ': '}{wrong}: expected {expected}"
    )
    assert SECRET not in str(caught.value)


NO_JSON = [
    ("", "--clusters", "(hidden)", "a list of clusters, in JSON or YAML"),
    ("# nothing", "--clusters", "(hidden)", "a list of clusters, in JSON or YAML"),
    (
        f'[{{"token": "{SECRET}"}}',
        "--clusters: line 1, column 32",
        "(hidden)",
        "JSON (Expecting ',' delimiter)",
    ),
    (f'[\n{{"token": {SECRET}}}]', "--clusters: line 2, column 11", "(hidden)", "JSON (Expecting value)"),
    ('[{"id": "a"},\n]', "--clusters: line 1, column 13", "(hidden)", "JSON (a comma before ])"),
    (f'{{"token": "{SECRET}"}}', "--clusters", "(hidden)", "a list of clusters, in JSON or YAML"),
    (
        f'{{"clusters": [{{"token": "{SECRET}"}}]}}',
        "--clusters",
        "(hidden)",
        "a list of clusters, in JSON or YAML: the list alone, without a key before it",
    ),
    ('[{"id": "a", "id": "b"}]', "--clusters", "'id'", "each key once in an object"),
    ('[{"rateLimit": NaN}]', "--clusters", "NaN", "JSON, which has no such number"),
    ("[" * 100_000, "--clusters", "(hidden)", "JSON without numbers or nesting out of all proportion"),
    (f"[{'9' * 5000}]", "--clusters", "(hidden)", "JSON without numbers or nesting out of all proportion"),
]


@pytest.mark.parametrize(("text", "where", "value", "expected"), NO_JSON, ids=range(len(NO_JSON)))
def test_what_is_no_list_of_clusters_is_refused_without_repeating_it(text, where, value, expected):
    with pytest.raises(ClustersError) as caught:
        parse_clusters(text)
    assert str(caught.value) == f"{where}: {value} is not valid: expected {expected}"


def test_infinity_by_exponent_is_no_rate():
    with pytest.raises(ClustersError, match="rateLimit: inf is not valid"):
        parse_clusters(f'[{{"id": "a", "token": "{T}", "rateLimit": 1e999}}]')


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(module.KEYS, values)) | values, max_size=3))
def test_no_json_raises_anything_but_clusters_error(entries):
    try:
        clusters = read(*entries)
    except ClustersError:
        return
    assert all(cluster.tokens or cluster.account for cluster in clusters.values())


@given(st.text(max_size=30))
def test_no_text_raises_anything_but_clusters_error(text):
    try:
        parse_clusters("[" + text)
    except ClustersError:
        pass


def test_the_charts_own_keys_are_none_of_the_servers_business():
    assert read({**A, "argocd": {"x": 1}, "argocd.namespace": "n"}) == read(A)


# Following the file


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "clusters.json"
    write(path, [A])
    return path


def write(path, entries):
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))


@pytest.fixture
def followed(path):
    followed = ClustersFile(str(path))
    followed.load()
    return followed


def change(added=(), removed=(), changed=()):
    return Change(frozenset(added), frozenset(removed), frozenset(changed))


def test_json_text_is_used_as_it_is_and_never_changes():
    followed = ClustersFile(f' [{{"id": "a", "token": "{T}"}}]')
    followed.load()
    assert list(followed.clusters) == ["a"]
    assert followed.refresh() is None


@pytest.mark.parametrize("content", [None, "[", '[{"id": "a"}]', b"[\xff]"])
def test_a_first_version_that_cannot_be_used_is_an_error(tmp_path, content):
    path = tmp_path / "clusters.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ClustersError):
        ClustersFile(str(path)).load()


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ClustersError, match="it is not a regular file"):
        ClustersFile(str(tmp_path / "pipe")).load()


def test_a_file_over_the_limit_is_refused(path, monkeypatch):
    monkeypatch.setattr(live, "LARGEST_FILE", 10)
    with pytest.raises(ClustersError, match="it is larger than 10 bytes"):
        ClustersFile(str(path)).load()


def test_what_changed_is_told_once_and_exactly(path, followed):
    write(path, [A, {"id": "b", "token": "u" * 16}, {"id": "c", "token": "v" * 16}])
    assert followed.refresh() == change(added="bc")
    write(path, [{"id": "c", "token": "v" * 16}, {"id": "b", "token": "w" * 16}])
    assert followed.refresh() == change(removed="a", changed="b")
    assert followed.refresh() is None
    assert list(followed.clusters) == ["c", "b"]


@pytest.mark.parametrize("key", ["targetAddr", "certNames", "rateLimit", "tokens"])
def test_every_kept_key_counts_as_a_change(path, followed, key):
    value = {"targetAddr": "h:1", "certNames": ["n"], "rateLimit": 1, "tokens": ["u" * 16]}[key]
    write(path, [{**A, key: value}])
    assert followed.refresh() == change(changed="a")


def test_the_same_clusters_written_anew_are_no_change(path, followed):
    write(path, json.dumps([A], indent=2))
    assert followed.refresh() is None


def test_a_write_in_the_same_clock_tick_is_seen(path, followed):
    """Same inode, size and modification time: only the bytes differ."""
    status = path.stat()
    write(path, [{"id": "b", "token": T}])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert followed.refresh() == change(added="b", removed="a")


def test_a_settled_file_is_not_read_again(path, monkeypatch):
    monkeypatch.setattr(files, "SETTLED", 0)
    followed = ClustersFile(str(path))
    followed.load()
    monkeypatch.setattr(files, "read", lambda *_: pytest.fail("read again"))
    assert followed.refresh() is None


def test_the_symlink_swap_of_a_kubernetes_volume_is_seen(tmp_path):
    for name, entries in (("..1", [A]), ("..2", [{"id": "b", "token": T}])):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "clusters.json", entries)
        past = time.time_ns() - 10**10
        os.utime(tmp_path / name / "clusters.json", ns=(past, past))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "clusters.json").symlink_to("..data/clusters.json")
    followed = ClustersFile(str(tmp_path / "clusters.json"))
    followed.load()
    assert followed.refresh() is None
    (tmp_path / "..data_tmp").symlink_to("..2")
    os.rename(tmp_path / "..data_tmp", tmp_path / "..data")
    assert followed.refresh() == change(added="b", removed="a")


def test_each_broken_version_is_logged_once_and_the_last_good_one_kept(path, followed, caplog):
    before = followed.clusters
    for round_, broken in enumerate(("[", "[ ", '[{"id": "a"}]'), start=1):
        write(path, broken)
        assert followed.refresh() is None
        assert followed.refresh() is None
        assert (followed.errors, len(caplog.records)) == (round_, round_)
    assert "the last good one stays in force" in caplog.text
    assert followed.clusters is before


def test_a_missing_file_is_one_error_and_its_return_is_no_change(path, followed, caplog):
    caplog.set_level(logging.INFO)
    text = path.read_text()
    path.unlink()
    assert followed.refresh() is followed.refresh() is None
    assert followed.errors == 1
    write(path, text)
    assert followed.refresh() is None
    assert caplog.messages[-1] == "the clusters file can be used again"
    path.unlink()
    assert followed.refresh() is None
    assert followed.errors == 2


def test_a_repaired_file_is_used(path, followed):
    write(path, "[")
    followed.refresh()
    write(path, [A, {"id": "b", "token": "u" * 16}])
    assert followed.refresh() == change(added="b")


def test_the_clusters_in_force_are_replaced_and_never_altered(path, followed):
    before = followed.clusters
    write(path, [])
    assert followed.refresh() == change(removed="a")
    assert list(before) == ["a"]


def test_no_log_line_shows_a_token(path, followed, caplog):
    caplog.set_level(logging.DEBUG)
    for text in (
        f'[{{"id": "a", "token": "{SECRET} "}}]',
        f'[{{"token": "{SECRET}"',
        f'[{{"id": "a", "token": "{SECRET}", "x": "{SECRET}"}}]',
    ):
        write(path, text)
        followed.refresh()
    assert len(caplog.records) == 3
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "misplaced",
    [
        "labels: {stage: test, token: token-nobody-sees}",
        "labels: {stage: [], bank: {token: token-nobody-sees}}",
        "agents: {token: token-nobody-sees}",
        "certNames: [{token: token-nobody-sees}]",
        "serviceAccount: {issuer: {token: token-nobody-sees}}",
    ],
)
def test_a_token_in_the_wrong_place_is_refused_and_not_repeated(misplaced: str) -> None:
    with pytest.raises(ClustersError) as refused:
        parse_clusters(f"- id: c1\n  token: another-token-of-this\n  {misplaced}\n")
    assert "token-nobody-sees" not in str(refused.value)
    assert "(hidden)" in str(refused.value)
