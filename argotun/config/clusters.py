"""The grammar of the clusters file: who may connect, read strictly, with a sentence about what is wrong."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from math import log2
from typing import Any

from argotun.config.documents import place, read_entries, read_list
from argotun.config.network import parse_target
from argotun.config.service_accounts import RefusedKey, ServiceAccount, read_service_account
from argotun.config.values import (
    CLUSTER_ID_EXPECTED,
    CLUSTER_ID_PATTERN,
    HIDDEN,
    LONGEST_TOKEN,
    Refused,
    Words,
    one_of,
    quoted,
    repeated,
)
from argotun.errors import ClustersError

OPTION = "--clusters"

ID = re.compile(CLUSTER_ID_PATTERN, re.ASCII)
SHORTEST_TOKEN = 16
"""Characters; fewer can be guessed. A random token such as `openssl rand -hex 32` gives has 64."""
TOKEN = re.compile(rf"[\x21-\x7e]{{{SHORTEST_TOKEN},{LONGEST_TOKEN}}}")
DIGEST = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
EMPTY_DIGEST = sha256(b"").digest()
ANY_NAME = "*"
"""In `certNames`: any certificate of the client CA will do."""


AGENTS = 4
"""How many there may be where the entry does not say: two, and two that take over from them."""

MOST_AGENTS = 16
"""Tunnels of one cluster that a server keeps, those included that drain: a rolling agent has two or three."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One entry; `tokens` are SHA-256 digests: the tokens themselves are not kept."""

    id: str
    tokens: tuple[bytes, ...] = field(repr=False)
    target_addr: str | None = None
    cert_names: tuple[str, ...] = ()
    """Names of which the agent's certificate must carry one; none stands for the id."""
    rate_limit: float | None = None
    """Requests per second; None is no limit."""
    labels: tuple[tuple[str, str], ...] = ()
    account: ServiceAccount | None = None
    """Whose tokens the agent may show in place of one of `tokens`."""
    agents: int = AGENTS
    """Agents that may stand beside each other; with 1 the newest takes the place of the others."""


# One reader for each key: its value → what is kept. They raise Refused.


def read_id(value: Any) -> str:
    """A cluster's id."""
    if not isinstance(value, str) and value is not None:
        raise Refused(f"text, in quotes: {CLUSTER_ID_EXPECTED}")
    if value is None or not ID.fullmatch(value):
        raise Refused(CLUSTER_ID_EXPECTED)
    return value


def read_token(value: Any) -> tuple[bytes, ...]:
    """One token; an empty one is as good as none, for charts that always write the key."""
    if value in ("", None):
        return ()
    if not isinstance(value, str) or not TOKEN.fullmatch(value):
        raise Refused(
            f"text of {SHORTEST_TOKEN} to {LONGEST_TOKEN} visible ASCII characters without spaces", HIDDEN
        )
    return (sha256(value.encode("ascii")).digest(),)


def read_tokens(value: Any) -> tuple[bytes, ...]:
    """Several tokens, so that one can be rotated while another is in use."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(value):
        raise Refused("a list of tokens", HIDDEN)
    return tuple(digest for token in value for digest in read_token(token))


def read_digests(value: Any) -> tuple[bytes, ...]:
    """SHA-256 of a token in hex, or a list of such."""
    if value in ("", None):
        return ()
    digests = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) and DIGEST.fullmatch(each) for each in digests):
        # Somebody may have put the token itself here.
        raise Refused("64 hex digits, the SHA-256 of the token, or a list of such", HIDDEN)
    found = tuple(bytes.fromhex(each) for each in digests)
    if EMPTY_DIGEST in found:
        raise Refused("the SHA-256 of a token", Words("the SHA-256 of nothing"))
    return found


def read_target(value: Any) -> str | None:
    """The address that the agent is told to dial; none means the agent's own target."""
    if value in ("", None):
        return None
    try:
        parse_target(value if isinstance(value, str) else "")
    except ValueError:
        raise Refused("host:port such as kubernetes.default.svc:443, or no such key") from None
    return str(value)


def read_names(value: Any) -> tuple[str, ...]:
    """Names of which the agent's certificate must carry one, or ANY_NAME alone."""
    if value is None:
        return ()
    # An empty list says "none will do" to one reader and "all will do" to another.
    if not isinstance(value, list) or not value or not all(isinstance(n, str) and n.strip() for n in value):
        raise Refused(f'a list of names of the agent\'s certificate, or ["{ANY_NAME}"] for any')
    if ANY_NAME in value and len(value) > 1:
        raise Refused(f'names, or "{ANY_NAME}" alone')
    return tuple(value)


def read_rate(value: Any) -> float | None:
    """Requests per second; 0 is no limit."""
    if value is None:
        return None
    # A bool is an int to Python, but not to the person who wrote it.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e12:
        raise Refused("a number of requests per second, or 0 for no limit")
    return float(value) or None


def read_agents(value: Any) -> int:
    """How many agents may stand beside each other."""
    if value is None:
        return AGENTS
    if type(value) is not int or not 1 <= value <= MOST_AGENTS:
        raise Refused(f"a number of agents, 1 to {MOST_AGENTS}")
    return value


LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,252}[A-Za-z0-9])?", re.ASCII)


def read_labels(value: Any) -> tuple[tuple[str, str], ...]:
    """Labels by which a caller's entry may name clusters; as Kubernetes writes them, a value may be empty."""
    if value is None:
        return ()
    if isinstance(value, dict) and not value.keys().isdisjoint(TOKEN_KEYS):
        # Labels are shown; a line that is indented too far is not to be.
        raise Refused("labels, and the token beside them", HIDDEN)
    if not isinstance(value, dict) or not all(
        LABEL.fullmatch(key) and isinstance(label, str) and (not label or LABEL.fullmatch(label))
        for key, label in value.items()
    ):
        raise Refused('an object of labels such as {"stage": "test"}')
    return tuple(sorted(value.items()))


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
    "labels": read_labels,
    "serviceAccount": read_service_account,
    "agents": read_agents,
}
FOREIGN = re.compile(r"argocd(\..*)?")
"""Keys that are the chart's own, and none of the server's business."""


def parse_clusters(text: str, source: str = "") -> dict[str, Cluster]:
    """The clusters in a list, of JSON or YAML, by id; `source` is the file that it comes from.

    Raises ClustersError with the file, the entry, its line and the key at fault; tokens are in none of the
    sentences.
    """
    option = f"{OPTION} {source}".rstrip()
    expected = "a list of clusters, in JSON or YAML"
    return read_entries(text, option, expected, ClustersError, partial(read_clusters, option))


GUESSABLE = 80.0
"""Bits of entropy of a token, counted by its characters alone, below which somebody has made it up."""


def weak_tokens(text: str) -> list[str]:
    """Ids of the clusters, in a list that can be used, with a token in clear that could be guessed."""
    entries = read_list(text, OPTION, "a list of clusters", ClustersError).entries
    return [
        entry["id"]
        for entry in entries
        if any(0 < _bits(token) < GUESSABLE for token in (entry.get("token"), *(entry.get("tokens") or ())))
    ]


def _bits(token: str | None) -> float:
    """Shannon's entropy of a text by how often each of its characters is in it; 0 for none."""
    counts = [token.count(each) for each in set(token)] if token else []
    total = len(token or "")
    return max(1.0, -sum(count * log2(count / total) for count in counts)) if token else 0.0


def read_clusters(option: str, entries: list[Any], lines: list[int]) -> dict[str, Cluster]:
    """The clusters of a list's entries; `lines` may be known. Raises ClustersError."""
    clusters: dict[str, Cluster] = {}
    owners: dict[bytes | tuple[str, str, str], str] = {}
    for index, entry in enumerate(entries):
        where = f"{option}: {place('clusters', index, lines)}"
        if not isinstance(entry, dict):
            raise ClustersError(where, HIDDEN, 'an object such as {"id": …, "token": …}')
        if isinstance(entry.get("id"), str):
            where += f" (id {quoted(entry['id'])!r})"
        cluster = read_entry(where, entry)
        if cluster.id in clusters:
            raise ClustersError(f"{where}, id", cluster.id, "an id that no other entry has")
        for digest in cluster.tokens:
            if (owner := owners.setdefault(digest, cluster.id)) != cluster.id:
                raise ClustersError(
                    f"{where}, token",
                    HIDDEN,
                    f"a token that no other cluster has; {owner!r} has it too",
                )
        account = cluster.account
        if account and (owner := owners.setdefault(account.claims, cluster.id)) != cluster.id:
            # Many clusters call their issuer https://kubernetes.default.svc, whatever their keys are.
            raise ClustersError(
                f"{where}, serviceAccount",
                Words("this issuer, audience and subject"),
                f"an audience that no other cluster has; {owner!r} has the same",
            )
        clusters[cluster.id] = cluster
    return clusters


def read_entry(where: str, entry: dict[str, Any]) -> Cluster:
    """One entry of the list; raises ClustersError."""

    def read(key: str) -> Any:
        try:
            return KEYS[key](entry.get(key))
        except RefusedKey as refused:
            shown = Words(refused.shown) if refused.shown else None
            raise ClustersError(f"{where}, {key}.{refused.key}", shown, str(refused)) from None
        except Refused as refused:
            given = Words(refused.shown or repeated(entry.get(key))) if key in entry else None
            raise ClustersError(f"{where}, {key}", given, str(refused)) from None

    refuse_unknown_keys(where, entry)
    name = read("id")
    tokens = tuple(dict.fromkeys(digest for key in TOKEN_KEYS for digest in read(key)))
    account = read("serviceAccount")
    if not tokens and account is None:
        raise ClustersError(f"{where}, token", None, f"one of {', '.join(TOKEN_KEYS)} or serviceAccount")
    return Cluster(
        name,
        tokens,
        read("targetAddr"),
        read("certNames"),
        read("rateLimit"),
        read("labels"),
        account,
        read("agents"),
    )


def refuse_unknown_keys(where: str, entry: Iterable[str]) -> None:
    """Raise ClustersError for a key that is not read: a misspelt one would leave a cluster less guarded."""
    for key in entry:
        if key not in KEYS and not FOREIGN.fullmatch(key):
            raise ClustersError(f"{where}, key", quoted(key), one_of(key, KEYS))
