"""Many agents in one process, each argotun's own: the same dialling, backoff, tunnel and streams.

    python -m bench.light_agent CONTROL FIRST COUNT DIALS [options of --mode agent]

So many DIALS may be in progress at once, 0 for any number. The agents have one event loop, and real ones have
one each: where thousands of them shake hands together, none has its turn before the server gives it up.

Agent number n belongs to the cluster `c<n>` and shows the token `token-of-number-<n>`. CONTROL is the path of
a Unix socket for what the process is told (bench/words.py):

    report   for each agent [number, when it connected last, how often it has dialled]
    storm    cut every tunnel and dial anew without any delay; the answer is when that was

Times are those of the machine's monotonic clock, which all its processes share.
"""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from random import uniform

from gevent.lock import DummySemaphore, Semaphore

from argotun.agent.app import Agent
from argotun.agent.backoff import Backoff
from argotun.config import AgentConfig
from argotun.options.load import load
from argotun.options.sources import read
from argotun.tunnel.tunnel import Tunnel
from argotun.wire.hello import Hello
from bench import words


def cluster(number: int) -> str:
    """The id of an agent's cluster."""
    return f"c{number}"


def token(number: int) -> str:
    """What an agent shows the server."""
    return f"token-of-number-{number}"


class LightAgent(Agent):
    """One of many: it has no probes, and remembers when it was connected last."""

    def __init__(self, number: int, config: AgentConfig, dialling: Semaphore | DummySemaphore) -> None:
        super().__init__(replace(config, token=token(number), health_addr=None, access_log=False))
        self.number = number
        self.came = 0.0
        for connector in self.connectors:
            connector.dial = self._in_turn(connector.dial, dialling)

    @staticmethod
    def _in_turn(dial: Callable[[], Tunnel], dialling: Semaphore | DummySemaphore) -> Callable[[], Tunnel]:
        def wait_and_dial() -> Tunnel:
            with dialling:
                return dial()

        return wait_and_dial

    def dial_at_once(self) -> None:
        """Lose the tunnel as if its cable were pulled, and be among the first that come back."""
        delays = iter([0.0])
        self.connector._backoff = Backoff(
            self.config.max_retry, lambda low, high: next(delays, uniform(low, high))
        )
        self.came = 0.0
        for tunnel in list(self.tunnels):
            tunnel._writer.abort()
            tunnel.end("cut")

    def _arrived(self, tunnel: Tunnel, theirs: Hello) -> None:
        super()._arrived(tunnel, theirs)
        self.came = time.monotonic()


class Agents:
    """All agents of this process."""

    def __init__(self, first: int, count: int, dials: int, config: AgentConfig) -> None:
        dialling = Semaphore(dials) if dials else DummySemaphore()
        self._agents = [LightAgent(number, config, dialling) for number in range(first, first + count)]
        for agent in self._agents:
            agent.start()

    def report(self) -> list[tuple[int, float, int]]:
        """Number, when it connected last (0: it is not connected), how often it dialled."""
        return [(agent.number, agent.came, agent.metrics.reconnects) for agent in self._agents]

    def storm(self) -> float:
        """Cut every tunnel; when."""
        began = time.monotonic()
        for agent in self._agents:
            agent.dial_at_once()
        return began


def main() -> int:
    logging.basicConfig(level=logging.ERROR)
    control, first, count, dials, *options = sys.argv[1:]
    config = load(read(["--mode", "agent", "--token", "each-has-its-own", *options], {}), {}).config
    assert isinstance(config, AgentConfig)
    agents = Agents(int(first), int(count), int(dials), config)
    words.obey(control, {"report": agents.report, "storm": agents.storm})
    return 0


if __name__ == "__main__":
    sys.exit(main())
