"""Many clients compare-and-swap one ConfigMap while agents, replicas and Redis die and come back.

What they were told is held against etcd's own revisions (tests/histories/check.py). Only that is asserted,
and that writes went on: each fault is followed by writes that succeeded, however long they took.

    ARGOTUN_HISTORIES=200 make e2e PYTEST_ARGS='-k histories'   so many faults of all kinds, by chance
    ARGOTUN_HISTORIES_SEED=7                                    the same ones and the clients' choices again
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random, randrange

import gevent
import pytest

from tests.histories.check import Outcome, faults
from tests.histories.clients import Contest

from .harness.cluster import Cluster
from .harness.fleet import Fleet, Part

CLIENTS = 8
FAULTS = int(os.environ.get("ARGOTUN_HISTORIES", "0"))
"""How many there are, of all kinds; 0 is each of the harder kinds once."""
SOME = 10
"""Writes that must succeed between two changes."""


class Harm:
    """What is done to a fleet while clients are at work; each kind leaves all of it running."""

    def __init__(self, fleet: Fleet, contest: Contest, random: Random) -> None:
        self._fleet = fleet
        self._contest = contest
        self._random = random

    def harder(self) -> list[Callable[[], None]]:
        """Those that hold the others."""
        return [
            self.drain_a_replica,
            self.freeze_a_replica,
            self.drain_an_agent,
            self.freeze_an_agent,
            self.kill_all_agents,
            self.kill_redis_two_replicas_and_an_agent,
        ]

    def all(self) -> list[Callable[[], None]]:
        return [*self.harder(), self.kill_a_replica, self.kill_an_agent, self.kill_redis]

    def chosen(self, count: int) -> list[Callable[[], None]]:
        """So many of all, or each of the harder ones where it is 0."""
        if count:
            return self._random.choices(self.all(), k=count)
        return self._random.sample(self.harder(), len(self.harder()))

    def kill_a_replica(self) -> None:
        self._end(signal.SIGKILL, self._one(self._fleet.replicas))

    def drain_a_replica(self) -> None:
        self._end(signal.SIGTERM, self._one(self._fleet.replicas))

    def kill_an_agent(self) -> None:
        self._end(signal.SIGKILL, self._one(self._fleet.agents))

    def drain_an_agent(self) -> None:
        self._end(signal.SIGTERM, self._one(self._fleet.agents))

    def freeze_a_replica(self) -> None:
        self._freeze(self._one(self._fleet.replicas))

    def freeze_an_agent(self) -> None:
        self._freeze(self._one(self._fleet.agents))

    def kill_redis(self) -> None:
        self._end(signal.SIGKILL, self._fleet.redis)

    def kill_redis_two_replicas_and_an_agent(self) -> None:
        two = self._random.sample(self._fleet.replicas, 2)
        self._end(signal.SIGKILL, self._fleet.redis, *two, self._one(self._fleet.agents))

    def kill_all_agents(self) -> None:
        """Nobody can be asked: the API must not hear of what is refused meanwhile."""
        for agent in self._fleet.agents:
            agent.end()
        self._contest.more(SOME, Outcome.NEVER_SENT)
        self._fleet.start()

    def _one(self, parts: list[Part]) -> Part:
        return self._random.choice(parts)

    def _end(self, how: int, *parts: Part) -> None:
        for part in parts:
            part.end(how)
        self._contest.more(SOME)
        self._fleet.start()

    def _freeze(self, part: Part) -> None:
        part.freeze()
        try:
            # Short ones are noticed by nobody; long ones end tunnels and links.
            gevent.sleep(self._random.uniform(0.5, 5.0))
            self._contest.more(SOME)
        finally:
            part.go_on()


def test_no_write_is_lost_or_doubled_and_no_event_missed(
    cluster: Cluster, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("ARGOTUN_HISTORIES_SEED", randrange(1_000_000)))
    random = Random(seed)
    contest = Contest(cluster.admin, cluster.etcd, f"s{seed}")
    with Fleet(cluster, folder / "fleet") as fleet:
        try:
            contest.start(CLIENTS, fleet.endpoints, random)
            contest.more(SOME)
            harm = Harm(fleet, contest, random)
            done = []
            for kind in harm.chosen(FAULTS):
                done.append(kind.__name__)
                kind()
                contest.more(SOME)
            history = contest.finish(cluster.audit_logs)
        finally:
            contest.close()
    told = {what.value: contest.told(what) for what in Outcome}
    with capsys.disabled():
        print(f"\nhistories: seed {seed}, {len(history.revisions)} revisions, writes {told}", end="")
    found = faults(history)
    assert not found, "\n".join([f"seed {seed}: {done}", *found[:50]])
    assert contest.told(Outcome.ACKNOWLEDGED) >= SOME * len(done)
