"""Pure: what must hold of writes, reads and watches of one object, whatever died meanwhile.

The object holds a count and the token of the write that made it. Every write is a compare-and-swap: it names
the resourceVersion that it read, and puts the count one higher, with a token that no other write has. The
truth is etcd's own revisions of the object; everything that clients were told is held against them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import NamedTuple


class Revision(NamedTuple):
    """A state of the object: its resourceVersion (etcd's mod_revision), its count, and whose write it was."""

    version: int
    count: int
    token: str


class Outcome(Enum):
    """What a client knows of its write."""

    ACKNOWLEDGED = "acknowledged"
    """2xx: it is in, as the version that the answer names."""
    CONFLICT = "conflict"
    """409: somebody else was faster, and it is not in."""
    NEVER_SENT = "never sent"
    """argotun's own answer with Retry-After: the API has not even heard of it."""
    UNKNOWN = "unknown"
    """Any other answer, or none: it is in once, or not at all."""


@dataclass(frozen=True)
class Write:
    """One attempt: the version that it was to replace, and the one that it made where it is acknowledged."""

    client: str
    token: str
    based: int
    outcome: Outcome
    version: int = 0


@dataclass
class Watching:
    """What a client heard that watches from a version on, over as many connections as that took."""

    client: str
    since: int
    events: list[Revision] = field(default_factory=list)
    torn: int = 0
    """Connections that ended in order in the middle of an event."""
    to_the_end: bool = True
    """False where the API forgot the version to go on from (410)."""


@dataclass
class History:
    """A run: the truth, and what was said of it."""

    revisions: list[Revision]
    writes: list[Write]
    watches: list[Watching] = field(default_factory=list)
    reads: dict[str, list[Revision]] = field(default_factory=dict)
    """For each client what it saw, in order: its own acknowledged writes too."""
    delivered: Counter[str] = field(default_factory=Counter)
    """How often the API's audit log has the write with a token."""


def faults(history: History) -> list[str]:
    """A sentence for each thing that may not be; none is a good run."""
    return [
        *_of_the_truth(history),
        *_of_writes(history),
        *_of_deliveries(history),
        *(fault for watching in history.watches for fault in _of_a_watch(watching, history.revisions)),
        *(fault for client, seen in history.reads.items() for fault in _of_reads(client, seen, history)),
    ]


def _of_the_truth(history: History) -> Iterator[str]:
    """Each revision must be the next count, by a write that was made of the revision before it."""
    sent = {write.token: write for write in history.writes}
    for each in history.revisions:
        if each.token not in sent:
            yield f"phantom write: revision {each.version} has {each.token}, which nobody sent"
    for before, after in pairwise(history.revisions):
        if after.version <= before.version:
            yield f"etcd's revisions are out of order: {after.version} behind {before.version}"
        if after.count != before.count + 1:
            yield f"revision {after.version} counts {after.count} behind {before.count}"
        write = sent.get(after.token)
        if write and write.based != before.version:
            yield f"{after.token} was to replace {write.based}, and replaced {before.version}"


def _of_writes(history: History) -> Iterator[str]:
    made: dict[str, list[int]] = {}
    for revision in history.revisions:
        made.setdefault(revision.token, []).append(revision.version)
    for write in history.writes:
        versions = made.get(write.token, [])
        name = f"{write.token} ({write.outcome.value})"
        if len(versions) > 1:
            yield f"doubled write: {name} made revisions {versions}"
        if write.outcome is Outcome.ACKNOWLEDGED:
            if not versions:
                yield f"lost write: {name} made no revision"
            elif write.version not in versions:
                yield f"{name} was told version {write.version}, and made {versions}"
        elif versions and write.outcome is not Outcome.UNKNOWN:
            yield f"{name} made revision {versions[0]}"


def _of_deliveries(history: History) -> Iterator[str]:
    for write in history.writes:
        times = history.delivered[write.token]
        if times > 1:
            yield f"doubled delivery: the API was asked for {write.token} {times} times"
        elif times and write.outcome is Outcome.NEVER_SENT:
            yield f"{write.token} (never sent) reached the API"


def _of_a_watch(watching: Watching, truth: list[Revision]) -> Iterator[str]:
    name = f"watch of {watching.client} from {watching.since}"
    known = {revision.version: revision for revision in truth}
    seen = [event.version for event in watching.events]
    for event in watching.events:
        if known.get(event.version) != event:
            yield f"phantom event: {name} heard {event}, etcd has {known.get(event.version)}"
    if watching.events and seen[0] <= watching.since:
        yield f"event out of order: {name} began with {seen[0]}"
    for version, times in Counter(seen).items():
        if times > 1:
            yield f"doubled event: {name} heard {version} {times} times"
    for before, after in pairwise(seen):
        if after < before:
            yield f"event out of order: {name} heard {after} behind {before}"
    end = truth[-1].version if watching.to_the_end and truth else max(seen, default=0)
    heard = set(seen)
    for version in known:
        if watching.since < version <= end and version not in heard:
            yield f"missing event: {name} did not hear {version}"
    if watching.torn:
        yield f"torn event: {name} ended in order within one, {watching.torn} times"


def _of_reads(client: str, seen: list[Revision], history: History) -> Iterator[str]:
    known = set(history.revisions)
    for each in seen:
        if each not in known:
            yield f"phantom read: {client} saw {each}"
    for before, after in pairwise(seen):
        if after.version < before.version:
            yield f"stale read: {client} saw {after.version} behind {before.version}"
