"""A watch: what is there, then every change as a line of JSON, until time is up or the client is gone."""

import json
import time
from collections.abc import Callable, Iterator

from gevent import get_hub
from gevent.queue import Empty, SimpleQueue

from argotun.demo.refusal import Refusal, bad_request
from argotun.demo.resources import Json, Resource
from argotun.demo.selectors import Predicate
from argotun.demo.store import Change, Store

DEFAULT_SECONDS = 1800.0
"""How long a watch lives that names no `timeoutSeconds`; Kubernetes picks 30 to 60 minutes."""

BOOKMARK_SECONDS = 30.0
"""Between two bookmarks, where the client allows them; a minute in Kubernetes."""

_READ = 1


def line(kind: str, obj: Json) -> bytes:
    """One watch event as it goes over the wire."""
    return json.dumps({"type": kind, "object": obj}, separators=(",", ":")).encode() + b"\n"


def bookmark(resource: Resource, revision: int, initial_end: bool = False) -> bytes:
    """An event that says only how far the watch is."""
    meta: Json = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_end:
        meta["annotations"] = {"k8s.io/initial-events-end": "true"}
    return line("BOOKMARK", {"kind": resource.kind, "apiVersion": resource.group_version, "metadata": meta})


class Watch:
    """One client's watch on a resource type; iterate it once, and `close` it.

    Raises a 400 Refusal for query values that cannot be read. A version too old to start from is an
    ERROR event in the stream, as in Kubernetes. `show` makes of an object what the client asked to see.
    """

    def __init__(
        self,
        store: Store,
        resource: Resource,
        namespace: str,
        matches: Predicate,
        query: dict[str, str],
        fd: int,
        show: Callable[[Json], Json],
    ) -> None:
        self._show = show
        self._store = store
        self._resource = resource
        self._namespace = namespace
        self._matches = matches
        self._deadline = time.monotonic() + _seconds(query.get("timeoutSeconds", ""))
        self._bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        self._initial_end = query.get("sendInitialEvents") in ("true", "1")
        version = query.get("resourceVersion", "")
        if version and not version.isdecimal():
            raise bad_request(f"invalid resource version {version!r}")
        self._backlog = self._first_lines("" if self._initial_end else version)
        self._queue: SimpleQueue[Change | None] = store.follow()
        # A client that watches has nothing to say: when its socket is readable, it has gone.
        self._gone = get_hub().loop.io(fd, _READ)
        self._gone.start(self._client_gone)

    def _first_lines(self, version: str) -> list[bytes | None]:
        """What to send before the changes to come; None where the watch ends at once."""
        if version not in ("", "0"):
            try:
                return [self._event(change) for change in self._store.since(int(version))]
            except Refusal as too_old:
                return [line("ERROR", too_old.status()), None]
        found = self._store.objects(self._resource, self._namespace)
        lines: list[bytes | None] = [line("ADDED", self._show(obj)) for obj in found if self._matches(obj)]
        if self._initial_end:
            lines.append(bookmark(self._resource, self._store.revision, initial_end=True))
        return lines

    def _client_gone(self) -> None:
        self._gone.stop()
        self._queue.put(None)

    def _event(self, change: Change) -> bytes:
        """The line of a change, b"" where it is none of this watch's; leaving a selector is a DELETED."""
        if change.resource is not self._resource:
            return b""
        obj = change.new or change.old
        assert obj is not None
        if self._namespace and obj["metadata"].get("namespace") != self._namespace:
            return b""
        before = change.old is not None and self._matches(change.old)
        after = change.new is not None and self._matches(change.new)
        kind = _KINDS[before, after]
        return line(kind, self._show(obj)) if kind else b""

    def __iter__(self) -> Iterator[bytes]:
        try:
            for ready in self._backlog:
                if ready is None:
                    return
                if ready:
                    yield ready
            next_bookmark = time.monotonic() + BOOKMARK_SECONDS
            while (now := time.monotonic()) < self._deadline:
                wake = min(self._deadline, next_bookmark) if self._bookmarks else self._deadline
                try:
                    change = self._queue.get(timeout=max(0.0, wake - now))
                except Empty:
                    if self._bookmarks and time.monotonic() >= next_bookmark:
                        next_bookmark = time.monotonic() + BOOKMARK_SECONDS
                        yield bookmark(self._resource, self._store.revision)
                    continue
                if change is None:
                    return
                if ready := self._event(change):
                    yield ready
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the store and of the socket; harmless when done twice."""
        self._gone.stop()
        self._gone.close()
        self._store.unfollow(self._queue)


_KINDS = {(False, True): "ADDED", (True, True): "MODIFIED", (True, False): "DELETED", (False, False): ""}


def _seconds(text: str) -> float:
    if not text:
        return DEFAULT_SECONDS
    if not text.isdecimal():
        raise bad_request(f"invalid timeoutSeconds {text!r}")
    return min(float(text), DEFAULT_SECONDS) or DEFAULT_SECONDS
