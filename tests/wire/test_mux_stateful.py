"""Two multiplexers and an adversarial network between them, driven by hypothesis.

The network keeps messages in order and delivers them when it likes; readers stall, streams are
opened, ended, closed and reset at any moment, batches have any size, and the tunnel is lost on one
side before the other. A model that shares no code with the multiplexer watches the wire.
"""

import random
from collections import deque

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from argotun.errors import ConnectionLost
from argotun.wire.credit import shares
from argotun.wire.frames import CHUNK, MAX_WINDOW, V1, V2, Profile
from argotun.wire.hello import Hello
from argotun.wire.mux import Multiplexer
from argotun.wire.outbox import BATCH, LOW_WATER
from argotun.wire.reasons import DRAINING, FAILED, NONE, NOT_ALLOWED, STREAM_LIMIT, WORDS
from argotun.wire.streams import STATES, Stream
from tests.examples import examples
from tests.wire.mux_peers import joined, read, take_in

RESET = "reset by the test"
MAX_STREAMS = 5
PERIOD = 1 << 20
NOISE = random.Random(7).randbytes(PERIOD)
NOISE += NOISE[: 1 << 19]


def piece(key: int, offset: int, size: int) -> bytes:
    """What the direction `key` carries from `offset` on: any loss, repetition or swap shows."""
    at = (key * 4099 + offset) % PERIOD
    return NOISE[at : at + size]


OVERTAKING = 5 * CHUNK
"""A turn of its own, and less than two in front of the line in each of two rounds, bytes."""


class End:
    """One end of one stream: the sink, and the model of what must reach it."""

    def __init__(self, side: "Side", key: int) -> None:
        self.side, self.key = side, key
        self.stream: Stream
        self.peer: End | None = None
        self.sent = self.got = self.unread = 0
        self.connected = self.finished = self.closed = self.was_reset = False
        self.heard: str | None = None  # the last word: "end" leaves the other direction alive
        self.both_ended = False

    def _alive(self) -> None:
        assert self.heard in (None, "end"), f"called after {self.heard}"
        assert not self.was_reset, "called after this side's reset"

    def _complete(self) -> None:
        assert self.peer is not None
        assert self.got == self.peer.sent, "the end overtook data"

    def on_connected(self) -> None:
        self._alive()
        assert not self.connected
        self.connected = True

    def on_data(self, payload: bytes) -> None:
        self._alive()
        assert payload
        assert self.heard is None, "data after the end"
        assert self.peer is not None
        assert payload == piece(self.peer.key, self.got, len(payload)), "bytes lost, repeated or swapped"
        self.got += len(payload)
        self.unread += len(payload)
        assert self.got <= self.peer.sent

    def on_end(self) -> None:
        self._alive()
        assert self.heard is None
        self._complete()
        self.heard = "end"

    def on_over(self, reason: int, text: str) -> None:
        self._alive()
        assert (reason, text) in (
            (NONE, ""),
            (FAILED, RESET),
            (STREAM_LIMIT, WORDS[STREAM_LIMIT]),
            (NOT_ALLOWED, WORDS[NOT_ALLOWED]),
        )
        if reason == NONE:
            assert self.peer is not None
            assert self.peer.closed
            self._complete()
        self.heard = "over"

    def on_lost(self, reason: str) -> None:
        self._alive()
        assert self.side.lost
        self.heard = "lost"

    def go_on(self) -> None:
        assert self.stream.waiter is None
        assert self.stream.queued <= LOW_WATER


class Side:
    """One multiplexer, the messages it has sent and that are not delivered, and what the wire has seen."""

    def __init__(self, profile: Profile, role: str, ours: Hello, budget: int) -> None:
        self.role = role
        self.mux = Multiplexer(profile, opener=role == "server", ours=ours, budget=budget)
        self.window, self.budget = ours.window, budget
        self.roomy = budget >= 1 << 24
        self.peer: Side
        self.ends: list[End] = []
        self.flight: deque[bytes] = deque()
        self.lost = False
        self.owed = True  # the owner was woken, or left something behind: it knows that it must collect
        self.mux.wake = self._woken
        self.spent: dict[int, int] = {}  # DATA sent less WINDOW delivered, by stream
        self.overtook: dict[int, dict[int, int]] = {}  # bytes of others since the stream came into line

    def _woken(self) -> None:
        self.owed = True


class Tunnel(RuleBasedStateMachine):
    profile: Profile
    windows = st.sampled_from([30, 1000, 40_000, 300_000])
    sizes = st.sampled_from([1, 17, 1000, CHUNK + 1, 100_000, 200_000])
    which = st.integers(0, 1)
    picks = st.integers(0, 2 * MAX_STREAMS)

    @initialize(
        windows=st.tuples(windows, windows),
        budgets=st.tuples(*[st.sampled_from([8, 5000, 200_000, 1 << 24])] * 2),
        rtt=st.sampled_from([0.0, 1.0]),
        early=st.booleans(),
    )
    def begin(self, windows: tuple[int, int], budgets: tuple[int, int], rtt: float, early: bool) -> None:
        if not self.profile.credit:
            budgets = (1 << 26, 1 << 26)
        self.steps, self.now, self.policy = 0, 1.0, "later"
        self.sides = [
            Side(self.profile, role, Hello(window=window, max_streams=MAX_STREAMS), budget)
            for role, window, budget in zip(("server", "agent"), windows, budgets, strict=True)
        ]
        self.server, self.agent = self.sides
        self.server.peer, self.agent.peer = self.agent, self.server
        self.by_number: dict[int, End] = {}
        self.server.mux._last = 0xFFFFFFFD
        self.agent.mux.accept = self._accept
        for side in self.sides:
            side.mux.rtt = rtt
        if not early:
            for side in self.sides:
                self._collect(side, BATCH)
            for side in self.sides:
                self._deliver(side, 1)
            for _ in range(3):
                self.open("now")
            self.exchange()

    def _accept(self, stream: Stream, target: str) -> None:
        end = End(self.agent, stream.id % 97 * 2 + 1)
        end.stream, stream.sink = stream, end
        end.peer = self.by_number[stream.id]
        end.peer.peer = end
        self.agent.ends.append(end)
        if self.policy == "now":
            self.agent.mux.connected(stream)
            end.connected = True
        elif self.policy == "refuse":
            end.was_reset = True
            self.agent.mux.reset(stream, NOT_ALLOWED)

    # ── the network ────────────────────────────────────────────────────────────────────────────

    def _collect(self, side: Side, limit: int) -> None:
        before = self._in_line(side)
        messages = joined(side.mux.collect(limit))
        assert all(0 < len(message) <= self.profile.max_message for message in messages)
        side.owed = side.mux.waiting
        in_turn, turns = False, []
        for name, number, payload in read(self.profile, messages):
            in_turn |= name in ("DATA", "END")
            assert not in_turn or name in ("DATA", "END", "CLOSE"), f"{name} behind data"
            if name == "CONNECT":
                side.spent[number] = 0
            elif name == "DATA":
                turns.append((number, len(payload)))
                self._watch_data(side, number, len(payload))
        self._watch_turns(side, turns, before, self._in_line(side))
        if not side.lost:
            side.flight.extend(messages)

    def _watch_data(self, side: Side, number: int, size: int) -> None:
        assert 0 < size <= CHUNK
        side.spent[number] = side.spent.get(number, 0) + size
        peer = self.agent if side is self.server else self.server
        if self.profile.credit:
            assert side.spent[number] <= peer.window, "more unacknowledged bytes than were granted"
        elif side is self.server:
            assert self.by_number[number].connected, "version 1 sent data before CONNECTED"

    def _in_line(self, side: Side) -> set[int]:
        return {stream.id for stream in side.mux.streams.values() if self._may_send(side, stream)}

    def _watch_turns(
        self, side: Side, turns: list[tuple[int, int]], before: set[int], after: set[int]
    ) -> None:
        overtook = {}
        order = [number for number, _ in turns]
        for number in before:
            served = side.overtook.get(number, {})
            if number not in after and number not in order:
                # It had its turn and found the pool too short for it.
                continue
            # Once its last byte is out a stream is in nobody's way any more.
            left = len(turns) if number in after else len(turns) - order[::-1].index(number)
            for other, size in turns[:left]:
                served[other] = served.get(other, 0) + size
                assert served[other] <= OVERTAKING, f"{other} keeps {number} from its turn"
                if other == number:
                    served = {}
            if number in after:
                overtook[number] = served
        side.overtook = overtook

    def _deliver(self, side: Side, count: int) -> None:
        peer = self.agent if side is self.server else self.server
        for _ in range(min(count, len(side.flight))):
            message = side.flight.popleft()
            if not peer.lost:
                for name, number, payload in read(self.profile, [message]):
                    if name == "WINDOW":
                        given = int.from_bytes(payload[:4], "big") + int.from_bytes(payload[4:], "big")
                        peer.spent[number] = peer.spent.get(number, 0) - given
            take_in(peer.mux, message)

    @rule(which=which, limit=st.sampled_from([1, 100, CHUNK + 1, BATCH, 1 << 30]))
    def collect(self, which: int, limit: int) -> None:
        self._collect(self.sides[which], limit)

    @rule(which=which, count=st.integers(1, 9))
    def deliver(self, which: int, count: int) -> None:
        self._deliver(self.sides[which], count)

    @rule()
    def exchange(self) -> None:
        for side in self.sides:
            self._collect(side, BATCH)
            self._deliver(side, len(side.flight))

    # ── the users ──────────────────────────────────────────────────────────────────────────────

    def _pick(self, which: int, pick: int) -> End | None:
        ends = self.sides[which].ends
        return ends[-1 - pick % len(ends)] if ends else None

    @rule(policy=st.sampled_from(["now", "now", "later", "refuse"]))
    def open(self, policy: str) -> None:
        self.policy = policy
        end = End(self.server, 0)
        if self.server.lost:
            with pytest.raises(ConnectionLost):
                self.server.mux.open(end)
            return
        end.stream = self.server.mux.open(end, "api:443")
        end.key = end.stream.id % 97 * 2
        assert end.stream.id not in self.by_number
        self.by_number[end.stream.id] = end
        self.server.ends.append(end)

    @rule(pick=picks)
    def connect(self, pick: int) -> None:
        end = self._pick(1, pick)
        if end:
            self.agent.mux.connected(end.stream)
            end.connected = True

    @rule(which=which, size=sizes)
    def send_on_each(self, which: int, size: int) -> None:
        for pick in range(len(self.sides[which].ends)):
            self.send(which, pick, size)

    @rule(which=which, pick=picks, size=sizes)
    def send(self, which: int, pick: int, size: int) -> None:
        end = self._pick(which, pick)
        if end:
            peer = self.sides[1 - which]
            size = min(size, 50 * peer.window)
            mine = not (end.finished or end.was_reset or self._over(end))
            end.side.mux.send(end.stream, piece(end.key, end.sent, size))
            end.sent += size * mine
            if end.stream.queued > LOW_WATER:
                end.stream.waiter = end.go_on

    @rule(which=which, pick=picks)
    def end(self, which: int, pick: int) -> None:
        end = self._pick(which, pick)
        if end:
            end.side.mux.end(end.stream)
            end.finished = True
            end.closed |= not self.profile.credit

    @rule(which=which, pick=picks)
    def close(self, which: int, pick: int) -> None:
        end = self._pick(which, pick)
        if end:
            end.side.mux.close(end.stream)
            end.finished = end.closed = True

    @rule(which=which, pick=picks)
    def reset(self, which: int, pick: int) -> None:
        end = self._pick(which, pick)
        if end and not self._over(end):
            end.side.mux.reset(end.stream, FAILED, RESET)
            end.was_reset = True

    @rule(which=which, pick=picks, size=st.sampled_from([1, 20, 5000, 1 << 30]))
    def read(self, which: int, pick: int, size: int) -> None:
        end = self._pick(which, pick)
        if end:
            self._read(end, size)

    def _read(self, end: End, size: int) -> None:
        size = min(size, end.unread)
        end.unread -= size
        end.side.mux.consumed(end.stream, size, self.now)

    @rule(step=st.sampled_from([0.1, 5.0]))
    def time_goes_by(self, step: float) -> None:
        self.now += step

    @rule(which=which, draining=st.booleans())
    def speak_of_the_tunnel(self, which: int, draining: bool) -> None:
        if draining:
            self.sides[which].mux.goaway(DRAINING)
        else:
            self.sides[which].mux.ping(b"now")

    @precondition(lambda self: self.steps > 30)
    @rule(which=which)
    def lose(self, which: int) -> None:
        self._lose(self.sides[which])

    def _lose(self, side: Side) -> None:
        side.lost = True
        told = [end for end in side.ends if not self._over(end)]
        side.mux.lost("the network")
        assert all(end.heard == "lost" for end in told)
        assert not side.mux.streams

    # ── what always holds ──────────────────────────────────────────────────────────────────────

    def _over(self, end: End) -> bool:
        return STATES[end.stream.state] == "CLOSED"

    def _may_send(self, side: Side, stream: Stream) -> bool:
        """Whether nothing but the socket holds the stream's data back, in the model's own words."""
        connected = STATES[stream.state].startswith("OPENING") is False
        early = side is self.server and self.profile.credit
        # Whether those that wait for the pool get on is seen when everything has to arrive.
        starved = any(stream.id in each for each in side.mux._out._starved) and not stream.ready
        return bool(stream.queued) and stream.send_credit > 0 and (connected or early) and not starved

    @invariant()
    def a_stream_is_in_line_and_the_owner_knows(self) -> None:
        self.steps += 1
        for side in self.sides:
            assert side.owed or not side.mux.waiting, "there is something to collect and nobody was woken"
            for stream in side.mux.streams.values():
                connected = not STATES[stream.state].startswith("OPENING")
                early = side is self.server and self.profile.credit
                due = stream.closing > 0 and not stream.queued and (connected or early)
                if due or self._may_send(side, stream):
                    assert stream.ready, f"{stream} may send and is not in line"
                    assert stream in [*side.mux._out._fresh, *side.mux._out._ready]
                if stream.waiter is not None:
                    least = LOW_WATER if side.roomy else 0
                    assert stream.queued > least, "a sender waits for nothing"

    @invariant()
    def credit_and_memory_are_bounded(self) -> None:
        for side in self.sides:
            live = [end for end in side.ends if not self._over(end)]
            assert {id(end.stream) for end in live} <= {id(stream) for stream in side.mux.streams.values()}
            for end in live:
                stream = end.stream
                assert stream.send_credit >= 0
                assert stream.receive_credit >= 0
                assert stream.queued == sum(map(len, stream.queue or ()))
                if self.profile.credit:
                    assert end.unread <= stream.window, "a slow reader has more queued than its window"
                    assert side.window <= stream.window <= max(side.window, MAX_WINDOW)
                    if end.heard is None:
                        assert stream.window == stream.receive_credit + stream.consumed + end.unread
            self._watch_memory(side, live)
            for end in side.ends:
                if self._over(end):
                    assert (end.stream.queue, end.stream.queued) == (None, 0)
        assert len(self.agent.mux.streams) <= MAX_STREAMS

    def _watch_memory(self, side: Side, live: list[End]) -> None:
        """Each stream has its share of a side's memory, and all that go beyond it together have the pool."""
        assert side.mux.backlog.size == sum(end.stream.queued for end in live)
        if self.profile.credit and not side.lost and side.mux.intake.strict:
            pool, share = shares(side.budget, MAX_STREAMS)
            held = [end.stream.window - end.stream.receive_credit for end in live]
            assert sum(max(0, size - share) for size in held) == side.mux.intake.account.used <= pool

    # ── the end of each run: all stalls end, everything arrives, nothing is left ───────────────

    def _settle(self) -> None:
        for _ in range(20_000):
            for side in self.sides:
                self._collect(side, BATCH)
                self._deliver(side, len(side.flight))
                for end in side.ends:
                    if end.unread:
                        self._read(end, end.unread)
            unread = any(end.unread for side in self.sides for end in side.ends)
            if not unread and not any(side.mux.waiting or side.flight for side in self.sides):
                return
        raise AssertionError("the conversation never comes to rest")

    def teardown(self) -> None:
        if not hasattr(self, "sides"):
            return
        self.policy = "now"
        if any(side.lost for side in self.sides):
            self._settle()
            for side in self.sides:
                self._lose(side)
        else:
            self._settle()
            for end in self.agent.ends:
                self.agent.mux.connected(end.stream)
                end.connected = True
            self._settle()
            self._all_arrived()
            for side in self.sides:
                for end in side.ends:
                    side.mux.end(end.stream)
                    end.finished = True
                    end.closed |= not self.profile.credit
            self._settle()
        for side in self.sides:
            assert side.mux.streams == {}, "a stream that is over is remembered"
            assert not side.mux._out._fresh
            assert not side.mux._out._ready
            assert not side.mux._out._control
            assert side.mux.intake.account.used == 0 or side.lost
            if side.mux.intake.strict and not side.lost:
                assert side.mux._out._theirs.free == side.peer.mux.intake.account.pool
            assert side.mux.backlog.size == 0
            for end in side.ends:
                assert end.stream.waiter is None, "a sender sleeps on"

    def _all_arrived(self) -> None:
        for side in self.sides:
            for end in side.ends:
                peer = end.peer
                if peer is None or end.was_reset or peer.was_reset or peer.closed:
                    continue
                assert peer.got == end.sent, "bytes are left behind"
                if end.finished and not end.closed:
                    assert peer.heard is not None, "END never arrived"
                if end.closed or (end.finished and peer.finished):
                    assert self._over(end)
                    assert self._over(peer)


class Version2(Tunnel):
    profile = V2


class Version1(Tunnel):
    profile = V1


SETTINGS = examples(
    100,
    stateful_step_count=60,
    # Add Phase.shrink to hunt: it takes minutes, which is too long for a run of all tests.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

TestVersion2 = Version2.TestCase
TestVersion2.settings = SETTINGS
TestVersion1 = Version1.TestCase
TestVersion1.settings = settings(SETTINGS, max_examples=examples(40).max_examples)
