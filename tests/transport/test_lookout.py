"""Whose silence means that a machine is gone: the criterion as a table, and the looks at real connections."""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import gevent
import pytest
from gevent import socket

from argotun.transport import lookout as module
from argotun.transport.lookout import TRIES, Info, Lookout, Silence, read, unacknowledged
from tests.rig import until

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")

# What the kernel tells in each second, with a look at its end: a text of
#     timeouts probes unacked sent heard repeated unsent
# for each look (as of linux/tcp.h, times in ms), which the last one repeats with its times growing, and the
# silence in seconds 40 looks later.
HISTORIES = {
    "idle for an hour": ("0 0 0 3600000 3600000 0 0", 0),
    "a request whose answer is late": ("0 0 0 900 899 0 0", 0),
    "asked after an hour, and answered": ("0 0 1 1 3600000 0 0, 0 0 0 1001 990 0 0", 0),
    "bytes that nobody acknowledges": ("2 0 1 156 14144 3 0, 3 0 1 600 15144 4 0, 5 0 1 600 16144 6 0", 40),
    "… of which a part was acknowledged before": ("3 0 7 100 900 90 4096, 6 0 7 100 1900 93 4096", 40),
    "… and cannot even leave, without a route": ("1 0 1 900 3000 0 0, 4 0 1 1900 4000 0 0", 40),
    "… sent once so far": ("0 0 1 900 3000 0 0", 0),
    "… sent again too rarely to tell": ("1 0 1 900 3000 1 0, 2 0 1 900 4000 2 0", 0),
    "a window that is closed, each probe answered": ("0 0 0 13200 6264 1 41992", 0),
    "… its newest probe is on its way": ("0 1 0 14228 7292 1 41992", 0),
    "… two were lost, and the third was answered": ("0 2 0 9 23316 1 41992, 0 0 0 999 500 1 41992", 0),
    "… two probes were lost": ("0 2 0 30252 23316 1 41992", 0),
    "… and nobody behind it": ("0 1 0 14228 7292 1 41992, 0 3 0 16000 9000 1 41992", 40),
    # The peer had no room for what was under way, and says so to each repetition of it.
    "a window that has shrunk": ("0 0 1 60000 59990 9 8192", 0),
    "… one repetition was lost": ("0 0 1 200 60000 10 8192", 0),
    "… and nobody behind that": ("0 0 1 200 60000 10 8192, 0 0 1 200 61000 13 8192", 40),
    "much under way, each packet acknowledged in time": ("0 0 40 1 30 12 900000", None),
}


@pytest.mark.parametrize(("texts", "silence"), HISTORIES.values(), ids=HISTORIES)
def test_a_silence_is_what_nobody_answers_however_often_asked(texts: str, silence: int | None) -> None:
    seen = [Info(*map(int, text.split())) for text in texts.split(",")]
    judge, now, seconds = Silence(), 1000.0, 0.0
    for look in range(41):
        info = seen[min(look, len(seen) - 1)]
        # Of a peer that answers the times stay as they are.
        late = 0 if silence is None else 1000 * max(0, look - len(seen) + 1)
        seconds = judge.seconds(info._replace(sent=info.sent + late, heard=info.heard + late), now)
        now += 1.0
    assert round(seconds) == (silence or 0)


Told = list[str]


class Known:
    """What the kernel is made to tell of every connection, and how often it was asked."""

    def __init__(self) -> None:
        self.info: Info | None = Info(0, 0, 0, 9000, 8000, 0, 0)
        self.asked = 0

    def read(self, sock: Any) -> Info | None:
        self.asked += 1
        return self.info

    def gone(self) -> None:
        """From now on the peer is gone."""
        self.info = Info(9, TRIES, 1, 1, 9000, 9, 0)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Known:
    known = Known()
    monkeypatch.setattr(module, "read", known.read)
    monkeypatch.setattr(module, "LOOK", 0.01)
    return known


@pytest.fixture
def lookouts() -> Iterator[Callable[[float], Lookout]]:
    """Make lookouts with a limit in seconds, which end with the test."""
    made = []

    def make(limit: float) -> Lookout:
        made.append(Lookout(limit))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def pair() -> Iterator[tuple[Any, Any]]:
    """Two ends of a TCP connection."""
    listening = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(listening.getsockname())
    theirs, _ = listening.accept()
    listening.close()
    with ours, theirs:
        yield ours, theirs


@needs_linux
def test_a_machine_that_is_gone_is_told_once(lookouts: Any, known: Known, pair: tuple[Any, Any]) -> None:
    told: Told = []
    lookout = lookouts(0.05)
    known.gone()
    lookout.keep(pair[0], told.append)
    until(lambda: told, "the end")
    assert told == ["nobody acknowledged 0 bytes for 0 s"]
    asked = known.asked
    lookout.keep(pair[1], told.append)
    until(lambda: len(told) == 2, "the end of another one")
    # The first one was not asked about any more.
    assert known.asked - asked <= 10


@needs_linux
def test_a_peer_that_has_everything_is_not_looked_at(
    lookouts: Any, known: Known, pair: tuple[Any, Any]
) -> None:
    ours, theirs = pair
    marks: list[int] = []
    written = [0]

    def mark() -> int:
        marks.append(written[0])
        return written[0]

    lookouts(60.0).keep(ours, Told().append, mark)
    until(lambda: len(marks) > 3, "three looks")
    assert known.asked == 1
    written[0] += 1
    until(lambda: known.asked == 2, "a look after more was written")
    # It owes something now, and is looked at until it does not.
    known.info = Info(0, 0, 1, 1, 0, 0, 0)
    written[0] += 1
    until(lambda: known.asked > 5, "looks at what is owed")
    assert theirs.fileno() >= 0


@needs_linux
def test_a_connection_that_was_dropped_is_not_told(
    lookouts: Any, known: Known, pair: tuple[Any, Any]
) -> None:
    told: Told = []
    lookout = lookouts(0.05)
    known.gone()
    for sock in pair:
        lookout.keep(sock, told.append)
    lookout.drop(pair[0])
    lookout.drop(pair[0])
    until(lambda: told, "the end of the other one")
    gevent.sleep(0.1)
    assert len(told) == 1


@needs_linux
def test_a_connection_that_changes_hands_while_others_are_looked_at_is_its_new_owners(
    known: Known, pair: tuple[Any, Any]
) -> None:
    told: Told = []
    asked: list[str] = []
    lookout = Lookout(60.0)

    def change_hands() -> None:
        if "first" not in asked:
            asked.append("first")
            lookout.drop(pair[1])
            lookout.keep(pair[1], told.append, lambda: asked.append("new owner"))

    lookout.keep(pair[0], told.append, change_hands)
    lookout.keep(pair[1], told.append, lambda: asked.append("old owner"))
    lookout._look_at_each()
    lookout._look_at_each()
    assert asked == ["first", "new owner"]


@needs_linux
def test_a_fault_in_one_end_does_not_keep_others_from_theirs(
    lookouts: Any, known: Known, pair: tuple[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    told: Told = []

    def fault(why: str) -> None:
        raise RuntimeError(why)

    lookout = lookouts(0.05)
    known.gone()
    lookout.keep(pair[0], fault)
    lookout.keep(pair[1], told.append)
    until(lambda: told, "the end of the other one")
    assert "a fault in argotun" in caplog.text


@pytest.mark.parametrize(("platform", "limit"), [("linux", 0.0), ("darwin", 0.05), ("freebsd14", 0.05)])
def test_nobody_is_looked_at_without_a_limit_or_without_linux(
    monkeypatch: pytest.MonkeyPatch, known: Known, pair: tuple[Any, Any], platform: str, limit: float
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    told: Told = []
    lookout = Lookout(limit)
    lookout.start()
    known.gone()
    lookout.keep(pair[0], told.append)
    gevent.sleep(0.1)
    lookout.drop(pair[0])
    lookout.stop()
    assert (told, known.asked) == ([], 0)


@needs_linux
def test_what_the_kernel_tells_is_read(pair: tuple[Any, Any]) -> None:
    """Of a peer that reads nothing: its window closes, and what it lacks is counted."""
    ours, theirs = pair
    ours.setblocking(False)
    written = 0
    with suppress(BlockingIOError):
        while True:
            written += ours.send(bytes(65536))
    theirs.setblocking(False)
    until(lambda: (info := read(ours)) is not None and not info.unacked, "the acknowledgement")
    info = read(ours)
    assert info is not None
    assert info.unsent == unacknowledged(ours) > 0
    assert not info.settled
    arrived = 0
    while arrived < written:
        try:
            arrived += len(theirs.recv(1 << 20))
        except BlockingIOError:
            gevent.sleep(0.001)
    until(lambda: (info := read(ours)) is not None and info.settled, "the acknowledgement")
    assert unacknowledged(ours) == 0


def test_nothing_is_known_of_what_is_no_tcp_or_was_closed(pair: tuple[Any, Any]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Lookout(30.0).keep(ours, Told().append)
        assert read(ours) is None
    pair[0].close()
    assert read(pair[0]) is None
