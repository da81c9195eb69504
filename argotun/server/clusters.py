"""The clusters in force: re-read when the file changes, the last good ones kept."""

import logging
from dataclasses import dataclass
from hashlib import sha256

from argotun.config.clusters import OPTION, Cluster, parse_clusters
from argotun.errors import ClustersError
from argotun.files import Fingerprint, fingerprint, read

log = logging.getLogger(__name__)

LARGEST_FILE = 16 << 20
"""Bytes; tens of thousands of clusters, and far below what would hurt."""


@dataclass(frozen=True, slots=True)
class Change:
    """Ids of the clusters that a new version of the file added, removed and changed."""

    added: frozenset[str]
    removed: frozenset[str]
    changed: frozenset[str]


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
        self._version: Fingerprint | None = None
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
        return self._version is not None and fingerprint(self._path) == self._version

    def _reread(self) -> None:
        """Read the file and use it, unless these very bytes are in force; raises ClustersError."""
        self._version = None
        try:
            contents = read(self._path, LARGEST_FILE)
        except OSError as error:
            self._seen = error.strerror or "unreadable"
            raise ClustersError(OPTION, self._path, f"a readable file ({error.strerror})") from None
        self._version = contents.seen
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
        self.clusters = parse_clusters(text)


def difference(before: dict[str, Cluster], after: dict[str, Cluster]) -> Change | None:
    """What became of the clusters, None when they are the same."""
    change = Change(
        added=frozenset(after.keys() - before.keys()),
        removed=frozenset(before.keys() - after.keys()),
        changed=frozenset(name for name in before.keys() & after.keys() if before[name] != after[name]),
    )
    return change if change.added or change.removed or change.changed else None
