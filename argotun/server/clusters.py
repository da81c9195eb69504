"""The clusters file: who may connect, read strictly, re-read when it changes, last good one kept."""

import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from argotun.config.fileversion import Version, read_version, version_of
from argotun.config.network import parse_target
from argotun.config.values import (
    CLUSTER_ID_EXPECTED,
    CLUSTER_ID_PATTERN,
    HIDDEN,
    TOKEN_PATTERN,
    UNSET,
    Words,
    nearest,
    quoted,
)
from argotun.errors import ClustersError

log = logging.getLogger(__name__)

OPTION = "--clusters"
LARGEST_FILE = 16 << 20
"""Bytes; tens of thousands of clusters, and far below what would hurt."""

ID = re.compile(CLUSTER_ID_PATTERN, re.ASCII)
TOKEN = re.compile(TOKEN_PATTERN)
DIGEST = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
EMPTY_DIGEST = sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class Cluster:
    """One entry; `tokens` are SHA-256 digests: the tokens themselves are not kept."""

    id: str
    tokens: tuple[bytes, ...] = field(repr=False)
    target_addr: str | None = None
    cert_names: tuple[str, ...] = ()
    rate_limit: float | None = None
    """Requests per second; None is no limit."""


@dataclass(frozen=True, slots=True)
class Change:
    """Ids of the clusters that a new version of the file added, removed and changed."""

    added: frozenset[str]
    removed: frozenset[str]
    changed: frozenset[str]


# One reader for each key: its value → what is kept. They raise Wrong.


class Wrong(Exception):
    """A value that a key cannot have."""

    def __init__(self, value: object, expected: str) -> None:
        super().__init__(expected)
        self.value = value if isinstance(value, Words) else Words(quoted(repr(value)))
        self.expected = expected


def read_id(value: Any) -> str:
    """A cluster's id."""
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise Wrong(value, CLUSTER_ID_EXPECTED)
    return value


def read_token(value: Any) -> tuple[bytes, ...]:
    """One token; an empty one is as good as none, for charts that always write the key."""
    if value in ("", None):
        return ()
    if not isinstance(value, str) or not TOKEN.fullmatch(value):
        raise Wrong(HIDDEN, "text of 1 to 4096 visible ASCII characters without spaces")
    return (sha256(value.encode("ascii")).digest(),)


def read_tokens(value: Any) -> tuple[bytes, ...]:
    """Several tokens, so that one can be rotated while another is in use."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(value):
        raise Wrong(HIDDEN, "a list of tokens")
    return tuple(digest for token in value for digest in read_token(token))


def read_digests(value: Any) -> tuple[bytes, ...]:
    """SHA-256 of a token in hex, or a list of such."""
    if value in ("", None):
        return ()
    digests = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) and DIGEST.fullmatch(each) for each in digests):
        # Somebody may have put the token itself here.
        raise Wrong(HIDDEN, "64 hex digits, the SHA-256 of the token, or a list of such")
    found = tuple(bytes.fromhex(each) for each in digests)
    if EMPTY_DIGEST in found:
        raise Wrong(Words("the SHA-256 of nothing"), "the SHA-256 of a token")
    return found


def read_target(value: Any) -> str | None:
    """The address that the agent is told to dial; none means the agent's own target."""
    if value in ("", None):
        return None
    try:
        parse_target(value if isinstance(value, str) else "")
    except ValueError:
        raise Wrong(value, "host:port such as kubernetes.default.svc:443, or no such key") from None
    return str(value)


def read_names(value: Any) -> tuple[str, ...]:
    """Names of which the agent's certificate must carry one."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) and name.strip() for name in value):
        raise Wrong(value, "a list of names of the agent's certificate")
    return tuple(value)


def read_rate(value: Any) -> float | None:
    """Requests per second; 0 is no limit."""
    if value is None:
        return None
    # A bool is an int to Python, but not to the person who wrote it.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e12:
        raise Wrong(value, "a number of requests per second, or 0 for no limit")
    return float(value) or None


TOKEN_KEYS: dict[str, Callable[[Any], tuple[bytes, ...]]] = {
    "token": read_token,
    "tokens": read_tokens,
    "tokenSha256": read_digests,
}
KEYS: dict[str, Callable[[Any], Any]] = {
    "id": read_id,
    **TOKEN_KEYS,
    "targetAddr": read_target,
    "certNames": read_names,
    "rateLimit": read_rate,
}
FOREIGN = "argocd"
"""Keys that start so are the chart's own, and none of the server's business."""


def parse_clusters(text: str) -> tuple[dict[str, Cluster], list[str]]:
    """The clusters in a JSON list by id, and warnings about keys that mean nothing.

    Raises ClustersError with the entry and the key at fault; tokens are in none of the sentences.
    """
    clusters: dict[str, Cluster] = {}
    warnings: list[str] = []
    owners: dict[bytes, str] = {}
    for index, entry in enumerate(parse_json(text)):
        where = f"clusters[{index}]"
        if not isinstance(entry, dict):
            raise ClustersError(f"{OPTION}: {where}", HIDDEN, 'an object such as {"id": …, "token": …}')
        if isinstance(entry.get("id"), str):
            where += f" (id {quoted(entry['id'])!r})"
        cluster = read_entry(where, entry)
        if cluster.id in clusters:
            raise ClustersError(f"{OPTION}: {where}, id", cluster.id, "an id that no other entry has")
        for digest in cluster.tokens:
            if (owner := owners.setdefault(digest, cluster.id)) != cluster.id:
                raise ClustersError(
                    f"{OPTION}: {where}, token",
                    HIDDEN,
                    f"a token that no other cluster has; {owner!r} has it too",
                )
        clusters[cluster.id] = cluster
        warnings += [f"{where}: {sentence}" for sentence in unknown_keys(entry)]
    return clusters, warnings


def read_entry(where: str, entry: dict[str, Any]) -> Cluster:
    """One entry of the list; raises ClustersError."""

    def read(key: str) -> Any:
        try:
            return KEYS[key](entry.get(key))
        except Wrong as wrong:
            shown = UNSET if key not in entry else wrong.value
            raise ClustersError(f"{OPTION}: {where}, {key}", shown, wrong.expected) from None

    name = read("id")
    tokens = tuple(dict.fromkeys(digest for key in TOKEN_KEYS for digest in read(key)))
    if not tokens:
        raise ClustersError(f"{OPTION}: {where}, token", UNSET, f"one of {', '.join(TOKEN_KEYS)}")
    return Cluster(name, tokens, read("targetAddr"), read("certNames"), read("rateLimit"))


def unknown_keys(entry: Iterable[str]) -> list[str]:
    """A sentence for each key that is not read."""
    found = []
    for key in entry:
        if key not in KEYS and not key.startswith(FOREIGN):
            close = nearest(key, KEYS)
            found.append(
                f"key {quoted(key)!r} is ignored" + (f", {close} was probably meant" if close else "")
            )
    return found


def parse_json(text: str) -> list[Any]:
    """The JSON list in `text`; raises ClustersError, which names the place and repeats nothing of it."""
    try:
        value = json.loads(text, object_pairs_hook=distinct, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        place = f"{OPTION}: line {error.lineno}, column {error.colno}"
        raise ClustersError(place, HIDDEN, f"JSON ({error.msg})") from None
    except Wrong as wrong:
        raise ClustersError(OPTION, wrong.value, wrong.expected) from None
    except (ValueError, RecursionError):
        raise ClustersError(OPTION, HIDDEN, "JSON without numbers or nesting out of all proportion") from None
    if not isinstance(value, list):
        raise ClustersError(OPTION, HIDDEN, "a JSON list of clusters")
    return value


def distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ: of two equal ones readers disagree which counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Wrong(twice, "each key once in an object")
    return found


def refuse_constant(name: str) -> None:
    """NaN and the infinities are no JSON."""
    raise Wrong(Words(name), "JSON, which has no such number")


class ClustersFile:
    """The clusters in force: from a file, followed as it changes, or from JSON text.

    `clusters` is replaced as a whole, never altered. `errors` counts versions of the file that could
    not be used; each is logged once, and the last good clusters stay in force.
    """

    def __init__(self, source: str) -> None:
        self.clusters: dict[str, Cluster] = {}
        self.errors = 0
        self._text = source if source.lstrip().startswith("[") else None
        self._path = source
        self._version: Version | None = None
        # What was looked at last, what is in force and what was found broken last: a digest of the
        # file's bytes, or why there were none.
        self._seen: bytes | str = ""
        self._good: bytes | str = ""
        self._broken: bytes | str = ""

    def load(self) -> None:
        """Read the clusters for the first time; raises ClustersError."""
        if self._text is not None:
            self._use(self._text)
        else:
            self._reread()

    def refresh(self) -> Change | None:
        """Look at the file and read it when it is another version; what changed, None for nothing.

        Never raises: a version that cannot be used is logged and counted once.
        """
        if self._text is not None or self._unchanged():
            return None
        before = self.clusters
        try:
            self._reread()
        except ClustersError as error:
            if self._seen != self._broken:
                self._broken = self._seen
                self.errors += 1
                log.error("the clusters file cannot be used, the last good one stays in force: %s", error)
            return None
        if self._broken:
            self._broken = ""
            log.info("the clusters file can be used again")
        return difference(before, self.clusters)

    def _unchanged(self) -> bool:
        try:
            return self._version is not None and version_of(os.stat(self._path)) == self._version
        except OSError:
            return False

    def _reread(self) -> None:
        """Read the file and use it, unless these very bytes are in force; raises ClustersError."""
        self._version = None
        try:
            contents = read_version(self._path, LARGEST_FILE)
        except OSError as error:
            self._seen = error.strerror or "unreadable"
            raise ClustersError(OPTION, self._path, f"a readable file ({error.strerror})") from None
        self._version = contents.version
        self._seen = sha256(contents.data).digest()
        if self._seen == self._good:
            return
        if len(contents.data) > LARGEST_FILE:
            raise ClustersError(OPTION, self._path, f"a file of at most {LARGEST_FILE} bytes")
        try:
            text = contents.data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ClustersError(OPTION, self._path, "a file in UTF-8") from None
        self._use(text)
        self._good = self._seen

    def _use(self, text: str) -> None:
        self.clusters, warnings = parse_clusters(text)
        for warning in warnings:
            log.warning("clusters file: %s", warning)


def difference(before: dict[str, Cluster], after: dict[str, Cluster]) -> Change | None:
    """What became of the clusters, None when they are the same."""
    change = Change(
        added=frozenset(after.keys() - before.keys()),
        removed=frozenset(before.keys() - after.keys()),
        changed=frozenset(name for name in before.keys() & after.keys() if before[name] != after[name]),
    )
    return change if change.added or change.removed or change.changed else None
