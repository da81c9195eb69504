"""What becomes of all applications, as a watch of the management cluster tells; and what rounds of it are."""

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from http.client import HTTPException
from statistics import median
from typing import Any

from tests.e2e.harness.http import Endpoint

PATIENCE = 3600.0  # seconds in which nothing may happen
RETRY = 0.2  # seconds between two watches


class Board:
    """When each application was first seen Synced at a revision, and in which states it was seen."""

    def __init__(self) -> None:
        self.synced: dict[tuple[str, str], float] = {}
        self.state: dict[str, str] = {}
        self._seen: set[tuple[str, str]] = set()

    def take(self, application: Mapping[str, Any], now: float) -> None:
        """Note what is said of an application."""
        name = application["metadata"]["name"]
        status = application.get("status", {})
        sync = status.get("sync", {})
        state = f"{sync.get('status') or 'none'}, {status.get('health', {}).get('status') or 'none'}"
        self.state[name] = state
        self._seen.add((name, state))
        if sync.get("status") == "Synced" and sync.get("revision"):
            self.synced.setdefault((name, sync["revision"]), now)

    def forget(self) -> None:
        """From now on only states count that are seen from now on, those of the moment too."""
        self._seen = set(self.state.items())

    def states(self, names: Iterable[str]) -> dict[str, int]:
        """How many of these applications were seen in each state."""
        wanted = set(names)
        return dict(Counter(state for name, state in list(self._seen) if name in wanted))

    def since(self, names: Iterable[str], revision: str, began: float) -> list[float]:
        """Seconds after which those of them that are there were at the revision, in order."""
        times = (self.synced.get((name, revision)) for name in names)
        return sorted(max(0.0, each - began) for each in times if each is not None)


def summary(times: list[float], of: int) -> dict[str, float]:
    """What a round is remembered by."""
    found: dict[str, float] = {"of": of, "synced": len(times)}
    if times:
        found |= {"median": round(median(times), 2), "last": round(times[-1], 2)}
    return found


class Watcher:
    """Keeps a board, on a thread of its own, from a list and a watch that is opened anew where it ends."""

    def __init__(self, api: Endpoint, path: str) -> None:
        self.board = Board()
        self._api = api
        self._path = path
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """AssertionError when it watches no more."""
        assert self._thread.is_alive(), "nobody watches the applications"

    def _run(self) -> None:
        while True:
            # Whether the API is there is looked after by whoever runs it; in the end it is not.
            with contextlib.suppress(OSError, HTTPException):
                listed = self._api.get(self._path).json()
                now = time.monotonic()
                for each in listed["items"]:
                    self.board.take(each, now)
                self._watch(listed["metadata"]["resourceVersion"])
            time.sleep(RETRY)

    def _watch(self, version: str) -> None:
        path = f"{self._path}?watch=1&resourceVersion={version}"
        with self._api.connection(PATIENCE) as connection:
            answer = self._api.send(connection, "GET", path)
            for line in answer:
                event = json.loads(line)
                if event["type"] not in ("ADDED", "MODIFIED"):
                    return
                self.board.take(event["object"], time.monotonic())
