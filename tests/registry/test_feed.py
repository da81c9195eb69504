"""When a feed gives itself up: the queue of messages and the clock are the tests' own."""

import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from argotun.errors import TransportError
from argotun.replicas import feed as feed_module
from argotun.replicas.directory import SILENCE, Directory
from argotun.replicas.feed import Feed
from argotun.replicas.shared import new_id


class Queue:
    """A subscription: of what is `said`, None is a moment in which nothing waits; all of it takes `seconds`.

    When it is over, `feed` is told to end.
    """

    def __init__(self, feed: Feed, said: Iterable[str | None], seconds: float) -> None:
        self.now = 1000.0
        self.connection = SimpleNamespace(can_read=self.can_read)
        self._feed = feed
        self._said = list(said)
        self._each = seconds / len(self._said)

    def can_read(self, timeout: float) -> bool:
        if timeout and self._said and self._said[0] is None:
            self._pass()
        return bool(self._said) and self._said[0] is not None

    def get_message(self, timeout: float) -> dict[str, object]:
        said = {"r": self._said[0], "s": 1, "f": True, "a": "h:1", "n": "1.2", "l": False, "c": {}}
        self._pass()
        return {"type": "message", "data": json.dumps(said).encode()}

    def _pass(self) -> None:
        del self._said[0]
        self.now += self._each
        if not self._said:
            self._feed.stop()


ME, OTHER = new_id(), new_id()
LONG = 4 * SILENCE


@pytest.fixture
def feed() -> Feed:
    engine: Any = SimpleNamespace(keys="{argotun}")
    return Feed(engine, Directory(ME))


def follow(feed: Feed, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "monotonic", lambda: queue.now)
    feed._follow(None, queue)


def test_a_feed_that_still_reads_what_waits_is_alive(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty replicas that start at once say more than a busy machine reads in that time."""
    queue = Queue(feed, [OTHER] * 40 + [ME], LONG)
    follow(feed, queue, monkeypatch)
    assert feed._directory.follows(queue.now)
    assert feed._directory.replicas.keys() == {OTHER}


@pytest.mark.parametrize("said", [[None], [OTHER, None]], ids=["nobody", "others"])
def test_a_feed_that_has_all_but_our_own_beats_is_given_up(
    feed: Feed, said: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be an older master's, which some have not left yet."""
    with pytest.raises(TransportError, match="our own beats"):
        follow(feed, Queue(feed, [ME, *said * 40], LONG), monkeypatch)


def test_a_pause_counts_from_the_last_beat_that_came(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(feed, Queue(feed, [ME, *[None] * 4] * 4, LONG), monkeypatch)
    assert feed._directory.heard is not None
