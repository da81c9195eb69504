"""The clusters in force: re-read when the file changes, the last good ones kept."""

import logging
from dataclasses import dataclass
from hashlib import sha256

from argotun.config.clusters import OPTION, Cluster, parse_clusters
from argotun.config.documents import text_of
from argotun.errors import ClustersError
from argotun.files import Trouble, Watched

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
        self._trouble = Trouble(log)
        text = source.lstrip("\ufeff \t\r\n")
        self._text = text if text.startswith("[") else None
        self._file = Watched(source, LARGEST_FILE)
        # Digests of what was read last, and of what is in force.
        self._seen = b""
        self._good = b""

    @property
    def errors(self) -> int:
        """How many versions of the file could not be used."""
        return self._trouble.errors

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
        if self._text is not None or not self._file.changed():
            return None
        before = self.clusters
        try:
            self._reread()
        except ClustersError as error:
            problem = f"the clusters file cannot be used: {error}"
            self._trouble.begin(problem, "the last good one stays in force", self._seen)
            return None
        self._trouble.end("the clusters file")
        return difference(before, self.clusters)

    def _reread(self) -> None:
        """Read the file and use it, unless these very bytes are in force; raises ClustersError."""
        self._seen = b""
        text = text_of(self._read, OPTION, self._file.path, ClustersError)
        if self._seen != self._good:
            self._use(text, self._file.path)
            self._good = self._seen

    def _read(self) -> bytes:
        data = self._file.read()
        self._seen = sha256(data).digest()
        return data

    def _use(self, text: str, source: str = "") -> None:
        self.clusters = parse_clusters(text, source)


def difference(before: dict[str, Cluster], after: dict[str, Cluster]) -> Change | None:
    """What became of the clusters, None when they are the same."""
    change = Change(
        added=frozenset(after.keys() - before.keys()),
        removed=frozenset(before.keys() - after.keys()),
        changed=frozenset(name for name in before.keys() & after.keys() if before[name] != after[name]),
    )
    return change if change.added or change.removed or change.changed else None
