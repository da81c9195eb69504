"""When agents are asked to move: a fleet with its load balancer and its agents, in a model of time."""

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from argotun.server.balance import ENOUGH, FEW_OVER, MOST, OVER, QUIET, REST, TOLD, Scales

Agent = int


class Fleet:
    """Replicas with their scales, agents at `tunnels` of them, and a load balancer that leads to `ready`.

    Each second every replica looks at the numbers of all others as they were a second ago, and each agent
    that is on its way to another replica dials once; one that was led astray five times waits for a quarter
    of a minute each time.
    """

    def __init__(self, replicas: int, agents: int, tunnels: int = 2, seed: int = 0) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.tunnels = tunnels
        self.at: dict[str, set[Agent]] = {}
        self.ready: list[str] = []
        self.scales: dict[str, Scales] = {}
        self.asked: list[float] = []
        self._rests: dict[tuple[str, Agent], float] = {}
        self._moving: dict[tuple[str, Agent], int] = {}
        for number in range(replicas):
            self.join(f"r{number}")
        for agent in range(agents):
            self.arrive(agent)

    def join(self, name: str) -> None:
        self.at[name] = set()
        self.scales[name] = Scales()
        self.ready.append(name)

    def arrive(self, agent: Agent) -> None:
        while sum(agent in there for there in self.at.values()) < min(self.tunnels, len(self.ready)):
            self.at[self.random.choice(self.ready)].add(agent)

    def leave(self, agent: Agent) -> None:
        for name, there in self.at.items():
            if agent in there:
                there.discard(agent)
                self._moved(name, agent)

    def end(self, name: str) -> None:
        """A replica is replaced: its agents go to others at once."""
        self.ready.remove(name)
        agents = self.at.pop(name)
        del self.scales[name]
        for agent in sorted(agents):
            self.arrive(agent)

    def numbers(self) -> list[int]:
        return sorted(map(len, self.at.values()))

    def run(self, seconds: float, each: Callable[[], None] = lambda: None) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 1.0
            each()
            seen = {name: len(there) for name, there in self.at.items()}
            for name in list(self.at):
                self._look(name, seen)
            for key in list(self._moving):
                self._dial(*key)

    def _look(self, name: str, seen: dict[str, int]) -> None:
        scales = self.scales[name]
        others = {other: count for other, count in seen.items() if other != name}
        count = scales.due(len(self.at[name]), others, self.now)
        if not count:
            return
        able = [agent for agent in sorted(self.at[name]) if self.now >= self._rests.get((name, agent), 0.0)]
        for agent in able[:count]:
            self.asked.append(self.now)
            scales.ask(agent, self.now)
            self._rests[name, agent] = self.now + REST
            self._moving[name, agent] = 0

    def _dial(self, name: str, agent: Agent) -> None:
        if name not in self.at or agent not in self.at[name]:
            del self._moving[name, agent]
            return
        dials = self._moving[name, agent] = self._moving[name, agent] + 1
        if dials > 5 and dials % 15:
            return
        target = self.random.choice(self.ready)
        if agent not in self.at[target]:
            self.at[target].add(agent)
            self.at[name].discard(agent)
            self._moved(name, agent)

    def _moved(self, name: str, agent: Agent) -> None:
        self.scales[name].gone(agent)
        self._moving.pop((name, agent), None)


def rolled(replicas: int, agents: int, seed: int) -> Fleet:
    """A fleet behind a rolling update: each replica was replaced, half a minute after the other."""
    fleet = Fleet(replicas, agents, seed=seed)
    for name in list(fleet.at):
        fleet.join(f"new-{name}")
        fleet.run(5)
        fleet.end(name)
        fleet.run(25)
    return fleet


@pytest.mark.parametrize(("replicas", "agents"), [(3, 30), (3, 1000), (10, 1000), (30, 2000)])
@pytest.mark.parametrize("seed", range(2))
def test_after_a_rolling_update_all_have_their_share_and_then_there_is_calm(
    replicas: int, agents: int, seed: int
) -> None:
    fleet = rolled(replicas, agents, seed)
    assert not fleet.asked, "an update is no time to move"
    share = 2 * agents / replicas
    before = fleet.numbers()
    # What is beyond the lower mark, of those that are beyond the upper one.
    excess = sum(max(0.0, number - ENOUGH * share) for number in before)
    fleet.run(1800)
    assert fleet.numbers()[-1] <= max(OVER * share, share + FEW_OVER)
    # Some are led to one that has too many as well.
    assert len(fleet.asked) <= 2 * excess + replicas
    assert sum(fleet.numbers()) == 2 * agents
    asked = len(fleet.asked)
    fleet.run(1800)
    assert len(fleet.asked) == asked, "what is even stays"


def test_the_new_replica_of_a_large_fleet_has_its_share_within_minutes() -> None:
    fleet = Fleet(9, 4000)
    fleet.run(60)
    fleet.join("new")
    fleet.run(900)
    # All others have the same, which is not clearly too much.
    assert not fleet.asked
    fleet = rolled(10, 4000, 1)
    assert fleet.numbers()[-1] > OVER * 800
    fleet.run(900)
    assert fleet.numbers()[-1] <= OVER * 800


def test_no_more_are_asked_in_a_second_than_a_processor_bears() -> None:
    fleet = rolled(10, 10_000, 0)
    fleet.run(600)
    most = max(Counter(fleet.asked).values())
    assert 1 < most <= 10 * MOST


@pytest.mark.parametrize("seed", range(3))
def test_agents_that_come_and_go_at_random_are_hardly_asked(seed: int) -> None:
    fleet = Fleet(3, 300, seed=seed)
    newest = [300]

    def one_goes_and_one_comes() -> None:
        if fleet.random.random() < 0.2:
            fleet.leave(fleet.random.choice(sorted(set().union(*fleet.at.values()))))
            fleet.arrive(newest[0])
            newest[0] += 1

    fleet.run(2 * 3600, one_goes_and_one_comes)
    assert newest[0] > 1500
    assert len(fleet.asked) < 20


def test_where_the_load_balancer_knows_a_replica_not_few_are_asked_in_vain() -> None:
    fleet = Fleet(2, 500)
    fleet.join("hidden")
    fleet.ready.remove("hidden")
    fleet.run(4 * 3600)
    assert fleet.numbers() == [0, 500, 500]
    # Each of the two tries it with a handful now and then.
    assert 0 < len(fleet.asked) <= 2 * (4 * 3600 / REST) * TOLD


def test_one_replica_alone_asks_nobody() -> None:
    scales = Scales()
    assert not any(scales.due(1000, {}, now) for now in range(3600))


def test_nobody_is_asked_before_it_is_quiet() -> None:
    scales = Scales()
    asked = [now for now in range(200) if scales.due(100, {"a": 10, "b": 10}, float(now))]
    assert asked[0] >= 2 * QUIET
    # Another replica: the time begins anew.
    assert not scales.due(100, {"a": 10, "b": 10, "c": 0}, 201.0)


def test_agents_on_their_way_count_as_gone() -> None:
    scales = Scales()
    for now in range(100):
        scales.due(17, {"a": 10, "b": 10}, float(now))
    assert scales.due(17, {"a": 10, "b": 10}, 100.0) == 1
    for agent in range(6):
        scales.ask(agent, 100.0)
    assert scales.due(17, {"a": 10, "b": 10}, 101.0) == 0
