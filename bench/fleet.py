"""A server with many agents over mutual TLS, in a few processes: what storm and watches are measured on."""

import time
from collections.abc import Sequence

import gevent

from bench import certificates
from bench.certificates import Certificates
from bench.light_agent import cluster, token
from bench.ports import free_port
from bench.rolling import PROGRAM, Connection
from bench.site import START_LIMIT, Child, Site, wait_until
from bench.words import Told

PROCESSES = 4  # that the agents are spread over
ACCOUNT = "sa-token"  # what the agents show their API, where they are not told otherwise
PATIENCE = 60.0  # seconds
LOOK = 0.25  # seconds between two questions to all agents


class Fleet:
    """A server, and agents 1 to `count`, whose API is what the options in `target` name.

    `server` are more options of the server, `front` where agents dial if not at it itself.
    """

    patience = PATIENCE
    """Seconds after which agents that are not back are given up."""
    start_limit = START_LIMIT
    """Seconds that a server has to begin."""
    look = LOOK
    """Seconds between two looks at who is back."""
    dials = 0
    """How many agents of a process may dial at once, 0 for all of them."""

    def __init__(
        self,
        site: Site,
        count: int,
        processes: int,
        target: Sequence[str],
        made: Certificates | None = None,
        server: Sequence[str] = (),
        front: tuple[str, int] | None = None,
    ) -> None:
        self._site = site
        self._server_options = server
        self._target = target
        self._made = made or certificates.make(site.folder)
        # One more than there are agents: a tunnel to compare with may be number 0.
        entries = [
            {"id": cluster(number), "token": token(number), "certNames": [certificates.AGENT_NAME]}
            for number in range(count + 1)
        ]
        self._clusters = site.write("clusters.json", entries)
        self._token = site.write("sa-token", ACCOUNT)
        self.public = ("127.0.0.1", free_port())
        self.internal = ("127.0.0.1", free_port())
        self._front = front or self.public
        self.server = self.start_server()
        share = -(-count // processes)
        self.agents = [
            self.start_agents(f"agents-{first}", first, min(share, count + 1 - first))
            for first in range(1, count + 1, share)
        ]

    def start_server(self) -> Child:
        """Start the server, and wait until it listens."""
        self.server = self._start("server", self.public, self.internal)
        return self.server

    def start_beside(self) -> tuple[Child, tuple[str, int], tuple[str, int]]:
        """Another server, to which agents come by `front` only, and its public and internal address."""
        public, internal = (("127.0.0.1", free_port()) for _ in range(2))
        return self._start("beside", public, internal), public, internal

    def _start(
        self, name: str, public: tuple[str, int], internal: tuple[str, int], options: Sequence[str] = ()
    ) -> Child:
        made = self._made
        command = ["--mode", "server", "--clusters", str(self._clusters), "--no-access-log"]
        command += ["--addr", _shown(public), "--internal-addr", _shown(internal)]
        command += ["--internal-plain", "--tls-client-ca", str(made.ca), "--log-level", "error"]
        command += ["--tls-cert", str(made.server), "--tls-key", str(made.server_key)]
        server = self._site.start(name, [*PROGRAM, *command, *self._server_options, *options])
        wait_until("the server", lambda: _listens(internal), [server], self.start_limit)
        return server

    def kill_server(self) -> None:
        """End it as kill -9 does."""
        self.server.process.kill()
        self.server.process.wait()

    def start_agents(self, name: str, first: int, count: int, *options: str) -> Told:
        """A process with so many agents, which obeys."""
        made = self._made
        command = [
            str(first),
            str(count),
            str(self.dials),
            "--server",
            f"wss://{_shown(self._front)}/connect",
        ]
        command += ["--server-ca-cert", str(made.ca), "--client-cert", str(made.agent)]
        command += ["--client-key", str(made.agent_key), "--sa-token-path", str(self._token)]
        command += ["--health-addr", "off", *self._target, *options]
        agents = Told(self._site, name, "bench.light_agent", command)
        self.met(agents)
        return agents

    def met(self, agents: Told) -> None:
        """Wait until a process of agents obeys."""
        agents.connect()

    def wait(self, began: float) -> list[tuple[int, float, int]]:
        """Until all agents have connected after `began`, or for as long as patience lasts; their reports."""
        deadline = time.monotonic() + self.patience
        while True:
            reports = [report for each in self.agents for report in each.say("report")]
            if all(came > began for _, came, _ in reports) or time.monotonic() > deadline:
                return reports
            gevent.sleep(self.look)


def _shown(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def _listens(address: tuple[str, int]) -> bool:
    try:
        Connection(address).close()
    except OSError:
        return False
    return True
