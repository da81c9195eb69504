"""The grammar of the callers file: who may call, read strictly, with a sentence about what is wrong.

[{"name": "argocd", "clusters": "*", "mayImpersonate": true},
 {"name": "spiffe://example.org/ns/ci/sa/deploy", "clusters": {"labels": {"stage": "test"}}},
 {"name": "dashboard", "tokenSha256": "5e88…", "clusters": ["dev"], "readOnly": true,
  "impersonate": {"user": "dashboard", "groups": ["viewers"]}}]
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from argotun.config.clusters import ID, Cluster, read_digests, read_labels
from argotun.config.documents import place, read_entries
from argotun.config.values import HIDDEN, Kind, Refused, Words, list_of, matching, one_of, quoted
from argotun.errors import ConfigError

OPTION = "--callers"
EVERY = "*"

# What a field's value may hold, without the comma that would make it two.
NAME = re.compile(r"[!-+\--~](?:[ -+\--~]{0,254}[!-+\--~])?", re.ASCII)
NAME_EXPECTED = "1 to 256 visible ASCII characters without a comma, inner spaces allowed"
# What is impersonated may hold a comma: each group has a field of its own.
SUBJECT = re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?", re.ASCII)


CALLER_NAMES = Kind(
    "NAME,…",
    "names",
    f"names with commas between, each {NAME_EXPECTED}",
    list_of(matching(NAME.pattern)),
    ",".join,
)
"""The kind of option that lists names of callers."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One entry: who it is, and what it may do.

    With `tokens`, SHA-256 digests, it is known by one of these; without, by its certificate, which carries
    `name`. `clusters` are ids, None for every one; with `labels` those that carry all of them.
    """

    name: str
    tokens: tuple[bytes, ...] = field(default=(), repr=False)
    clusters: frozenset[str] | None = None
    labels: tuple[tuple[str, str], ...] = ()
    read_only: bool = False
    may_impersonate: bool = False
    user: str = ""
    groups: tuple[str, ...] = ()

    @property
    def everywhere(self) -> bool:
        """Whether every cluster is open to it."""
        return self.clusters is None and not self.labels

    @property
    def rights(self) -> tuple[object, ...]:
        """What it may do where it may."""
        return self.read_only, self.may_impersonate, self.user, self.groups

    def reaches(self, cluster: Cluster) -> bool:
        """Whether this cluster is open to it."""
        if self.labels:
            return set(self.labels) <= set(cluster.labels)
        return self.clusters is None or cluster.id in self.clusters


# One reader for each key: its value → what is kept. They raise Refused.


def read_name(value: Any) -> str:
    """A caller's name."""
    if not isinstance(value, str) and value is not None:
        raise Refused(f"text, in quotes: {NAME_EXPECTED}")
    if value is None or not NAME.fullmatch(value):
        raise Refused(NAME_EXPECTED)
    return value


def read_reach(value: Any) -> tuple[frozenset[str] | None, tuple[tuple[str, str], ...]]:
    """Ids, None for every cluster, and labels."""
    if value in (EVERY, [EVERY]):
        return None, ()
    if isinstance(value, list) and all(isinstance(each, str) and ID.fullmatch(each) for each in value):
        return frozenset(value), ()
    if isinstance(value, dict) and set(value) == {"labels"} and value["labels"]:
        return None, read_labels(value["labels"])
    raise Refused('"*", a list of ids, or {"labels": {…}} with one label or more')


def read_flag(value: Any) -> bool:
    """True or false; none is false."""
    if value is None:
        return False
    if not isinstance(value, bool):
        raise Refused("true or false")
    return value


def read_subject(value: Any) -> tuple[str, tuple[str, ...]]:
    """User and groups."""
    if value is None:
        return "", ()
    if not isinstance(value, dict) or not value.keys() <= {"user", "groups"} or "user" not in value:
        raise Refused('an object such as {"user": "ci", "groups": ["deployers"]}')
    groups = value.get("groups", [])
    subjects = [value["user"], *groups] if isinstance(groups, list) else [None]
    if not all(isinstance(each, str) and SUBJECT.fullmatch(each) for each in subjects):
        raise Refused("a user, and a list of groups, each of 1 to 256 visible ASCII characters")
    return value["user"], tuple(groups)


KEYS: dict[str, Callable[[Any], Any]] = {
    "name": read_name,
    "tokenSha256": read_digests,
    "clusters": read_reach,
    "readOnly": read_flag,
    "mayImpersonate": read_flag,
    "impersonate": read_subject,
}


def parse_callers(text: str, source: str = "") -> tuple[Caller, ...]:
    """The callers in a list, of JSON or YAML; `source` is the file that it comes from.

    Raises ConfigError with the file, the entry, its line and the key at fault.
    """
    option = f"{OPTION} {source}".rstrip()
    expected = "a list of callers, in JSON or YAML"
    return read_entries(text, option, expected, ConfigError, partial(read_callers, option))


def read_callers(option: str, entries: list[Any], lines: list[int]) -> tuple[Caller, ...]:
    """The callers of a list's entries; `lines` may be known. Raises ConfigError."""
    callers: dict[str, Caller] = {}
    owners: dict[bytes, str] = {}
    for index, entry in enumerate(entries):
        where = f"{option}: {place('callers', index, lines)}"
        if not isinstance(entry, dict):
            raise ConfigError(where, HIDDEN, 'an object such as {"name": "argocd", "clusters": "*"}')
        if isinstance(entry.get("name"), str):
            where += f" (name {quoted(entry['name'])!r})"
        caller = read_entry(where, entry)
        if caller.name in callers:
            raise ConfigError(f"{where}, name", caller.name, "a name that no other entry has")
        for digest in caller.tokens:
            if (owner := owners.setdefault(digest, caller.name)) != caller.name:
                raise ConfigError(
                    f"{where}, tokenSha256", HIDDEN, f"a token that no other caller has; {owner!r} has it too"
                )
        callers[caller.name] = caller
    return tuple(callers.values())


def read_entry(where: str, entry: dict[str, Any]) -> Caller:
    """One entry of the list; raises ConfigError."""
    for key in entry:
        if key not in KEYS:
            raise ConfigError(f"{where}, key", quoted(key), one_of(key, KEYS))

    def read(key: str) -> Any:
        try:
            return KEYS[key](entry.get(key))
        except Refused as refused:
            shown = refused.shown or Words(quoted(repr(entry.get(key))))
            raise ConfigError(f"{where}, {key}", shown if key in entry else None, str(refused)) from None

    clusters, labels = read("clusters")
    user, groups = read("impersonate")
    caller = Caller(
        read("name"),
        read("tokenSha256"),
        clusters,
        labels,
        read("readOnly"),
        read("mayImpersonate"),
        user,
        groups,
    )
    if caller.user and caller.may_impersonate:
        raise ConfigError(
            f"{where}, mayImpersonate", "true", "not beside impersonate, which says as whom it acts"
        )
    return caller
