"""Many agents in one process, each argotun's own: the same dialling, backoff, tunnel and streams.

    python -m bench.light_agent CONTROL FIRST COUNT [options of --mode agent]

Agent number n belongs to the cluster `c<n>` and shows the token `token-<n>`. CONTROL is the path of a Unix
socket that the process listens on, for words of a line each that are answered with a line of JSON:

    report   for each agent [number, when it connected last, how often it has dialled]
    storm    cut every tunnel and dial anew without any delay; the answer is when that was

Times are those of the machine's monotonic clock, which all its processes share.
"""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import uniform
from typing import Any

import gevent
from gevent.server import StreamServer

from argotun.agent.app import Agent
from argotun.agent.backoff import Backoff
from argotun.config import AgentConfig
from argotun.config.load import load
from argotun.config.sources import read
from argotun.tunnel.tunnel import Tunnel
from argotun.wire.hello import Hello
from bench.site import Child, Site, wait_until

CLONE = Path(__file__).resolve().parent.parent
ANSWER_LIMIT = 60.0  # seconds that a driver may take for one word


def cluster(number: int) -> str:
    """The id of an agent's cluster."""
    return f"c{number}"


def token(number: int) -> str:
    """What an agent shows the server."""
    return f"token-{number}"


class LightAgent(Agent):
    """One of many: it has no probes, and remembers when it was connected last."""

    def __init__(self, number: int, config: AgentConfig) -> None:
        super().__init__(replace(config, token=token(number), health_addr=None, access_log=False))
        self.number = number
        self.came = 0.0

    def dial_at_once(self) -> None:
        """Lose the tunnel as if its cable were pulled, and be among the first that come back."""
        delays = iter([0.0])
        self._backoff = Backoff(self.config.max_retry, lambda low, high: next(delays, uniform(low, high)))
        self.came = 0.0
        for tunnel in list(self.tunnels):
            tunnel._writer.abort()
            tunnel.end("cut")

    def _arrived(self, tunnel: Tunnel, theirs: Hello) -> None:
        super()._arrived(tunnel, theirs)
        self.came = time.monotonic()


class Agents:
    """All agents of this process, and the words that they obey."""

    def __init__(self, first: int, count: int, config: AgentConfig) -> None:
        self._agents = [LightAgent(number, config) for number in range(first, first + count)]
        self._words: dict[str, Callable[[], Any]] = {"report": self._report, "storm": self._storm}
        for agent in self._agents:
            agent.start()

    def obey(self, sock: Any, _peer: object) -> None:
        """Answer the words of one connection until it ends."""
        with sock, sock.makefile("rw") as lines:
            for line in lines:
                lines.write(json.dumps(self._words[line.strip()]()) + "\n")
                lines.flush()

    def _report(self) -> list[tuple[int, float, int]]:
        return [(agent.number, agent.came, agent.metrics.reconnects) for agent in self._agents]

    def _storm(self) -> float:
        began = time.monotonic()
        for agent in self._agents:
            agent.dial_at_once()
        return began


class Driver:
    """A process with many agents, as its parent sees it."""

    def __init__(self, site: Site, first: int, count: int, options: Sequence[str]) -> None:
        control = site.folder / f"agents-{first}.sock"
        # A child's working directory is the site's folder.
        python = ["env", f"PYTHONPATH={CLONE}", sys.executable, "-m", "bench.light_agent"]
        command = [*python, str(control), str(first), str(count), *options]
        self.child: Child = site.start(f"agents-{first}", command)
        self._control = control
        self._lines: Any = None

    def connect(self) -> None:
        """Wait until the process takes words."""
        wait_until("the agents", self._control.exists, [self.child])
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(ANSWER_LIMIT)
            sock.connect(str(self._control))
            self._lines = sock.makefile("rw")

    def close(self) -> None:
        """Say no more; the process goes on."""
        if self._lines is not None:
            self._lines.close()

    def say(self, word: str) -> Any:
        """Have a word obeyed; the answer."""
        self._lines.write(word + "\n")
        self._lines.flush()
        return json.loads(self._lines.readline())


def main() -> int:
    logging.basicConfig(level=logging.ERROR)
    control, first, count, *options = sys.argv[1:]
    config = load(read(["--mode", "agent", "--token", "each-has-its-own", *options], {}), {}).config
    assert isinstance(config, AgentConfig)
    agents = Agents(int(first), int(count), config)
    listening = socket.socket(socket.AF_UNIX)
    fresh = Path(control).with_suffix(".new")
    listening.bind(str(fresh))
    listening.listen()
    os.rename(fresh, control)
    StreamServer(listening, agents.obey).start()
    gevent.get_hub().join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
