"""When a silent peer is given up, on a clock that the test moves."""

from collections import deque
from typing import Any

import gevent
import pytest
from gevent import monkey, socket

from argotun.transport import MessageSocket
from argotun.tunnel import tunnel as module
from argotun.tunnel.tunnel import RTT_SAMPLES, Tunnel
from argotun.wire.frames import V2
from argotun.wire.hello import Hello
from argotun.wire.mux import Multiplexer
from argotun.wire.websocket import OP_BINARY, pack
from tests.rig import until
from tests.v2_peers import hello

stand_still = monkey.get_original("time", "sleep")


class Clock:
    """Time that passes only where somebody sleeps; `plan` is what happens at which second."""

    def __init__(self) -> None:
        self.now = 100.0
        self.plan: dict[float, Any] = {}

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += max(seconds, 1e-6)
        for when in [when for when in self.plan if when <= self.now]:
            self.plan.pop(when)(when)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock.monotonic)
    monkeypatch.setattr(module.gevent, "sleep", clock.sleep)
    return clock


def silent(
    clock: Clock, keepalive: float, timeout: float
) -> tuple[Any, list[float], list[tuple[float, str]]]:
    """A tunnel without a socket: the times of its PINGs, and when it ended and why."""
    pings: list[float] = []
    ends: list[tuple[float, str]] = []
    tunnel: Any = Tunnel.__new__(Tunnel)
    tunnel.mux = Multiplexer(V2, opener=True, ours=Hello(), budget=64 << 20)
    tunnel.mux.theirs = Hello()
    tunnel.mux.ping = lambda payload: pings.append(clock.now - 100)
    tunnel.since = tunnel.heard = clock.now
    tunnel._pings, tunnel._pinged = 0, 0.0
    tunnel._rtt, tunnel._samples = 0.0, deque(maxlen=RTT_SAMPLES)
    tunnel._keepalive, tunnel._keepalive_timeout, tunnel._hello_timeout = keepalive, timeout, 10
    tunnel.end = lambda reason: ends.append((clock.now - 100, reason))
    return tunnel, pings, ends


@pytest.mark.parametrize(("keepalive", "timeout"), [(15, 45), (10, 15), (20, 21), (30, 10), (0.2, 0.6)])
def test_a_silent_peer_is_given_up_exactly_when_the_limit_is_reached(
    clock: Clock, keepalive: float, timeout: float
) -> None:
    tunnel, pings, ends = silent(clock, keepalive, timeout)
    tunnel._probe()
    assert ends[0][0] == pytest.approx(timeout, abs=1e-3)
    assert pings == pytest.approx([n * keepalive for n in range(len(pings))], abs=1e-3)
    assert len(pings) >= timeout // keepalive


def test_the_limit_counts_from_the_last_word_of_the_peer(clock: Clock) -> None:
    tunnel, _, ends = silent(clock, 10, 15)

    def heard(when: float) -> None:
        tunnel.heard = when

    clock.plan = {107.0: heard, 121.0: heard}
    tunnel._probe()
    assert ends[0][0] == pytest.approx(36, abs=1e-3)


@pytest.mark.parametrize("said", [True, False])
def test_what_came_while_the_process_stood_still_is_read_before_the_peer_is_judged(said: bool) -> None:
    """A machine was paused, or a cgroup had no share of the processor: the timer comes before the socket."""
    ours, theirs = socket.socketpair()
    mux = Multiplexer(V2, opener=True, ours=Hello(), budget=64 << 20)
    tunnel = Tunnel(
        MessageSocket(ours, None, b"", client=False),
        mux,
        keepalive=0.1,
        keepalive_timeout=0.3,
        hello_timeout=0.2,
    )
    running = gevent.spawn(tunnel.run)
    gevent.sleep(0)
    if said:
        theirs.sendall(pack(OP_BINARY, (hello(),), bytes(4)))
    stand_still(0.4)
    until(lambda: tunnel._pings > 1 or tunnel.ended.is_set(), "the next PING, or the end")
    assert (tunnel._pings > 1) is said
    tunnel.end("the test ends")
    running.join()
    theirs.close()


def test_a_late_pong_is_not_taken_for_the_answer_to_a_newer_ping(clock: Clock) -> None:
    tunnel, _, _ = silent(clock, 10, 15)
    tunnel._pings, tunnel._pinged = 2, clock.now - 0.001
    tunnel._ponged(b"1")
    assert tunnel.rtt == 0
    tunnel._ponged(b"2")
    assert tunnel.rtt == pytest.approx(0.001)
    tunnel._ponged(b"2")
    assert tunnel.rtt == pytest.approx(0.001)


def test_windows_do_not_grow_with_the_queue_that_they_make(clock: Clock) -> None:
    """They follow the shortest of the last round trips, whatever is shown of the others."""
    tunnel, _, _ = silent(clock, 10, 15)

    def measure(seconds: float) -> None:
        tunnel._pinged = clock.now - seconds
        tunnel._ponged(b"%d" % tunnel._pings)

    tunnel._pings = 1
    measure(0.01)
    for _ in range(RTT_SAMPLES - 1):
        measure(0.5)
    assert tunnel.mux.rtt == pytest.approx(0.01)
    assert tunnel.rtt > 0.2
    # A path that has become longer is believed in the end.
    measure(0.5)
    assert tunnel.mux.rtt == pytest.approx(0.5)
